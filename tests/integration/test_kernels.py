"""Every kernel on its own against PyTorch in float64: hypothesis draws the shapes.

Several kernels go into one object file, because linking takes longer than compiling them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile.schedules.conv2d import ConvKernel
from headgate.compile.schedules.gating import ChannelMean, KeepTopK, ListActive, MergeLists
from headgate.compile.schedules.linear import Linear
from headgate.compile.schedules.microkernel import Epilogue
from headgate.compile.schedules.planes import ClearInactive, Combine, CopyPlanes
from headgate.compile.schedules.tiling import ConvShape, Tiling, choose_tiling
from headgate.compile.schedules.window import Depthwise, Pool, scratch_bytes, window_lanes
from headgate.compile.steps import Kernel
from headgate.compile.targets import Target, get_target
from headgate.train.gates import keep_top_k
from tests.kernel_calls import Call, host_targets, run_calls, scratch

SENTINEL = 7.5
"""What results hold before the call; planes of inactive channels keep it."""
TARGETS = st.integers(0, 2).map(lambda i: (targets := host_targets())[i % len(targets)])
CLAMPS = [(None, None), (0.0, None), (0.0, 6.0), (-0.5, 0.5)]
SEEDS = st.integers(0, 2**32 - 1)
BATCH = 6


def drawn(examples: int) -> settings:
    """The same few examples every time, many and others with HEADGATE_FULL=1."""
    full = os.environ.get("HEADGATE_FULL") == "1"
    return settings(
        max_examples=examples * (10 if full else 1),
        derandomize=not full,
        phases=(Phase.explicit, Phase.generate),  # a failure names its kernel; no need to shrink
        suppress_health_check=list(HealthCheck),
    )


def numbers(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape, dtype=np.float32)


def active_list(random: np.random.Generator, channels: int, count: int) -> np.ndarray:
    """A list as kernels read it: active channels, then the others, both ascending."""
    order = random.permutation(channels)
    return np.concatenate([np.sort(order[:count]), np.sort(order[count:])]).astype(np.int32)


def one(count: int) -> np.ndarray:
    return np.array([count], np.int32)


def counts(channels: int) -> st.SearchStrategy[int]:
    """None, one, some or all of the channels."""
    return st.sampled_from([0, 1, channels // 2, channels - 1, channels]).map(
        lambda n: min(max(n, 0), channels)
    )


def close(found: np.ndarray, expected: np.ndarray, terms: int = 1) -> None:
    """Equal up to the rounding of a float32 sum of ``terms`` products of ordinary size."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=4e-6 * max(1, terms) ** 0.5)


def double(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array[None]).double()


def clamped(value: np.ndarray, clamp: tuple[float | None, float | None]) -> np.ndarray:
    low, high = clamp
    value = value if low is None else np.maximum(value, low)
    return value if high is None else np.minimum(value, high)


def padded(x: np.ndarray, padding: tuple[int, int, int, int], border: float = 0.0) -> np.ndarray:
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=border)


# Convolutions


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
def spatial(draw: st.DrawFn, largest: int = 7) -> dict[str, Any]:
    """Kernel, stride, padding, dilation and an image that they fit on."""
    kernel = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    if draw(st.booleans()):
        kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5)]))
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 3), (1, 2), (3, 1)]))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3)]))
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    edges = [draw(st.integers(0, min(3, span[i % 2] - 1))) for i in range(4)]
    padding = draw(st.sampled_from([(0, 0, 0, 0), tuple(edges), (*edges[:2], *edges[:2])]))
    height, width = (
        draw(st.integers(max(1, span[i] - padding[i] - padding[i + 2]), high))
        for i, high in ((0, 24), (1, 40))
    )
    return {
        "height": height,
        "width": width,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
    }


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


