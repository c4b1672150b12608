"""A loaded network: run it, time it, and see which channels it computed.

How one sample reaches the machine is the business of the subclasses in ``machines/``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from headgate.device.agent import definitions
from headgate.device.bundle import Bundle
from headgate.device.manifest import NAMED
from headgate.device.protocol import COUNTS, LAYERS, TIMES, Request
from headgate.errors import DeviceError, InputError, UsageError, why

Arrays = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
MAX_THREADS = 16
"""HEADGATE_MAX_THREADS of headgate.h."""


@dataclass(frozen=True)
class Execution:
    """What one call of a machine brought back, for S samples.

    ``outputs`` are (S, ...) float32, ``counts`` (S, gates) int32 of active channels,
    ``times_ns`` (S, repeat) and ``layer_times_ns`` (S, repeat, layers) uint64 where asked for.
    """

    outputs: list[np.ndarray]
    counts: np.ndarray
    times_ns: np.ndarray | None = None
    layer_times_ns: np.ndarray | None = None

    @classmethod
    def read(
        cls,
        request: Request,
        manifest: Mapping[str, Any],
        samples: int,
        contents: Callable[[str], bytes],
        machine: str,
    ) -> Execution:
        """What a runner answered; a DeviceError if a result is not there, or of another size.

        ``contents`` gives the bytes of a result by its name, an OSError or KeyError if it cannot.
        """
        arrays = {}
        for name, (dtype, shape) in request.results(manifest, samples).items():
            little = np.dtype(dtype).newbyteorder("<")
            try:
                array = np.frombuffer(contents(name), little).reshape(shape)
            except (OSError, KeyError, ValueError) as error:
                raise DeviceError(
                    f"the runner's {name} did not come back from {machine}: {why(error)}"
                ) from error
            # A copy of the machine's own byte order, because callers may write into it.
            arrays[name] = array.astype(dtype)
        outputs = [arrays[name] for name in request.found]
        return cls(outputs, arrays[COUNTS], arrays.get(TIMES), arrays.get(LAYERS))


class Program(ABC):
    """A network on a machine, ready to run. Made by :func:`headgate.device.load`.

    One thread at a time; load it once more for another thread. README.md has an example.
    """

    def __init__(self, bundle: Bundle, machine: str, threads: int = 1) -> None:
        self.bundle = bundle
        self.machine = machine
        self.threads = threads
        self._counts: np.ndarray | None = None
        self._closed = False

    @abstractmethod
    def _execute(self, inputs: list[np.ndarray], request: Request) -> Execution:
        """Do what is requested with every sample of the inputs, (S, ...) each."""

    @abstractmethod
    def _free(self) -> None:
        """Give back memory, files and connections."""

    def close(self) -> None:
        """Free what it holds. It cannot run any more; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        return self.bundle.name

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The manifest's layer table, in the order of :meth:`profile`'s columns."""
        return self.bundle.manifest["layers"]

    def run(self, inputs: Arrays) -> Any:
        """Compute the network's outputs for N samples, one after another.

        Args:
            inputs: (N, ...) float32; of several, a sequence of such arrays, or a table by name.

        Returns:
            (N, ...) float32, a tuple of such arrays if the network has several outputs, or a
            dict of them by name if that is what its ``forward`` returns (a dict, a dataclass).

        Raises:
            InputError: wrong number, shape or type of inputs.
            DeviceError: the machine failed.
        """
        outputs = self.outputs(inputs)
        if self.bundle.manifest.get("results") == NAMED:
            names = [tensor["name"] for tensor in self.bundle.manifest["outputs"]]
            return dict(zip(names, outputs, strict=True))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def outputs(self, inputs: Arrays) -> list[np.ndarray]:
        """As :meth:`run`, but always a list: all outputs in order."""
        return self.execute(inputs, Request()).outputs

    def scores(self, inputs: Arrays) -> np.ndarray:
        """As :meth:`run` of a network that has one output; an InputError if it has several."""
        names = [tensor["name"] for tensor in self.bundle.manifest["outputs"]]
        if len(names) > 1:
            raise InputError(
                f"{self.name!r} has {len(names)} outputs ({', '.join(names)}), and this is about "
                "the scores of one; run() gives them all"
            )
        return self.outputs(inputs)[0]

    def time(self, inputs: Arrays, repeat: int = 100, warmup: int = 10) -> np.ndarray:
        """Latency of each inference in microseconds, (N * repeat,) float64, timed one by one in C.

        The N samples are taken in turn, each ``warmup`` times unmeasured and then ``repeat`` times.
        Under QEMU this is the emulator's time and says nothing about a device.
        """
        execution = self.execute(inputs, Request(repeat=repeat, warmup=warmup, times=True))
        assert execution.times_ns is not None
        return execution.times_ns.reshape(-1) / 1e3

    def profile(self, inputs: Arrays, repeat: int = 100, warmup: int = 10) -> np.ndarray:
        """Microseconds in each layer, (N * repeat, layers) float64, columns as :attr:`layers`.

        As :meth:`time`; reading the clock around every layer adds some tens of nanoseconds to each.
        """
        execution = self.execute(inputs, Request(repeat=repeat, warmup=warmup, layers=True))
        assert execution.layer_times_ns is not None
        return execution.layer_times_ns.reshape(-1, len(self.layers)) / 1e3

    @property
    def active_counts(self) -> dict[str, np.ndarray]:
        """Active channels of each gate in the last run: name -> (N,) int32.

        Of a pixel gate, the numbers that were computed from all inputs. A UsageError before any
        run.
        """
        counts = self._last_counts()
        gates = self.bundle.manifest["gates"]
        return {gate["name"]: counts[:, index] for index, gate in enumerate(gates)}

    def layer_macs(self) -> np.ndarray:
        """Multiply-accumulates each layer executed in the last run, (N, layers) int64."""
        counts = self._last_counts().astype(np.int64)
        macs = np.empty((len(counts), len(self.layers)), np.int64)
        for index, layer in enumerate(self.layers):
            active = (
                None if gate is None else counts[:, gate]
                for gate in (layer["in_gate"], layer["out_gate"])
            )
            macs[:, index] = definitions.executed_macs(layer, *active)
        return macs

    def executed_macs(self) -> np.ndarray:
        """Multiply-accumulates of the whole network in the last run, (N,) int64."""
        return self.layer_macs().sum(axis=1)

    def dense_macs(self) -> int:
        """Multiply-accumulates of the same network with every channel and without gates."""
        return definitions.dense_macs(self.layers)

    def execute(self, inputs: Arrays, request: Request) -> Execution:
        """All that is requested of N samples, in one call of the machine; errors as :meth:`run`."""
        if request.repeat < 1 or request.warmup < 0:
            raise UsageError(
                f"repeat={request.repeat}, warmup={request.warmup}: at least 1 and 0 are needed"
            )
        if self._closed:
            raise UsageError(f"{self.name!r} was closed; load it again")
        manifest = self.bundle.manifest
        if isinstance(inputs, Mapping):
            inputs = _in_order(manifest["inputs"], inputs)
        arrays = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        checked = _check_inputs(manifest["inputs"], arrays)
        execution = self._execute(checked, request.of(manifest, self.threads))
        self._counts = execution.counts
        return execution

    def _last_counts(self) -> np.ndarray:
        if self._counts is None:
            raise UsageError(f"{self.name!r} was not run yet; call run() first")
        return self._counts


def little_endian(array: np.ndarray) -> np.ndarray:
    """The array in the byte order of a runner's files."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _in_order(wanted: list[dict[str, Any]], inputs: Mapping[str, Any]) -> list[Any]:
    names = [tensor["name"] for tensor in wanted]
    if set(names) != set(inputs):
        given = ", ".join(map(str, inputs)) or "none"
        raise InputError(f"inputs {given} given, the network takes {', '.join(names)}")
    return [inputs[name] for name in names]


def _check_inputs(wanted: list[dict[str, Any]], arrays: list[Any]) -> list[np.ndarray]:
    if len(arrays) != len(wanted):
        names = ", ".join(tensor["name"] for tensor in wanted)
        raise InputError(f"{len(arrays)} inputs given, the network takes {len(wanted)}: {names}")
    inputs = []
    for tensor, array in zip(wanted, arrays, strict=True):
        dtype = tensor["dtype"]
        expected = f"input {tensor['name']!r} is {dtype} (N, {str(tensor['shape'][1:])[1:-1]})"
        if not isinstance(array, np.ndarray):
            raise InputError(f"{expected}, not {type(array).__name__}; pass a NumPy array")
        if array.dtype != dtype:
            raise InputError(f"{expected}, not {array.dtype}; convert with .astype(np.{dtype})")
        if array.ndim == 0 or len(array) == 0 or list(array.shape[1:]) != tensor["shape"][1:]:
            raise InputError(f"{expected} with N of 1 or more, not {array.shape}")
        inputs.append(np.ascontiguousarray(array))
    if len({len(array) for array in inputs}) != 1:
        raise InputError(f"inputs of unequal N: {[len(array) for array in inputs]}")
    return inputs
