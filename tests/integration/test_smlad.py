"""Kernels of SMLAD on an emulated Cortex-M4: the reference's bits, and few instructions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.kernels.convolution import ConvShape
from headgate.compile.kernels.smlad import ChannelMean, Linear, MaxPool, layout
from tests.cortex_m_calls import run_on_cortex_m
from tests.smlad_cases import Asked, case, check_linear, check_means, check_pooling, drawn

pytestmark = pytest.mark.usefixtures("qemu_system_arm")


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("tight", [False, True])
def test_convolutions_of_any_shape(
    depthwise: bool, tight: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tight:
        # Rows in chunks, and outputs in parts, as large layers have them.
        for name, size in (("PACKED", 600), ("POINT", 100), ("WEIGHT", 400)):
            monkeypatch.setattr(layout, f"MOST_{name}_BYTES", size)
    random = np.random.default_rng(2 * depthwise + tight)
    cases = [case(random, drawn(random, depthwise)) for _ in range(16)]
    found, _ = run_on_cortex_m([one.call for one in cases], tmp_path)
    for wanted, arrays in zip(cases, found, strict=True):
        wanted.check(arrays)


def test_means_of_channels(tmp_path: Path) -> None:
    check_means(ChannelMean, tmp_path, "cortex-m4")


def test_linear_layers(tmp_path: Path) -> None:
    check_linear(Linear, tmp_path, "cortex-m4")


def test_pooling(tmp_path: Path) -> None:
    check_pooling(MaxPool, tmp_path, "cortex-m4")


def same(inputs: int, outputs: int, size: int) -> ConvShape:
    return ConvShape(inputs, outputs, size, size, (3, 3), (1, 1), (1, 1, 1, 1))


def test_what_is_skipped_saves_instructions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = (same(32, 32, 32), same(32, 32, 16), same(64, 64, 8))
    asked = [
        Asked(shape, None if whole else half, None if whole else half)
        for shape in shapes
        for half in (shape.in_channels // 2,)
        for whole in (True, False)
    ]
    _, counts = run_on_cortex_m([case(random, one).call for one in asked], tmp_path)
    for index in range(0, len(asked), 2):
        dense, gated = counts[index : index + 2]
        assert dense <= 0.95 * asked[index].macs
        share = (dense - gated) / (dense * (1 - asked[index + 1].macs / asked[index].macs))
        assert share >= 0.85
