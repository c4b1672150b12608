"""Joulescope and PPK2, against stand-ins for their packages as those are documented."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.energy import Burst, measure_energy
from headgate.device.agent.errors import SensorError
from headgate.device.agent.sensors import choose
from headgate.device.agent.sensors.base import Sensor
from headgate.device.agent.settings import Plan
from headgate.device.agent.system import System
from tests.board_trees import FakeTime

S = 1_000_000_000


class Joulescope:
    """The parts of ``joulescope.Device`` (1.5.0 and 1.7.2) that are used."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.callback: Callable[[dict[str, Any]], None] = lambda statistics: None
        self.first = True

    def open(self, event_callback_fn: Any = None, mode: Any = None, timeout: Any = None) -> None:
        self.calls.append("open")

    def close(self, timeout: Any = None) -> None:
        self.calls.append("close")

    def parameter_set(self, name: str, value: str) -> None:
        self.calls.append((name, value))

    def statistics_callback_register(self, cbk: Any, source: str | None = None) -> None:
        self.calls.append(source)
        self.callback = cbk
        if self.first:
            self.send(0.05, 0.0)

    def send(self, seconds: float, joules: float) -> None:
        """Statistics of the last twentieth of a second, as the driver hands them over."""
        self.callback(
            {
                "time": {"range": {"value": [seconds - 0.05, seconds], "units": "s"}},
                "signals": {"power": {"µ": {"value": 2.0, "units": "W"}}},
                "accumulators": {
                    "charge": {"value": joules / 5, "units": "C"},
                    "energy": {"value": joules, "units": "J"},
                },
                "source": "sensor",
            }
        )


@pytest.fixture
def instrument(monkeypatch: pytest.MonkeyPatch) -> Joulescope:
    device = Joulescope()

    def scan_require_one(specs: Any = None, config: str | None = None) -> Joulescope:
        assert config == "auto"
        return device

    package = SimpleNamespace(scan_require_one=scan_require_one)
    monkeypatch.setitem(sys.modules, "joulescope", package)
    return device


def test_a_joulescope_counts_energy_by_its_own_clock(
    instrument: Joulescope, tmp_path: Path
) -> None:
    system = FakeTime(tmp_path)
    sensor = choose(system, "joulescope")
    sensor.start()
    assert instrument.calls == ["open", ("reduction_frequency", "20 Hz"), "sensor"]
    start = system.now_ns
    for step, late_ms in enumerate((0, 40, 5, 0), 1):
        system.now_ns = start + step * 50_000_000 + late_ms * 1_000_000
        instrument.send(0.05 + step * 0.05, step * 0.1)
    samples = sensor.poll(0)
    assert [sample.values["energy"] for sample in samples] == pytest.approx([0, 100, 200, 300, 400])
    # 50 ms apart, however late the board was to hear of it.
    assert [sample.time_ns - start for sample in samples] == [
        step * 50_000_000 for step in range(5)
    ]
    assert sensor.poll(0) == []
    assert sensor.oddities() == {"clock_jumps": 0}
    sensor.stop()
    assert instrument.calls[-1] == "close"


def test_a_joulescope_that_is_not_plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def scan_require_one(config: str) -> None:
        raise RuntimeError("no devices found")

    package = SimpleNamespace(scan_require_one=scan_require_one)
    monkeypatch.setitem(sys.modules, "joulescope", package)
    with pytest.raises(SensorError, match="no devices found; is exactly one plugged in"):
        choose(System(), "joulescope").start()


def test_a_joulescope_that_says_nothing_is_let_go(instrument: Joulescope) -> None:
    instrument.first = False
    sensor: Any = choose(System(), "joulescope")
    sensor.first_s = 0.01
    with pytest.raises(SensorError, match=r"no statistics within 0\.01 s; replug it"):
        sensor.start()
    assert instrument.calls[-1] == "close"


def test_a_joulescope_that_fails_half_open_is_closed(instrument: Joulescope) -> None:
    def parameter_set(name: str, value: str) -> None:
        raise KeyError("value 20 Hz not allowed")

    instrument.parameter_set = parameter_set  # type: ignore[method-assign]
    with pytest.raises(SensorError, match="value 20 Hz not allowed"):
        choose(System(), "joulescope").start()
    assert instrument.calls == ["open", "close"]


