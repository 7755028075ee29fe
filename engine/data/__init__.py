"""Data: names, folders and a person's own datasets to batches on the training device."""

from finetui.engine.data.duplicates import find_duplicates
from finetui.engine.data.image_data import ImageData
from finetui.engine.data.load import known_classes, load
from finetui.engine.data.resident import ResidentSplit, epoch_order, epoch_seeds
from finetui.engine.data.split import Split, Unreadable
from finetui.engine.data.transform import InputTransform, Transform, augmentation
from finetui.engine.data.user_datasets import from_datasets

__all__ = [
    "ImageData",
    "InputTransform",
    "ResidentSplit",
    "Split",
    "Transform",
    "Unreadable",
    "augmentation",
    "epoch_order",
    "epoch_seeds",
    "find_duplicates",
    "from_datasets",
    "known_classes",
    "load",
]
