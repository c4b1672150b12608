"""A network in firmware as what the agent's code measures: the host runs that in its place."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from headgate.device.agent.bundle import Bundle as Samples
from headgate.device.agent.runner import Execution
from headgate.device.bundle import Bundle
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.program import little_endian
from headgate.device.protocol import Request
from headgate.device.serial_protocol import Session
from headgate.errors import InputError, MissingFile, why


class FirmwareNetwork:
    """As :class:`headgate.device.agent.runner.Network`; ``emulator`` names QEMU's board."""

    cpus: frozenset[int] = frozenset()
    threads = 1

    def __init__(self, program: SerialProgram, samples: Samples, emulator: Sequence[str]) -> None:
        self.bundle, self.emulator = samples, list(emulator)
        self.gates: list[dict[str, Any]] = samples.manifest["gates"]
        self.layers: list[dict[str, Any]] = samples.manifest["layers"]
        self._program = program

    def run(self, request: Request = Request()) -> Execution:  # noqa: B008 (it is frozen)
        """All samples; CPU time is not known, since nothing of the host's is in it."""
        done = self._program.execute(self.arrays(), request)
        times, layers = done.times_ns, done.layer_times_ns
        return Execution(
            outputs=[little_endian(array).tobytes() for array in done.outputs],
            counts=done.counts.tolist(),
            times_ns=[] if times is None else times.tolist(),
            layer_times_ns=[] if layers is None else layers.tolist(),
            ended_ns=time.monotonic_ns(),
            cpu_s=0.0,
            waited_share=None,
        )

    def fill(self, session: Session, sample: int) -> None:
        """Sends one of the samples."""
        for index, array in enumerate(self.arrays()):
            session.write(index, little_endian(array[sample]).tobytes())

    def arrays(self) -> list[np.ndarray]:
        """The samples of each input, (S, ...) float32."""
        shapes = [tensor["shape"][1:] for tensor in self.bundle.manifest["inputs"]]
        return [
            np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, *shape)
            for data, shape in zip(self.bundle.inputs, shapes, strict=True)
        ]


class NoWatch:
    """A microcontroller has no other programs, and no sensors that its firmware reads."""

    @contextmanager
    def watch(self) -> Iterator[Callable[[int], None]]:
        yield lambda ended_ns: None


def samples_of(bundle: Bundle, path: str | Path, inputs: Sequence[Path]) -> Samples:
    """The bundle's test vectors, or the raw float32 samples in a file for each input."""
    given, expected = bundle.vectors()
    data = [little_endian(array).tobytes() for array in given]
    answers = [little_endian(array).tobytes() for array in expected]
    if inputs:
        sizes = [4 * prod(tensor["shape"]) for tensor in bundle.manifest["inputs"]]
        data, answers = [_read(*pair) for pair in zip(inputs, sizes, strict=True)], []
    digest = hashlib.sha256(bundle.to_bytes()).hexdigest()
    return Samples(str(path), digest, bundle.manifest, data, answers)


def _read(path: Path, size: int) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MissingFile(f"cannot read {path}: {why(error)}") from error
    if not data or len(data) % size:
        raise InputError(f"{path} has {len(data)} bytes, a sample {size}")
    return data
