"""Feature relevance scores: how much each channel of each layer matters for the right answers.

From the paper and the official code that :mod:`headgate.train.pruning.frs` names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from headgate.errors import TrainingError
from headgate.train.data.augment import to_network_input
from headgate.train.evaluate import batch_size, evenly_spread
from headgate.train.problem import Problem
from headgate.train.pruning.relevance import Relevance

Absolute = Literal["classes", "images"]

BATCH = 100
BATCH_PIXELS = 1 << 20


def feature_relevance_scores(
    module: nn.Module,
    paths: Collection[str],
    problem: Problem,
    number: int = 0,
    absolute: Absolute = "classes",
) -> dict[str, Tensor]:
    """Scores (C,) of the layers in ``paths``, comparable between layers.

    The relevance of a channel for an image is its mean over the pixels; it is averaged over the
    images of each class, weighed by :func:`class_weights`, averaged over the classes, and its
    absolute value taken. The scores of a layer have the L2 norm 1 (or 0, if it has no relevance).

    Args:
        module: takes float32 (N, 3, H, W), gives logits (N, classes).
        number: of training images, evenly spread and not augmented; 0: all.
        absolute: what loses its sign: the average over the classes, as in the official code, or
            each image's relevance. A channel that speaks for some images and against others does
            not say nothing, and in branches of a residual sum many do.

    Raises:
        ModelError: relevance cannot pass through the network.
        TrainingError: relevance that is not finite, naming the layer.
    """
    images, classes = problem.train_images, len(problem.classes)
    rows = evenly_spread(number or len(images), len(images))
    number = len(rows)
    labels = problem.train_labels[rows.to(problem.train_labels.device)].to(images.device)
    size = min(number, batch_size(images, BATCH, BATCH_PIXELS))
    engine = Relevance(module, to_network_input(images[rows[:size]], problem.preprocess), paths)
    # In float64, so that the sum over many images does not depend on their order.
    sums: dict[str, Tensor] = {}
    right = torch.zeros(classes, dtype=torch.float64, device=images.device)
    for start in range(0, number, size):
        # The graph is made for one batch size: the last batch takes images in again, and they
        # are left out of the sums.
        first = min(start, number - size)
        batch = to_network_input(images[rows[first : first + size]], problem.preprocess)
        logits, relevance = engine(batch, labels[first : first + size])
        new = slice(start - first, None)
        answers = labels[start : start + size]
        right.index_add_(0, answers, (logits[new].argmax(1) == answers).double())
        for path, found in relevance.items():
            by_image = found[new].mean((2, 3), dtype=torch.float64)
            if absolute == "images":
                by_image = by_image.abs()
            total = sums.setdefault(path, by_image.new_zeros(classes, by_image.shape[1]))
            total.index_add_(0, answers, by_image)
    counts = torch.bincount(labels, minlength=classes).double()
    weights = class_weights(right, counts)
    return {path: _score(path, total, counts, weights) for path, total in sums.items()}


def class_weights(right: Tensor, counts: Tensor) -> Tensor:
    """sigmoid(best accuracy / accuracy) per class (K,), in 0.73..1: harder classes weigh more.

    A class without any right answer weighs 1, one without images 0.
    """
    accuracy = right / counts.clamp_min(1)
    weights = torch.sigmoid(accuracy.max().clamp_min(1e-12) / accuracy)
    return torch.where(counts > 0, weights, 0.0)


def _score(path: str, total: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    by_class = total / counts.clamp_min(1)[:, None]
    score = (by_class * weights[:, None]).mean(0).abs()
    if not bool(score.isfinite().all()):
        raise TrainingError(
            f"the relevance of layer {path!r} is not finite: lower the learning rate"
        )
    norm = torch.linalg.vector_norm(score)
    return score / norm if norm > 0 else score


def least_relevant(
    scores: Mapping[str, Tensor], kept: Mapping[str, Tensor], min_channels: int
) -> Iterator[tuple[str, int]]:
    """(layer, channel) pairs still kept, by rising score over all layers together.

    Of each layer ``min_channels`` stay; equal scores go in the order of layers, then channels.
    ``scores`` and ``kept`` (boolean, it may change meanwhile) are (C,) by layer.
    """
    layers = list(scores)
    everything = torch.cat([scores[path].double().cpu() for path in layers])
    owners = [(path, channel) for path in layers for channel in range(len(scores[path]))]
    left = {path: int(kept[path].sum()) for path in layers}
    was_kept = {path: kept[path].tolist() for path in layers}
    for index in everything.argsort(stable=True).tolist():
        path, channel = owners[index]
        if was_kept[path][channel] and left[path] > min_channels:
            left[path] -= 1
            yield path, channel
