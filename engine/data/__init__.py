"""Data: names, folders and a person's own datasets to batches on the training device."""

from engine.data.duplicates import find_duplicates
from engine.data.image_data import ImageData
from engine.data.loading import known_classes, load
from engine.data.own import from_datasets
from engine.data.resident import ResidentSplit, epoch_order
from engine.data.split import Split, Unreadable
from engine.data.transform import Finisher, Transform, augmentation

__all__ = [
    "Finisher",
    "ImageData",
    "ResidentSplit",
    "Split",
    "Transform",
    "Unreadable",
    "augmentation",
    "epoch_order",
    "find_duplicates",
    "from_datasets",
    "known_classes",
    "load",
]
