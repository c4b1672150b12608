"""Kernels and programs that tests share are what a user's are, and each is made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.compile.backend import lower
from headgate.compile.front import capture
from headgate.device import Bundle, load
from tests import captured, session_cache
from tests.networks import network


def half_dense(name: str) -> Bundle:
    module, shape = network(name, 0.5)
    return compile_module(module, torch.zeros(1, *shape), check=False)


def test_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(session_cache.FOLDER, str(tmp_path))
    lowered: list[str] = []
    write_object = lower.write_object

    def counting(functions: dict[str, Any], *rest: Any) -> None:
        lowered.extend(functions)
        write_object(functions, *rest)

    monkeypatch.setattr(lower, "write_object", counting)
    shared = half_dense("inverted")
    count = len(lowered)
    again = half_dense("inverted")
    assert len(lowered) == count > 10
    assert again.to_bytes() == shared.to_bytes()
    monkeypatch.undo()
    with session_cache.lowered_as_users_do():
        own = half_dense("inverted")
    inputs = own.vectors()[0][0]
    with load(own) as theirs, load(shared) as ours:
        np.testing.assert_array_equal(theirs.run(inputs), ours.run(inputs))
    assert {k: v for k, v in own.members.items() if not k.startswith("code/")} == {
        k: v for k, v in shared.members.items() if not k.startswith("code/")
    }


class Own(nn.Module):
    """Multiplies by what ``attribute`` says."""

    def __init__(self, attribute: Any) -> None:
        super().__init__()
        self.attribute = attribute

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.attribute(2.0) if callable(self.attribute) else self.attribute)


def test_only_a_network_of_the_same_content_is_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[nn.Module] = []

    def export(module: nn.Module, example: tuple[Tensor, ...]) -> tuple[Any, ...]:
        exported.append(module)
        return module, example

    class Other(Own):
        """Of the same content, and another class."""

    monkeypatch.setattr(capture, "_export", export)
    x = torch.zeros(1, 3, 8, 8)
    new = lambda: network("inverted", 0.5)[0]  # noqa: E731
    changed = new()
    with torch.no_grad():
        next(changed.parameters()).view(-1)[-1] += 1e-6
    hollow = Own(2.0)
    hollow.register_module("down", None)
    functions = [Own(lambda number: number), Own(lambda number: -number)]
    known = [(new(), x), (new(), x), (Own(2.0), x), (Own(torch.ones(3, 1, 1)), x)]
    others = [
        *((changed, x), (Own(2), x), (Own(-2.0), x), (Other(2.0), x), (Own((2.0,)), x)),
        *((Own([2.0]), x), (Own([[0, 1], 51]), x), (Own([0, [1, 51]]), x), (hollow, x)),
        *((Own(torch.ones(3, 1)), x), (Own(2.0), x[:, :, 1:]), (Own(2.0), x.mT)),
        *((function, x) for function in functions),
    ]
    with captured.exported_once():
        for module, example in known:
            capture._export(module, (example,))
        assert len(exported) == len(known) - 1
        for module, example in others:
            before = len(exported)
            capture._export(module, (example,))
            assert len(exported) == before + 1, module
        assert len(exported) == len(known) - 1 + len(others)
        for module, example in [*known, *others]:
            capture._export(module, (example,))
        assert len(exported) == len(known) - 1 + len(others) + len(functions)
        # A class that has changed, and a network that changed after it was traced.
        monkeypatch.setattr(Own, "forward", lambda self, x: x)
        assert capture._export(Own(2.0), (x,))[0] is exported[-1]
        layer = nn.Conv2d(3, 2, 1)
        kept = capture._export(layer, (x,))[0]
        weight = layer.weight.clone()
        with torch.no_grad():
            layer.weight.mul_(3)
        assert torch.equal(kept.weight, weight)
