"""What a host and firmware say to each other in frames: questions, and an answer to each.

The firmware's side is ``runtime/baremetal/serve.c``. Every answer begins with a status, int32: 0,
an error of headgate.h, or one of the firmware's own. A question whose answer does not come is asked
again in the same words, which the firmware knows and answers without doing it twice. Numbers are
little-endian.
"""

from __future__ import annotations

import os
import struct
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum

from headgate.device.serial_frames import MAX_PAYLOAD, Decoder, Frame
from headgate.errors import BundleError, DeviceError

PROTOCOL = 2
ANSWER, FAULT = 0x80, 0xFF
COUNTS, CYCLES, STACK = 0x100, 0x101, 0x102
"""What :meth:`Session.read` takes beside the index of an output: int32, and uint32 numbers."""
NOT_GREETED = -100
PATIENCE_S = 1.0
"""An answer that takes longer is asked for again; one to a greeting after a quarter of that."""
GREETING_S = 15.0
"""How long firmware may take to start."""
_WITH_LAYERS, _WITH_STACK, _WITH_WINDOW = 1, 2, 4
_COUNTERS = {1: "DWT", 2: "SysTick"}
"""What counts a board's cycles."""
_TRIES = 20
_STATUS = 4


class Kind(IntEnum):
    """Questions: the payload of each, and what its answer holds behind the status."""

    # any uint32; the same, protocol uint32, 8 bytes of the model, clock_hz uint32, what counts
    # cycles uint32, the board's name
    HELLO = 1
    WRITE = 2  # input uint32, offset uint32, bytes; nothing
    # flags uint32 (1: measure layers, 2: the stack, 4: tell a meter), inferences uint32; cycles of
    # all uint64
    RUN = 3
    READ = 4  # what uint32, offset uint32, count uint32; bytes


_ERRORS = {
    -1: "an argument is NULL",
    -2: "memory is misaligned",
    -3: "the arena is too small",
    -101: "it does not know the question; its firmware is of another headgate",
    -102: "the question is about memory that it does not have",
}


class Restarted(Exception):
    """The firmware has forgotten the session: it was reset."""


class Line(ABC):
    """A serial line to a board that is open."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """A DeviceError if the other end is gone."""

    @abstractmethod
    def read(self, seconds: float) -> bytes:
        """What has come, waiting at most so long for the first byte; nothing if nothing has.

        A DeviceError if the other end is gone.
        """

    @abstractmethod
    def close(self) -> None:
        """Closing twice is harmless."""


@dataclass(frozen=True)
class Greeting:
    """What firmware says of itself."""

    model: bytes
    clock_hz: int
    """As the firmware was built for it."""
    counter: str
    """What counts cycles: ``DWT`` or ``SysTick``."""
    board: str
    """As in ``targets.toml``."""


class Session:
    """Questions over an open line, each asked until it is answered.

    ``machine`` is what errors call the board.
    """

    def __init__(self, line: Line, machine: str) -> None:
        self._line, self._machine = line, machine
        self._decoder = Decoder()
        self._sequence = 0

    def greet(self, model: bytes) -> Greeting:
        """Begins a session.

        Raises:
            BundleError: the firmware is of another network than ``model``, or another headgate.
            DeviceError: nobody answers.
        """
        word = os.urandom(4)
        answer = self._ask(Kind.HELLO, word, GREETING_S, PATIENCE_S / 4)
        # Of firmware of an earlier headgate there is no more.
        same, protocol, found, clock_hz = struct.unpack("<4sI8sI", self._sized(answer[:20], 20))
        if same != word:
            raise DeviceError(f"{self._machine} answered another greeting; reset the board")
        if protocol != PROTOCOL or found != model:
            raise BundleError(
                f"{self._machine} runs firmware of another network (protocol {protocol}, library "
                f"{found.hex()}; this bundle's is {model.hex()}); flash this bundle's"
            )
        (counter,) = struct.unpack("<I", self._sized(answer[20:24], 4))
        if counter not in _COUNTERS or not clock_hz:
            raise DeviceError(
                f"{self._machine} counts cycles by {counter} at {clock_hz} Hz, which is unknown; "
                "flash this bundle's firmware"
            )
        board = answer[24:].decode("ascii", errors="replace")
        return Greeting(found, clock_hz, _COUNTERS[counter], board)

    def write(self, index: int, data: bytes) -> None:
        """Fills an input."""
        size = MAX_PAYLOAD - 8
        for offset in range(0, len(data), size):
            part = data[offset : offset + size]
            self._ask(Kind.WRITE, struct.pack("<II", index, offset) + part)

    def run(
        self,
        layers: bool,
        seconds: float,
        *,
        stack: bool = False,
        inferences: int = 1,
        window: bool = False,
        patience_s: float = 0.0,
    ) -> int:
        """Inferences back to back, which may take so long; the clock's cycles in all of them.

        Args:
            layers: measure those, too; ``stack`` likewise.
            window: let the board's pin tell a meter when they begin and end.
            patience_s: how long they take in any case, so that the line stays quiet meanwhile.
        """
        flags = (_WITH_LAYERS if layers else 0) | (_WITH_STACK if stack else 0)
        flags |= _WITH_WINDOW if window else 0
        question = struct.pack("<II", flags, inferences)
        answer = self._ask(Kind.RUN, question, seconds, max(patience_s, PATIENCE_S))
        (cycles,) = struct.unpack("<Q", self._sized(answer, 8))
        return int(cycles)

    def read(self, what: int, count: int) -> bytes:
        """So many bytes of a result."""
        found, size = b"", MAX_PAYLOAD - _STATUS
        while len(found) < count:
            wanted = min(size, count - len(found))
            answer = self._ask(Kind.READ, struct.pack("<III", what, len(found), wanted))
            found += self._sized(answer, wanted)
        return found

    def _sized(self, answer: bytes, size: int) -> bytes:
        if len(answer) != size:
            raise DeviceError(
                f"{self._machine} answered {len(answer)} bytes instead of {size}; its firmware is "
                "of another headgate: flash this bundle's"
            )
        return answer

    def _ask(
        self, kind: Kind, payload: bytes, seconds: float = 0.0, patience_s: float = 0.0
    ) -> bytes:
        """The answer behind its status; zeros stand for the usual times."""
        seconds, patience_s = seconds or _TRIES * PATIENCE_S, patience_s or PATIENCE_S
        self._sequence = (self._sequence + 1) % 256
        question = Frame(kind, self._sequence, payload).encode()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._line.write(question)
            answer = self._wait(kind, min(patience_s, left))
            if answer is not None:
                return self._checked(answer)
        raise DeviceError(
            f"{self._machine} did not answer within {seconds:.0f} s; is the firmware on it, and "
            "the line right?"
        )

    def _wait(self, kind: Kind, seconds: float) -> bytes | None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for frame in self._decoder.feed(self._line.read(left)):
                if frame.kind == FAULT:
                    raise DeviceError(f"{self._machine}: the core has faulted; reset the board")
                if (frame.kind, frame.sequence) == (kind | ANSWER, self._sequence):
                    return frame.payload
        return None

    def _checked(self, answer: bytes) -> bytes:
        if len(answer) < _STATUS:
            self._sized(answer, _STATUS)
        (status,) = struct.unpack_from("<i", answer)
        if status == NOT_GREETED:
            raise Restarted
        if status:
            what = _ERRORS.get(status, "an error of the network's own")
            raise DeviceError(f"{self._machine} returned error {status}: {what}")
        return answer[_STATUS:]
