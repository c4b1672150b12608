"""A network in firmware on the other end of a serial line."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np

from headgate.device import serial_protocol
from headgate.device.agent.definitions import dense_macs
from headgate.device.bundle import Bundle
from headgate.device.manifest import library_of
from headgate.device.program import Execution, Program, little_endian
from headgate.device.protocol import COUNTS, LAYERS, TIMES, Request
from headgate.device.serial_protocol import Greeting, Line, Restarted, Session
from headgate.errors import BundleError, DeviceError

MACS_PER_S = 1e6
"""What the slowest board does at least."""
_STARTS = 3
"""A sample is begun again so often when the board is reset meanwhile."""


class SerialProgram(Program):
    """A network that firmware runs; ``open_line`` opens the line to it.

    Each call opens the line and closes it at its end, so that another program can use the board
    between calls and a crash leaves nothing open.
    """

    def __init__(self, bundle: Bundle, machine: str, open_line: Callable[[], Line]) -> None:
        super().__init__(bundle, machine)
        library = library_of(bundle.members)
        if library is None:
            raise BundleError(f"{bundle.name!r} has no library for microcontrollers; recompile it")
        self._model = hashlib.sha256(bundle.members[library]).digest()[:8]
        self._open_line = open_line
        self.run_s = 10 + dense_macs(bundle.manifest["layers"]) / MACS_PER_S
        """An inference takes less, or the board hangs."""

    @contextmanager
    def session(self) -> Iterator[tuple[Session, Greeting]]:
        """An open line to the firmware, and what that says of itself.

        A DeviceError if the board is reset meanwhile: what it was given is lost.
        """
        with closing(self._open_line()) as line:
            session = Session(line, self.machine)
            try:
                yield session, session.greet(self._model)
            except Restarted as error:
                raise DeviceError(f"{self.machine} was reset meanwhile; measure again") from error

    def stack_bytes(self, inputs: list[np.ndarray]) -> int:
        """How deep the stack gets while the network runs on the first sample of (N, ...) inputs.

        The firmware paints what is free and looks how far the paint is gone; the frame of the
        timer's interrupt is in it.
        """
        with self.session() as (session, _):
            for index, array in enumerate(inputs):
                session.write(index, little_endian(array[0]).tobytes())
            session.run(False, self.run_s, stack=True)
            return int.from_bytes(session.read(serial_protocol.STACK, 4), "little")

    def _execute(self, inputs: list[np.ndarray], request: Request) -> Execution:
        samples = len(inputs[0])
        results = request.results(self.bundle.manifest, samples).items()
        found = {name: np.zeros(shape, dtype) for name, (dtype, shape) in results}
        with closing(self._open_line()) as line:
            session = Session(line, self.machine)
            clock_hz = session.greet(self._model).clock_hz
            for sample in range(samples):
                data = [little_endian(array[sample]).tobytes() for array in inputs]
                rows = {name: array[sample] for name, array in found.items()}
                for _ in range(_STARTS):
                    try:
                        self._sample(session, data, request, rows, clock_hz)
                        break
                    except Restarted:
                        session.greet(self._model)
                else:
                    raise DeviceError(f"{self.machine} was reset {_STARTS} times during one image")
        outputs = [found[name] for name in request.found]
        return Execution(outputs, found[COUNTS], found.get(TIMES), found.get(LAYERS))

    def _sample(
        self,
        session: Session,
        data: list[bytes],
        request: Request,
        rows: dict[str, np.ndarray],
        clock_hz: int,
    ) -> None:
        """Runs one sample, and fills its row of each result."""
        for index, one in enumerate(data):
            session.write(index, one)
        for _ in range(request.warmup):
            session.run(False, self.run_s)
        if request.times or not request.layers:
            for index in range(request.repeat):
                cycles = session.run(False, self.run_s)
                if request.times:
                    rows[TIMES][index] = cycles * 10**9 // clock_hz
        if request.layers:
            for index in range(request.repeat):
                session.run(True, self.run_s)
                of_run = rows[LAYERS][index]
                raw = session.read(serial_protocol.CYCLES, 4 * len(of_run))
                of_run[:] = np.frombuffer(raw, "<u4").astype(np.uint64) * 10**9 // clock_hz
        for index, name in enumerate(request.found):
            rows[name][...] = _read(session, index, rows[name])
        rows[COUNTS][...] = _read(session, serial_protocol.COUNTS, rows[COUNTS])

    def _free(self) -> None:
        pass


def _read(session: Session, what: int, like: np.ndarray) -> np.ndarray:
    little = like.dtype.newbyteorder("<")
    return np.frombuffer(session.read(what, like.nbytes), little).reshape(like.shape)