@st.composite
def tilings(draw: st.DrawFn, shape: ConvShape) -> Tiling:
    """Any that is right, whatever it costs."""
    modes = ["direct"] if shape.pointwise else ["columns"]
    if shape.stride == (1, 1) and not shape.pointwise:
        modes = ["padded", "padded", "columns"]
    mode, lanes, height = (
        draw(st.sampled_from(modes)),
        draw(st.sampled_from([4, 8])),
        shape.out_height,
    )
    rows = [height]
    if mode == "padded":
        rows = list(range(1, height + 1))
    if mode == "columns":
        # A chunk ends where a vector does.
        rows += [r for r in range(1, height) if r * shape.out_width % lanes == 0]
    return Tiling(
        mode,
        draw(st.sampled_from([4, 8])),
        draw(st.integers(1, 2)),
        lanes,
        draw(st.sampled_from(rows)),
        draw(st.booleans()),
    )


def conv_kernel(case: ConvCase, target: Target) -> tuple[Kernel, int, int]:
    """The kernel, its scratch in bytes and the partial sums of each channel mean."""
    shape, gated_in, gated_out = case.shape, case.active_in is not None, case.active_out is not None
    epilogue = Epilogue(gated_out, case.residual, case.clamp, case.means)
    if shape.group_in == 1 and shape.groups > 1:
        lanes = window_lanes(shape, target)
        return Depthwise(shape, lanes, epilogue), scratch_bytes(shape, lanes), lanes
    tiling = case.tiling or choose_tiling(shape, target, gated_in=gated_in, gated_out=gated_out)
    inactive = None
    if gated_out and case.residual:
        stays = case.residual == "in_place" and case.clamp == (None, None)
        inactive = None if stays else "clamp"
    kernel = ConvKernel(shape, tiling, epilogue, gated_in, inactive, target.weight_lanes)
    return kernel, tiling.scratch_bytes(shape), tiling.lanes


def conv_call(case: ConvCase, target: Target) -> Call:
    shape, random = case.shape, np.random.default_rng(case.seed)
    kernel, scratch_size, lanes = conv_kernel(case, target)
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
        "scratch": scratch(scratch_size),
        "in_list": active_list(random, shape.in_channels, inputs),
        "in_count": one(inputs),
        "out_list": active_list(random, shape.out_channels, outputs),
        "out_count": one(outputs),
    }
    # Planes of inactive channels hold anything at all.
    if case.active_in is not None:
        arrays["x"][arrays["in_list"][inputs:]] = np.nan
    return Call(kernel, arrays, {"y", "sums", "scratch"})


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


# Pooling


@st.composite
def pool_cases(draw: st.DrawFn) -> tuple[ConvShape, str, int | None, int, Any]:
    channels = draw(st.integers(1, 9))
    window = draw(spatial(largest=4))
    if draw(st.booleans()):
        window["dilation"] = (1, 1)
    # Every window holds at least one pixel, as PyTorch demands of the padding.
    limits = [(k - 1) * d // 2 for k, d in zip(window["kernel"], window["dilation"], strict=True)]
    window["padding"] = tuple(min(p, limits[i % 2]) for i, p in enumerate(window["padding"]))
    spans = [(k - 1) * d + 1 for k, d in zip(window["kernel"], window["dilation"], strict=True)]
    window["height"], window["width"] = (
        max(window[key], span) for key, span in zip(("height", "width"), spans, strict=True)
    )
    shape = ConvShape(channels, channels, **window, groups=channels)
    active = draw(counts(channels)) if draw(st.booleans()) else None
    kind = draw(st.sampled_from(["max", "avg"]))
    return shape, kind, active, draw(SEEDS), draw(st.sampled_from(CLAMPS))


@drawn(4)
@given(cases=st.lists(pool_cases(), min_size=BATCH, max_size=BATCH), target=TARGETS)
def test_pooling(cases: list[Any], target: Target, tmp_path_factory: Any) -> None:
    calls = []
    for shape, kind, active, seed, clamp in cases:
        random, lanes = np.random.default_rng(seed), window_lanes(shape, target)
        count = shape.in_channels if active is None else active
        arrays = {
            "x": numbers(random, shape.in_channels, shape.height, shape.width),
            "y": np.full((shape.in_channels, shape.out_height, shape.out_width), SENTINEL, "f4"),
            "scratch": scratch(scratch_bytes(shape, lanes)),
            "in_list": active_list(random, shape.in_channels, count),
            "in_count": one(count),
        }
        kernel = Pool(shape, kind, lanes, active is not None, clamp)
        calls.append(Call(kernel, arrays, {"y", "scratch"}))
    results = run_calls(calls, target, tmp_path_factory.mktemp("pooling"))
    for (shape, kind, active, _, clamp), call, found in zip(cases, calls, results, strict=True):
        print(call.kernel, active)
        border = -np.inf if kind == "max" else 0.0
        x = double(padded(call.arrays["x"], shape.padding, border))
        windows = x.numpy()[0]
        expected = np.full(call.arrays["y"].shape, border)
        for r in range(shape.kernel[0]):
            for s in range(shape.kernel[1]):
                rows = slice(r * shape.dilation[0], None, shape.stride[0])
                columns = slice(s * shape.dilation[1], None, shape.stride[1])
                tap = windows[:, rows, columns][:, : shape.out_height, : shape.out_width]
                expected = np.maximum(expected, tap) if kind == "max" else expected + tap
        expected = clamped(expected if kind == "max" else expected / shape.taps, clamp)
        count = call.arrays["in_count"][0]
        chosen, others = np.split(call.arrays["in_list"], [count])
        close(found["y"][chosen], expected[chosen])
        assert (found["y"][others] == SENTINEL).all() or active is None


# Fully connected layers and means


@st.composite
def linear_cases(draw: st.DrawFn) -> tuple[Linear, int, int]:
    channels, run = draw(st.integers(1, 20)), draw(st.sampled_from([1, 1, 2, 4, 9]))
    gated = draw(st.booleans())
    outputs = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 10, 16, 33, 64, 70, 130]))
    lanes = draw(st.sampled_from([4, 8, 16]))
    kernel = Linear(
        channels * run, outputs, lanes, gated, run if gated else 1, draw(st.sampled_from(CLAMPS))
    )
    return kernel, draw(counts(channels)) if gated else kernel.inputs, draw(SEEDS)


