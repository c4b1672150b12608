"""Convolutions whose channels are placed among constants, on their own against float64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile.kernels.convolution import ConvShape, Epilogue
from headgate.compile.kernels.float.conv2d import ConvKernel
from headgate.compile.kernels.tiling import Tiling, choose_tiling
from headgate.device.targets import Target, get_target
from tests.kernel_calls import Call, isa, run_calls
from tests.kernel_cases import (
    BATCH,
    CLAMPS,
    SEEDS,
    SENTINEL,
    TARGETS,
    active_list,
    clamped,
    close,
    counts,
    double,
    drawn,
    numbers,
    one,
    padded,
    spatial,
    tilings,
)


@dataclass(frozen=True)
class PlacedCase:
    """``shape`` has the channels that are computed, ``total`` those of the tensor."""

    shape: ConvShape
    total: int
    residual: str | None
    clamp: tuple[float | None, float | None]
    seed: int
    active_in: int | None = None
    tiling: Tiling | None = None
    """None: the one that the cost model chooses."""


@st.composite
def placed_cases(draw: st.DrawFn) -> PlacedCase:
    total = draw(st.integers(1, 21))
    outputs = draw(st.sampled_from([1, total // 2, total - 1, total]).map(lambda k: max(k, 1)))
    shape = ConvShape(draw(st.integers(1, 9)), outputs, **draw(spatial(largest=3)))
    return PlacedCase(
        shape,
        total,
        draw(st.sampled_from([None, "in_place", "separate"])),
        draw(st.sampled_from(CLAMPS)),
        draw(SEEDS),
        draw(st.none() | counts(shape.in_channels)),
        draw(st.none() | tilings(shape)),
    )


def placed_call(case: PlacedCase, target: Target) -> Call:
    shape, random, gated_in = (
        case.shape,
        np.random.default_rng(case.seed),
        case.active_in is not None,
    )
    tiling = case.tiling or choose_tiling(shape, isa(target), gated_in=gated_in)
    kernel = ConvKernel(
        shape,
        tiling,
        Epilogue(residual=case.residual, clamp=case.clamp),
        gated_in,
        True,
        isa(target).weight_lanes,
        case.total,
    )
    inputs = shape.in_channels if case.active_in is None else case.active_in
    result = (case.total, shape.out_height, shape.out_width)
    residual = numbers(random, *result)
    arrays = {
        "x": numbers(random, shape.in_channels, shape.height, shape.width),
        "weight": numbers(random, shape.out_channels, shape.in_channels, *shape.kernel),
        "bias": numbers(random, case.total),
        "constant": numbers(random, case.total),
        "residual": residual,
        "y": residual.copy()
        if case.residual == "in_place"
        else np.full(result, SENTINEL, np.float32),
        "out_list": active_list(random, case.total, shape.out_channels),
        "in_list": active_list(random, shape.in_channels, inputs),
        "in_count": one(inputs),
    }
    # Neither is there a constant where a channel is computed, nor a bias where none is.
    arrays["constant"][arrays["out_list"][: shape.out_channels]] = np.nan
    arrays["bias"][arrays["out_list"][shape.out_channels :]] = np.nan
    arrays["x"][arrays["in_list"][inputs:]] = np.nan
    return Call(kernel, arrays, {"y"})


def check_placed(
    case: PlacedCase, given: dict[str, np.ndarray], found: dict[str, np.ndarray]
) -> None:
    shape, x = case.shape, given["x"].copy()
    x[given["in_list"][given["in_count"][0] :]] = 0
    computed = F.conv2d(
        double(padded(x, shape.padding)),
        torch.from_numpy(given["weight"]).double(),
        None,
        shape.stride,
        0,
        shape.dilation,
    )[0].numpy()
    channels = given["out_list"][: shape.out_channels]
    expected = np.broadcast_to(given["constant"][:, None, None], found["y"].shape).astype(float)
    expected[channels] = computed + given["bias"][channels, None, None]
    if case.residual:
        expected = expected + given["residual"]
    close(found["y"], clamped(expected, case.clamp), shape.in_channels * shape.taps)


def check_all(
    cases: list[PlacedCase], target: Target, folder: Path, emulator: tuple[str, ...] = ()
) -> None:
    calls = [placed_call(case, target) for case in cases]
    results = run_calls(calls, target, folder, emulator)
    for case, call, found in zip(cases, calls, results, strict=True):
        print(case)  # pytest shows it where a check fails
        check_placed(case, call.arrays, found)


@drawn(4)
@given(cases=st.lists(placed_cases(), min_size=BATCH, max_size=BATCH), target=TARGETS)
def test_placed_convolution(
    cases: list[PlacedCase], target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_all(cases, target, tmp_path_factory.mktemp("placed"))


def test_placed_convolution_on_neon(tmp_path: Path, qemu_aarch64: str) -> None:
    """A few of every sort, cross-compiled and run under QEMU."""
    shapes = [
        ConvShape(5, 9, 9, 11, (3, 3), padding=(1, 1, 1, 1)),
        ConvShape(8, 6, 6, 6, (1, 1)),
        ConvShape(4, 8, 13, 7, (3, 3), (2, 2), (1, 1, 1, 1)),
    ]
    kinds: list[tuple[str | None, int]] = [(None, 7), ("in_place", 1), ("separate", 0)]
    cases = [
        PlacedCase(shape, shape.out_channels + more, residual, CLAMPS[seed], seed)
        for seed, shape in enumerate(shapes)
        for residual, more in kinds
    ]
    check_all(cases, get_target("rpi4"), tmp_path, (qemu_aarch64, "-cpu", "cortex-a72"))