class Kit:
    """``ppk2_api.ppk2_api.PPK2_MP`` of 0.9.2: a sample is four bytes, here its microamperes."""

    ports: Any = None
    latest: Kit

    def __init__(self, port: str) -> None:
        self.calls: list[Any] = [port]
        self.waiting = b""
        self.decoded = 0
        Kit.latest = self

    @staticmethod
    def list_devices() -> Any:
        return Kit.ports

    def get_data(self) -> bytes:
        data, self.waiting = self.waiting, b""
        return data

    def get_modifiers(self) -> bool | None:
        self.calls.append(("get_modifiers",))
        return True

    def get_samples(self, buf: bytes) -> tuple[list[float], list[int]]:
        # The package makes a sample of an empty buffer, and shifts all after an odd one.
        assert buf and len(buf) % 4 == 0
        print("Measurement outside of range!")
        values = [float(value) for (value,) in struct.iter_unpack("<I", buf)]
        self.decoded += len(values)
        return [value for value in values if value < 1e6], [0] * len(values)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))

    def send(self, *microamperes: int) -> None:
        self.waiting += b"".join(struct.pack("<I", value) for value in microamperes)


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> type[Kit]:
    monkeypatch.setattr(Kit, "ports", ["/dev/ttyACM3"])
    package = SimpleNamespace(PPK2_API=Kit, PPK2_MP=Kit)
    monkeypatch.setitem(sys.modules, "ppk2_api", SimpleNamespace(ppk2_api=package))
    monkeypatch.setitem(sys.modules, "ppk2_api.ppk2_api", package)
    return Kit


def started(system: System, millivolts: int = 3300) -> tuple[Sensor, Kit]:
    sensor = choose(system, f"ppk2:{millivolts}")
    sensor.start()
    return sensor, Kit.latest


def test_a_ppk2_is_current_times_the_voltage_given(kit: type[Kit], tmp_path: Path) -> None:
    system = FakeTime(tmp_path)
    sensor, device = started(system)
    assert device.calls == [
        "/dev/ttyACM3",
        ("stop_measuring",),  # of a run that was killed
        ("get_modifiers",),
        ("use_ampere_meter",),
        ("set_source_voltage", 3300),
        ("toggle_DUT_power", "ON"),
        ("start_measuring",),
    ]
    device.send(100, 200)
    (sample,) = sensor.poll(system.now_ns)
    assert sample.values == {"power": pytest.approx(0.495)}  # 150 uA at 3.3 V
    assert system.now_ns - sample.time_ns == 10_000  # two samples of 10 us, their middle
    sensor.stop()
    assert device.calls[-1] == ("stop_measuring",)


@pytest.mark.parametrize("ports", [["/dev/ttyACM3"], [("/dev/ttyACM3", "C0FFEE")]])
def test_both_kinds_of_list_of_kits(kit: type[Kit], ports: Any, tmp_path: Path) -> None:
    Kit.ports = ports
    _, device = started(FakeTime(tmp_path))
    assert device.calls[0] == "/dev/ttyACM3"


