"""From pictures to what a network takes, with NumPy alone; files are decoded by Pillow."""

from headgate.device.pictures.preprocess import Preprocess
from headgate.device.pictures.sample import sample_images

__all__ = ["Preprocess", "sample_images"]
