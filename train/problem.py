"""What a run learns from: images and labels as tensors on its device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headgate.train.data.cifar import CLASSES, PREPROCESS, cifar10
from headgate.train.data.dataset import Dataset
from headgate.train.data.preprocess import Preprocess
from headgate.train.recipe import Recipe


@dataclass(frozen=True)
class Problem:
    """Images uint8 (N, H, W, 3), labels int64 (N,), and how the images are scaled."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    preprocess: Preprocess


def load_problem(recipe: Recipe, device: torch.device) -> Problem:
    """The recipe's data set on ``device``.

    Raises:
        DataError: if the data set is absent or altered, with the command that fetches it.
    """
    folder = recipe.data_folder or None
    dataset = synthetic() if recipe.dataset == "synthetic" else cifar10(folder)
    train, test = recipe.limit_train or None, recipe.limit_test or None
    return Problem(
        train_images=torch.from_numpy(dataset.train_images[:train]).to(device),
        train_labels=torch.from_numpy(dataset.train_labels[:train]).long().to(device),
        test_images=torch.from_numpy(dataset.test_images[:test]).to(device),
        test_labels=torch.from_numpy(dataset.test_labels[:test]).long().to(device),
        classes=CLASSES,
        preprocess=PREPROCESS,
    )


def synthetic(train: int = 512, test: int = 128) -> Dataset:
    """Ten classes of coloured stripes under noise, in CIFAR-10's format.

    For tests and first tries without a download: a small network learns it in an epoch or two.
    """
    random = np.random.default_rng(0)
    columns = np.arange(32)

    def make(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = (np.arange(count) % 10).astype(np.uint8)
        stripes = np.sin(columns[None] * (1 + labels[:, None] % 5) * 0.4) * 60
        images = np.full((count, 32, 32, 3), 128.0)
        channel = np.where(labels < 5, 0, 2)
        images[np.arange(count), :, :, channel] += stripes[:, None, :]
        images += random.normal(0.0, 20.0, images.shape)
        return images.clip(0, 255).astype(np.uint8), labels

    train_images, train_labels = make(train)
    test_images, test_labels = make(test)
    return Dataset(train_images, train_labels, test_images, test_labels)
