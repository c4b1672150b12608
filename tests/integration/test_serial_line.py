"""The firmware's side of the serial protocol, its own C, over lines good and bad."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.device import serial_protocol
from headgate.device.machines.find import find_machine
from headgate.device.machines.serial import PortLine, SerialMachine
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.serial_frames import Decoder, Frame
from headgate.device.serial_protocol import Line
from headgate.errors import BundleError, DeviceError, UsageError
from tests.fake_bundle import bundle, expected, images
from tests.serial_firmware import (
    FIRMWARE,
    HostileLine,
    firmware_bundle,
    library_member,
    plugged_in,
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_protocol, "PATIENCE_S", 0.05)
    monkeypatch.setattr(serial_protocol, "GREETING_S", 5.0)


def test_outputs_counts_and_times(firmware: Path) -> None:
    batch = images(3)
    with SerialProgram(firmware_bundle(), "board", lambda: HostileLine(firmware)) as program:
        np.testing.assert_array_equal(program.run(batch), expected(batch))
        active = (batch.sum(axis=(2, 3)) > 0).sum(axis=1)
        np.testing.assert_array_equal(program.active_counts["block"], active)
        # The clock moves 100 us whenever it is read.
        assert program.time(batch[:1], repeat=3, warmup=1).tolist() == [100.0] * 3
        assert program.profile(batch[:1], repeat=2).tolist() == [[100.0, 100.0]] * 2
        assert program.stack_bytes([batch[:1]]) == 96  # what the fake says of its stack


@pytest.mark.parametrize("seed", range(6))
def test_a_line_that_spoils_bytes_gives_the_same_or_one_error(firmware: Path, seed: int) -> None:
    batch = images(2, seed)
    share = (0.002, 0.01, 0.05)[seed % 3]
    line = lambda: HostileLine(firmware, share, seed)  # noqa: E731
    with SerialProgram(firmware_bundle(), "board", line) as program:
        try:
            np.testing.assert_array_equal(program.run(batch), expected(batch))
        except DeviceError as error:
            assert share == 0.05 and "did not answer" in str(error)


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
def test_a_board_that_is_reset_begins_the_image_again(firmware: Path, after: int) -> None:
    batch = images(2)
    line = lambda: HostileLine(firmware, reset_after=after)  # noqa: E731
    with SerialProgram(firmware_bundle(), "board", line) as program:
        np.testing.assert_array_equal(program.run(batch), expected(batch))


def test_errors_of_the_network_and_firmware_of_another(firmware: Path) -> None:
    batch = images(1)
    batch[0, 0, 0, 0] = np.nan
    with (
        SerialProgram(firmware_bundle(), "board", lambda: HostileLine(firmware)) as program,
        pytest.raises(DeviceError, match=r"board returned error 7: an error of the network"),
    ):
        program.run(batch)
    other = bundle({library_member("fake"): b"another", FIRMWARE: b"none"})
    with (
        SerialProgram(other, "board", lambda: HostileLine(firmware)) as program,
        pytest.raises(BundleError, match="runs firmware of another network"),
    ):
        program.run(images(1))


class Silent(Line):
    """Nobody is there."""

    def write(self, data: bytes) -> None:
        pass

    def read(self, seconds: float) -> bytes:
        return b""

    def close(self) -> None:
        pass


def test_silence_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_protocol, "GREETING_S", 0.2)
    with (
        SerialProgram(firmware_bundle(), "board", Silent) as program,
        pytest.raises(DeviceError, match="board did not answer within 0 s; is the firmware"),
    ):
        program.run(images(1))


class Babbling(Silent):
    """Never silent: noise, frames of nobody's questions, and at last what ``last`` says."""

    def __init__(self, last: bytes = b"") -> None:
        self._random, self._last = random.Random(0), last

    def read(self, seconds: float) -> bytes:
        if self._last and self._random.random() < 0.05:
            return self._last
        stray = Frame(self._random.randrange(255), self._random.randrange(256), b"stray").encode()
        return self._random.choice([self._random.randbytes(40), stray, stray[:7], b"\xa5" * 9])


def test_a_line_full_of_nonsense_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_protocol, "GREETING_S", 0.3)
    with (
        SerialProgram(firmware_bundle(), "board", Babbling) as program,
        pytest.raises(DeviceError, match=r"did not answer within|answered|returned error"),
    ):
        program.run(images(1))


def test_a_core_that_has_faulted_says_so() -> None:
    fault = Frame(serial_protocol.FAULT, 0).encode()
    with (
        SerialProgram(firmware_bundle(), "board", lambda: Babbling(fault)) as program,
        pytest.raises(DeviceError, match="board: the core has faulted; reset the board"),
    ):
        program.run(images(1))


