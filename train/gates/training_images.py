"""Training images as a procedure measures on them: a few, without augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from headgate.train.data.image_files import ahead
from headgate.train.evaluate import batch_size, to_network_input
from headgate.train.problem import Problem


class TrainingImages:
    """Batches (N, C, H, W) of up to ``count`` training images, evenly spread over all of them."""

    def __init__(self, problem: Problem, count: int) -> None:
        self.problem = problem
        total = len(problem.train_images)
        count = min(count, total)
        self.rows = torch.arange(count) * total // count

    def __iter__(self) -> Iterator[Tensor]:
        images, preprocess = self.problem.train_images, self.problem.preprocess
        mean = torch.tensor(preprocess.mean, device=images.device)
        std = torch.tensor(preprocess.std, device=images.device)
        parts = self.rows.split(batch_size(images))
        for pixels in ahead(images, lambda rows: images[rows.to(images.device)], parts):
            yield to_network_input(pixels, mean, std)
