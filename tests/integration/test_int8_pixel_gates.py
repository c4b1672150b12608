"""Pixel gates of int8: the kernel on its own, to the bit like the reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.graph import Node, Value
from headgate.compile.front.quantize.reference import result_of
from headgate.compile.isa import isa_for
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue
from headgate.compile.kernels.i8.pixel_gated import PixelGatedConv
from headgate.compile.kernels.i8.words import BOUNDS
from headgate.compile.kernels.pixel_loops import PixelGate
from headgate.device.targets import Target, get_target, host
from headgate.device.tensor_type import INT8, UINT8, Quantization, TensorType
from tests.kernel_calls import Call, run_calls

_DTYPES = st.sampled_from([INT8, UINT8])


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Node, ConvShape, str | None, list[np.ndarray]]:
    """A node, its shape, where its residual lies, and codes for what it reads."""
    parts, grouped = draw(st.sampled_from([2, 2, 3, 4])), draw(st.booleans())
    block, chunk = (1, 1), draw(st.integers(1, 13))
    if draw(st.booleans()):
        block = draw(st.sampled_from([4, 8, 12])), draw(st.sampled_from([16, 32, 48]))
        chunk = block[0] * draw(st.integers(1, 2))
    kernel, padding = draw(st.sampled_from([1, 3])), draw(st.integers(0, 2))
    shape = ConvShape(
        parts * draw(st.integers(1, 9)),
        chunk * (parts if grouped else 1),
        draw(st.integers(4, 19)),
        draw(st.integers(4, 19)),
        (kernel, kernel),
        (draw(st.integers(1, 2)),) * 2,
        (padding,) * 4,
    )
    random = np.random.default_rng(draw(st.integers(0, 999)))
    kinds = [draw(_DTYPES), draw(_DTYPES), draw(_DTYPES)]
    residual = draw(st.sampled_from([None, "in_place", "separate"]))
    result = (1, shape.out_channels, shape.out_height, shape.out_width)
    shapes = [(1, shape.in_channels, shape.height, shape.width), result, result]
    x, other, y = (
        Value(name, TensorType(size, kind, Quantization((1.0,))))
        for name, size, kind in zip(("x", "r", "y"), shapes, kinds, strict=True)
    )
    read = [x, other] if residual else [x]

    def floats(scale: float) -> np.ndarray:
        return (scale * random.standard_normal(shape.out_channels)).astype(np.float32)

    weights = shape.out_channels, shape.in_channels, kernel, kernel
    attributes = {
        "weight": random.integers(-127, 128, weights).astype(np.int8),
        "bias": np.zeros(shape.out_channels, np.int32),
        **{f"{name}factor": floats(2e-3) for name in ("", "base_")},
        **{f"{name}shift": floats(40) for name in ("", "base_")},
        "residual": bool(residual),
        "residual_factor": np.float32(random.uniform(0.1, 2)),
        "clamp": (0.0, 200.0) if kinds[2] == UINT8 else BOUNDS[INT8],
        **{"stride": shape.stride, "padding": shape.padding, "dilation": (1, 1), "groups": 1},
        **{"partitions": parts, "grouped": grouped, "shuffle": draw(st.booleans()), "block": block},
    }
    # Within what the compiler allows: the scores of a block fit 32 bits.
    factor, shift = floats(1), floats(draw(st.sampled_from([0, 1e3, 1e5])))
    sums = np.abs(attributes["weight"].astype(np.float64)).reshape(len(factor), -1).sum(1)
    most = float((np.abs(factor) * sums * 255 + np.abs(shift)).max())
    levels = min(1 << 23, (1 << 30) // (block[0] * block[1])) / (most or 1)
    attributes["score_factor"] = (factor * levels).astype(np.float32)
    attributes["score_shift"] = (shift * levels).astype(np.float32)
    codes = [
        random.integers(BOUNDS[v.dtype][0], BOUNDS[v.dtype][1] + 1, v.shape).astype(v.dtype)
        for v in read
    ]
    return Node("pixel_gated_conv2d", read, y, "", attributes), shape, residual, codes


def call(drawn: tuple[Node, ConvShape, str | None, list[np.ndarray]], target: Target) -> Call:
    node, shape, residual, codes = drawn
    own = ("partitions", "grouped", "shuffle", "block")
    kernel = PixelGatedConv.of(
        isa_for(target, INT8),
        request=ConvRequest(shape, Epilogue(residual=residual, clamp=node["clamp"])),
        gate=PixelGate(*(node[name] for name in own)),
        dtypes=tuple(v.dtype for v in (*node.inputs, node.output)),
    )
    y = np.zeros(node.output.shape, node.output.dtype)
    if residual == "in_place":
        y = codes[1].view(y.dtype).copy()
    arrays = {
        **{"x": codes[0], "y": y, "executed": np.array([-1], np.int32)},
        **kernel.constants(node.attributes),
        **({"residual": codes[1]} if residual == "separate" else {}),
    }
    return Call(kernel, arrays, {"y", "executed"})


def check(drawn: list, target: Target, folder: Path, emulator: tuple[str, ...] = ()) -> list[int]:
    """Holds the results against the reference; how many numbers each call computed in full."""
    found = run_calls([call(one, target) for one in drawn], target, folder, emulator)
    for (node, _, _, codes), result in zip(drawn, found, strict=True):
        values = dict(zip(node.inputs, codes, strict=True))
        print(node.attributes)
        np.testing.assert_array_equal(result["y"], result_of(node, values))
    return [
        int(result["executed"][0])
        for (node, *_), result in zip(drawn, found, strict=True)
        if node["block"] != (1, 1)
    ]


@settings(
    max_examples=2,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(drawn=st.lists(nodes(), min_size=2, max_size=2))
def test_pixel_gates_on_every_core(
    drawn: list, tmp_path_factory: pytest.TempPathFactory, qemu_aarch64: str
) -> None:
    folder = tmp_path_factory.mktemp("pixels")
    narrow = replace(host(), cpu="haswell", features=(), vector_fma_cycles={8: 0.5})
    counts = [
        check(drawn, host(), folder / "host"),
        check(drawn, narrow, folder / "avx2"),
        check(drawn, get_target("rpi4"), folder / "rpi4", (qemu_aarch64, "-cpu", "cortex-a72")),
        check(drawn, get_target("rpi5"), folder / "rpi5", (qemu_aarch64, "-cpu", "cortex-a76")),
    ]
    assert all(found == counts[0] for found in counts)
