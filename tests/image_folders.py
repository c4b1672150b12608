"""Tiny data sets of image files in the formats of the real ones, made by the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n01484850", "n02102040")


def picture(label: int, index: int, width: int = 48, height: int = 40) -> Image.Image:
    """Noise over a colour that tells the class."""
    random = np.random.default_rng([label, index])
    colour = np.array([40 + 50 * label, 220 - 50 * label, 60 * (label % 2)])
    pixels = colour + random.normal(0.0, 25.0, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "PNG" if path.suffix == ".png" else "JPEG")


def class_folders(place: Path, train: int = 10, test: int = 4) -> Path:
    """``train/WNID/`` and ``val/WNID/`` with so many JPEGs a class, of different sizes."""
    for label, name in enumerate(WNIDS):
        for index in range(train + test):
            image = picture(label, index, width=40 + 3 * (index % 5), height=44 - 2 * (index % 3))
            side = "train" if index < train else "val"
            save(place / side / name / f"{name}_{index}.JPEG", image)
    return place


def flat_validation(place: Path) -> dict[str, str]:
    """Makes ``val/`` flat, as the publishers hand it out; gives each file's class."""
    class_of = {}
    files = sorted((place / "val").glob("*/*.JPEG"))
    # Not in the classes' order, like the real one.
    for number, index in enumerate(np.random.default_rng(1).permutation(len(files)), 1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        class_of[name] = files[index].parent.name
        files[index].rename(place / "val" / name)
    for folder in (place / "val").iterdir():
        if folder.is_dir():
            folder.rmdir()
    return class_of