def test_samples_that_come_in_pieces_are_put_together(
    kit: type[Kit], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    system = FakeTime(tmp_path)
    sensor, device = started(system, 5000)
    device.waiting = struct.pack("<I", 1000)[:3]
    assert sensor.poll(system.now_ns) == []
    device.waiting = struct.pack("<I", 1000)[3:] + struct.pack("<I", 3000) + b"\x01"
    (sample,) = sensor.poll(system.now_ns)
    assert sample.values == {"power": pytest.approx(10.0)}
    # What the package prints must not get into a report on stdout.
    assert capsys.readouterr().out == ""


def test_of_many_samples_bursts_are_decoded_all_over_the_time(
    kit: type[Kit], tmp_path: Path
) -> None:
    system = FakeTime(tmp_path)
    sensor, device = started(system, 1000)
    device.send(*(1000 * (index // 5000) for index in range(10_000)))  # the second half at work
    (sample,) = sensor.poll(system.now_ns)
    assert device.decoded == 1000
    assert sample.values == {"power": pytest.approx(0.5)}
    device.decoded = 0
    device.send(*range(7))
    sensor.poll(system.now_ns)
    assert device.decoded == 7


def test_a_kit_is_timed_by_its_samples_not_by_when_they_came(
    kit: type[Kit], tmp_path: Path
) -> None:
    system = FakeTime(tmp_path)
    sensor, device = started(system)
    start, times = system.now_ns, []
    for step, late_ms in enumerate((0, 60, 20, 90, 0), 1):
        device.send(*[1000] * 10_000)
        (sample,) = sensor.poll(start + step * 100_000_000 + late_ms * 1_000_000)
        times.append(sample.time_ns - start)
    assert times == [step * 100_000_000 - 50_000_000 for step in range(1, 6)]


def test_a_kit_that_is_unplugged_is_a_failed_reading_and_ends_well(
    kit: type[Kit], tmp_path: Path
) -> None:
    system = FakeTime(tmp_path)
    sensor, device = started(system)
    assert sensor.poll(system.now_ns + S // 2) == []
    with pytest.raises(OSError, match="sends no more; is it still plugged in"):
        sensor.poll(system.now_ns + 2 * S)

    def gone() -> None:
        raise OSError(5, "Input/output error")

    device.stop_measuring = gone  # type: ignore[attr-defined]
    sensor.stop()


def test_currents_out_of_range_are_a_failed_reading(kit: type[Kit], tmp_path: Path) -> None:
    sensor, device = started(FakeTime(tmp_path))
    device.send(2_000_000, 2_000_000)
    with pytest.raises(ValueError, match="nothing that is in its range"):
        sensor.poll(0)


def test_a_kit_that_is_not_there(kit: type[Kit]) -> None:
    Kit.ports = []
    with pytest.raises(SensorError, match="ppk2: none is plugged in"):
        choose(System(), "ppk2:5000").start()


def test_a_kit_without_its_calibration_is_not_used(
    kit: type[Kit], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def garbled(self: Kit) -> bool | None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    for get_modifiers, message in (
        (garbled, "invalid start byte; unplug it and try again"),
        (lambda self: None, "it did not send its calibration; unplug it"),
    ):
        monkeypatch.setattr(Kit, "get_modifiers", get_modifiers)
        with pytest.raises(SensorError, match=message):
            choose(FakeTime(tmp_path), "ppk2:5000").start()
        assert Kit.latest.calls[-1] == ("stop_measuring",)


def test_energy_through_a_kit_is_right(kit: type[Kit], tmp_path: Path) -> None:
    """100 mA idle, 300 mA at work, 5 V, inferences of 4 ms: 6 mJ gross, 4 mJ net."""
    system = FakeTime(tmp_path)
    sensor = choose(system, "ppk2:5000")
    spans: list[tuple[int, int]] = []
    sent_ns = system.now_ns

    def get_data(self: Kit) -> bytes:
        nonlocal sent_ns
        times = range(sent_ns, system.now_ns - 9_999, 10_000)
        sent_ns += 10_000 * len(times)
        busy = any(start <= sent_ns - 50_000_000 < end for start, end in spans)
        return struct.pack("<I", 300_000 if busy else 100_000) * len(times)

    class Load:
        def inference_s(self, sample: int) -> float:
            return 0.004

        def burst(self, sample: int, inferences: int, during: Any) -> Burst:
            start = system.now_ns
            end = start + inferences * 4_000_000
            spans.append((start, end))

            def wait(seconds: float) -> bool:
                system.now_ns = min(system.now_ns + round(seconds * 1e9), end)
                return system.now_ns >= end

            during(wait)
            return Burst(start, end, inferences, (end - start) / 1e9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kit, "get_data", get_data)
        energy = measure_energy(Load(), 5, sensor, system, Plan(windows=5))
    assert not isinstance(energy.total, NotMeasured)
    assert energy.energy_per_inference_mj == pytest.approx(6, rel=0.01)
    assert energy.net_energy_per_inference_mj == pytest.approx(4, rel=0.01)
    assert energy.invalid_because == []
