"""Kernels of Helium on an emulated Cortex-M55: the reference's bits, and few instructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.mve import ChannelMean, Linear, MaxPool, layout
from tests.cortex_m_calls import run_on_cortex_m
from tests.smlad_cases import Asked, case, check_linear, check_means, check_pooling, drawn

pytestmark = pytest.mark.usefixtures("qemu_system_arm")
TARGET = "cortex-m55"


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("tight", [False, True])
def test_convolutions_of_any_shape(
    depthwise: bool, tight: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tight:
        # In chunks of rows, as large images are computed.
        monkeypatch.setattr(layout, "MOST_PACKED_BYTES", 200)
        monkeypatch.setattr(layout, "MOST_PIXELS", 20)
    random = np.random.default_rng(4 + tight + 2 * depthwise)
    cases = [case(random, drawn(random, depthwise), TARGET) for _ in range(8 + 8 * depthwise)]
    found, _ = run_on_cortex_m([one.call for one in cases], tmp_path, TARGET)
    for wanted, arrays in zip(cases, found, strict=True):
        wanted.check(arrays)


def test_depthwise_convolutions_of_wide_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = [
        # size, kernel, stride, border, dilation; several vectors of a row and of a copy
        ConvShape(3, 3, 9, 70, (3, 3), (1, 1), (1, 1, 1, 1), groups=3),
        ConvShape(2, 4, 7, 95, (3, 5), (1, 2), (1, 2, 1, 20), (1, 2), groups=2),
        ConvShape(2, 2, 40, 33, (7, 7), (2, 2), (20, 3, 30, 3), groups=2),
    ]
    cases = [
        case(random, Asked(shape, None, active), TARGET)
        for shape, active in zip(shapes, (None, 3, 1), strict=True)
    ]
    found, _ = run_on_cortex_m([one.call for one in cases], tmp_path, TARGET)
    for wanted, arrays in zip(cases, found, strict=True):
        wanted.check(arrays)


def test_depthwise_convolutions_take_few_instructions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sizes = ((8, 48), (32, 24), (64, 12))
    asked = [
        Asked(ConvShape(c, c, size, size, (3, 3), (1, 1), (1, 1, 1, 1), groups=c), None, active)
        for c, size in sizes
        for active in (None, c // 2)
    ]
    _, counts = run_on_cortex_m([case(random, one, TARGET).call for one in asked], tmp_path, TARGET)
    for index in range(0, len(asked), 2):
        dense, gated = counts[index : index + 2]
        assert dense <= 1.0 * asked[index].macs
        assert gated <= 0.6 * dense


def test_means_of_channels(tmp_path: Path) -> None:
    check_means(ChannelMean, tmp_path, TARGET)


def test_linear_layers(tmp_path: Path) -> None:
    check_linear(Linear, tmp_path, TARGET)


def test_pooling(tmp_path: Path) -> None:
    check_pooling(MaxPool, tmp_path, TARGET)


def same(inputs: int, outputs: int, size: int) -> ConvShape:
    return ConvShape(inputs, outputs, size, size, (3, 3), (1, 1), (1, 1, 1, 1))


def test_what_is_skipped_saves_instructions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = (same(32, 32, 16), same(64, 64, 8))
    asked = [
        Asked(shape, *sides)
        for shape in shapes
        for half in (shape.in_channels // 2,)
        for sides in ((None, None), (half, half), (None, half))
    ]
    _, counts = run_on_cortex_m([case(random, one, TARGET).call for one in asked], tmp_path, TARGET)
    for index in range(0, len(asked), 3):
        whole, dense = asked[index].macs, counts[index]
        assert dense <= 0.16 * whole
        for one, gated in zip(asked[index + 1 :][:2], counts[index + 1 :][:2], strict=True):
            assert (dense - gated) / (dense * (1 - one.macs / whole)) >= 0.85
