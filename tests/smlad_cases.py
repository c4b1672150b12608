"""Convolutions, linear layers and means as kernels of Cortex-M get them, and what is right."""

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


def check_linear(folder: Path, target: str) -> None:
    """Fails where fully connected layers of any size differ from the reference."""
    random = np.random.default_rng(0)
    calls, expected = zip(*(linear_case(random, target) for _ in range(24)), strict=True)
    found, _ = run_on_cortex_m(list(calls), folder, target)
    for call, want, arrays in zip(calls, expected, found, strict=True):
        np.testing.assert_array_equal(arrays["y"], want, err_msg=str(call.kernel))


def linear_case(random: np.random.Generator, target: str) -> tuple[Call, np.ndarray]:
    """A fully connected layer, its input gated or not, and its results."""
    x_dtype, dtype = random.choice([UINT8, INT8]), random.choice([UINT8, INT8, FLOAT32])
    outputs, gated = int(random.integers(1, 14)), bool(random.random() < 0.5)
    run = int(random.choice([4, 8, 16, 48])) if gated else 1
    channels = int(random.integers(1, 9)) if gated else int(random.integers(1, 90))
    clamp = BOUNDS.get(dtype, (-0.5, 0.9))
    isa = isa_for(get_target(target), INT8)
    kernel = find_kernel("linear", isa, gated=gated).of(
        isa,
        inputs=channels * run,
        outputs=outputs,
        dtypes=(str(x_dtype), str(dtype)),
        clamp=clamp,
        gated=gated,
        run=run,
    )
    x = random.integers(*CODES[x_dtype], (1, channels * run)).astype(x_dtype)
    seen, arrays = x.copy(), {"x": x, "y": np.zeros(outputs, dtype)}
    if gated:
        active = int(random.choice([0, 1, channels // 2, channels]))
        order = active_list(random, channels, active)
        arrays |= {"in_list": order, "in_count": one(active)}
        seen.reshape(channels, run)[order[active:]] = 0
    scale = 1.0 if dtype == FLOAT32 else 100.0
    attributes = {
        "weight": random.integers(-127, 128, (outputs, channels * run)).astype(INT8),
        "bias": random.integers(-3000, 3000, outputs).astype(np.int32),
        "factor": (random.uniform(0.5, 1.5, outputs) * scale / 1e5).astype(np.float32),
        "clamp": clamp,
    }
    quantization = None if dtype == FLOAT32 else Quantization((1,))
    result = TensorType((1, outputs), str(dtype), quantization)
    node = Node("linear", [Value("x", TensorType.of(x))], Value("y", result), "", attributes)
    expected = OPERATORS["linear"](node, [seen]).reshape(-1).astype(dtype)
    arrays |= kernel.constants(attributes)
    return Call(kernel, arrays, {"y"}), expected
