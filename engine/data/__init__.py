"""Data: names to data sets, held as bytes on the training device."""

from engine.data.resident import ResidentSplit, epoch_order
from engine.data.sources import ImageData, load

__all__ = ["ImageData", "ResidentSplit", "epoch_order", "load"]