@drawn(4)
@given(cases=st.lists(linear_cases(), min_size=BATCH, max_size=BATCH))
def test_linear(cases: list[tuple[Linear, int, int]], tmp_path_factory: Any) -> None:
    calls, weights = [], []
    for kernel, count, seed in cases:
        random = np.random.default_rng(seed)
        weights.append(numbers(random, kernel.outputs, kernel.inputs))
        bias = np.zeros(kernel.blocks * kernel.block, np.float32)
        bias[: kernel.outputs] = numbers(random, kernel.outputs)
        order = active_list(random, kernel.inputs // kernel.run, count)
        x = numbers(random, kernel.inputs // kernel.run, kernel.run)
        if kernel.gated:
            x[order[count:]] = np.nan
        arrays = {
            "x": x,
            "weight": kernel.pack(weights[-1]),
            "bias": bias,
            "y": np.full(kernel.outputs, SENTINEL, np.float32),
            "in_list": order,
            "in_count": one(count),
        }
        calls.append(Call(kernel, arrays, {"y"}))
    results = run_calls(calls, get_target("host"), tmp_path_factory.mktemp("linear"))
    for (kernel, _, _), weight, call, found in zip(cases, weights, calls, results, strict=True):
        print(kernel)
        x = np.nan_to_num(call.arrays["x"]).astype(np.float64).reshape(-1)
        expected = weight.astype(np.float64) @ x + call.arrays["bias"][: kernel.outputs]
        close(found["y"], clamped(expected, kernel.clamp), kernel.inputs)


@st.composite
def mean_cases(draw: st.DrawFn) -> tuple[ChannelMean, int, int]:
    channels, pixels = draw(st.integers(1, 20)), draw(st.integers(1, 70))
    gated = draw(st.booleans())
    kernel = ChannelMean(
        channels, pixels, draw(st.sampled_from([1, 4, 8, 16])), gated, absolute=draw(st.booleans())
    )
    return kernel, draw(counts(channels)) if gated else channels, draw(SEEDS)


@drawn(3)
@given(cases=st.lists(mean_cases(), min_size=BATCH, max_size=BATCH))
def test_channel_mean(cases: list[tuple[ChannelMean, int, int]], tmp_path_factory: Any) -> None:
    calls = []
    for kernel, count, seed in cases:
        random = np.random.default_rng(seed)
        order = active_list(random, kernel.channels, count)
        x = numbers(random, kernel.channels, kernel.pixels)
        if kernel.gated:
            x[order[count:]] = np.nan
        y = np.full(kernel.channels, SENTINEL, np.float32)
        arrays = {"x": x, "y": y, "in_list": order, "in_count": one(count)}
        calls.append(Call(kernel, arrays, {"y"}))
    results = run_calls(calls, get_target("host"), tmp_path_factory.mktemp("mean"))
    for (kernel, _, _), call, found in zip(cases, calls, results, strict=True):
        print(kernel)
        x = np.nan_to_num(call.arrays["x"]).astype(np.float64)
        close(found["y"], (np.abs(x) if kernel.absolute else x).mean(1))


def test_channel_mean_of_partial_sums(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    kernel = ChannelMean(5, 30, 8, gated=True, from_sums=True)
    sums, order = numbers(random, 5, 8), np.array([1, 4, 0, 2, 3], np.int32)
    y = np.full(5, SENTINEL, np.float32)
    call = Call(kernel, {"x": sums, "y": y, "in_list": order, "in_count": one(2)}, {"y"})
    (found,) = run_calls([call], get_target("host"), tmp_path)
    expected = np.zeros(5)
    expected[[1, 4]] = sums[[1, 4]].astype(np.float64).sum(1) / 30
    close(found["y"], expected)


# Gates


def saliencies(channels: int) -> st.SearchStrategy[list[float]]:
    """Numbers of every sort, many of them equal."""
    width = {"width": 32, "allow_nan": False}
    number = st.one_of(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5]),
        st.floats(-4, 4, **width),
        st.floats(**width),
    )
    return st.lists(number, min_size=channels, max_size=channels)


@st.composite
def top_k_cases(draw: st.DrawFn) -> tuple[KeepTopK, list[float]]:
    channels = draw(st.integers(1, 40))
    kernel = KeepTopK(channels, draw(st.integers(0, channels)), draw(st.sampled_from([4, 8, 16])))
    return kernel, draw(saliencies(channels))


@drawn(6)
@given(cases=st.lists(top_k_cases(), min_size=2 * BATCH, max_size=2 * BATCH))
def test_keep_top_k(cases: list[tuple[KeepTopK, list[float]]], tmp_path_factory: Any) -> None:
    calls = [
        Call(kernel, {"x": np.array(x, "f4"), "y": np.full(len(x), SENTINEL, "f4")}, {"y"})
        for kernel, x in cases
    ]
    results = run_calls(calls, get_target("host"), tmp_path_factory.mktemp("top"))
    for (kernel, x), found in zip(cases, results, strict=True):
        print(kernel)
        saliency = torch.tensor([x], dtype=torch.float32)
        expected = keep_top_k(saliency, kernel.keep)[0].numpy()
        np.testing.assert_array_equal(found["y"], expected)


@drawn(4)
@given(
    cases=st.lists(
        st.integers(1, 40).flatmap(
            lambda n: st.lists(
                st.sampled_from([0.0, -0.0, 1.0, -2.0, 1e-45]), min_size=n, max_size=n
            )
        ),
        min_size=BATCH,
        max_size=BATCH,
    )
)
def test_list_of_active_channels(cases: list[list[float]], tmp_path_factory: Any) -> None:
    calls = []
    for gate in cases:
        # One slot more than channels: the writer's last write may fall behind the end.
        arrays = {
            "gate": np.array(gate, np.float32),
            "out_list": np.full(len(gate) + 1, -1, np.int32),
            "out_count": one(-1),
        }
        calls.append(Call(ListActive(len(gate)), arrays, {"out_list", "out_count"}))
    results = run_calls(calls, get_target("host"), tmp_path_factory.mktemp("list"))
    for call, found in zip(calls, results, strict=True):
        gate = call.arrays["gate"]
        expected = [*np.flatnonzero(gate != 0), *np.flatnonzero(gate == 0)]
        assert found["out_count"][0] == np.count_nonzero(gate)
        assert found["out_list"][: gate.size].tolist() == expected


@st.composite
def merge_cases(draw: st.DrawFn) -> tuple[MergeLists, list[int], int]:
    union = draw(st.booleans())
    parts = draw(st.integers(2, 3))
    if union:
        sizes = [draw(st.integers(1, 20))] * parts
        offsets, gated = (0,) * parts, [True] * parts
        channels = sizes[0]
    else:
        sizes = [draw(st.integers(1, 20)) for _ in range(parts)]
        offsets = tuple(int(n) for n in np.cumsum([0, *sizes[:-1]]))
        gated = [True, *(draw(st.booleans()) for _ in range(parts - 1))]
        channels = sum(sizes)
    active = [draw(counts(size)) if g else size for size, g in zip(sizes, gated, strict=True)]
    return MergeLists(channels, tuple(sizes), offsets, tuple(gated)), active, draw(SEEDS)


@drawn(4)
@given(cases=st.lists(merge_cases(), min_size=BATCH, max_size=BATCH))
def test_merged_lists(
    cases: list[tuple[MergeLists, list[int], int]], tmp_path_factory: Any
) -> None:
    calls = []
    for kernel, active, seed in cases:
        random = np.random.default_rng(seed)
        arrays = {"out_list": np.full(kernel.channels + 1, -1, np.int32), "out_count": one(-1)}
        for i, (size, count) in enumerate(zip(kernel.sources, active, strict=True)):
            arrays |= {f"list{i}": active_list(random, size, count), f"count{i}": one(count)}
        calls.append(Call(kernel, arrays, {"out_list", "out_count"}))
    results = run_calls(calls, get_target("host"), tmp_path_factory.mktemp("merge"))
    for (kernel, active, _), call, found in zip(cases, calls, results, strict=True):
        print(kernel)
        expected = {
            int(channel) + offset
            for i, offset in enumerate(kernel.offsets)
            for channel in call.arrays[f"list{i}"][: active[i]]
        }
        others = set(range(kernel.channels)) - expected
        assert found["out_count"][0] == len(expected)
        assert found["out_list"][:-1].tolist() == [*sorted(expected), *sorted(others)]


# Whole planes


@st.composite
def plane_cases(draw: st.DrawFn) -> tuple[str, int, int, int | None, int, Any]:
    channels, pixels = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["clear", "copy", "clamp", "add"]))
    active = draw(counts(channels)) if kind == "clear" or draw(st.booleans()) else None
    return kind, channels, pixels, active, draw(SEEDS), draw(st.sampled_from(CLAMPS))


