"""Convolutions on their own against PyTorch in float64: hypothesis draws shapes, gates and tilings.

Several kernels go into one object file, because linking takes longer than compiling them.
"""

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

from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue
from headgate.compile.kernels.float.conv2d import ConvKernel
from headgate.compile.kernels.float.window import Depthwise
from headgate.compile.kernels.kernel import Kernel
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
class ConvCase:
    shape: ConvShape
    active_in: int | None
    active_out: int | None
    residual: str | None
    means: bool
    clamp: tuple[float | None, float | None]
    seed: int
    tiling: Tiling | None = None
    """None: the one that the cost model chooses."""


@st.composite
def conv_cases(draw: st.DrawFn, depthwise: bool = False) -> ConvCase:
    if depthwise:
        groups = draw(st.integers(2, 9))
        channels = groups, groups * draw(st.sampled_from([1, 1, 2, 3]))
    else:
        groups = draw(st.sampled_from([1, 1, 1, 1, 2, 3]))
        per_group = st.integers(1 if groups == 1 else 2, 13)
        channels = groups * draw(per_group), groups * draw(per_group)
    shape = ConvShape(*channels, **draw(spatial()), groups=groups)
    gated_in, gated_out = draw(st.booleans()) and not depthwise, draw(st.booleans())
    residual = draw(st.sampled_from([None, None, "in_place", "separate"]))
    if depthwise and gated_out:
        residual = None
    tiling = draw(tilings(shape)) if not depthwise and draw(st.booleans()) else None
    return ConvCase(
        shape,
        draw(counts(shape.in_channels)) if gated_in else None,
        draw(counts(shape.out_channels)) if gated_out else None,
        residual,
        draw(st.booleans()) and not depthwise and not (gated_out and residual),
        draw(st.sampled_from(CLAMPS)),
        draw(SEEDS),
        tiling,
    )


def conv_kernel(case: ConvCase, target: Target) -> Kernel:
    shape, gated_in, gated_out = case.shape, case.active_in is not None, case.active_out is not None
    epilogue = Epilogue(gated_out, case.residual, case.clamp, case.means)
    if shape.group_in == 1 and shape.groups > 1:
        return Depthwise.of(isa(target), request=ConvRequest(shape, epilogue))
    sides = {"gated_in": gated_in, "gated_out": gated_out}
    tiling = case.tiling or choose_tiling(shape, isa(target), **sides)
    stays = case.residual == "in_place" and case.clamp == (None, None)
    inactive = gated_out and case.residual is not None and not stays
    return ConvKernel(shape, tiling, epilogue, gated_in, inactive, isa(target).weight_lanes)


def conv_call(case: ConvCase, target: Target) -> Call:
    shape, random = case.shape, np.random.default_rng(case.seed)
    kernel = conv_kernel(case, target)
    lanes = kernel.tiling.lanes if isinstance(kernel, ConvKernel) else 1
    inputs = shape.in_channels if case.active_in is None else case.active_in
    outputs = shape.out_channels if case.active_out is None else case.active_out
    result = (shape.out_channels, shape.out_height, shape.out_width)
    residual = numbers(random, *result)
    arrays = {
        "x": numbers(random, shape.in_channels, shape.height, shape.width),
        "weight": numbers(random, shape.out_channels, shape.group_in, *shape.kernel),
        "bias": numbers(random, shape.out_channels),
        "gate": numbers(random, shape.out_channels),
        "shift": numbers(random, shape.out_channels),
        "residual": residual,
        "y": residual.copy()
        if case.residual == "in_place"
        else np.full(result, SENTINEL, np.float32),
        "sums": np.full((shape.out_channels, lanes), np.nan, np.float32),
        "in_list": active_list(random, shape.in_channels, inputs),
        "in_count": one(inputs),
        "out_list": active_list(random, shape.out_channels, outputs),
        "out_count": one(outputs),
    }
    # Planes of inactive channels hold anything at all.
    if case.active_in is not None:
        arrays["x"][arrays["in_list"][inputs:]] = np.nan
    return Call(kernel, arrays, {"y", "sums"})


