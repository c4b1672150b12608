"""PyTorch's answers to the test vectors, which everything compiled is held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headgate.compile.front.example import Example
from headgate.compile.front.prepare import reshaped_call
from headgate.errors import CompileError, why

MOST = 16
"""MAX_TENSORS of runner.c."""
_MOST_DIMENSIONS = 8
_REPEATABLE = 1e-4
"""Two answers to one input may differ by rounding where PyTorch shares work among threads."""


@dataclass(frozen=True)
class Reference:
    """Answers (N, ...) by the name of the result; ``table``: the network returns them by name."""

    outputs: dict[str, np.ndarray]
    table: bool


def answer(
    module: nn.Module, example: Example, vectors: list[np.ndarray]
) -> tuple[nn.Module, Reference]:
    """The network as a function from tensors to a tuple of tensors, and its answers.

    One sample at a time, as a device runs them. Neither ``vectors`` nor the state of ``module``
    change, whatever ``forward`` does to its inputs and buffers; its class may.

    Raises:
        CompileError: it fails on a vector, answers differently the second time, or with NaN or
            infinity; a result cannot be in a bundle.
    """
    if example.by_name:
        names = example.names
        module = reshaped_call(
            module, lambda forward, tensors: forward(**dict(zip(names, tensors, strict=True)))
        )
    state = {name: buffer.clone() for name, buffer in module.named_buffers()}
    result, expected = _run(module, vectors, 0)
    _check_same(module, expected, _run(module, vectors, 0)[1])
    rows = []
    for index in range(len(vectors[0])):
        _restore(module, state)
        rows.append(_run(module, vectors, index)[1] if index else expected)
        if _shapes(rows[-1]) != _shapes(expected):
            raise CompileError(
                f"{type(module).__name__} returns tensors of other shapes for test vector {index} "
                "than for the first; a bundle's have fixed shapes."
            )
        if not _finite(rows[-1]):
            _refuse_not_finite(module, vectors, index)
    _restore(module, state)
    several = isinstance(result, list | tuple) and all(isinstance(r, Tensor) for r in result)
    if not several and not isinstance(result, Tensor):
        module = reshaped_call(
            module, lambda forward, tensors: tuple(named_results(forward(*tensors)).values())
        )
    columns = zip(*(row.values() for row in rows), strict=True)
    outputs = [torch.cat(column).contiguous().numpy() for column in columns]
    table = isinstance(result, Mapping) or dataclasses.is_dataclass(result)
    return module, Reference(dict(zip(expected, outputs, strict=True)), table)


def _run(module: nn.Module, vectors: list[np.ndarray], index: int) -> tuple[Any, dict[str, Tensor]]:
    """What one sample gives, as it is and by name; copies go in and come out.

    For ``forward`` may change its input, and the next call may write where results lie.
    """
    inputs = tuple(torch.from_numpy(array[index : index + 1].copy()) for array in vectors)
    try:
        with torch.no_grad():
            result = module(*inputs)
    except CompileError:
        raise
    except Exception as error:  # whatever a network raises
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise CompileError(
            f"{type(module).__name__} fails in PyTorch on one sample of {shapes}: {why(error)}"
        ) from error
    return result, {name: t.detach().clone() for name, t in named_results(result).items()}


def _restore(module: nn.Module, state: dict[str, Tensor]) -> None:
    for name, buffer in module.named_buffers():
        if name in state:
            buffer.copy_(state[name])


def _check_same(module: nn.Module, first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Refuses what random numbers or a state answer."""
    if _shapes(first) != _shapes(second) or any(
        bool((a - b).abs().max() > _REPEATABLE * a.abs().max())
        for a, b in zip(first.values(), second.values(), strict=True)
    ):
        raise CompileError(
            f"{type(module).__name__} answers the same input differently the second time; a bundle "
            "keeps no state and draws no random numbers: take both out of forward()."
        )


def _shapes(row: dict[str, Tensor]) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in row.items()]


def _refuse_not_finite(module: nn.Module, vectors: list[np.ndarray], index: int) -> None:
    """Raises the error that names the first module to make NaN or infinity of finite inputs."""
    found: list[str] = []
    entered: dict[nn.Module, bool] = {}

    def enter(child: nn.Module, inputs: Any, keywords: Any) -> None:
        entered[child] = _finite((inputs, keywords))  # before they are changed in place

    def leave(path: str, child: nn.Module, result: Any) -> None:
        if not found and entered[child] and not _finite(result):
            where = f"module {path!r} ({type(child).__name__})" if path else "its own forward"
            own = {**child._parameters, **child._buffers}
            bad = next((name for name, tensor in own.items() if not _finite(tensor)), None)
            found.append(where + (f", whose {bad!r} is not finite" if bad else ""))

    hooks = []
    for path, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(enter, with_kwargs=True))
        hooks.append(child.register_forward_hook(lambda c, _, y, path=path: leave(path, c, y)))
    try:
        _run(module, vectors, index)
    finally:
        for hook in hooks:
            hook.remove()
    where = found[0] if found else "its own forward"
    raise CompileError(
        f"PyTorch's answer to test vector {index} is NaN or infinite, which nothing can be held "
        f"against; it starts in {where}. Give other vectors, or look at that module."
    )


def _finite(values: Any) -> bool:
    """Whether every tensor of floats in ``values`` is; what is no container has none."""
    if isinstance(values, Tensor):
        return not values.is_floating_point() or bool(values.isfinite().all())
    if isinstance(values, Mapping):
        values = list(values.values())
    elif dataclasses.is_dataclass(values):
        values = list(vars(values).values())
    return not isinstance(values, list | tuple) or all(_finite(value) for value in values)


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
