"""Meters that send lines: their columns, their clocks, programs and serial ports."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from headgate.device.agent.errors import SensorError
from headgate.device.agent.sensors import choose
from headgate.device.agent.sensors.base import Sample, Sensor
from headgate.device.agent.sensors.columns import Columns, is_header
from headgate.device.agent.sensors.lines import LineSensor, MeterClock
from headgate.device.agent.system import System

S = 1_000_000_000


@pytest.mark.parametrize(
    ("header", "line", "expected"),
    [
        ("timestamp_s,power_mw", "1.5,2500.25", (1_500_000_000, 2500.25)),
        ("Power_W", "2.5", (None, 2500.0)),
        ("time_ms, rail_uw", "20, 1500", (20_000_000, 1.5)),
        ("voltage_v,current_ma", "5.0,400", (None, 2000.0)),
        ("timestamp_us,bus_mv,current_ua", "7,5000,200000", (7000, 1000.0)),
    ],
)
def test_columns_are_known_by_their_units(
    header: str, line: str, expected: tuple[int | None, float]
) -> None:
    assert Columns.of(header).read(line) == expected


def test_one_of_several_columns_can_be_named() -> None:
    header = "timestamp_s,cpu_mw,board_mw"
    assert Columns.of(header, "cpu_mw").read("0,1,2") == (0, 1.0)
    assert Columns.of(header, "board_mw").read("0,1,2") == (0, 2.0)
    with pytest.raises(SensorError, match="no column 'usb_mw' in the meter's header"):
        Columns.of(header, "usb_mw")
    with pytest.raises(SensorError, match="name it with its unit, such as power_mw"):
        Columns.of("timestamp_s,power")


@pytest.mark.parametrize("line", ["1.0", "1.0,", "1.0,nan", "1.0,inf", "1.0,2,3", "1.0,2x"])
def test_lines_without_a_number_are_no_samples(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Columns.of("timestamp_s,power_mw").read(line)


def test_headers_are_lines_with_words() -> None:
    assert is_header("timestamp_s,power_mw")
    assert not is_header("1.0, 2.5e3")


def test_a_meters_clock_is_mapped_by_the_line_that_was_least_late() -> None:
    clock = MeterClock()
    assert clock.to_monotonic(100 * S, 7 * S + 30) == 7 * S + 30
    assert clock.to_monotonic(101 * S, 8 * S + 10) == 8 * S + 10  # 20 ns less late
    assert clock.to_monotonic(102 * S, 9 * S + 90) == 9 * S + 10
    assert clock.jumps == 0


def test_a_meters_clock_that_is_set_is_noticed_and_followed() -> None:
    clock = MeterClock()
    clock.to_monotonic(100 * S, 1 * S)
    assert clock.to_monotonic(3701 * S, 2 * S) == 2 * S  # an hour ahead: summer time
    assert clock.to_monotonic(3702 * S, 3 * S) == 3 * S
    assert clock.to_monotonic(103 * S, 4 * S) == 4 * S  # and back
    assert clock.jumps == 2


@pytest.mark.parametrize("speed", [0.97, 1.03])
def test_a_meters_clock_that_runs_fast_or_slow_is_followed(speed: float) -> None:
    clock = MeterClock()
    previous = 0
    for step in range(6000):  # a minute of 10 ms
        now = step * 10_000_000
        mapped = clock.to_monotonic(round(now * speed), now + (step * 7919) % 3_000_000)
        # Behind by what the clock lost in ten seconds, at most.
        assert abs(mapped - now) < 0.31 * S
        assert mapped > previous or step == 0
        previous = mapped
    assert clock.jumps == 0


def gather(sensor: Sensor, enough: Callable[[list[Sample]], bool]) -> list[Sample]:
    """Samples until there are enough; a deadline for what would hang."""
    samples: list[Sample] = []
    deadline = time.monotonic() + 120
    while not enough(samples) and time.monotonic() < deadline:
        samples += sensor.poll(time.monotonic_ns())
        time.sleep(0.005)
    return samples


def program(tmp_path: Path, text: str) -> str:
    """A command line that runs this Python program."""
    path = tmp_path / "my meter.py"
    path.write_text("import sys, time\n" + text)
    return f"command:{sys.executable} '{path}'"


def test_a_program_is_started_without_a_shell_and_ended(tmp_path: Path) -> None:
    text = """
print("timestamp_s,power_mw", flush=True)
for step in range(1000):
    print(f"{step / 100},{1000 + step}", flush=True)
    time.sleep(0.01)
