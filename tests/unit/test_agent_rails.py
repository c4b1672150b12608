"""Rails to the last digit, and what goes wrong with them before and during a measurement."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.energy import Burst, Energy, measure_energy
from headgate.device.agent.errors import SensorError
from headgate.device.agent.sensors import choose, hwmon, jetson
from headgate.device.agent.sensors.base import Sample, Sensor
from headgate.device.agent.sensors.lines import MeterClock
from headgate.device.agent.system import System
from tests.board_trees import FakeTime, plant

# mV x mA / 1000 in decimal arithmetic, or the driver's mW; what is labelled NC is not there.
RAILS_MW = {
    "jetson-nano-jp4": {"POM_5V_IN": 2107, "POM_5V_GPU": 40, "POM_5V_CPU": 569},
    "jetson-tx2-jp4": {
        "VDD_SYS_GPU": 152,
        "VDD_SYS_SOC": 457,
        "VDD_4V0_WIFI": 19,
        "VDD_IN": 2979,
        "VDD_SYS_CPU": 687,
        "VDD_SYS_DDR": 633,
        "VDD_MUX": 1204,
        "VDD_5V0_IO_SYS": 801,
        "VDD_3V3_SYS": 203,
    },
    "jetson-tx2-nx-jp4": {"VDD_IN": 3311, "VDD_CPU_GPU": 702, "VDD_SOC": 905},
    "jetson-xavier-nx-jp5": {"VDD_IN": 3779.52, "VDD_CPU_GPU_CV": 649.216, "VDD_SOC": 1014.4},
    "jetson-agx-xavier-jp4": {
        "GPU": 616,
        "CPU": 1078,
        "SOC": 1694,
        "CV": 0,
        "VDDRQ": 308,
        "SYS5V": 2305,
    },
    "jetson-orin-nano-jp6": {"VDD_IN": 4807.968, "VDD_CPU_GPU_CV": 802.56, "VDD_SOC": 1414.512},
    "jetson-agx-orin-jp5": {
        "VDD_GPU_SOC": 2407.68,
        "VDD_CPU_CV": 822.624,
        "VIN_SYS_5V0": 3530.112,
        "VDDQ_VDD2_1V8AO": 304.32,
    },
    "jetson-agx-thor-jp7": {
        "VDD_GPU": 2800,
        "VDD_CPU_SOC_MSS": 7840,
        "VIN_SYS_5V0": 4579.2,
        "VIN": 25490.92,
    },
}


def tree(tmp_path: Path, name: str, changes: dict[str, str] | None = None) -> System:
    return System(plant(name, tmp_path, changes))


def read(sensor: Sensor) -> dict[str, float]:
    (sample,) = sensor.poll(0)
    return sample.values


@pytest.mark.parametrize("name", RAILS_MW)
def test_every_rail_of_every_jetson_to_the_last_digit(name: str, tmp_path: Path) -> None:
    (sensor,) = jetson.probe(tree(tmp_path, name)).sensors
    assert read(sensor) == RAILS_MW[name]


def test_a_cpu_gpu_rail_is_in_no_total_beside_the_input(tmp_path: Path) -> None:
    """Sorting rails by parts of their names would count VDD_CPU_GPU_CV as the CPU's."""
    for name in RAILS_MW:
        sensor = choose(tree(tmp_path / name, name))
        assert not isinstance(sensor.total, NotMeasured)
        if "VDD_IN" in sensor.total:
            assert not {"VDD_CPU_GPU_CV", "VDD_SOC", "VDD_SYS_CPU"} & set(sensor.total)


@pytest.mark.parametrize("label", ["NC", "NC_1", "VDD_NC"])
def test_labels_that_say_not_connected(label: str, tmp_path: Path) -> None:
    system = tree(tmp_path, "jetson-orin-nano-jp6", {"in3_label = VDD_SOC": f"in3_label = {label}"})
    (sensor,) = jetson.probe(system).sensors
    assert list(read(sensor)) == ["VDD_IN", "VDD_CPU_GPU_CV"]
    # One whose name only holds the letters stays.
    other = {"in3_label = VDD_SOC": "in3_label = VDD_SYNC"}
    (sensor,) = jetson.probe(tree(tmp_path / "other", "jetson-orin-nano-jp6", other)).sensors
    assert "VDD_SYNC" in read(sensor)


