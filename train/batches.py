"""The batches of an epoch: their images, and these augmented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from headgate.errors import RecipeError
from headgate.train.data import crops
from headgate.train.data.augment import Augmentation
from headgate.train.data.image_files import ahead, read
from headgate.train.problem import Problem
from headgate.train.recipe import Recipe


class Batches:
    """One process's share of every batch.

    Order and augmentation are a function of (seed, epoch, batch, process) alone, so there is no
    generator whose state would have to be saved.

    Attributes:
        count: full batches an epoch; the images left over are left out of it.

    Raises:
        RecipeError: a batch that cannot be split over the processes, or is more than all images.
    """

    def __init__(self, recipe: Recipe, problem: Problem, rank: int, processes: int) -> None:
        if recipe.batch_size % processes:
            raise RecipeError(
                f"recipe: batch_size = {recipe.batch_size} cannot be split over {processes} "
                "processes; choose a multiple"
            )
        images = len(problem.train_images)
        if images < recipe.batch_size:
            raise RecipeError(
                f"recipe: batch_size = {recipe.batch_size} is more than the {images} images"
            )
        self.recipe, self.problem, self.rank = recipe, problem, rank
        self.count = images // recipe.batch_size
        self.share = recipe.batch_size // processes
        self.augment = Augmentation(
            **{option.name: getattr(recipe, option.name) for option in fields(Augmentation)}
        )
        self.generator = torch.Generator(problem.train_images.device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images float32 (N, 3, H, W) and labels int64 (N,), from batch ``start`` on.

        Seeds torch's global generators for each batch too, which dropout draws from.
        """
        images, labels = self.problem.train_images, self.problem.train_labels
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(images))
        rows = []
        for batch in range(start, self.count):
            first = batch * self.recipe.batch_size + self.rank * self.share
            rows.append(torch.from_numpy(order[first : first + self.share]))

        def fetch(batch: int) -> Tensor:
            chosen, smallest = rows[batch - start], self.recipe.crop_scale
            draws = crops.draw(len(chosen), self._entropy(epoch, batch)) if smallest else None
            return read(images, chosen, draws, smallest)

        numbers = range(start, self.count)
        for batch, pixels in zip(numbers, ahead(images, fetch, numbers), strict=True):
            entropy = np.random.SeedSequence(self._entropy(epoch, batch))
            seed = int(entropy.generate_state(1, np.uint64)[0] >> 1)
            self.generator.manual_seed(seed)
            torch.manual_seed(seed)
            augmented = self.augment(pixels, self.problem.preprocess, self.generator)
            yield augmented, labels[rows[batch - start].to(labels.device)]

    def _entropy(self, epoch: int, batch: int) -> list[int]:
        return [self.recipe.seed, epoch, batch, self.rank]