def test_any_question_is_answered_or_refused(firmware: Path) -> None:
    # Undefined behaviour would be a trap in the firmware, and no answer.
    random_ = random.Random(5)
    line, decoder = HostileLine(firmware), Decoder()
    line.write(Frame(1, 0, b"abcd").encode())
    known = {0, -1, -2, -3, 7, -101, -102}
    for number in range(1, 2001):
        kind = random_.choice([2, 3, 4, random_.randrange(2, 255)])
        words = [random_.choice([0, 1, 96, 0x100, 1 << 31, 0xFFFFFFFF]) for _ in range(3)]
        payload = struct.pack("<III", *words)[: random_.choice([4, 8, 12])] + random_.randbytes(
            random_.choice([0, 0, 3, 96])
        )
        if kind == 3 and len(payload) == 8:
            payload = payload[:4] + struct.pack("<I", random_.randrange(3))  # or it runs for ever
        line.write(Frame(kind, number % 256, payload).encode())
        answer, deadline = None, time.monotonic() + 10
        while answer is None and time.monotonic() < deadline:
            found = [one for one in decoder.feed(line.read(1)) if one.sequence == number % 256]
            answer = found[0] if found else None
        assert answer is not None and answer.kind == kind | 0x80
        assert struct.unpack_from("<i", answer.payload)[0] in known
    line.close()


def test_a_question_that_comes_twice_is_answered_once_in_the_same_words(firmware: Path) -> None:
    line = HostileLine(firmware)
    hello = Frame(serial_protocol.Kind.HELLO, 1, b"abcd").encode()
    run = Frame(serial_protocol.Kind.RUN, 2, struct.pack("<II", 0, 1)).encode()
    line.write(hello + run + run + run)
    decoder, found = Decoder(), []
    while len(found) < 4:
        found += decoder.feed(line.read(5.0))
    line.close()
    # Three runs would have moved the clock between them.
    assert found[1] == found[2] == found[3]
    assert found[1].payload[4:] == (100).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("kind", "payload", "status"),
    [
        (2, bytes(4), -101),  # too short to be a question
        (2, (1).to_bytes(4, "little") + bytes(8), -102),  # no such input
        (2, bytes(4) + (96).to_bytes(4, "little") + b"x", -102),  # behind its end
        (2, bytes(4) + b"\xff" * 4 + bytes(8), -102),
        (3, b"", -101),
        (4, (1).to_bytes(4, "little") + bytes(8), -102),
        (4, bytes(8) + (17).to_bytes(4, "little"), -102),
        (4, bytes(4) + b"\xff" * 8, -102),
        (9, b"", -101),
    ],
)
def test_questions_that_make_no_sense(
    firmware: Path, kind: int, payload: bytes, status: int
) -> None:
    line = HostileLine(firmware)
    line.write(Frame(1, 1, b"abcd").encode() + Frame(kind, 2, payload).encode())
    decoder, found = Decoder(), []
    while len(found) < 2:
        found += decoder.feed(line.read(5.0))
    line.close()
    assert int.from_bytes(found[1].payload[:4], "little", signed=True) == status


def test_ungreeted_firmware_says_so(firmware: Path) -> None:
    line = HostileLine(firmware)
    line.write(Frame(3, 0, bytes(4)).encode())
    decoder, found = Decoder(), []
    while not found:
        found += decoder.feed(line.read(5.0))
    line.close()
    assert int.from_bytes(found[0].payload[:4], "little", signed=True) == -100


def test_a_serial_port(firmware: Path) -> None:
    bundle, batch = firmware_bundle(), images(3)
    with plugged_in(firmware) as name:
        machine = SerialMachine(name)
        machine.check(bundle)
        with machine.load(bundle, 1) as program:
            for _ in range(2):  # each call opens the port again
                np.testing.assert_array_equal(program.run(batch), expected(batch))


def test_serial_machines_are_named_by_their_port() -> None:
    assert find_machine("serial:/dev/ttyACM0").name == "serial:/dev/ttyACM0"
    for name, message in (
        ("serial:", "a port is missing"),
        ("serial:/dev/ttyACM0,fast", "'fast' is no speed"),
    ):
        with pytest.raises(UsageError, match=message):
            find_machine(name)
    with pytest.raises(UsageError, match="has one core"):
        find_machine("serial:/dev/ttyACM0").load(firmware_bundle(), 2)
    with pytest.raises(BundleError, match="is a microcontroller; recompile with --target"):
        find_machine("serial:/dev/ttyACM0").check(bundle({"code/runner": b"none"}))


def test_a_port_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match="no port /dev/nothing; is the board plugged in"):
        PortLine("/dev/nothing", 115200)
