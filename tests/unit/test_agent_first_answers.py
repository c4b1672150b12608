"""A sensor's shape comes from what answers first: never one that is smaller than what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.errors import SensorError
from headgate.device.agent.sensors import choose, hwmon, jetson, rapl
from headgate.device.agent.system import System
from tests.board_trees import plant, plant_text, total_mw, tree

INA3221 = """/sys/class/hwmon/hwmon5/name = ina3221
/sys/class/hwmon/hwmon5/in1_input = 5000
/sys/class/hwmon/hwmon5/curr1_input = 300
/sys/class/hwmon/hwmon5/in2_input = 3300
/sys/class/hwmon/hwmon5/curr2_input ! EIO
/sys/class/hwmon/hwmon5/in3_input = 1800
/sys/class/hwmon/hwmon5/curr3_input ! EIO
"""
COUNTERS = """/sys/class/hwmon/hwmon5/name = scmi_sensors
/sys/class/hwmon/hwmon5/energy1_input = 5000
/sys/class/hwmon/hwmon5/energy2_input ! EIO
"""
INA219 = """/sys/class/hwmon/hwmon5/name = ina219
/sys/class/hwmon/hwmon5/power1_input {power}
"""


@pytest.mark.parametrize(("text", "rail"), [(INA3221, "channel1"), (COUNTERS, "energy1")])
def test_the_only_rail_that_answers_is_not_the_whole(text: str, rail: str, tmp_path: Path) -> None:
    plant_text(text, tmp_path)
    (sensor,) = hwmon.probe(System(tmp_path)).sensors
    assert isinstance(sensor.total, NotMeasured)
    assert f"measures {rail}; " in sensor.total.reason
    assert "2_input: Input/output error" in sensor.total.reason.replace("x curr", "")
    for wanted in ("auto", "hwmon", sensor.name):
        with pytest.raises(SensorError, match=f"name them: --sensor {sensor.name}/{rail}"):
            choose(System(tmp_path), wanted)
    assert choose(System(tmp_path), f"{sensor.name}/{rail}").total == [rail]


def test_the_only_monitor_that_answers_is_not_the_one_that_is_meant(tmp_path: Path) -> None:
    plant("rpi4-ina219", tmp_path)
    plant_text(INA219.format(power="! EIO"), tmp_path)
    for wanted in ("auto", "hwmon"):
        with pytest.raises(
            SensorError, match=r"error; to use another, name it: --sensor hwmon:ina219@1-0040"
        ):
            choose(System(tmp_path), wanted)
    assert total_mw(choose(System(tmp_path), "hwmon:ina219@1-0040")) == 3140


def test_another_kind_of_sensor_says_why_it_is_used(tmp_path: Path) -> None:
    plant("rpi5", tmp_path)
    plant_text(INA219.format(power="! EIO"), tmp_path)
    sensor = choose(System(tmp_path))
    assert sensor.name == "pmic"
    (warning,) = sensor.warnings
    assert warning.startswith("used because another does not answer: ina219@hwmon5")


def test_a_bus_that_is_busy_once_loses_no_rail(tmp_path: Path) -> None:
    class Busy(System):
        reads = 0

        def read(self, name: str) -> str:
            if name.endswith("in_power1_input"):
                self.reads += 1
                if self.reads == 1:
                    raise TimeoutError(110, "Connection timed out")
            return super().read(name)

    sensor = choose(Busy(plant("jetson-nano-jp4", tmp_path)))
    assert sensor.warnings == []
    assert len(sensor.channels) == 3


def test_a_carriers_rail_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    """A TX2's total is VDD_IN + VDD_MUX where there is a VDD_MUX, which is then needed."""
    mux = "/sys/bus/i2c/drivers/ina3221x/0-0042/iio:device2/in_power0_input"
    system = tree(tmp_path, "jetson-tx2-jp4", {f"{mux} = 1204": f"{mux} ! EIO"})
    (sensor,) = jetson.probe(system).sensors
    assert isinstance(sensor.total, NotMeasured)
    assert "rail VDD_MUX of its total cannot be read" in sensor.total.reason


@pytest.mark.parametrize("zone", ["intel-rapl:0", "intel-rapl:1:0"])
def test_a_package_that_does_not_answer_is_missing(zone: str, tmp_path: Path) -> None:
    path = plant("x86-rapl", tmp_path) / "sys/class/powercap" / zone / "energy_uj"
    path.write_text("")
    (sensor,) = rapl.probe(System(tmp_path)).sensors
    assert isinstance(sensor.total, NotMeasured)
    name = {"intel-rapl:0": "package-0", "intel-rapl:1:0": "package-1.dram"}[zone]
    assert sensor.total.reason.startswith(f"RAPL's {name} cannot be read: ")
    with pytest.raises(SensorError, match="cannot be read"):
        choose(System(tmp_path), "rapl")


def test_a_core_counter_that_does_not_answer_is_not_missed(tmp_path: Path) -> None:
    path = plant("x86-rapl", tmp_path) / "sys/class/powercap/intel-rapl:0:0/energy_uj"
    path.write_text("")
    sensor = choose(System(tmp_path))
    assert sensor.total == ["package-0", "package-0.dram", "package-1", "package-1.dram"]
