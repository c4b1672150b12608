"""Kernels that tests share compute what a user's do, and each is lowered once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.compile.backend import lower
from headgate.device import Bundle, load
from tests import session_cache
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