def check_conv(case: ConvCase, given: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    shape, y = case.shape, found["y"]
    x = given["x"].copy()
    active = given["out_list"][: given["out_count"][0]]
    others = given["out_list"][given["out_count"][0] :]
    x[given["in_list"][given["in_count"][0] :]] = 0
    expected = F.conv2d(
        double(padded(x, shape.padding)),
        torch.from_numpy(given["weight"]).double(),
        torch.from_numpy(given["bias"]).double(),
        shape.stride,
        0,
        shape.dilation,
        shape.groups,
    )[0].numpy()
    if case.active_out is not None:
        expected = expected * given["gate"][:, None, None] + given["shift"][:, None, None]
        expected[others] = 0
    if case.residual:
        expected = expected + given["residual"]
    expected = clamped(expected, case.clamp)
    terms = shape.group_in * shape.taps
    close(y[active], expected[active], terms)
    if case.residual:
        close(y[others], expected[others], terms)
    else:
        assert (y[others] == SENTINEL).all(), "an inactive channel was written"
    if case.means:
        means = found["sums"].astype(np.float64).sum(1) / shape.pixels
        close(means[active], expected.mean((1, 2))[active], terms)


def check_convs(
    cases: list[ConvCase], target: Target, folder: Path, emulator: tuple[str, ...] = ()
) -> None:
    calls = [conv_call(case, target) for case in cases]
    results = run_calls(calls, target, folder, emulator)
    for case, call, found in zip(cases, calls, results, strict=True):
        print(case)  # pytest shows it where a check fails
        check_conv(case, call.arrays, found)


@drawn(6)
@given(cases=st.lists(conv_cases(), min_size=BATCH, max_size=BATCH), target=TARGETS)
def test_convolution(
    cases: list[ConvCase], target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_convs(cases, target, tmp_path_factory.mktemp("convolution"))


@drawn(3)
@given(cases=st.lists(conv_cases(depthwise=True), min_size=BATCH, max_size=BATCH), target=TARGETS)
def test_depthwise(
    cases: list[ConvCase], target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_convs(cases, target, tmp_path_factory.mktemp("depthwise"))


def test_convolution_on_neon(tmp_path: Path, qemu_aarch64: str) -> None:
    """A few of every sort, cross-compiled and run under QEMU."""
    shapes = [
        ConvShape(5, 9, 9, 11, (3, 3), padding=(1, 1, 1, 1)),
        ConvShape(7, 16, 6, 6, (1, 1)),
        ConvShape(6, 12, 13, 7, (5, 3), (2, 3), (2, 1, 2, 0)),
        ConvShape(8, 12, 8, 8, (3, 3), padding=(2, 2, 2, 2), dilation=(2, 2), groups=2),
        ConvShape(6, 6, 10, 10, (3, 3), (2, 2), (1, 1, 1, 1), groups=6),
        ConvShape(3, 9, 7, 5, (3, 3), padding=(1, 1, 1, 1), groups=3),
        ConvShape(16, 16, 2, 2, (3, 3), padding=(1, 1, 1, 1)),
        ConvShape(3, 8, 15, 15, (7, 7), (2, 2), (3, 3, 3, 3)),
    ]
    cases = []
    for seed, shape in enumerate(shapes):
        depthwise, last = shape.group_in == 1, shape.out_channels
        second = (False, "separate") if seed % 2 or depthwise else (True, "in_place")
        for gated, residual in ((True, None), second):
            means = not depthwise and not (gated and residual)
            active_in = shape.in_channels // 2 if gated and not depthwise else None
            for active_out in (0, 1, last - 2, last) if gated else (None,):
                clamp = CLAMPS[seed % len(CLAMPS)]
                cases.append(ConvCase(shape, active_in, active_out, residual, means, clamp, seed))
    emulator = (qemu_aarch64, "-cpu", "cortex-a72")
    check_convs(cases, get_target("rpi4"), tmp_path, emulator)
