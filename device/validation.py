"""Does a machine compute what PyTorch computed? The bundle carries the answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headgate.device.bundle import Bundle
from headgate.device.program import load


@dataclass(frozen=True)
class Validation:
    """Outcome of comparing outputs with the expected ones.

    ``max_error`` is the largest difference as a share of the output's scale (the largest
    expected magnitude), ``top1_agreement`` the share of samples with the same largest score;
    ``agreement`` is how large that share has to be, less than 1 only for integer arithmetic.
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
) -> Validation:
    """Compare the outputs of a network, each (N, ...), with the expected ones."""
    errors, agreements = [], []
    for got, wanted in zip(outputs, expected, strict=True):
        scale = float(np.abs(wanted).max()) or 1.0
        errors.append(np.abs(got.astype(np.float64) - wanted).max() / scale)
        same = got.reshape(len(got), -1).argmax(axis=1) == wanted.reshape(len(got), -1).argmax(1)
        agreements.append(same.mean())
    # np.max, not max: it keeps a NaN.
    return Validation(
        float(np.max(errors)), tolerance, float(np.min(agreements)), len(expected[0]), agreement
    )


def validate(bundle: Bundle | str | Path, machine: str = "host") -> Validation:
    """Run the bundle's test vectors on a machine and compare with PyTorch's outputs.

    Raises:
        HeadgateError: as :func:`headgate.device.load` and ``Program.run``.
    """
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(bundle)
    inputs, expected = bundle.vectors()
    with load(bundle, machine) as program:
        outputs = program.run(inputs)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    return compare_outputs(outputs, expected, float(bundle.manifest["tolerance"]))