# Shunts


def test_of_three_channels_the_one_with_the_wrong_shunt_is_found(tmp_path: Path) -> None:
    changes = {"shunt3_resistor = 100000": "shunt3_resistor = 50000"}
    system = tree(tmp_path, "rpi-zero2-monitors", changes)
    with pytest.raises(SensorError, match=r"wrong by a factor of 2; .*/shunt3_resistor"):
        choose(system, "hwmon:ina3221@hwmon11/SUPPLY", shunt_uohm=100000)


def test_a_shunt_is_said_of_the_monitor_that_was_named(tmp_path: Path) -> None:
    """The tree has monitors with shunts of 2, 10, 15 and 100 mOhm beside each other."""
    system = tree(tmp_path, "rpi-zero2-monitors")
    sensor = choose(system, "hwmon:ina219@hwmon10", shunt_uohm=100000)
    assert read(sensor) == {"ina219": 1690.641}
    with pytest.raises(SensorError, match="ina231@hwmon2: its driver believes in a shunt of 2000"):
        choose(system, "hwmon:ina231@hwmon2", shunt_uohm=100000)


def test_a_shunt_inside_the_chip_is_nobodys_to_choose(tmp_path: Path) -> None:
    system = tree(tmp_path, "rpi-zero2-monitors")
    sensor = choose(system, "hwmon:ina260@hwmon4", shunt_uohm=100000)
    assert read(sensor) == {"ina260": 1250.0}
    assert sensor.warnings == []


def test_one_channel_of_three_that_lost_its_calibration_is_noticed(tmp_path: Path) -> None:
    changes = {"hwmon11/curr3_input = 407": "hwmon11/curr3_input = 0"}
    probe = hwmon.probe(tree(tmp_path, "rpi-zero2-monitors", changes))
    (sensor,) = [one for one in probe.sensors if "ina3221" in one.name]
    (warning,) = sensor.warnings
    assert "curr3_input says 0 mA, the voltage across its shunt 407 mA" in warning


def test_a_driver_that_does_not_tell_its_shunt_is_a_warning(tmp_path: Path) -> None:
    system = tree(tmp_path, "rpi4-ina219", {"shunt_resistor = 100000": "other_file = 100000"})
    (warning,) = choose(system, shunt_uohm=100000).warnings
    assert "the shunt is unknown: no sys/class/hwmon/hwmon2/shunt_resistor" in warning


# While it is measured


class Load:
    """Inferences of 4 ms."""

    def __init__(self, system: FakeTime) -> None:
        self.system = system
        self.starts: list[int] = []

    def inference_s(self, sample: int) -> float:
        return 0.004

    def burst(self, sample: int, inferences: int, during: Any) -> Burst:
        start = self.system.now_ns
        end = start + inferences * 4_000_000
        self.starts.append(start)

        def wait(seconds: float) -> bool:
            self.system.now_ns = min(self.system.now_ns + round(seconds * 1e9), end)
            return self.system.now_ns >= end

        during(wait)
        return Burst(start, end, inferences, (end - start) / 1e9)


def measure(
    tmp_path: Path, name: str, fails: Callable[[str, Load], bool] = lambda name, load: False
) -> Energy:
    """A board whose files give EIO when ``fails`` says so."""
    system = FakeTime(plant(name, tmp_path), read_ns=20_000)
    sensor, load = choose(system), Load(system)

    def on_read(file: str) -> str | None:
        if fails(file, load):
            raise OSError(errno.EIO, "Input/output error")
        return None

    system.on_read = on_read
    return measure_energy(load, 5, sensor, system)