"""
    sensor = choose(System(), program(tmp_path, text) + " '$(touch never)' ';' '|'")
    sensor.start()
    samples = gather(sensor, lambda samples: len(samples) >= 10)
    process = sensor._process  # type: ignore[attr-defined]
    assert process.poll() is None
    sensor.stop()
    assert process.poll() is not None
    assert [sample.values["power"] for sample in samples[:10]] == list(range(1000, 1010))
    # Ten milliseconds apart by the meter's clock, whatever the pipe did.
    steps = [later.time_ns - one.time_ns for one, later in pairwise(samples)]
    assert sorted(steps)[len(steps) // 2] == pytest.approx(10_000_000, abs=2000)
    assert not Path("never").exists()


def test_bad_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    text = r"""
sys.stdout.write("# a comment\n\n100\n200\nrubbish\n300,5\n\xff\n400\n50")
sys.stdout.flush()
time.sleep(0.2)
"""
    sensor = choose(System(), program(tmp_path, text))
    assert isinstance(sensor, LineSensor)
    sensor.start()
    samples = gather(sensor, lambda samples: len(samples) == 3)
    assert [sample.values["power"] for sample in samples] == [100.0, 200.0, 400.0]
    with pytest.raises(OSError, match="it ended with status 0"):
        gather(sensor, lambda _: False)
    sensor.stop()
    # "rubbish", two columns, no text, and the rest of a line that was cut off.
    assert sensor.oddities() == {"bad_lines": 4, "clock_jumps": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sys.exit(3)", "it ended with status 3"),
        ("time.sleep(60)", "no sample within 0.2 s"),
        ("print('time,what', flush=True); time.sleep(60)", "no column with power among time, what"),
    ],
)
def test_a_program_that_sends_nothing_says_why(text: str, message: str, tmp_path: Path) -> None:
    sensor = choose(System(), program(tmp_path, text))
    assert isinstance(sensor, LineSensor)
    sensor.first_line_s = 0.2 if "0.2" in message else 10.0
    with pytest.raises(SensorError, match=message):
        sensor.start()
    sensor.stop()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("command:", "needs a command line"),
        ("command:read 'it", "close the quotes"),
        ("serial:", "needs a port"),
        ("serial:/dev/ttyUSB0,fast", "'fast' is no speed"),
    ],
)
def test_meters_that_are_named_wrongly(wanted: str, message: str) -> None:
    with pytest.raises(SensorError, match=message):
        choose(System(), wanted)


def test_a_program_or_port_that_is_not_there() -> None:
    with pytest.raises(SensorError, match="no-such-meter is not installed"):
        choose(System(), "command:no-such-meter --fast").start()
    with pytest.raises(SensorError, match="no such port; is the meter plugged in"):
        choose(System(), "serial:/dev/no-such-port").start()


def sends_when_opened(sensor: Sensor, descriptor: int, data: bytes) -> None:
    """Before a port is opened and raw, what comes is thrown away."""
    assert isinstance(sensor, LineSensor)
    open_port = sensor.open

    def open_and_send() -> int:
        port = open_port()
        os.write(descriptor, data)
        return port

    sensor.open = open_and_send  # type: ignore[method-assign]


def test_a_serial_port_is_raw_and_joined_midway() -> None:
    meter, port = os.openpty()
    sensor = choose(System(), f"serial:{os.ttyname(port)},115200", column="power_mw")
    sends_when_opened(sensor, meter, b"34,1500\n1.00,2000\n1.10,2100\n")
    sensor.start()
    samples = gather(sensor, lambda samples: len(samples) == 2)
    sensor.stop()
    for end in (meter, port):
        os.close(end)
    assert [sample.values["power"] for sample in samples] == [2000.0, 2100.0]


def test_a_meter_that_is_unplugged_is_a_failed_reading() -> None:
    meter, port = os.openpty()
    sensor = choose(System(), f"serial:{os.ttyname(port)}")
    sends_when_opened(sensor, meter, b"power_mw\n2000\n")
    sensor.start()
    os.close(port)
    os.close(meter)
    with pytest.raises(OSError, match=r"Input/output error|sends no more"):
        gather(sensor, lambda _: False)
    sensor.stop()


def joined_at(sent: bytes, column: str | None = None) -> list[float]:
    """What a port's samples are when this is the first that it sends."""
    meter, port = os.openpty()
    sensor = choose(System(), f"serial:{os.ttyname(port)}", column=column)
    sends_when_opened(sensor, meter, sent)
    try:
        sensor.start()
        samples = gather(sensor, lambda samples: len(samples) == 2)
    finally:
        sensor.stop()
        for end in (meter, port):
            os.close(end)
    return [sample.values["power"] for sample in samples]


@pytest.mark.parametrize("rest", [b",987.6", b"e-05,9.1", b"987.6", b"\xff\xfe", b"all in mW"])
def test_a_port_can_be_joined_at_any_byte(rest: bytes) -> None:
    assert joined_at(rest + b"\r\n1.00,2000\r\n1.10,2100\r\n") == [2000.0, 2100.0]


def test_a_header_after_the_rest_of_a_line_counts() -> None:
    sent = b",987.6\ntime_ms,usb_mw,power_mw\n10,1,2000\n20,1,2100\n"
    assert joined_at(sent, "power_mw") == [2000.0, 2100.0]


def test_a_whole_header_that_is_not_understood_is_not_taken_for_the_rest_of_a_line() -> None:
    # A board that starts anew when its port is opened sends it first.
    with pytest.raises(SensorError, match="no column with power among time, watts"):
        joined_at(b"time,watts\n1.00,2\n1.10,2.1\n")
    with pytest.raises(SensorError, match="no column with power among time, watts"):
        joined_at(b",987.6\ntime,watts\n1.00,2\n1.10,2.1\n")


@pytest.mark.parametrize("deaf", ["", "import signal; signal.signal(15, signal.SIG_IGN)\n"])
def test_a_program_that_closes_its_output_and_runs_on_is_ended(deaf: str, tmp_path: Path) -> None:
    text = "import os; print('100', flush=True); os.close(1); time.sleep(3600)"
    sensor = choose(System(), program(tmp_path, deaf + text))
    sensor.start()
    with pytest.raises(OSError, match="it closed its output, but runs on"):
        gather(sensor, lambda _: False)
    process = sensor._process  # type: ignore[attr-defined]
    sensor.stop()
    assert process.poll() == (-signal.SIGKILL if deaf else -signal.SIGTERM)


def test_a_program_is_told_to_end_before_its_thread_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The thread waits for the end of a program that has closed its output.
    monkeypatch.setattr("headgate.device.agent.sensors.command._ENDING_S", 3600.0)
    text = "import os; print('100', flush=True); os.close(1); time.sleep(3600)"
    sensor = choose(System(), program(tmp_path, text))
    sensor.start()
    process = sensor._process  # type: ignore[attr-defined]
    sensor.stop()
    assert process.poll() == -signal.SIGTERM
