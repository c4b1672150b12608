"""The table of kernels, and the instruction sets that they are written for."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile import isa as instructions
from headgate.compile.isa import DotIsa, Isa, isa_for
from headgate.compile.kernels import registry
from headgate.compile.kernels.float.conv2d import ConvKernel
from headgate.compile.kernels.registry import Entry, find_kernel
from headgate.device.targets import TARGET_NAMES, get_target
from headgate.device.tensor_type import FLOAT16, FLOAT32, INT8
from headgate.errors import CompileError

DOT = Isa("dot", "bfloat16", {16: 0.5}, {16: 0.5}, 1 << 20, weight_lanes=4, narrowest=16)


class DotConv(ConvKernel):
    """Stands for a kernel of another dtype."""


@pytest.fixture
def with_dot_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more ISA and one more row, as somebody would add them."""
    file: Any = SimpleNamespace(find=lambda target: DOT if target.name == "rpi5" else None)
    monkeypatch.setattr(instructions, "_ALL", (*instructions._ALL, file))
    row = Entry("conv2d", "bfloat16", DotConv, isa="dot", gated=False)
    monkeypatch.setattr(registry, "KERNELS", (row, *registry.KERNELS))
    yield


def check_choices(isa: Isa) -> None:
    """Fails where a kernel for any instructions is taken, though there is one for these."""
    rows = [row for row in registry.KERNELS if row.dtype == isa.dtype]
    for row in rows:
        if row.isa in (None, isa.name):
            own = [one for one in rows if (one.operator, one.isa) == (row.operator, isa.name)]
            assert find_kernel(row.operator, isa) is (own or [row])[0].kernel


@pytest.mark.parametrize("name", TARGET_NAMES)
def test_every_target_computes_float32(name: str) -> None:
    isa = isa_for(get_target(name), FLOAT32)
    assert isa.item_bytes == 4
    assert isa.lanes_over(1) == isa.lanes_within(1) == isa.narrowest
    assert isa.lanes_over(1000) == isa.lanes_within(1000) == isa.lanes
    check_choices(isa)


@pytest.mark.parametrize("name", TARGET_NAMES)
def test_every_target_computes_int8(name: str) -> None:
    isa = isa_for(get_target(name), INT8)
    assert isinstance(isa, DotIsa)
    assert isa.grain == isa.item_bytes == 4
    check_choices(isa)


@pytest.mark.usefixtures("with_dot_products")
def test_a_kernel_of_another_dtype_is_one_row() -> None:
    dot = isa_for(get_target("rpi5"), "bfloat16")
    assert find_kernel("conv2d", dot) is DotConv
    assert find_kernel("conv2d", isa_for(get_target("rpi5"), FLOAT32)) is ConvKernel
    with pytest.raises(CompileError, match="no kernel for conv2d of bfloat16 with dot"):
        find_kernel("conv2d", dot, gated=True)


@pytest.mark.parametrize("name", ["rpi5", "jetson-orin"])
def test_targets_with_its_arithmetic_compute_float16(name: str) -> None:
    isa = isa_for(get_target(name), FLOAT16)
    assert (isa.item_bytes, isa.lanes) == (2, 8)
    for entry in registry.KERNELS:
        if entry.dtype == FLOAT16:
            assert find_kernel(entry.operator, isa) is entry.kernel


def test_what_a_target_cannot_compute_is_refused() -> None:
    for name in ("host", "rpi3", "rpi4", "jetson-nano"):
        with pytest.raises(CompileError) as refused:
            isa_for(get_target(name), FLOAT16)
        assert str(refused.value) == (
            f"Target {name!r} has no instructions for float16; those that have: rpi5, jetson-orin."
        )
    with pytest.raises(CompileError, match="no instructions for bfloat16; no target has"):
        isa_for(get_target("rpi5"), "bfloat16")
