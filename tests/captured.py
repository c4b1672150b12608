"""Networks that torch.export traces once in a process, for tests that compile one several times.

A network is known again by its content: the classes and attributes of its modules and the bytes of
its tensors. One that holds anything else, a function for example, is traced each time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from enum import Enum
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headgate.compile.front import capture
from headgate.train.gates.following import Handover

# The programs hold their networks' weights.
_KEPT = 32


class _NotContent(Exception):
    """A value that does not say all that it stands for."""


@contextmanager
def exported_once() -> Iterator[None]:
    """Here ``capture`` takes the exported program of a network that it has seen from before."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(capture, "_export", _Exported(capture._export))
        yield


class _Exported:
    def __init__(self, export: Any) -> None:
        self.export = export
        self.programs: OrderedDict[bytes, Any] = OrderedDict()
        # A class that lives on keeps its number for itself.
        self.classes: set[type] = set()

    def __call__(self, module: nn.Module, example: tuple[Tensor, ...]) -> Any:
        try:
            key = self.key(module, example)
        except _NotContent:
            return self.export(module, example)
        if key not in self.programs:
            self.programs[key] = self.export(module, example)
        self.programs.move_to_end(key)
        while len(self.programs) > _KEPT:
            self.programs.popitem(last=False)
        return self.programs[key]

    def key(self, module: nn.Module, example: tuple[Tensor, ...]) -> bytes:
        digest = hashlib.sha256()
        for tensor in example:
            digest.update(_layout(tensor))
        for name, part in module.named_modules(remove_duplicate=False):
            self.classes.add(type(part))
            digest.update(f"{name} {id(type(part))}".encode())
            for attribute, value in vars(part).items():
                if attribute != "_modules":
                    digest.update(attribute.encode())
                    _add(digest, value)
        return digest.digest()


def _layout(tensor: Tensor) -> bytes:
    return repr((tensor.dtype, tensor.shape, tensor.stride())).encode()


def _add(digest: Any, value: Any) -> None:
    """Adds ``value`` to ``digest``, or raises ``_NotContent``."""
    match value:
        case Handover():
            pass  # of the last forward
        case Tensor():
            digest.update(_layout(value))
            digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        case None | bool() | int() | float() | str() | Enum() | torch.dtype():
            digest.update(f"{type(value).__name__} {value!r}".encode())
        case Mapping():
            for key in value:
                _add(digest, key)
                _add(digest, value[key])
            digest.update(f"{len(value)} keys".encode())
        case Sequence():
            for entry in value:
                _add(digest, entry)
            digest.update(f"{len(value)} entries".encode())
        case Set() if all(isinstance(entry, str) for entry in value):
            _add(digest, sorted(value))
        case _:
            raise _NotContent
