"""Every kernel but convolutions on its own: hypothesis draws the shapes, NumPy and PyTorch answer.

Several kernels go into one object file, because linking takes longer than compiling them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.float.gating import ChannelMean, KeepTopK, ListActive
from headgate.compile.kernels.float.linear import Linear
from headgate.compile.kernels.float.planes import ClearInactive, Combine, CopyPlanes
from headgate.compile.kernels.float.top_k import KeepTopKByDigits
from headgate.compile.kernels.float.window import Pool
from headgate.compile.kernels.kernel import Kernel
from headgate.compile.kernels.lists import MergeLists
from headgate.device.targets import Target, get_target
from headgate.train.gates import keep_top_k
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
)

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
        random = np.random.default_rng(seed)
        count = shape.in_channels if active is None else active
        arrays = {
            "x": numbers(random, shape.in_channels, shape.height, shape.width),
            "y": np.full((shape.in_channels, shape.out_height, shape.out_width), SENTINEL, "f4"),
            "in_list": active_list(random, shape.in_channels, count),
            "in_count": one(count),
        }
        kernel = Pool.of(isa(target), shape=shape, kind=kind, gated=active is not None, clamp=clamp)
        calls.append(Call(kernel, arrays, {"y"}))
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
    lanes, keep = draw(st.sampled_from([1, 4, 8, 16])), draw(st.integers(0, channels))
    kernel = (KeepTopKByDigits if lanes == 1 else KeepTopK)(channels, keep, lanes)
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
