"""What the tests of kernels share: drawn shapes, numbers and lists, and what is close enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.tiling import Tiling
from tests.full import FULL
from tests.kernel_calls import host_targets

SENTINEL = 7.5
"""What results hold before the call; planes of inactive channels keep it."""
TARGETS = st.integers(0, 2).map(lambda i: (targets := host_targets())[i % len(targets)])
CLAMPS = [(None, None), (0.0, None), (0.0, 6.0), (-0.5, 0.5)]
SEEDS = st.integers(0, 2**32 - 1)
BATCH = 6


def drawn(examples: int) -> settings:
    """The same few examples every time, many and others with HEADGATE_FULL=1."""
    return settings(
        max_examples=examples * (10 if FULL else 1),
        derandomize=not FULL,
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


@st.composite
def spatial(draw: st.DrawFn, largest: int = 7) -> dict[str, Any]:
    """Kernel, stride, padding, dilation and an image that they fit on."""
    kernel = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    if draw(st.booleans()):
        kernel = draw(st.sampled_from([k for k in ((1, 1), (3, 3), (5, 5)) if k[0] <= largest]))
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
def tilings(
    draw: st.DrawFn, shape: ConvShape, rows: Sequence[int] = (4, 8), run_pixels: int | None = None
) -> Tiling:
    """Any that is right, whatever it costs."""
    lanes, height = draw(st.sampled_from([4, 8])), shape.out_height
    modes = ["direct"] if shape.pointwise else ["columns"]
    if shape.stride == (1, 1) and not shape.pointwise:
        modes = ["padded", "padded", "columns"]
        if run_pixels is not None and shape.out_width % lanes:
            modes = ["columns"]
    mode = draw(st.sampled_from(modes))
    # A chunk of columns ends where a vector does, one of runs where a run does.
    run = 1 if mode == "padded" else lanes
    run = max(run, run_pixels or 1, 1 if run_pixels is None else lanes)
    heights = [height]
    if mode != "direct":
        heights += [r for r in range(1, height) if r * shape.out_width % run == 0]
    return Tiling(
        mode,
        draw(st.sampled_from(rows)),
        draw(st.integers(1, 2)),
        lanes,
        draw(st.sampled_from(heights)),
        draw(st.booleans()),
    )
