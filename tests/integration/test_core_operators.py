"""PyTorch's core ATen operators, all of them: lowered and right, or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

import headgate
from headgate.compile.capture import capture
from headgate.compile.operators import OPERATORS
from headgate.errors import UnsupportedOperator
from tests.core_operators import NOT_IN_FLOAT_INFERENCE, REFUSED, SHAPE, USES, Use

PAGE = Path(__file__).parents[2] / "compile" / "operators" / "README.md"
TOGETHER = 24
"""Operators in one network: compiling is most of the time."""


class Each(nn.Module):
    """One result for each use of an operator."""

    def __init__(self, uses: list[Use]) -> None:
        super().__init__()
        self.uses = uses

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(use(x) for use in self.uses)


def core() -> list[str]:
    """The operators that PyTorch calls core, as ``add.Tensor``."""
    found = []
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, name = full.partition("::")
        packet, _, overload = name.partition(".")
        if namespace == "aten":
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            if torch.Tag.core in operator.tags:
                found.append(f"{packet}.{overload or 'default'}")
    return sorted(found)


def test_every_core_operator_has_its_place() -> None:
    known = [*USES, *REFUSED, *NOT_IN_FLOAT_INFERENCE]
    assert sorted(known) == sorted(core())


def test_nearly_all_are_lowered() -> None:
    assert len(USES) >= 0.95 * (len(USES) + len(REFUSED))


GROUPS = [list(USES)[i : i + TOGETHER] for i in range(0, len(USES), TOGETHER)]


@pytest.mark.parametrize("names", GROUPS, ids=[f"{g[0]} to {g[-1]}" for g in GROUPS])
def test_lowered_and_right(names: list[str], tmp_path: Path) -> None:
    module = Each([USES[name] for name in names]).eval()
    images = torch.randn(3, *SHAPE[1:], generator=torch.Generator().manual_seed(1))
    path = tmp_path / "operators.hgb"
    headgate.compile_module(module, images[:1]).save(path)
    expected = [torch.cat([use(x[None]) for x in images]) for use in module.uses]
    with headgate.load(path) as program:
        found = program.run(images.numpy())
    found = found if isinstance(found, tuple) else (found,)
    for name, got, wanted in zip(names, found, expected, strict=True):
        scale = float(wanted.abs().max())
        assert scale > 0, f"{name}: its use shows nothing"
        np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    use, said = REFUSED[name]
    module = nn.ModuleDict({"inner": Each([use])})["inner"].eval()
    with pytest.raises(UnsupportedOperator, match=said):
        capture(module, (torch.randn(*SHAPE),))


def table() -> str:
    """The page's table: an operator, and what becomes of it."""
    rows = ["| operator | |", "| --- | --- |"]
    for name in core():
        if name in USES:
            what = "lowered" if f"aten.{name}" in OPERATORS else "lowered in parts"
        elif name in REFUSED:
            what = "refused by name"
        else:
            what = f"not in float inference: {NOT_IN_FLOAT_INFERENCE[name]}"
        rows.append(f"| `{name}` | {what} |")
    count = f"{len(USES)} lowered and right, {len(REFUSED)} refused, "
    return f"{count}{len(NOT_IN_FLOAT_INFERENCE)} not in float inference.\n\n" + "\n".join(rows)


def test_the_page_says_so() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")
