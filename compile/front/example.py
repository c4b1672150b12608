"""What a network is called with: one sample of each input, and the test vectors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headgate.errors import InputError, why

RANDOM_VECTORS = 8
"""More than the five inputs that the agent measures energy with. They are stored: an image of
3 x 224 x 224 takes 0.6 MB, eight 4.8 MB, where ResNet-18's weights take 47 MB."""

Array = Tensor | np.ndarray
Inputs = Array | Sequence[Any] | Mapping[str, Any]
"""One array, a sequence with one for each input, or a table of them by parameter name."""


@dataclass(frozen=True)
class Example:
    """One sample (1, ...) float32 of each input, and the names of those inputs.

    ``by_name``: ``forward`` takes them as keywords.
    """

    names: tuple[str, ...]
    samples: tuple[Tensor, ...]
    by_name: bool = False


def read_example(module: nn.Module, inputs: Inputs) -> Example:
    """The example of ``module`` that a caller's ``example_inputs`` are.

    Raises:
        InputError: not one tensor (N, ...) of floats for each input, with N of 1 or more.
    """
    if isinstance(inputs, Mapping):
        named = {str(name): value for name, value in inputs.items()}
        names = _names(module, **named)
        given = [named[name] for name in names]
    elif isinstance(inputs, Tensor | np.ndarray | Sequence) and not isinstance(inputs, str | bytes):
        given = [inputs] if isinstance(inputs, Tensor | np.ndarray) else list(inputs)
        names = _names(module, *given)
    else:
        raise InputError(
            f"example_inputs is of type {type(inputs).__name__}; give one tensor, a tuple with one "
            "for each input, or a table of them by the name of forward's parameter."
        )
    samples = tuple(_sample(name, value) for name, value in zip(names, given, strict=True))
    return Example(tuple(names), samples, isinstance(inputs, Mapping))


def _names(module: nn.Module, /, *given: Any, **named: Any) -> list[str]:
    """The names of the inputs in the order of ``forward``'s parameters.

    Those of ``*xs`` are xs0, xs1, ...
    """
    if not given and not named:
        raise InputError("example_inputs is empty; give one tensor for each input.")
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*given, **named).arguments
    except TypeError as error:
        takes = ", ".join(str(p).partition(":")[0] for p in signature.parameters.values())
        instead = ", ".join(named) or f"{len(given)} example inputs"
        raise InputError(
            f"{type(module).__name__}.forward takes ({takes}), not {instead} ({why(error)})."
        ) from error
    names: list[str] = []
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{name}{index}" for index in range(len(value))]
        else:
            names += value if kind is inspect.Parameter.VAR_KEYWORD else [name]
    return names


def read_vectors(
    vectors: Inputs | None, example: Example, what: str = "test vectors", kinds: str = "fiub"
) -> list[np.ndarray]:
    """Inputs (N, ...) float32, an array of its own for each input; None: random ones.

    ``what`` they are is said in messages; ``kinds`` of NumPy's dtypes are taken.

    Raises:
        InputError: they do not fit the example, there are none, or one is not finite.
    """
    if vectors is None:
        random = np.random.default_rng(0)
        return [
            random.standard_normal((RANDOM_VECTORS, *s.shape[1:]), dtype=np.float32)
            for s in example.samples
        ]
    empty = isinstance(vectors, Sequence) and not len(vectors)
    arrays = [] if empty else _arrays(vectors, example, what, kinds)
    if not arrays or not all(array.size for array in arrays):
        raise InputError(f"There are no {what} (N is 0); give some.")
    for name, array, sample in zip(example.names, arrays, example.samples, strict=True):
        if array.shape[1:] != sample.shape[1:] or not array.ndim:
            raise InputError(
                f"{what.capitalize()} have shape {array.shape}, the network's input {name!r} "
                f"{tuple(sample.shape)}; give N arrays of {tuple(sample.shape[1:])}."
            )
        bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if bad.any():
            raise InputError(
                f"{what.capitalize()[:-1]} {int(bad.argmax())} of input {name!r} holds NaN or "
                "infinity, of which no right answer follows; give finite numbers."
            )
    if len({len(array) for array in arrays}) > 1:
        raise InputError(
            f"{what.capitalize()} of unequal number: {[len(array) for array in arrays]}; give each "
            "input as many."
        )
    return arrays


def _sample(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray):
        raise InputError(
            f"Example input {name!r} is of type {type(value).__name__}, not a tensor; take what is "
            "no tensor out of forward's arguments, in a module around the network."
        )
    floats = value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"
    if not floats:
        kind = str(value.dtype).removeprefix("torch.")
        raise InputError(
            f"Example input {name!r} is of type {kind}; headgate compiles networks of float32 "
            "inputs: put what makes floats of it in front of the network, outside."
        )
    tensor = torch.as_tensor(value)
    if tensor.layout is not torch.strided:
        raise InputError(f"Example input {name!r} is {tensor.layout}; give a dense tensor.")
    if tensor.ndim == 0 or 0 in tensor.shape:
        raise InputError(
            f"Example input {name!r} has shape {tuple(tensor.shape)}; give at least one sample, "
            "(N, ...) with N of 1 or more."
        )
    return tensor[:1].detach().to("cpu", torch.float32, copy=True)


def _arrays(vectors: Inputs, example: Example, what: str, kinds: str) -> list[np.ndarray]:
    names = example.names
    if isinstance(vectors, Mapping):
        if set(vectors) != set(names):
            raise InputError(
                f"{what.capitalize()} are given for {', '.join(map(str, vectors)) or 'no input'}, "
                f"the network's inputs are {', '.join(names)}."
            )
        return [_array(vectors[name], name, what, kinds) for name in names]
    if len(names) == 1:
        whole = _array(vectors, names[0], what, kinds)
        # One array in a list, as for several inputs.
        once = whole.ndim > example.samples[0].ndim and len(whole) == 1
        return [whole[0] if once else whole]
    if len(vectors) != len(names):
        raise InputError(
            f"{len(vectors)} arrays of {what} are given, the network has {len(names)} "
            f"inputs: {', '.join(names)}."
        )
    return [_array(vector, name, what, kinds) for vector, name in zip(vectors, names, strict=True)]


def _array(values: Any, name: str, what: str, kinds: str) -> np.ndarray:
    """A float32 array of its own: nothing that is done to it reaches the caller's."""
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.is_floating_point() else values).numpy()
        elif isinstance(values, list | tuple) and not np.isscalar(values[0]):
            values = np.stack([_array(value, name, what, kinds) for value in values])
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"they are of type {array.dtype}")
        if array.dtype.kind not in kinds:
            raise InputError(
                f"{what.capitalize()} for input {name!r} are of type {array.dtype}; give floats, "
                "preprocessed as the network takes them."
            )
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return np.array(array, np.float32, order="C")
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{what.capitalize()} for input {name!r} are no array of numbers ({why(error)}); give "
            "a NumPy array (N, ...)."
        ) from error
