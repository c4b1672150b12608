"""PyTorch's core ATen operators, all of them: lowered and right, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.front.capture import capture
from headgate.compile.front.operators import OPERATORS
from headgate.errors import UnsupportedOperator
from tests.core_operators import NOT_IN_FLOAT_INFERENCE, REFUSED, SHAPE, USES
from tests.uses import Each, Use, check_uses, in_groups

PAGE = Path(__file__).parents[2] / "compile" / "front" / "operators" / "README.md"


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


@pytest.mark.parametrize("uses", in_groups(USES), ids=lambda uses: f"from {next(iter(uses))}")
def test_lowered_and_right(uses: dict[str, Use], tmp_path: Path) -> None:
    check_uses(uses, SHAPE, tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    use, said = REFUSED[name]
    module = nn.ModuleDict({"inner": Each({name: use})})["inner"].eval()
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
