"""CIFAR-100 (Krizhevsky, 2009), with its 100 fine classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headgate.device.pictures.preprocess import Preprocess
from headgate.train.data.binary import CIFAR100
from headgate.train.data.dataset import Dataset
from headgate.train.data.store import Store

# The fine labels, in the order of fine_label_names.txt, which is the alphabet's.
_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
CLASSES = tuple(_NAMES.split())
# Channel statistics of the 50,000 training images, in units of 0..1.
PREPROCESS = Preprocess(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))
TRAIN_PER_CLASS, TEST_PER_CLASS = 500, 100


def check(dataset: Dataset) -> str | None:
    """The first class that has not as many images as it should.

    The publisher's checksum is of the archive only, so of a user's own files this is what can be
    known.
    """
    for side, labels, wanted in (
        ("training", dataset.train_labels, TRAIN_PER_CLASS),
        ("test", dataset.test_labels, TEST_PER_CLASS),
    ):
        counts = np.bincount(labels, minlength=len(CLASSES))
        if len(counts) > len(CLASSES):
            return f"a {side} label is {len(counts) - 1}, the largest is {len(CLASSES) - 1}"
        for label in np.flatnonzero(counts != wanted):
            return f"{counts[label]} {side} images of class {label}, expected {wanted}"
    return None


STORE = Store(CIFAR100, "cifar100", (CIFAR100.fetch,), check)


def cifar100(folder: str | Path | None = None) -> Dataset:
    """The whole data set: 50,000 training and 10,000 test images; see :meth:`Store.load`."""
    return STORE.load(folder)
