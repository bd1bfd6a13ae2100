"""Data sets and batches. Images are float in [0, 1] everywhere; the model normalises."""

from mocse_timm.data.augmentation import Augmentation
from mocse_timm.data.batch_augmentation import cutout, random_crop, random_flip, to_float
from mocse_timm.data.loaders import Loader, build_loader
from mocse_timm.data.memory_loader import MemoryLoader
from mocse_timm.data.per_image_loader import PerImageLoader
from mocse_timm.data.resizing import Resizing
from mocse_timm.data.sources import load_data
from mocse_timm.data.splits import DataSplits, FileImages, MemoryImages

__all__ = [
    "Augmentation",
    "DataSplits",
    "FileImages",
    "Loader",
    "MemoryImages",
    "MemoryLoader",
    "PerImageLoader",
    "Resizing",
    "build_loader",
    "cutout",
    "load_data",
    "random_crop",
    "random_flip",
    "to_float",
]
