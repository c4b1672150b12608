"""How much a trained network's gates depend on the image, for its description."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from headgate.train.evaluate import accuracy
from headgate.train.evaluation_mode import evaluating
from headgate.train.gates.base import GatedConv2d
from headgate.train.gates.frozen import channel_places, freeze
from headgate.train.gates.layer import gates
from headgate.train.gates.measures import gate_statistics
from headgate.train.problem import Problem, TrainingImages

# Training images over which it is counted how often a channel is open: enough for a percent.
RANKING_IMAGES = 5000


def image_dependence(module: nn.Module, problem: Problem, images: Tensor) -> dict[str, Any]:
    """The "dynamics" entry of a gated network's description.

    Its "layers" and sums are over ``images``, the first test images as the network takes them. Of
    channel gates "frozen_test_accuracy" is that over the whole test set of the same weights, each
    layer's mask frozen to the channels it opens most often over :data:`RANKING_IMAGES` training
    images: what is left without any further training.
    """
    with torch.no_grad(), evaluating(module):
        module(images.clone())  # forward() may change its input
    labels = problem.test_labels[: len(images)]
    layers = {path: s.dynamics(labels) for path, s in gate_statistics(module).items()}
    channels = sum(layer.channels for layer in layers.values())
    bits = sum(layer.channels * (layer.information or 0.0) for layer in layers.values())
    found: dict[str, Any] = {
        "images": len(images),
        "channels": channels,
        "dynamic": sum(layer.dynamic for layer in layers.values()),
        "information": round(bits / channels, 6),
        "layers": {
            path: {
                "channels": layer.channels,
                "dynamic": layer.dynamic,
                "masks": layer.masks,
                "information": round(layer.information or 0.0, 6),
            }
            for path, layer in layers.items()
        },
    }
    if all(isinstance(layer, GatedConv2d) for layer in gates(module).values()):
        frozen = copy.deepcopy(module)
        freeze(frozen, channel_places(module, TrainingImages(problem, RANKING_IMAGES)))
        found["frozen_test_accuracy"] = accuracy(
            frozen, problem.test_images, problem.test_labels, problem.preprocess
        )
    return found
