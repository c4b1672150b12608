"""Convolutions with a pixel gate on their own, against the operator's definition in float64.

A score near zero may round to either side, so biases are chosen such that none lies there.
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

from headgate.compile.kernels.convolution import ConvShape, Epilogue
from headgate.compile.kernels.float.conv2d import ConvKernel
from headgate.compile.kernels.float.pixel_gated import PixelGatedConv
from headgate.compile.kernels.pixel_loops import PixelGate
from headgate.compile.kernels.tiling import Tiling, choose_tiling
from headgate.device.targets import Target, get_target
from tests.kernel_calls import Call, isa, run_calls
from tests.kernel_cases import (
    CLAMPS,
    SEEDS,
    SENTINEL,
    TARGETS,
    clamped,
    close,
    double,
    drawn,
    numbers,
    one,
    padded,
    spatial,
    tilings,
)

MARGIN = 2e-4
"""No score is nearer to zero than this."""
SHARES = (0.0, 0.0, 0.01, 0.1, 0.5, 1.0)
"""Of a channel's (or block of channels') decisions that are on."""


@dataclass(frozen=True)
class PixelCase:
    shape: ConvShape
    gate: PixelGate
    residual: str | None
    clamp: tuple[float | None, float | None]
    seed: int
    share: float | None = None
    """Of all decisions that are on; None: each channel draws its own from SHARES."""
    tiling: Tiling | None = None
    """None: the one that the cost model chooses."""


@st.composite
def pixel_cases(draw: st.DrawFn) -> PixelCase:
    partitions, grouped = draw(st.sampled_from([2, 2, 3, 4, 1])), draw(st.booleans())
    block = (1, 1)
    chunk = draw(st.integers(1, 13))
    if draw(st.booleans()):
        block = draw(st.sampled_from([4, 8, 12])), draw(st.sampled_from([16, 32, 48]))
        chunk = block[0] * draw(st.integers(1, 2))
    shape = ConvShape(
        partitions * draw(st.integers(1, 5)),
        chunk * (partitions if grouped else 1),
        **draw(spatial(largest=3)),
    )
    gate = PixelGate(partitions, grouped, draw(st.booleans()), block)
    drawn_tiling = tilings(shape, rows=[gate.rows], run_pixels=block[1])
    return PixelCase(
        shape,
        gate,
        draw(st.sampled_from([None, None, "in_place", "separate"])),
        draw(st.sampled_from(CLAMPS)),
        draw(SEEDS),
        draw(st.sampled_from([None, None, 0.0, 1.0])),
        draw(drawn_tiling) if draw(st.booleans()) else None,
    )


def pixel_kernel(case: PixelCase, target: Target) -> PixelGatedConv:
    rows, run = case.gate.rows, case.gate.block[1]
    tiling = case.tiling or choose_tiling(case.shape, isa(target), rows=rows, run_pixels=run)
    epilogue = Epilogue(residual=case.residual, clamp=case.clamp)
    dense = ConvKernel(case.shape, tiling, epilogue, False, weight_lanes=isa(target).weight_lanes)
    return PixelGatedConv(dense, case.gate)


def pixel_call(case: PixelCase, target: Target) -> Call:
    shape, random, kernel = case.shape, np.random.default_rng(case.seed), pixel_kernel(case, target)
    result = (shape.out_channels, shape.out_height, shape.out_width)
    residual = numbers(random, *result)
    arrays = {
        "x": numbers(random, shape.in_channels, shape.height, shape.width),
        "weight": numbers(random, shape.out_channels, shape.in_channels, *shape.kernel),
        **{
            name: numbers(random, shape.out_channels)
            for name in ("gate_scale", "base_scale", "base_bias", "full_scale", "bias")
        },
        "residual": residual,
        "y": residual.copy()
        if case.residual == "in_place"
        else np.full(result, SENTINEL, np.float32),
        "executed": one(-1),
    }
    arrays["gate_bias"] = gate_bias(case, arrays, random)
    return Call(kernel, arrays, {"y", "executed"})


def gate_bias(
    case: PixelCase, given: dict[str, np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """Biases with which the wanted share of decisions is on, and none near zero."""
    channels = case.gate.block[0]
    partial = sums(case, given)[0] * given["gate_scale"][:, None, None]
    found = []
    for means in block_means(partial, case.gate.block):
        scores = np.sort(means)[::-1]
        share = random.choice(SHARES) if case.share is None else case.share
        bounds = np.concatenate([[scores[0] + 1], scores, [scores[-1] - 1]])
        wide = np.flatnonzero(-np.diff(bounds) > 4 * MARGIN)
        on = wide[np.abs(wide - round(share * len(scores))).argmin()]
        noise = random.standard_normal(channels)
        found.append(noise - noise.mean() - (bounds[on] + bounds[on + 1]) / 2)
    return np.concatenate(found).astype(np.float32)


def sums(case: PixelCase, given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The base path's sums and the whole ones, (C, H_out, W_out) float64."""
    shape, gate = case.shape, case.gate
    inputs, outputs = shape.in_channels, shape.out_channels
    x, weight = given["x"], torch.from_numpy(given["weight"]).double()
    if gate.shuffle:
        dealt = x.reshape(gate.partitions, inputs // gate.partitions, *x.shape[1:])
        x = dealt.swapaxes(0, 1).reshape(x.shape)
    part_in = torch.arange(inputs)[None, :] // (inputs // gate.partitions)
    part_out = torch.zeros(outputs, 1, dtype=torch.int64)
    if gate.grouped:
        part_out = torch.arange(outputs)[:, None] // (outputs // gate.partitions)
    mask = (part_in == part_out)[:, :, None, None]
    image = double(padded(x, shape.padding))
    base, full = (
        F.conv2d(image, w, None, shape.stride, 0, shape.dilation)[0].numpy()
        for w in (weight * mask, weight)
    )
    return base, full


def block_means(score: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Means over runs of channels by runs of pixels of the flattened image."""
    channels, pixels = block
    flat = score.reshape(len(score), -1)
    starts = range(0, flat.shape[1], pixels)
    rows = flat.reshape(-1, channels, flat.shape[1]).mean(1)
    return np.stack([rows[:, at : at + pixels].mean(1) for at in starts], 1)


def decisions(case: PixelCase, given: dict[str, np.ndarray], base: np.ndarray) -> np.ndarray:
    """(C, H_out, W_out): where all inputs count."""
    scale, bias = (given[f"gate_{name}"][:, None, None] for name in ("scale", "bias"))
    channels, pixels = case.gate.block
    means = block_means(base * scale + bias, case.gate.block)
    assert np.abs(means).min() > MARGIN
    spread = np.repeat(np.repeat(means > 0, channels, 0), pixels, 1)
    return spread[:, : case.shape.pixels].reshape(base.shape)


def in_tiles(on: np.ndarray, chunk: int, rows: int, lanes: int) -> int:
    """How many numbers lie in tiles in which anything is on."""
    flat, total = on.reshape(len(on), -1), 0
    runs = [rows] * (chunk // rows)
    while sum(runs) < chunk:
        runs.append(min(rows // 2, chunk - sum(runs)))
    first = 0
    for run in runs * (len(on) // chunk):
        for at in range(0, flat.shape[1], lanes):
            tile = flat[first : first + run, at : at + lanes]
            total += tile.size * bool(tile.any())
        first += run
    return total


def check_pixels(call: Call, case: PixelCase, found: dict[str, np.ndarray]) -> None:
    given, shape, gate = call.arrays, case.shape, case.gate
    base, full = sums(case, given)
    on = decisions(case, given, base)
    wide = {name: given[name][:, None, None] for name in given if given[name].ndim == 1}
    expected = np.where(
        on,
        full * wide["full_scale"] + wide["bias"],
        base * wide["base_scale"] + wide["base_bias"],
    )
    if case.residual:
        expected = expected + given["residual"]
    close(found["y"], clamped(expected, case.clamp), shape.in_channels * shape.taps)
    assert isinstance(call.kernel, PixelGatedConv)
    tiling = call.kernel.convolution.tiling
    chunk = shape.out_channels // (gate.partitions if gate.grouped else 1)
    assert found["executed"][0] == in_tiles(on, chunk, gate.rows, tiling.lanes)
    if gate.block != (1, 1):
        assert found["executed"][0] == on.sum()
    if case.share is not None:
        assert on.mean() == case.share


def check_all(
    cases: list[PixelCase], target: Target, folder: Path, emulator: tuple[str, ...] = ()
) -> None:
    calls = [pixel_call(case, target) for case in cases]
    results = run_calls(calls, target, folder, emulator)
    for case, call, found in zip(cases, calls, results, strict=True):
        print(case)  # pytest shows it where a check fails
        check_pixels(call, case, found)


@drawn(4)
@given(cases=st.lists(pixel_cases(), min_size=4, max_size=4), target=TARGETS)
def test_pixel_gated_convolution(
    cases: list[PixelCase], target: Target, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_all(cases, target, tmp_path_factory.mktemp("pixels"))


def test_pixel_gated_convolution_on_neon(tmp_path: Path, qemu_aarch64: str) -> None:
    """A few of every sort, cross-compiled and run under QEMU."""
    shapes = {
        PixelGate(4, True, True, (1, 1)): ConvShape(8, 20, 9, 11, (3, 3), padding=(1, 1, 1, 1)),
        PixelGate(2, False, False, (1, 1)): ConvShape(8, 13, 6, 7, (1, 1)),
        # Four neighbouring inputs of the conditional path, with the base path between them.
        PixelGate(3, True, False, (1, 1)): ConvShape(6, 9, 6, 6, (1, 1)),
        PixelGate(2, True, False, (8, 16)): ConvShape(6, 16, 13, 9, (3, 3), (2, 2), (1, 1, 1, 1)),
        PixelGate(4, False, True, (12, 32)): ConvShape(16, 24, 8, 12, (1, 1)),
    }
    residuals = (None, "in_place", "separate")
    cases = [
        PixelCase(shape, gate, residuals[seed % 3], CLAMPS[seed % 4], seed, share)
        for seed, (gate, shape) in enumerate(shapes.items())
        for share in (None, 0.0, 1.0)
    ]
    check_all(cases, get_target("rpi4"), tmp_path, (qemu_aarch64, "-cpu", "cortex-a72"))
