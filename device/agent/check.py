"""Are the outputs those of PyTorch?"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass

from .absent import NotMeasured
from .bundle import Bundle


@dataclass(frozen=True)
class Check:
    """Like ``headgate validate``: errors as shares of the expected output's largest value."""

    passed: bool
    max_error: float
    tolerance: float
    top1_agreement: float
    samples: int


def check_outputs(bundle: Bundle, outputs: list[bytes]) -> Check | NotMeasured:
    """Compare the outputs for the bundle's test vectors with those it carries."""
    if not bundle.expected:
        return NotMeasured("the inputs are not the bundle's own")
    max_error, agreement = 0.0, 1.0
    sizes = bundle.sample_bytes("outputs")
    for got_bytes, expected_bytes, size in zip(outputs, bundle.expected, sizes):
        got, expected = _floats(got_bytes), _floats(expected_bytes)
        scale = max(abs(value) for value in expected) or 1.0
        errors = [abs(one - other) / scale for one, other in zip(got, expected)]
        # max() would lose a NaN, and a NaN is never right.
        worst = max(errors) if all(map(math.isfinite, errors)) else math.inf
        max_error = max(max_error, worst)
        length = size // 4
        rows = range(0, len(expected), length)
        same = sum(
            _top1(got[row : row + length]) == _top1(expected[row : row + length]) for row in rows
        )
        agreement = min(agreement, same / len(rows))
    tolerance = float(bundle.manifest["tolerance"])
    return Check(
        passed=max_error <= tolerance and agreement == 1.0,
        # JSON has no infinity.
        max_error=max_error if math.isfinite(max_error) else 1e308,
        tolerance=tolerance,
        top1_agreement=agreement,
        samples=bundle.samples,
    )


def _floats(data: bytes) -> array[float]:
    numbers = array("f")
    numbers.frombytes(data)
    return numbers


def _top1(row: array[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)
