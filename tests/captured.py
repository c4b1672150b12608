"""Networks that torch.export traces once in a process, for tests that compile one several times.

A network is known again by its content: the classes and attributes of its modules, what those
classes are made of, and the bytes of its tensors. One that holds anything else, a function for
example, is traced each time. Variables of Python modules that a forward reads are not looked at.
"""

from __future__ import annotations

import copy
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
        # What lives on keeps its number for itself.
        self.numbered: dict[int, Any] = {}

    def __call__(self, module: nn.Module, example: tuple[Tensor, ...]) -> Any:
        try:
            key = self.key(module, example)
        except _NotContent:
            return self.export(module, example)
        if key not in self.programs:
            # A program shares its tensors with the module, which a test may change.
            self.programs[key] = self.export(copy.deepcopy(module), example)
        self.programs.move_to_end(key)
        while len(self.programs) > _KEPT:
            self.programs.popitem(last=False)
        return self.programs[key]

    def key(self, module: nn.Module, example: tuple[Tensor, ...]) -> bytes:
        digest = hashlib.sha256()
        for tensor in example:
            _say(digest, _layout(tensor))
        for name, part in module.named_modules(remove_duplicate=False):
            _say(digest, name, self.number(type(part)))
            for one in type(part).__mro__:
                if not one.__module__.startswith(("torch.", "builtins")):
                    self.add_class(digest, one)
            for attribute, value in vars(part).items():
                _say(digest, attribute)
                # Each module comes by itself, but what is None does not.
                _add(digest, list(value) if attribute == "_modules" else value)
        return digest.digest()

    def add_class(self, digest: Any, one: type) -> None:
        """Adds what a class is made of."""
        for attribute, value in vars(one).items():
            _say(digest, attribute)
            try:
                _add(digest, value)
            except _NotContent:
                _say(digest, self.number(value))

    def number(self, value: Any) -> int:
        self.numbered[id(value)] = value
        return id(value)


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tuple(tensor.shape), tensor.stride()


def _say(digest: Any, *words: object) -> None:
    """Adds words that are told from what comes before and behind."""
    text = repr(words).encode()
    digest.update(len(text).to_bytes(8, "little") + text)


def _add(digest: Any, value: Any) -> None:
    """Adds ``value`` to ``digest``, or raises ``_NotContent``."""
    match value:
        case Handover():
            pass  # of the last forward
        case Tensor():
            _say(digest, "tensor", _layout(value))
            digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        case None | bool() | int() | float() | str() | Enum() | torch.dtype():
            _say(digest, type(value).__name__, value)
        case Mapping():
            _say(digest, type(value).__name__, len(value))
            for key in value:
                _add(digest, key)
                _add(digest, value[key])
        case Sequence():
            _say(digest, type(value).__name__, len(value))
            for entry in value:
                _add(digest, entry)
        case Set() if all(isinstance(entry, str) for entry in value):
            _add(digest, sorted(value))
        case _:
            raise _NotContent
