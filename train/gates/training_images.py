"""Training images as a procedure measures on them: a few, without augmentation."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from headgate.train.data.image_files import ahead
from headgate.train.evaluate import batch_size, evenly_spread, scaling, to_network_input
from headgate.train.problem import Problem


class TrainingImages:
    """Batches (N, C, H, W) of up to ``count`` training images, evenly spread over all of them."""

    def __init__(self, problem: Problem, count: int) -> None:
        self.problem = problem
        self.rows = evenly_spread(count, len(problem.train_images))

    def __iter__(self) -> Iterator[Tensor]:
        images = self.problem.train_images
        mean, std = scaling(self.problem.preprocess, images.device)
        parts = self.rows.split(batch_size(images))
        for pixels in ahead(images, lambda rows: images[rows.to(images.device)], parts):
            yield to_network_input(pixels, mean, std)