@drawn(4)
@given(cases=st.lists(plane_cases(), min_size=2 * BATCH, max_size=2 * BATCH))
def test_planes(cases: list[Any], tmp_path_factory: Any) -> None:
    calls, expected = [], []
    for kind, channels, pixels, active, seed, clamp in cases:
        random, gated = np.random.default_rng(seed), active is not None
        a, b = numbers(random, channels, pixels), numbers(random, channels, pixels)
        order = active_list(random, channels, channels if active is None else active)
        chosen, others = np.split(order, [len(order) if active is None else active])
        y = np.full((channels + 3 if kind == "copy" else channels, pixels), SENTINEL, np.float32)
        result = y.astype(np.float64)
        kernel: Kernel
        if kind == "clear":
            kernel = ClearInactive(channels, pixels, 8)
            result[others] = 0
        elif kind == "copy":
            kernel = CopyPlanes(channels, pixels, 8, 2, gated)
            result[2 + chosen] = a[chosen]
        else:
            kernel = Combine(channels, pixels, 8, 2 if kind == "add" else 1, gated, clamp)
            result[chosen] = clamped(a + b if kind == "add" else a, clamp)[chosen]
        arrays = {"x": a, "a": a, "b": b, "y": y, "in_list": order, "in_count": one(len(chosen))}
        calls.append(Call(kernel, arrays, {"y"}))
        expected.append(result)
    results = run_calls(calls, get_target("host"), tmp_path_factory.mktemp("planes"))
    for call, found, result in zip(calls, results, expected, strict=True):
        print(call.kernel)
        close(found["y"], result)
