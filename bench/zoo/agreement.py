"""How far outputs are from PyTorch's, as a share of each output's scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.zoo.adapters import tensors

Arrays = Sequence[NDArray[np.floating]]
"""One array (N, ...) for each input or output."""


def errors(outputs: Arrays, expected: Arrays) -> NDArray[np.float64]:
    """The largest error of each sample, as a share of the output's largest magnitude.

    The worst of the outputs counts. A NaN stays one.
    """
    worst = np.zeros(len(expected[0]))
    for got, wanted in zip(outputs, expected, strict=True):
        got = np.asarray(got, np.float64).reshape(len(got), -1)
        wanted = np.asarray(wanted, np.float64).reshape(len(wanted), -1)
        scale = np.abs(wanted).max() or 1.0
        worst = np.maximum(worst, np.abs(got - wanted).max(axis=1) / scale)
    return worst


def worst(found: NDArray[np.float64]) -> float | None:
    """The largest of several errors; None where one is NaN or infinite."""
    largest = float(np.max(found))
    return largest if np.isfinite(largest) else None


def run_torch(network: nn.Module, inputs: Arrays) -> list[NDArray[np.floating]]:
    """What PyTorch computes, one sample at a time as a bundle does."""
    rows = []
    with torch.no_grad():
        for sample in range(len(inputs[0])):
            given = [torch.tensor(one[sample : sample + 1]) for one in inputs]
            rows.append([one.detach().numpy() for one in tensors(network(*given))])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def random_inputs(
    shapes: Sequence[Sequence[int]], count: int, seed: int
) -> list[NDArray[np.float32]]:
    """Standard normal arrays (count, *shape), one for each shape."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((count, *shape), dtype=np.float32) for shape in shapes]
