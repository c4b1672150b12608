"""The energy protocol on boards whose clock and sensors follow a script."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.device.agent.absent import to_json
from headgate.device.agent.energy import Burst, Energy, measure_energy
from headgate.device.agent.errors import SensorError, UsageError
from headgate.device.agent.recording import Recording
from headgate.device.agent.sensors import choose
from headgate.device.agent.sensors.base import Sample, Sensor
from headgate.device.agent.settings import Plan
from tests.board_trees import FakeTime, plant

LOADING_S = 0.03


class Work:
    """Inferences that take as long as is said; ``busy`` while they are done."""

    def __init__(self, system: FakeTime, *latencies_s: float, guess: float = 1.0) -> None:
        self.system = system
        self.latencies_s = latencies_s
        self.guess = guess
        self.spans: list[tuple[int, int]] = []
        self.samples: list[int] = []
        self.cpu_share = 1.0

    def inference_s(self, sample: int) -> float:
        return self.latencies_s[sample] * self.guess

    def burst(
        self, sample: int, inferences: int, during: Callable[[Callable[[float], bool]], None]
    ) -> Burst:
        start = self.system.now_ns + round(LOADING_S * 1e9)
        end = start + round(inferences * self.latencies_s[sample] * 1e9)
        self.samples.append(sample)
        self.spans.append((start, end))

        def wait(seconds: float) -> bool:
            self.system.now_ns = min(self.system.now_ns + round(seconds * 1e9), end)
            return self.system.now_ns >= end

        during(wait)
        return Burst(start, end, inferences, (end - start) / 1e9, self.cpu_share)

    @property
    def busy(self) -> bool:
        return any(start <= self.system.now_ns < end for start, end in self.spans)


def board(tmp_path: Path, name: str = "rpi4-ina219") -> tuple[FakeTime, Sensor]:
    # Reading a file takes 20 us of the board's time.
    system = FakeTime(plant(name, tmp_path), read_ns=20_000)
    return system, choose(system)


def follow(system: FakeTime, milliwatts: Callable[[], float]) -> None:
    """Let the ina219 show this power."""

    def on_read(name: str) -> str | None:
        return str(round(milliwatts() * 1000)) if name.endswith("power1_input") else None

    system.on_read = on_read


def test_constant_power_gives_power_times_latency_to_the_last_digit(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    energy = measure_energy(Work(system, 0.004), 1, sensor, system)
    assert energy.idle.average_power_mw == pytest.approx(3140, rel=1e-12)
    assert energy.average_power_mw == pytest.approx(3140, rel=1e-12)
    assert energy.energy_per_inference_mj == pytest.approx(12.56, rel=1e-9)
    assert energy.net_energy_per_inference_mj == pytest.approx(0, abs=1e-9)
    assert energy.energy_delay_mj_ms == pytest.approx(12.56 * 4, rel=1e-9)
    assert energy.latency_ms == pytest.approx(4, rel=1e-9)
    assert energy.invalid_because == []
    assert energy.warnings == ["the bundle has 1 inputs for 5 windows; some are reused"]
    assert energy.rate_hz == pytest.approx(10, rel=0.05)
    assert energy.polling_share == pytest.approx(20e-6 * 10, rel=0.05)
    assert json.loads(json.dumps(to_json(energy)))["sensor"] == "hwmon:ina219@1-0040"


def test_gross_and_net_are_told_apart(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    work = Work(system, 0.004)
    follow(system, lambda: 5000 if work.busy else 2000)
    energy = measure_energy(work, 1, sensor, system)
    assert energy.idle.average_power_mw == pytest.approx(2000)
    assert energy.energy_per_inference_mj == pytest.approx(20, rel=0.01)
    assert energy.net_energy_per_inference_mj == pytest.approx(12, rel=0.02)
    assert [window.gaps for window in energy.windows] == [0] * 5
    assert energy.windows[0].rails_mw == {"ina219": pytest.approx(5000, rel=0.01)}


def test_windows_last_ten_seconds_and_ten_inferences_with_five_inputs(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    work = Work(system, 0.0001, 0.001, 0.01, 0.9, 2.5, 7.0)
    energy = measure_energy(work, 6, sensor, system)
    assert work.samples == [0, 1, 2, 3, 4]
    for window in energy.windows:
        assert window.inferences >= 10
        assert window.end_s - window.start_s >= 10
        assert window.samples >= 100
    assert energy.windows[4].inferences == 10
    # The median is that of the third input.
    assert energy.energy_per_inference_mj == pytest.approx(31.4, rel=1e-9)
    assert energy.idle.end_s - energy.idle.start_s == pytest.approx(10)
    assert energy.idle.end_s <= energy.windows[0].start_s


def test_a_window_that_was_too_short_is_measured_again(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    work = Work(system, 0.004, guess=2.0)  # the clock doubled under load
    energy = measure_energy(work, 1, sensor, system, Plan(windows=1))
    assert work.samples == [0, 0]
    assert energy.windows[0].end_s - energy.windows[0].start_s >= 10


def test_an_outage_of_the_sensor_is_a_gap_and_a_long_one_invalid(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    work = Work(system, 0.004)

    def measure(outage_s: float) -> Energy:
        def on_read(name: str) -> str | None:
            start = work.spans[2][0] if len(work.spans) > 2 else 1 << 62
            if name.endswith("power1_input") and 0 < system.now_ns - start - 5e9 < outage_s * 1e9:
                raise OSError(errno.EIO, "Input/output error")
            return None

        system.on_read = on_read
        return measure_energy(work, 1, sensor, system)

    short = measure(0.45)
    assert short.windows[2].gaps == 1
    assert short.windows[2].gap_s == pytest.approx(0.5, abs=0.11)
    assert short.oddities["failed_reads"] in (4, 5)
    assert short.invalid_because == []
    assert short.warnings[-1].endswith("readings failed: Input/output error")
    assert short.energy_per_inference_mj == pytest.approx(12.56, rel=1e-9)

    work.spans.clear()
    long = measure(3)
    (reason,) = long.invalid_because
    assert reason.startswith("window 3: 3.")
    assert reason.endswith("s without samples (Input/output error)")


def test_partial_reads_are_failed_reads(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    reads = iter(range(1_000_000))

    def on_read(name: str) -> str | None:
        return "" if name.endswith("power1_input") and next(reads) % 50 == 7 else None

    system.on_read = on_read
    energy = measure_energy(Work(system, 0.004), 1, sensor, system)
    assert energy.oddities["failed_reads"] >= 10
    assert energy.energy_per_inference_mj == pytest.approx(12.56, rel=1e-9)
    assert "invalid literal" in energy.warnings[-1]


def test_a_sensor_that_never_answers_is_an_error(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)

    def on_read(name: str) -> str | None:
        raise OSError(errno.EIO, "Input/output error")

    system.on_read = on_read
    with pytest.raises(SensorError, match="ina219@1-0040 gave no samples: Input/output error"):
        measure_energy(Work(system, 0.004), 1, sensor, system)


def test_rapl_wraps_in_the_middle_of_a_window(tmp_path: Path) -> None:
    system, sensor = board(tmp_path, "x86-rapl")
    work = Work(system, 0.001)
    top_uj = {"0/energy_uj": 262143328850, "0:1/energy_uj": 65712999613}
    origin = system.now_ns

    def on_read(name: str) -> str | None:
        # Package 0 draws 20 W and wraps 30 s from the start, its memory 1 W; package 1 stands.
        for end, milliwatts in (("0/energy_uj", 20000), ("0:1/energy_uj", 1000)):
            if name.endswith(f"intel-rapl:{end}"):
                first = top_uj[end] - milliwatts * 30_000
                used = milliwatts * (system.now_ns - origin) // 1_000_000
                return str((first + used) % top_uj[end])
        return None

    system.on_read = on_read
    energy = measure_energy(work, 1, sensor, system)
    assert energy.kind == "counter"
    assert energy.oddities["wraps"] == 2
    assert energy.idle.average_power_mw == pytest.approx(21000, rel=1e-5)
    for window in energy.windows:
        assert window.average_power_mw == pytest.approx(21000, rel=1e-5)
        assert window.rails_mw["package-0.dram"] == pytest.approx(1000, rel=1e-5)
    assert energy.net_energy_per_inference_mj == pytest.approx(0, abs=1e-3)
    assert all(power == pytest.approx(21000, rel=1e-3) for _, power in energy.trace)


def test_a_sum_is_not_taken_without_one_of_its_rails(tmp_path: Path) -> None:
    system, sensor = board(tmp_path, "jetson-agx-orin-jp5")
    recording = Recording(sensor)
    recording.poll(0)

    def on_read(name: str) -> str | None:
        if name.endswith("hwmon4/curr2_input"):
            raise OSError(errno.EIO, "Input/output error")
        return None

    system.on_read = on_read
    system.sleep(0.1)
    recording.poll(0)
    assert len(recording.total.values) == 1
    assert len(recording.channels["VIN_SYS_5V0"].values) == 2
    assert recording.failed_reads == 1
    assert recording.last_failure == "no reading of VDD_CPU_CV"


def test_samples_that_come_twice_or_out_of_order_are_counted(tmp_path: Path) -> None:
    _, sensor = board(tmp_path)

    def poll(now_ns: int) -> list[Sample]:
        times = [100, 200, 200, 150, 300]
        return [Sample(time, {"ina219": 1000.0}) for time in times]

    sensor.poll = poll  # type: ignore[method-assign]
    recording = Recording(sensor)
    recording.poll(0)
    odd = recording.oddities()
    assert (odd["duplicates"], odd["backward_times"]) == (1, 1)
    assert "clock_jumps" not in odd  # only meters have clocks
    assert recording.total.times_ns == [100, 200, 300]


def test_a_busy_board_before_the_run_makes_net_energy_invalid(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    work = Work(system, 0.004)
    follow(system, lambda: 5000 if not work.spans else 3000)
    (reason,) = measure_energy(work, 1, sensor, system).invalid_because
    assert reason.startswith("the board drew less at work than idle")


def test_a_window_shared_with_other_programs_is_invalid(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    work = Work(system, 0.004)
    work.cpu_share = 0.6
    energy = measure_energy(work, 1, sensor, system, Plan(windows=1))
    assert energy.invalid_because == [
        "window 1: the network had the CPU for 60% of the time; the window includes other "
        "programs' energy"
    ]


def test_too_few_samples_are_invalid(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    sensor.rate_hz = 0.5
    energy = measure_energy(Work(system, 0.004), 1, sensor, system)
    assert "idle: 5 samples only, 10 are needed" in energy.invalid_because


def test_shorter_windows_are_no_longer_mlperfs(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    plan = Plan(window_s=2, idle_s=2, windows=3)
    energy = measure_energy(Work(system, 0.004, 0.004, 0.004), 3, sensor, system, plan)
    assert energy.warnings == ["3 windows of 2 s; MLPerf Tiny asks for 5 of 10 s"]
    for wrong in ({"windows": 0}, {"window_s": float("nan")}, {"idle_s": float("inf")}):
        with pytest.raises(UsageError, match="numbers above 0 are needed"):
            Plan(**wrong)


def test_a_sensor_that_nothing_is_wired_through_is_invalid(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    follow(system, lambda: 0)
    (reason,) = measure_energy(
        Work(system, 0.004), 1, sensor, system, Plan(windows=1)
    ).invalid_because
    assert reason.startswith("window 1: the sensor read 0 mW at work; is the board's supply wired")


def test_a_sensor_that_is_slow_to_read_is_a_warning(tmp_path: Path) -> None:
    system, sensor = board(tmp_path)
    system.read_ns = 20_000_000
    energy = measure_energy(Work(system, 0.004), 1, sensor, system, Plan(windows=1))
    assert energy.polling_share == pytest.approx(0.2, rel=0.05)
    assert energy.warnings[-1].startswith("reading the sensor kept a CPU busy or waiting for 20%")