@pytest.mark.parametrize("name", RAILS_MW)
def test_energy_is_power_times_latency_on_every_jetson(name: str, tmp_path: Path) -> None:
    energy = measure(tmp_path, name)
    total_mw = sum(RAILS_MW[name][rail] for rail in energy.total)
    assert energy.average_power_mw == pytest.approx(total_mw, rel=1e-12)
    assert energy.energy_per_inference_mj == pytest.approx(total_mw * 0.004, rel=1e-9)
    rails = energy.windows[0].rails_mw
    assert rails == {rail: pytest.approx(mw) for rail, mw in RAILS_MW[name].items()}
    assert energy.invalid_because == []


def test_a_rail_beside_the_total_may_fail_meanwhile(tmp_path: Path) -> None:
    def fails(file: str, load: Load) -> bool:
        return bool(load.starts) and file.endswith("in_power1_input")

    energy = measure(tmp_path, "jetson-nano-jp4", fails)
    assert energy.average_power_mw == pytest.approx(2107)
    assert energy.invalid_because == []
    assert energy.oddities["failed_reads"] == 0


def test_a_rail_of_the_total_that_fails_meanwhile_is_no_power(tmp_path: Path) -> None:
    def fails(file: str, load: Load) -> bool:
        outage = len(load.starts) == 2 and 2e9 < load.system.now_ns - load.starts[1] < 7e9
        return outage and file.endswith("1-0041/iio:device1/in_power0_input")

    energy = measure(tmp_path, "jetson-agx-xavier-jp4", fails)
    (reason,) = energy.invalid_because
    assert reason.startswith("window 2: 5.") and reason.endswith("(no reading of CV)")
    # It is not taken for 0 mW: the other windows and the bridge over this one agree.
    assert energy.average_power_mw == pytest.approx(6001)


def test_a_counter_of_unknown_range_that_starts_again_leaves_a_gap(tmp_path: Path) -> None:
    system = FakeTime(plant("rpi-zero2-monitors", tmp_path), read_ns=20_000)
    sensor, load = choose(system, "hwmon:scmi_sensors@hwmon12"), Load(system)
    origin = system.now_ns

    def on_read(file: str) -> str | None:
        if not file.endswith("energy1_input"):
            return None
        # 3 W; the firmware restarts half a minute in.
        since_ns = system.now_ns - origin
        return str(3 * (since_ns if since_ns < 30 * 10**9 else since_ns - 30 * 10**9) // 1000)

    system.on_read = on_read
    energy = measure_energy(load, 5, sensor, system)
    assert energy.oddities["resets"] == 1
    assert energy.average_power_mw == pytest.approx(3000, rel=1e-4)
    assert energy.warnings == ["1 resets of the sensor"]
    assert energy.invalid_because == []


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_meter_whose_clock_is_set_meanwhile(jump_s: float, tmp_path: Path) -> None:
    """Summer time begins or ends in the second window; each line comes twice."""
    system = FakeTime(plant("rpi4-ina219", tmp_path), read_ns=20_000)
    sensor, load, clock = choose(system), Load(system), MeterClock()

    def poll(now_ns: int) -> list[Sample]:
        meter_ns = now_ns + 7 * 10**12
        if len(load.starts) >= 2 and now_ns > load.starts[1] + 5 * 10**9:
            meter_ns += round(jump_s * 1e9)
        time_ns = clock.to_monotonic(meter_ns, now_ns)
        return [Sample(time_ns, {"ina219": 2500.0}), Sample(time_ns, {"ina219": 9999.0})]

    sensor.poll = poll  # type: ignore[method-assign]
    sensor.oddities = lambda: {"clock_jumps": clock.jumps}  # type: ignore[method-assign]
    energy = measure_energy(load, 5, sensor, system)
    assert energy.oddities["clock_jumps"] == 1
    assert energy.oddities["duplicates"] > 500
    assert energy.average_power_mw == pytest.approx(2500)
    assert [window.gaps for window in energy.windows] == [0] * 5
    assert energy.warnings == ["1 clock jumps of the sensor"]
    assert energy.invalid_because == []
