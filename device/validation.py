"""Does a machine compute what PyTorch computed? The bundle carries the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headgate.device.bundle import Bundle
from headgate.device.machines.find import load

TIE = 1e-6
"""Scores nearer to each other than this share of the scale are in no order: rounding decides."""


@dataclass(frozen=True)
class Validation:
    """Outcome of comparing outputs with the expected ones.

    ``max_error`` is a share of the output's scale (its largest expected magnitude),
    ``top1_agreement`` that of samples with the same largest score, or one that ties with it;
    ``agreement`` is how large it has to be, less than 1 only for integer arithmetic.
    """

    max_error: float
    tolerance: float
    top1_agreement: float
    samples: int
    agreement: float = 1.0

    @property
    def passed(self) -> bool:
        """Within the tolerance (NaN is not), and the same top-1 as often as it must be."""
        return self.max_error <= self.tolerance and self.top1_agreement >= self.agreement


def compare_outputs(
    outputs: list[np.ndarray],
    expected: list[np.ndarray],
    tolerance: float,
    agreement: float = 1.0,
    scales: Sequence[float] = (),
) -> Validation:
    """Compare the outputs of a network, each (N, ...), with the expected ones.

    ``scales`` are the least that the outputs' scales are taken for.
    """
    agreements = []
    least = scales or [0.0] * len(expected)
    for got, wanted, rounding in zip(outputs, expected, least, strict=True):
        scores = wanted.reshape(len(wanted), -1)
        chosen = got.reshape(len(got), -1).argmax(axis=1)
        lost = scores.max(axis=1) - scores[np.arange(len(scores)), chosen]
        agreements.append((lost <= max(TIE * _scale(wanted), tolerance * rounding)).mean())
    # np.max, not max: it keeps a NaN.
    error = float(np.max(sample_errors(outputs, expected, scales)))
    return Validation(error, tolerance, float(np.min(agreements)), len(expected[0]), agreement)


def sample_errors(
    outputs: list[np.ndarray], expected: list[np.ndarray], scales: Sequence[float] = ()
) -> np.ndarray:
    """The largest error of each sample, (N,), each output's as a share of its own scale.

    ``outputs`` may be those of the first N samples; scales are of all, and at least ``scales``.
    """
    errors = [
        np.abs(got.astype(np.float64) - wanted[: len(got)]).reshape(len(got), -1).max(axis=1)
        / max(_scale(wanted), least)
        for got, wanted, least in zip(
            outputs, expected, scales or [0.0] * len(expected), strict=True
        )
    ]
    return np.max(errors, axis=0)  # which keeps a NaN


def _scale(expected: np.ndarray) -> float:
    return float(np.abs(expected).max()) or 1.0


def validate(bundle: Bundle | str | Path, machine: str = "host") -> Validation:
    """Run the bundle's test vectors on a machine and compare with PyTorch's outputs."""
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(bundle)
    inputs, expected = bundle.vectors()
    with load(bundle, machine) as program:
        outputs = program.outputs(inputs)
    tolerance, scales = float(bundle.manifest["tolerance"]), bundle.scales
    return compare_outputs(outputs, expected, tolerance, scales=scales)
