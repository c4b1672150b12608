"""Top-1 accuracy over a whole test set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headgate.train.data.preprocess import Preprocess
from headgate.train.evaluating import evaluating

BATCH = 500


def to_network_input(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) to normalised float32 (N, 3, H, W), as :class:`Preprocess` does it."""
    return ((images.float() / 255.0 - mean) / std).permute(0, 3, 1, 2)


@torch.no_grad()
def count_correct(module: nn.Module, images: Tensor, labels: Tensor, preprocess: Preprocess) -> int:
    """How many of the images ``module`` puts into their class.

    Args:
        module: takes float32 (N, 3, H, W), gives logits (N, classes).
        images: uint8 (N, H, W, 3), on the module's device.
        labels: int64 (N,).
    """
    mean = torch.tensor(preprocess.mean, device=images.device)
    std = torch.tensor(preprocess.std, device=images.device)
    correct = 0
    with evaluating(module):
        for start in range(0, len(images), BATCH):
            batch = to_network_input(images[start : start + BATCH], mean, std)
            predicted = module(batch).argmax(dim=1)
            correct += int((predicted == labels[start : start + BATCH]).sum())
    return correct


def accuracy(module: nn.Module, images: Tensor, labels: Tensor, preprocess: Preprocess) -> float:
    """Share of right answers in 0..1; arguments as for :func:`count_correct`."""
    return count_correct(module, images, labels, preprocess) / max(len(images), 1)
