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
    parameters = inspect.signature(module.forward).parameters
    if isinstance(inputs, Mapping):
        names = _in_order(module, inputs, parameters)
        given = [inputs[name] for name in names]
    else:
        given = [inputs] if isinstance(inputs, Tensor | np.ndarray) else _sequence(inputs)
        names = _positional(module, len(given), parameters)
    samples = tuple(_sample(name, value) for name, value in zip(names, given, strict=True))
    return Example(tuple(names), samples, isinstance(inputs, Mapping))


def read_vectors(
    vectors: Inputs | None, example: Example, what: str = "test vectors"
) -> list[np.ndarray]:
    """Test inputs (N, ...) float32, an array of its own for each input; None: random ones.

    ``what`` they are is said in messages.

    Raises:
        InputError: they do not fit the example, there are none, or one is not finite.
    """
    if vectors is None:
        random = np.random.default_rng(0)
        return [
            random.standard_normal((RANDOM_VECTORS, *s.shape[1:]), dtype=np.float32)
            for s in example.samples
        ]
    arrays = [] if _is_empty(vectors) else _arrays(vectors, example, what)
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


def _is_empty(vectors: Inputs) -> bool:
    return isinstance(vectors, Sequence) and not len(vectors)


def _sequence(inputs: Any) -> list[Any]:
    if not isinstance(inputs, Sequence) or isinstance(inputs, str | bytes):
        raise InputError(
            f"example_inputs is of type {type(inputs).__name__}; give one tensor, a tuple with one "
            "for each input, or a table of them by the name of forward's parameter."
        )
    if not inputs:
        raise InputError("example_inputs is empty; give one tensor for each input.")
    return list(inputs)


def _in_order(
    module: nn.Module, inputs: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> list[str]:
    """The names of the given inputs in the order of ``forward``'s parameters."""
    if not inputs:
        raise InputError("example_inputs is empty; give one tensor for each input.")
    try:
        inspect.signature(module.forward).bind(**{str(name): 0 for name in inputs})
    except TypeError as error:
        raise _misfit(
            module, parameters, f"not {', '.join(map(str, inputs))} ({why(error)})"
        ) from error
    return sorted(inputs, key=[*parameters, *inputs].index)


def _positional(
    module: nn.Module, count: int, parameters: Mapping[str, inspect.Parameter]
) -> list[str]:
    """The names of the parameters that so many positional inputs go to."""
    try:
        inspect.signature(module.forward).bind(*range(count))
    except TypeError as error:
        raise _misfit(module, parameters, f"not {count} example inputs ({why(error)})") from error
    several = inspect.Parameter.VAR_POSITIONAL
    names = [name for name, p in parameters.items() if p.kind is not several][:count]
    if any(p.kind is several for p in parameters.values()):
        names = [name for name in names if parameters[name].kind < several]
        rest = next(name for name, p in parameters.items() if p.kind is several)
        names += [f"{rest}{index}" for index in range(count - len(names))]
    return names


def _misfit(
    module: nn.Module, parameters: Mapping[str, inspect.Parameter], instead: str
) -> InputError:
    takes = ", ".join(str(p).partition(":")[0] for p in parameters.values())
    return InputError(f"{type(module).__name__}.forward takes ({takes}), {instead}.")


def _sample(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray):
        raise InputError(
            f"Example input {name!r} is of type {type(value).__name__}, not a tensor; take what is "
            "no tensor out of forward's arguments, in a module around the network."
        )
    if isinstance(value, np.ndarray) and value.dtype.kind != "f":
        raise _not_float(name, value.dtype)
    tensor = torch.as_tensor(value)
    if not tensor.is_floating_point():
        raise _not_float(name, tensor.dtype)
    if tensor.layout is not torch.strided:
        raise InputError(f"Example input {name!r} is {tensor.layout}; give a dense tensor.")
    if tensor.ndim == 0 or 0 in tensor.shape:
        raise InputError(
            f"Example input {name!r} has shape {tuple(tensor.shape)}; give at least one sample, "
            "(N, ...) with N of 1 or more."
        )
    return tensor[:1].detach().to("cpu", torch.float32, copy=True)


def _not_float(name: str, dtype: Any) -> InputError:
    kind = str(dtype).removeprefix("torch.")
    return InputError(
        f"Example input {name!r} is of type {kind}; headgate compiles networks of float32 inputs: "
        "put what makes floats of it in front of the network, outside."
    )


def _arrays(vectors: Inputs, example: Example, what: str) -> list[np.ndarray]:
    names = example.names
    if isinstance(vectors, Mapping):
        if set(vectors) != set(names):
            raise InputError(
                f"{what.capitalize()} are given for {', '.join(map(str, vectors)) or 'no input'}, "
                f"the network's inputs are {', '.join(names)}."
            )
        return [_array(vectors[name], name, what) for name in names]
    if len(names) == 1:
        whole = _array(vectors, names[0], what)
        # One array in a list, as for several inputs.
        once = whole.ndim > example.samples[0].ndim and len(whole) == 1
        return [whole[0] if once else whole]
    if len(vectors) != len(names):
        raise InputError(
            f"{len(vectors)} arrays of {what} are given, the network has {len(names)} "
            f"inputs: {', '.join(names)}."
        )
    return [_array(vector, name, what) for vector, name in zip(vectors, names, strict=True)]


def _array(values: Any, name: str, what: str) -> np.ndarray:
    """A float32 array of its own: nothing that is done to it reaches the caller's."""
    try:
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.is_floating_point() else values).numpy()
        elif isinstance(values, list | tuple) and not np.isscalar(values[0]):
            values = np.stack([_array(value, name, what) for value in values])
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"they are of type {array.dtype}")
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return np.array(array, np.float32, order="C")
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{what.capitalize()} for input {name!r} are no array of numbers ({why(error)}); give "
            "a NumPy array (N, ...)."
        ) from error
