"""Skipped channels cost nothing: instructions executed under QEMU, which counts them exactly."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.errors import ToolMissing
from headgate.profiling.instructions import InstructionCount, count_instructions
from tests.networks import compiled

pytestmark = pytest.mark.usefixtures("qemu_aarch64")


def count(name: str, density: float | None) -> InstructionCount:
    try:
        result = count_instructions(compiled(name, density, "rpi4"))
    except ToolMissing as error:
        pytest.skip(str(error))
    assert result.exact
    return result


@pytest.mark.parametrize(
    ("name", "densities"), [("resnet8", (1.0, 0.75, 0.5, 0.25)), ("branches", (1.0, 0.5))]
)
def test_instructions_fall_with_density(name: str, densities: tuple[float, ...]) -> None:
    counts = [count(name, density) for density in densities]
    executed = [result.instructions for result in counts]
    assert (np.diff(executed) < 0).all(), executed
    assert (np.diff([result.executed_macs for result in counts]) < 0).all()


def test_mcifarnet_realises_what_half_the_channels_promise() -> None:
    """A dense MAC takes at most 0.45 instructions (a quarter is the floor: four lanes, one
    multiply-add); at density 0.5, which leaves 1 MAC in 3.9, at most 1 instruction in 3.2."""
    dense, half = count("mcifarnet", None), count("mcifarnet", 0.5)
    assert dense.executed_macs == pytest.approx(174.30e6, rel=1e-4)
    assert dense.per_mac <= 0.45
    assert dense.instructions >= 3.2 * half.instructions


def test_closed_gates_leave_little_to_do() -> None:
    """With no channel active the convolutions behind the first layer vanish."""
    closed, every = count("resnet8", 0.0), count("resnet8", 1.0)
    assert closed.instructions < 0.1 * every.instructions
