"""The tensors of what a network returns, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from headgate.errors import CompileError

MOST = 16
"""MAX_TENSORS of runner.c."""
_MOST_DIMENSIONS = 8


def named_results(result: Any) -> dict[str, Tensor]:
    """The tensors in ``result`` by name, those of nested results joined by a dot.

    A single tensor is ``output``, those of a tuple are ``output0``, ``output1``, ...; a mapping
    and a dataclass have their keys and fields. None is left out.

    Raises:
        CompileError: a result that no bundle can give, or none at all.
    """
    if isinstance(result, list | tuple) and not hasattr(result, "_fields"):
        stem = "output{}" if len(result) > 1 else "output"
        entries = [(stem.format(index), value) for index, value in enumerate(result)]
    elif isinstance(result, Tensor | None):
        entries = [("output", result)]
    else:
        entries = _entries("output", result)
    found = dict(_leaves(entries))
    if not found:
        raise CompileError("The network returns no tensor; a bundle needs one to give.")
    if len(found) > MOST:
        raise CompileError(
            f"The network returns {len(found)} tensors; a bundle has at most {MOST}."
        )
    for name, tensor in found.items():
        _check(name, tensor)
    return found


def is_table(result: Any) -> bool:
    """Whether ``Program.run`` returns a table of arrays for it, as the network does."""
    return isinstance(result, Mapping) or dataclasses.is_dataclass(result)


def is_plain(result: Any) -> bool:
    """A tensor, or a tuple or list of nothing else."""
    several = isinstance(result, list | tuple) and all(isinstance(one, Tensor) for one in result)
    return isinstance(result, Tensor) or several


def _entries(name: str, result: Any) -> list[tuple[str, Any]]:
    """What a container holds, by key; raises ``CompileError`` where it is none."""
    if isinstance(result, Mapping):
        entries = [(str(key), value) for key, value in result.items()]
    elif dataclasses.is_dataclass(result):
        fields = [field.name for field in dataclasses.fields(result)]
        entries = [(field, getattr(result, field)) for field in fields]
    elif isinstance(result, list | tuple):
        keys = getattr(result, "_fields", range(len(result)))
        entries = [(str(key), value) for key, value in zip(keys, result, strict=True)]
    else:
        raise CompileError(
            f"Result {name!r} of the network is of type {type(result).__name__}; a bundle gives "
            "tensors: leave it out of what forward returns."
        )
    if len({key for key, _ in entries}) < len(entries):
        raise CompileError(f"Result {name!r} of the network has two entries of one name.")
    return entries


def _leaves(entries: list[tuple[str, Any]]) -> Iterator[tuple[str, Tensor]]:
    for name, value in entries:
        if isinstance(value, Tensor):
            yield name, value
        elif value is not None:
            inner = _entries(name, value)
            yield from _leaves([(f"{name}.{key}", one) for key, one in inner])


def _check(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.float32:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise CompileError(
            f"Result {name!r} of the network is of type {kind}; a bundle gives float32: leave it "
            "out, or end with .float()."
        )
    if tensor.ndim == 0 or tensor.shape[0] != 1 or 0 in tensor.shape:
        raise CompileError(
            f"Result {name!r} of the network has shape {tuple(tensor.shape)} for one sample; a "
            "bundle gives tensors (1, ...): put a batch dimension of one in front, with x[None]."
        )
    if tensor.layout is not torch.strided or tensor.ndim > _MOST_DIMENSIONS:
        raise CompileError(
            f"Result {name!r} of the network is {tensor.layout} of {tensor.ndim} dimensions; a "
            f"bundle gives dense tensors of at most {_MOST_DIMENSIONS}."
        )
