"""What stands in for an FPU, compiled for this machine, against NumPy."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headgate.device import runtime_sources
from tests.fake_bundle import zig_cc

pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

LEAST, MOST = -(2**31), 2**31 - 1
floats = st.floats(width=32) | st.integers(-(2**26), 2**26).map(lambda n: float(np.float32(n / 4)))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    path: Path = tmp_path_factory.mktemp("soft") / "soft.so"
    zig_cc("-shared", "-fPIC", runtime_sources("baremetal") / "soft_float.c", output=path)
    found = ctypes.CDLL(str(path))
    whole, real = ctypes.c_int32, ctypes.c_float
    found.headgate_nearest.argtypes = [real]
    found.headgate_nearest_scaled.argtypes = [whole, real, real]
    found.headgate_nearest_added.argtypes = [whole, real, real, whole, real]
    return found


def nearest(value: np.float32) -> int:
    return 0 if np.isnan(value) else int(np.clip(np.rint(np.float64(value)), LEAST, MOST))


@given(floats)
@example(0.5)
@example(1.5)
@example(-2.5)
@example(0.49999997)
@example(8388607.5)
@example(-8388608.0)
@example(2147483520.0)
@example(2147483648.0)
@example(-2147483648.0)
@example(float("inf"))
@example(float("-inf"))
@example(float("nan"))
@example(1e-45)
def test_nearest(library: ctypes.CDLL, value: float) -> None:
    assert library.headgate_nearest(value) == nearest(np.float32(value))


totals = st.integers(-(2**31), 2**31 - 1) | st.integers(-(2**20), 2**20)
scales = st.floats(-4, 4, width=32) | st.sampled_from([0.0, 2.0**-10, -(2.0**-7), 3.0 * 2.0**-12])
codes = st.integers(-128, 255)
# Sums of these lie in the middle between two whole numbers, or one float32 beside it.
shifts = st.floats(-2000, 2000, width=32) | st.integers(-4096, 4096).map(lambda n: n / 2)


@settings(max_examples=2000)
@given(totals, scales, shifts, codes, scales)
@example(1, 2.0**-10, 0.5, 0, 0.0)
@example(2**24 + 1, 2.0**-15, -0.5, 0, 0.0)
@example(512, 2.0**-10, 0.0, 1, 1.0)
@example(-(2**31), 1.0, 0.0, 0, 0.0)
@example(1, 1e-45, 0.5, 255, -1e-45)
def test_of_a_sum(
    library: ctypes.CDLL, total: int, scale: float, shift: float, own: int, own_scale: float
) -> None:
    scaled = np.float32(total) * np.float32(scale) + np.float32(shift)
    added = scaled + np.float32(own) * np.float32(own_scale)
    assert library.headgate_nearest_scaled(total, scale, shift) == nearest(scaled)
    assert library.headgate_nearest_added(total, scale, shift, own, own_scale) == nearest(added)


def test_middles_are_found_by_floats(library: ctypes.CDLL) -> None:
    """Every sum near a middle: fixed point alone would round some of them the other way."""
    scale = np.float32(0.0123)
    for total in range(-20000, 20000):
        scaled = np.float32(total) * scale
        for middle in (np.floor(scaled) + np.float32(0.5), np.ceil(scaled) + np.float32(1.5)):
            shift = np.float32(middle - scaled)
            wanted = nearest(scaled + shift)
            assert library.headgate_nearest_scaled(total, scale, shift) == wanted
