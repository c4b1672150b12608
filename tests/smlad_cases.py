"""Layers of all kinds as kernels of Cortex-M get them, and what is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headgate.compile.front.graph import Node, Value
from headgate.compile.front.quantize.reference import OPERATORS
from headgate.compile.isa import isa_for
from headgate.compile.kernels.convolution import ConvRequest, ConvShape, Epilogue
from headgate.compile.kernels.registry import find_kernel
from headgate.device.targets import get_target
from headgate.device.tensor_type import FLOAT32, INT8, UINT8, Quantization, TensorType
from tests.cortex_m_calls import run_on_cortex_m
from tests.kernel_calls import Call
from tests.kernel_cases import active_list, one

CODES = {UINT8: (0, 256), INT8: (-128, 128)}
BOUNDS = {UINT8: (0.0, 255.0), INT8: (-128.0, 127.0)}


KERNELS = ((1, 1), (1, 1), (3, 3), (3, 3), (2, 2), (1, 3), (5, 4), (3, 1), (7, 7))
PADDINGS = ((0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 1), (2, 1, 0, 3))


@dataclass
class Asked:
    """A convolution: ``inputs`` and ``outputs`` are active of a gated side, None: it has no gate.

    ``dtypes``: of the input, of the residual, of the result.
    """

    shape: ConvShape
    inputs: int | None = None
    outputs: int | None = None
    residual: str | None = None
    dtypes: tuple[str, str, str] = (UINT8, UINT8, UINT8)
    clamp: tuple[float, float] | None = None

    @property
    def macs(self) -> int:
        """That are executed."""
        shape = self.shape
        inputs = shape.in_channels if self.inputs is None else self.inputs
        outputs = shape.out_channels if self.outputs is None else self.outputs
        return shape.taps * shape.pixels * inputs * outputs // shape.groups


def drawn(random: np.random.Generator, depthwise: bool) -> Asked:
    """A small convolution of any kind."""

    def pick(*options: object) -> object:
        return options[random.integers(len(options))]

    def active(channels: int) -> int | None:
        return pick(None, 0, 1, channels // 2, channels, int(random.integers(channels + 1)))  # type: ignore[return-value]

    while True:
        groups = int(random.integers(2, 7)) if depthwise else pick(1, 1, 1, 2, 3)
        inputs = groups * (1 if depthwise else int(random.integers(1, 9)))
        outputs = groups * int(random.integers(1, 3 if depthwise else 11))
        shape = ConvShape(
            *(inputs, outputs, int(random.integers(1, 14)), int(random.integers(1, 14))),
            pick(*KERNELS),
            pick((1, 1), (1, 1), (2, 2), (2, 1), (3, 2)),
            pick(*PADDINGS),
            pick((1, 1), (1, 1), (2, 1), (2, 2)),
            groups,
        )
        if shape.out_height >= 1 and shape.out_width >= 1:
            break
    dtypes = tuple(pick(UINT8, INT8) for _ in range(3))
    return Asked(
        shape,
        None if depthwise else active(inputs),
        active(outputs),
        pick(None, "in_place", "separate"),
        dtypes,
        (3.0, 100.0) if random.random() < 0.3 else None,
    )


@dataclass
class Case:
    """A call, what it must write, and which channels it must write."""

    call: Call
    expected: np.ndarray
    written: np.ndarray

    def check(self, found: dict[str, np.ndarray]) -> None:
        """Fails where the result differs, or channels changed that are not visited."""
        before, kernel = self.call.arrays["y"], self.call.kernel
        want = np.where(self.written[:, None, None], self.expected, before)
        np.testing.assert_array_equal(found["y"], want, err_msg=str(kernel))


def case(random: np.random.Generator, asked: Asked, target: str = "cortex-m4") -> Case:
    """Numbers for a convolution."""
    shape, residual, (x_dtype, r_dtype, dtype) = asked.shape, asked.residual, asked.dtypes
    gated, listed = asked.outputs is not None, asked.inputs is not None
    depthwise = shape.group_in == 1 and shape.groups > 1
    clamp = asked.clamp or BOUNDS[dtype]
    request = ConvRequest(
        shape,
        Epilogue(gated, residual, clamp),
        gated_in=listed and not depthwise,
        clamp_inactive=gated and residual is not None and not depthwise,
    )
    isa = isa_for(get_target(target), INT8)
    operator = "depthwise_conv2d" if depthwise else "conv2d"
    dtypes = (x_dtype, *([r_dtype] if residual else []), dtype)
    kernel = find_kernel(operator, isa, gated=gated or listed).of(
        isa, request=request, dtypes=dtypes
    )

    def codes(dtype: str, channels: int, height: int, width: int) -> np.ndarray:
        return random.integers(*CODES[dtype], (1, channels, height, width)).astype(dtype)

    x = codes(x_dtype, shape.in_channels, shape.height, shape.width)
    arrays: dict[str, np.ndarray] = {"x": x}
    seen = x.copy()
    if listed and not depthwise:
        order = active_list(random, shape.in_channels, asked.inputs or 0)
        arrays |= {"in_list": order, "in_count": one(asked.inputs or 0)}
        seen[:, order[asked.inputs :]] = 0
    outputs = shape.out_channels
    spread = 128 * 73 * np.sqrt(shape.group_in * shape.taps)
    attributes: dict[str, Any] = {
        "weight": random.integers(-127, 128, (outputs, shape.group_in, *shape.kernel)).astype(INT8),
        "bias": random.integers(-3000, 3000, outputs).astype(np.int32),
        "factor": (random.uniform(10, 120, outputs) / spread).astype(np.float32),
        "stride": shape.stride,
        "padding": shape.padding,
        "dilation": shape.dilation,
        "groups": shape.groups,
        "clamp": clamp,
        "residual": residual is not None,
    }
    read, written = [seen], np.ones(outputs, bool)
    if gated:
        order = active_list(random, outputs, asked.outputs or 0)
        gate = random.uniform(0.5, 1.5, outputs).astype(np.float32)
        gate[order[asked.outputs :]] = 0
        shift = random.uniform(-20, 20, outputs).astype(np.float32)
        attributes["shift"] = shift
        arrays |= {"gate": gate, "shift": shift, "out_list": order}
        arrays["out_count"] = one(asked.outputs or 0)
        read.append(gate)
        if not request.clamp_inactive:
            written[order[asked.outputs :]] = False
    result = TensorType((1, outputs, shape.out_height, shape.out_width), dtype, Quantization((1,)))
    y = np.zeros(result.shape, dtype)
    if residual:
        added = codes(r_dtype, *result.shape[1:])
        attributes["residual_factor"] = np.float32(0.37)
        read.append(added)
        if residual == "in_place":
            y = added.view(dtype)
        else:
            arrays["residual"] = added
    kind = "gated_conv2d" if gated else "conv2d"
    inputs = [Value(f"operand{i}", TensorType.of(array)) for i, array in enumerate(read)]
    node = Node(kind, inputs, Value("y", result), "", attributes)
    expected = np.ascontiguousarray(OPERATORS[kind](node, read), dtype)
    arrays |= {"y": y, **kernel.constants(attributes)}
    named = {name: arrays[name] for name, _ in kernel.parameters() if name in arrays}
    return Case(Call(kernel, named, {"y"}), expected, written)


def check_means(kernel_class: Any, folder: Path, target: str) -> None:
    """Fails where means of channels differ from the reference."""
    random = np.random.default_rng(0)
    calls: list[Call] = []
    expected: list[np.ndarray] = []
    for dtype, pixels, active in ((UINT8, 64, None), (INT8, 35, None), (INT8, 3, 2), (UINT8, 9, 0)):
        gated = active is not None
        own = (0.0, 255.0) if dtype == UINT8 else (-100.0, 90.0)
        kernel = kernel_class(5, pixels, (dtype, dtype), own, gated)
        x = random.integers(*CODES[dtype], (1, 5, 1, pixels)).astype(dtype)
        seen, factor = x.copy(), np.float32(1.7 / pixels)
        arrays = {"x": x, "factor": np.array([factor]), "y": np.full(5, 77, dtype)}
        if gated:
            order = active_list(random, 5, active)
            arrays |= {"in_list": order, "in_count": one(active)}
            seen[:, order[active:]] = 0
        values = [Value(name, TensorType.of(array)) for name, array in (("x", x), ("y", x))]
        attributes: dict[str, Any] = {"absolute": False, "factor": factor, "clamp": own}
        node = Node("channel_mean", values[:1], values[1], "", attributes)
        calls.append(Call(kernel, arrays, {"y"}))
        expected.append(OPERATORS["channel_mean"](node, [seen]).reshape(-1))
    found, _ = run_on_cortex_m(calls, folder, target)
    for want, arrays in zip(expected, found, strict=True):
        np.testing.assert_array_equal(arrays["y"], want)


@dataclass
class Layer:
    """A fully connected layer of ``channels`` x ``run`` inputs.

    ``active`` of the channels are, None: all, without a gate.
    """

    channels: int
    outputs: int
    dtypes: tuple[str, str]
    run: int = 1
    active: int | None = None
    clamp: tuple[float, float] | None = None


def layers_of_any_size() -> list[Layer]:
    """What counts for a kernel: whole words and not, odd outputs, gates at their limits."""
    whole = [Layer(n, 5, (x, FLOAT32)) for n in (1, 16, 37, 64) for x in (UINT8, INT8)]
    gated = [
        Layer(6, 13, (x, INT8 if active % 2 else UINT8), run, active)
        for x in (UINT8, INT8)
        for run in (4, 16, 48)
        for active in (0, 1, 3, 6)
    ]
    narrow = [Layer(20, outputs, (UINT8, INT8), clamp=(3.0, 100.0)) for outputs in (1, 3, 4)]
    return [*whole, *gated, *narrow]


def check_linear(kernel_class: Any, folder: Path, target: str) -> None:
    """Fails where fully connected layers differ from the reference, or ``kernel_class`` has none.

    A layer may be left to the kernel of any instructions only where runs are no whole words of it.
    """
    random = np.random.default_rng(0)
    layers = layers_of_any_size()
    calls, expected = zip(*(linear_case(random, one, target) for one in layers), strict=True)
    for call, layer in zip(calls, layers, strict=True):
        whole = layer.active is None or layer.run % kernel_class.word == 0
        assert (type(call.kernel) is kernel_class) == whole, call.kernel
    found, _ = run_on_cortex_m(list(calls), folder, target)
    for call, want, arrays in zip(calls, expected, found, strict=True):
        np.testing.assert_array_equal(arrays["y"], want, err_msg=str(call.kernel))


def linear_case(random: np.random.Generator, layer: Layer, target: str) -> tuple[Call, np.ndarray]:
    """A layer with random numbers, and its results."""
    (x_dtype, dtype), outputs, gated = layer.dtypes, layer.outputs, layer.active is not None
    inputs = layer.channels * layer.run
    clamp = layer.clamp or BOUNDS.get(dtype, (-0.5, 0.9))
    isa = isa_for(get_target(target), INT8)
    kernel = find_kernel("linear", isa, gated=gated).of(
        isa,
        inputs=inputs,
        outputs=outputs,
        dtypes=layer.dtypes,
        clamp=clamp,
        gated=gated,
        run=layer.run,
    )
    x = random.integers(*CODES[x_dtype], (1, inputs)).astype(x_dtype)
    seen, arrays = x.copy(), {"x": x, "y": np.zeros(outputs, dtype)}
    if layer.active is not None:
        order = active_list(random, layer.channels, layer.active)
        arrays |= {"in_list": order, "in_count": one(layer.active)}
        seen.reshape(layer.channels, layer.run)[order[layer.active :]] = 0
    scale = 1.0 if dtype == FLOAT32 else 100.0
    attributes: dict[str, Any] = {
        "weight": random.integers(-127, 128, (outputs, inputs)).astype(INT8),
        "bias": random.integers(-3000, 3000, outputs).astype(np.int32),
        "factor": (random.uniform(0.5, 1.5, outputs) * scale / 1e5).astype(np.float32),
        "clamp": clamp,
    }
    quantization = None if dtype == FLOAT32 else Quantization((1,))
    result = TensorType((1, outputs), dtype, quantization)
    node = Node("linear", [Value("x", TensorType.of(x))], Value("y", result), "", attributes)
    expected = OPERATORS["linear"](node, [seen]).reshape(-1).astype(dtype)
    return Call(kernel, arrays | kernel.constants(attributes), {"y"}), expected


@dataclass
class Pooling:
    """Pooling of five channels, of which ``active`` are; None: all, without a gate."""

    size: tuple[int, int]
    kernel: tuple[int, int] = (2, 2)
    stride: tuple[int, int] = (2, 2)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dtypes: tuple[str, str] = (UINT8, UINT8)
    active: int | None = None
    clamp: tuple[float, float] | None = None
    kind: str = "max"
    rest: bool = False
    """Whether it is left to the kernel of any instructions."""
    narrow: bool = False
    """Whether it may be, where vectors are longer than rows."""


def poolings() -> list[Pooling]:
    """What counts for a kernel: rows of whole vectors and not, borders, shared columns, gates."""
    signed, all_around = (INT8, INT8), (1, 1, 1, 1)
    return [
        *(
            Pooling((8, width), dtypes=dtypes)
            for width in (32, 35, 48)
            for dtypes in (signed, (UINT8,) * 2)
        ),
        *(
            Pooling((7, 38), (3, 3), (2, 2), all_around, dtypes)
            for dtypes in (signed, (UINT8,) * 2)
        ),
        *(Pooling((6, 33), (3, 3), (1, 1), all_around, active=active) for active in (0, 1, 3, 5)),
        *(Pooling((6, 32), active=active, dtypes=signed) for active in (0, 2, 5)),
        Pooling((9, 41), (2, 3), (3, 2), (1, 0, 0, 2), signed, clamp=(-20.0, 90.0)),
        Pooling((9, 37), (4, 2), (1, 1), (2, 1, 3, 0), clamp=(40.0, 255.0)),
        Pooling((6, 33), (2, 2), (2, 2), (0, 0, 0, 1), signed, clamp=(-128.0, 60.0)),
        Pooling((5, 36), (1, 2), (2, 2), clamp=(0.0, 60.0)),
        *(Pooling((4, width), active=3, narrow=True) for width in (2, 3, 6, 8, 11, 14, 15)),
        Pooling((8, 33), (3, 3), (3, 3), rest=True),
        Pooling((8, 32), kind="avg", rest=True),
        Pooling((8, 3), (3, 3), dtypes=signed, rest=True),
    ]


def check_pooling(kernel_class: Any, folder: Path, target: str) -> None:
    """Fails where pooling differs from the reference, or the kernel is not ``kernel_class``."""
    random = np.random.default_rng(0)
    asked = poolings()
    calls, expected = zip(*(pooling_case(random, each, target) for each in asked), strict=True)
    for call, pooling in zip(calls, asked, strict=True):
        left = pooling.narrow and not kernel_class.narrow and pooling.size[1] < kernel_class.codes
        assert (type(call.kernel) is kernel_class) != (pooling.rest or left), call.kernel
    found, _ = run_on_cortex_m(list(calls), folder, target)
    for call, want, arrays in zip(calls, expected, found, strict=True):
        np.testing.assert_array_equal(arrays["y"], want, err_msg=str(call.kernel))


def pooling_case(
    random: np.random.Generator, asked: Pooling, target: str
) -> tuple[Call, np.ndarray]:
    """A pooling of random codes, and its results; what is not active stays as it was."""
    (height, width), gated, channels = asked.size, asked.active is not None, 5
    shape = ConvShape(
        *(channels, channels, height, width, asked.kernel, asked.stride, asked.padding),
        *((1, 1), channels),
    )
    dtype, clamp = asked.dtypes[1], asked.clamp or BOUNDS[asked.dtypes[1]]
    isa = isa_for(get_target(target), INT8)
    kernel = find_kernel("pool2d", isa, gated=gated).of(
        isa, shape=shape, kind=asked.kind, dtypes=asked.dtypes, clamp=clamp, gated=gated
    )
    x = random.integers(*CODES[asked.dtypes[0]], (1, channels, height, width)).astype(
        asked.dtypes[0]
    )
    y = np.full((1, channels, shape.out_height, shape.out_width), 77, dtype)
    arrays = {"x": x, "y": y}
    factor = np.float32(1 / shape.taps)
    attributes: dict[str, Any] = {
        **{"kernel": asked.kernel, "stride": asked.stride, "padding": asked.padding},
        **{"dilation": (1, 1), "clamp": clamp, "factor": factor},
    }
    node = Node(f"{asked.kind}_pool2d", [], Value("y", TensorType.of(y)), "", attributes)
    node.inputs.append(Value("x", TensorType.of(x)))
    expected = OPERATORS[node.kind](node, [x]).astype(dtype)
    if asked.active is not None:
        order = active_list(random, channels, asked.active)
        arrays |= {"in_list": order, "in_count": one(asked.active)}
        expected[:, order[asked.active :]] = 77
    constants = kernel.constants(attributes)
    return Call(kernel, arrays | constants, {"y"}), expected
