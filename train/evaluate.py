"""Top-1 accuracy over a whole test set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headgate.device.pictures.preprocess import Preprocess
from headgate.train.data.augment import to_network_input
from headgate.train.data.image_files import Images, ahead
from headgate.train.evaluation_mode import evaluating

BATCH = 500
BATCH_PIXELS = 1 << 23


def batch_size(images: Images, most: int | None = None, pixels: int | None = None) -> int:
    """How many of ``images`` (N, H, W, 3) are taken at once.

    At most ``most`` (:data:`BATCH`), and together of at most ``pixels`` (:data:`BATCH_PIXELS`).
    """
    fit = (pixels or BATCH_PIXELS) // (images.shape[1] * images.shape[2])
    return min(most or BATCH, max(1, fit))


def evenly_spread(count: int, total: int) -> Tensor:
    """``count`` of the numbers below ``total``, or all of them if there are fewer; int64."""
    count = min(count, total)
    return torch.arange(count) * total // count


@torch.no_grad()
def count_correct(
    module: nn.Module,
    images: Images,
    labels: Tensor,
    preprocess: Preprocess,
    rank: int = 0,
    processes: int = 1,
) -> int:
    """How many of the images ``module`` puts into their class.

    Args:
        module: takes float32 (N, 3, H, W), gives logits (N, classes).
        images: uint8 (N, H, W, 3), on the module's device, or files of that shape.
        labels: int64 (N,).
        rank: only images whose number leaves this remainder on division by ``processes``.
    """
    step = batch_size(images) * processes
    parts = [slice(i, i + step, processes) for i in range(rank, len(images), step)]
    correct = 0
    with evaluating(module):
        for part, pixels in zip(parts, ahead(images, images.__getitem__, parts), strict=True):
            predicted = module(to_network_input(pixels, preprocess)).argmax(dim=1)
            correct += int((predicted == labels[part]).sum())
    return correct


def accuracy(module: nn.Module, images: Images, labels: Tensor, preprocess: Preprocess) -> float:
    """Share of right answers in 0..1; arguments as for :func:`count_correct`."""
    return count_correct(module, images, labels, preprocess) / max(len(images), 1)
