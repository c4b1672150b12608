"""This very machine: network.so through ctypes, or the runner where there is none."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Sequence
from ctypes import c_int32, c_uint64, c_void_p
from pathlib import Path

import numpy as np

from headgate.device.abi import Library, check_network
from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.agent_call import measure_here
from headgate.device.bundle import Bundle
from headgate.device.files import storage_error
from headgate.device.machines.base import Machine
from headgate.device.machines.runner import RunnerProgram
from headgate.device.manifest import SHARED_OBJECT
from headgate.device.program import Execution, Program
from headgate.device.protocol import COUNTS, LAYERS, TIMES, Request
from headgate.device.targets import host_architecture, missing_features
from headgate.errors import BundleError, DeviceError, why

_ARENA_ALIGNMENT = 64


class Host(Machine):
    """The machine that Python runs on: a workstation, or the board itself."""

    name = "host"

    @classmethod
    def names(cls) -> list[str]:
        return [cls.name]

    @classmethod
    def named(cls, name: str) -> Host | None:
        return cls() if name == cls.name else None

    def check(self, bundle: Bundle) -> None:
        target, here = bundle.target, host_architecture()
        if target["arch"] != here:
            raise BundleError(
                f"{bundle.name!r} is compiled for target {target['name']} ({target['arch']}), "
                f"this machine is host ({here}); recompile with --target host, "
                f"or use machine qemu:{target['name']}"
            )
        missing = missing_features(target)
        if missing:
            raise BundleError(
                f"{bundle.name!r} is compiled for target {target['name']} ({target['cpu']}), "
                f"this CPU lacks {', '.join(missing)}; recompile it on this machine"
            )

    def load(self, bundle: Bundle, threads: int) -> Program:
        if SHARED_OBJECT in bundle.members:
            return HostProgram(bundle, self.name, threads)
        return RunnerProgram(bundle, self.name, [], None, threads)

    def measure(
        self, bundle: str | Path, settings: Settings, inputs: Sequence[Path] = ()
    ) -> Report:
        return measure_here(bundle, settings, inputs=inputs)


class HostProgram(Program):
    """A network inside this process."""

    def __init__(self, bundle: Bundle, machine: str, threads: int) -> None:
        super().__init__(bundle, machine, threads)
        self._team: int | None = None
        self._library = _load_library(bundle)
        check_network(self._library.network, bundle)
        weights, manifest = bundle.weights(), bundle.manifest
        arena_bytes = manifest["arena_bytes"] + (threads - 1) * manifest["thread_bytes"]
        try:
            self._arena = _aligned_bytes(arena_bytes)
            self._weights = _aligned_bytes(len(weights))
        except MemoryError as error:
            raise DeviceError(
                f"no memory for {bundle.name!r}: arena of {arena_bytes} "
                f"and weights of {len(weights)} bytes; close other programs"
            ) from error
        self._weights[:] = np.frombuffer(weights, np.uint8)
        if threads > 1:
            self._team = self._library.start_team(threads)
            if not self._team:
                raise DeviceError(f"cannot start {threads} threads for {bundle.name!r}; take fewer")

    def _execute(self, inputs: list[np.ndarray], request: Request) -> Execution:
        manifest, samples = self.bundle.manifest, len(inputs[0])
        results = request.results(manifest, samples).items()
        found = {name: np.zeros(shape, dtype) for name, (dtype, shape) in results}
        outputs = [found[name] for name in request.found]
        counts, times, layers = found[COUNTS], found.get(TIMES), found.get(LAYERS)
        offsets = [gate["count_offset"] // 4 for gate in manifest["gates"]]
        arena_words = self._arena[: len(self._arena) // 4 * 4].view(np.int32)
        unwanted = np.empty(max(request.warmup, request.repeat), np.uint64)
        for sample in range(samples):
            pointers = _pointers(inputs, sample), _pointers(outputs, sample)
            self._measure(self._library.time, pointers, request.warmup, unwanted)
            if times is not None or layers is None:
                of_runs = unwanted if times is None else times[sample]
                self._measure(self._library.time, pointers, request.repeat, of_runs)
            if layers is not None:
                self._measure(self._library.profile, pointers, request.repeat, layers[sample])
            counts[sample] = arena_words[offsets]
        return Execution(outputs, counts, times, layers)

    def _measure(
        self,
        function: Callable[..., int],
        pointers: tuple[ctypes.Array[c_void_p], ctypes.Array[c_void_p]],
        repeat: int,
        nanoseconds: np.ndarray,
    ) -> None:
        error = function(
            ctypes.byref(self._library.network),
            *pointers,
            self._weights.ctypes.data,
            self._arena.ctypes.data,
            self._team,
            c_int32(repeat),
            nanoseconds.ctypes.data_as(ctypes.POINTER(c_uint64)),
        )
        if error:
            raise DeviceError(f"network {self.name!r} returned error {error} on {self.machine}")

    def _free(self) -> None:
        self._library.stop_team(self._team)
        self._team = None
        self._arena = self._weights = np.empty(0, np.uint8)


def _load_library(bundle: Bundle) -> Library:
    try:
        # The file may go as soon as it is mapped, so nothing is left even after a crash.
        with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
            path = Path(folder) / "network.so"
            try:
                path.write_bytes(bundle.members[SHARED_OBJECT])
            except OSError as error:
                raise storage_error("write", path, error) from error
            return Library(path)
    except AttributeError as error:
        raise BundleError(
            f"{SHARED_OBJECT} of {bundle.name!r} lacks a function ({why(error)}); recompile it"
        ) from error
    except OSError as error:
        raise DeviceError(
            f"cannot load {SHARED_OBJECT} of {bundle.name!r}: {why(error)}; recompile it for this "
            "machine, or set TMPDIR to a folder that allows execution"
        ) from error


def _aligned_bytes(size: int) -> np.ndarray:
    memory = np.zeros(size + _ARENA_ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ARENA_ALIGNMENT
    return memory[start : start + size]


def _pointers(arrays: list[np.ndarray], sample: int) -> ctypes.Array[c_void_p]:
    addresses = [array.ctypes.data + sample * array.strides[0] for array in arrays]
    return (c_void_p * len(arrays))(*addresses)
