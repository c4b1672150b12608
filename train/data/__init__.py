"""Data sets, their storage, preprocessing and augmentation."""

from headgate.device.pictures.preprocess import Preprocess
from headgate.device.pictures.sample import sample_images
from headgate.train.data.cifar import CLASSES, PREPROCESS, cifar10
from headgate.train.data.dataset import Dataset, data_folder

__all__ = [
    "CLASSES",
    "PREPROCESS",
    "Dataset",
    "Preprocess",
    "cifar10",
    "data_folder",
    "sample_images",
]
