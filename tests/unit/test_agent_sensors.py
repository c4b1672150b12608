"""Every board's tree gives the right watts, and everything that goes wrong there says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.errors import SensorError, UsageError
from headgate.device.agent.sensors import choose, hwmon, jetson, probe_all, rapl
from headgate.device.agent.system import System
from tests.board_trees import plant, plant_text, read, total_mw, tree

# Totals by hand: rails that count, mV x mA / 1000 where there is no power file.
JETSONS = {
    "jetson-nano-jp4": (["POM_5V_IN"], 2107.0),
    "jetson-tx2-jp4": (["VDD_IN", "VDD_MUX"], 4183.0),
    "jetson-tx2-nx-jp4": (["VDD_IN"], 3311.0),
    "jetson-xavier-nx-jp5": (["VDD_IN"], 3779.52),
    "jetson-agx-xavier-jp4": (["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"], 6001.0),
    "jetson-orin-nano-jp6": (["VDD_IN"], 4807.968),
    "jetson-agx-orin-jp5": (["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"], 6760.416),
    "jetson-agx-thor-jp7": (["VIN"], 25490.92),
}


@pytest.mark.parametrize("name", JETSONS)
def test_a_jetsons_total_is_that_of_the_table(name: str, tmp_path: Path) -> None:
    sensor = choose(tree(tmp_path, name))
    assert sensor.name == "jetson"
    rails, milliwatts = JETSONS[name]
    assert sensor.total == rails
    assert total_mw(sensor) == milliwatts


def test_the_rails_of_a_total_are_those_of_the_recording(tmp_path: Path) -> None:
    for name in JETSONS:
        system = tree(tmp_path / name, name)
        board = jetson.find_board(system)
        assert isinstance(board, jetson.Board)
        (sensor,) = jetson.probe(system).sensors
        assert set(board.total) <= {channel.name for channel in sensor.channels}, name


def test_rails_that_are_not_connected_are_no_channels(tmp_path: Path) -> None:
    sensor = choose(tree(tmp_path, "jetson-agx-orin-jp5"))
    assert read(sensor) == {
        "VDD_GPU_SOC": 2407.68,
        "VDD_CPU_CV": 822.624,
        "VIN_SYS_5V0": 3530.112,
        "VDDQ_VDD2_1V8AO": 304.32,
    }


def test_a_rail_that_gives_eio_is_left_out_and_named(tmp_path: Path) -> None:
    gpu = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power1_input"
    sensor = choose(tree(tmp_path, "jetson-nano-jp4", {f"{gpu} = 40": f"{gpu} ! EIO"}))
    assert read(sensor) == {"POM_5V_IN": 2107.0, "POM_5V_CPU": 569.0}
    assert sensor.warnings == [f"POM_5V_GPU left out: {gpu}: Input/output error"]


def test_a_total_is_not_measured_without_one_of_its_rails(tmp_path: Path) -> None:
    cpu = "/sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0/in_power1_input"
    system = tree(tmp_path, "jetson-agx-xavier-jp4", {f"{cpu} = 1078": f"{cpu} ! EIO"})
    (sensor,) = jetson.probe(system).sensors
    assert isinstance(sensor.total, NotMeasured)
    assert sensor.total.reason.startswith("Jetson AGX Xavier: rail CPU of its total cannot be read")
    assert "GPU" in read(sensor)
    with pytest.raises(SensorError, match="rail CPU of its total"):
        choose(system)


def test_a_missing_rail_is_named(tmp_path: Path) -> None:
    changes = {"rail_name_0 = POM_5V_IN": "rail_name_0 = POM_5V_OTHER"}
    with pytest.raises(SensorError, match="rail POM_5V_IN of its total cannot be read; there are"):
        choose(tree(tmp_path, "jetson-nano-jp4", changes))


def test_the_small_nano_has_no_sensor(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="the Jetson Nano 2GB has no power sensor"):
        choose(tree(tmp_path, "jetson-nano-2gb"))


def test_an_unknown_jetson_shows_rails_but_no_total(tmp_path: Path) -> None:
    changes = {
        "NVIDIA Jetson Xavier NX Developer Kit": "Rover 5",
        "nvidia,p3509-0000+p3668-0000\\0": "example,rover\\0",
    }
    system = tree(tmp_path, "jetson-xavier-nx-jp5", changes)
    with pytest.raises(SensorError, match="no table of rails for board 'Rover 5'; name the rails"):
        choose(system)
    chosen = choose(system, "jetson/VDD_IN+VDD_SOC")
    assert total_mw(chosen) == 3779.52 + 1014.4
    with pytest.raises(SensorError, match="has no rail 'VDD_CPU'"):
        choose(system, "jetson/VDD_CPU")
    with pytest.raises(SensorError, match="counts a rail twice"):
        choose(system, "jetson/VDD_IN+VDD_IN")


@pytest.mark.parametrize(
    ("model", "title"),
    [
        ("NVIDIA Jetson Orin NX on my carrier", "Jetson Orin Nano or NX"),
        ("NVIDIA Jetson AGX Xavier Industrial", "Jetson AGX Xavier"),
        ("Jetson TX2 NX", "Jetson TX2 NX"),
        ("NVIDIA Jetson TX2 Developer Kit", "Jetson TX2"),
    ],
)
def test_a_carrier_by_somebody_else_is_known_by_its_model(
    model: str, title: str, tmp_path: Path
) -> None:
    plant_text(f"/proc/device-tree/model = {model}\\0", tmp_path)
    board = jetson.find_board(System(tmp_path))
    assert isinstance(board, jetson.Board)
    assert board.title == title


def test_a_jetsons_chips_are_no_monitors_of_their_own(tmp_path: Path) -> None:
    system = tree(tmp_path, "jetson-orin-nano-jp6")
    assert system.read("sys/class/hwmon/hwmon1/name") == "ina3221"
    assert hwmon.probe(system).sensors == []


def test_polling_is_no_faster_than_the_chip(tmp_path: Path) -> None:
    assert choose(tree(tmp_path / "a", "jetson-orin-nano-jp6")).rate_hz == 20
    slow = {"update_interval = 4": "update_interval = 80"}
    assert choose(tree(tmp_path / "b", "jetson-orin-nano-jp6", slow)).rate_hz == 12.5
    # "0 ms" says nothing.
    assert choose(tree(tmp_path / "c", "jetson-nano-jp4")).rate_hz == 10


# hwmon


def test_every_monitor_gives_its_watts(tmp_path: Path) -> None:
    system = tree(tmp_path, "rpi-zero2-monitors")
    readings = {sensor.name: read(sensor) for sensor in hwmon.probe(system).sensors}
    assert readings == {
        "hwmon:ina226@hwmon1": {"ina226": 6100.0},
        "hwmon:ina231@hwmon2": {"ina231": 4975.0},
        "hwmon:ina238@hwmon3": {"ina238": 3001.873},
        "hwmon:ina260@hwmon4": {"ina260": 1250.0},
        "hwmon:ina219@hwmon10": {"ina219": 1690.641},  # 5077 mV x 333 mA
        "hwmon:ina3221@hwmon11": {"SUPPLY": 3742.72, "channel3": 1338.216},
        "hwmon:scmi_sensors@hwmon12": {"SYS_ENERGY": 123456.789},  # mJ
    }


def test_an_ina219_on_a_pi_4_is_found_by_itself(tmp_path: Path) -> None:
    sensor = choose(tree(tmp_path, "rpi4-ina219"))
    assert sensor.name == "hwmon:ina219@1-0040"
    assert total_mw(sensor) == 3140.0
    assert sensor.warnings == []


def test_of_several_monitors_one_must_be_named(tmp_path: Path) -> None:
    system = tree(tmp_path, "rpi-zero2-monitors")
    with pytest.raises(SensorError, match="several sensors, name one"):
        choose(system)
    assert total_mw(choose(system, "hwmon:ina238@hwmon3")) == 3001.873
    with pytest.raises(SensorError, match="which of them make up the board is known to you only"):
        choose(system, "hwmon:ina3221@hwmon11")
    assert total_mw(choose(system, "hwmon:ina3221@hwmon11/SUPPLY")) == 3742.72
    with pytest.raises(SensorError, match="no sensor hwmon:ina219@hwmon1: there is"):
        choose(system, "hwmon:ina219@hwmon1")


def test_a_wrong_shunt_is_refused_with_what_to_do(tmp_path: Path) -> None:
    system = tree(tmp_path, "rpi4-ina219", {"shunt_resistor = 100000": "shunt_resistor = 10000"})
    with pytest.raises(SensorError, match="wrong by a factor of 10; set it: echo 100000"):
        choose(system, shunt_uohm=100000)
    right = tree(tmp_path / "right", "rpi4-ina219")
    assert choose(right, shunt_uohm=100000).warnings == []


def test_a_drivers_default_shunt_is_doubted(tmp_path: Path) -> None:
    changes = {
        "shunt_resistor = 100000": "shunt_resistor = 10000",
        "in0_input = 61": "in0_input = 6",
    }
    (warning,) = choose(tree(tmp_path, "rpi4-ina219", changes)).warnings
    assert "the driver's default of 10000 uOhm" in warning


def test_a_chip_that_lost_its_calibration_is_noticed(tmp_path: Path) -> None:
    changes = {"curr1_input = 614": "curr1_input = 0", "power1_input = 3140000": "power1_input = 0"}
    (warning,) = choose(tree(tmp_path, "rpi4-ina219", changes)).warnings
    assert "curr1_input says 0 mA, the voltage across its shunt 610 mA" in warning


def test_a_monitor_that_gives_eio_is_absent_with_the_reason(tmp_path: Path) -> None:
    changes = {"power1_input = 3140000": "power1_input ! EIO"}
    probe = hwmon.probe(tree(tmp_path, "rpi4-ina219", changes))
    assert probe.sensors == []
    assert probe.absent.startswith("ina219@1-0040: ina219 left out: /sys/class/hwmon/hwmon2/power1")
    assert probe.absent.endswith("Input/output error")


def test_a_partial_read_is_no_number(tmp_path: Path) -> None:
    system = tree(tmp_path, "rpi4-ina219")
    sensor = choose(system)
    (tmp_path / "sys/class/hwmon/hwmon2/power1_input").write_text("")
    with pytest.raises(ValueError, match="invalid literal"):
        sensor.poll(0)


# RAPL


def test_rapl_adds_packages_and_memory_once(tmp_path: Path) -> None:
    sensor = choose(tree(tmp_path, "x86-rapl"))
    assert sensor.kind == "counter"
    assert sensor.total == ["package-0", "package-0.dram", "package-1", "package-1.dram"]
    values = read(sensor)
    assert values["package-0"] == 262143000.001  # mJ
    assert values["psys"] == 900.0
    limits = {channel.name: channel.wraps_at_mj for channel in sensor.channels}
    assert limits["package-0"] == 262143328.85
    assert limits["package-1.dram"] == 65712999.613


class ForRootOnly(System):
    def read(self, name: str) -> str:
        if name.endswith("energy_uj"):
            raise PermissionError(13, "Permission denied")
        return super().read(name)


def test_rapl_without_permission_says_how_to_get_it(tmp_path: Path) -> None:
    plant("x86-rapl", tmp_path)
    probe = rapl.probe(ForRootOnly(tmp_path))
    assert probe.sensors == []
    assert "for root only" in probe.absent
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in probe.absent


# Choosing


def test_a_board_without_sensors_says_why_for_each_kind(tmp_path: Path) -> None:
    system = tree(tmp_path, "rpi3-bare")
    assert {kind: probe.absent for kind, probe in probe_all(system).items()} == {
        "jetson": "not a Jetson",
        "hwmon": "no INA power monitor or energy counter in /sys/class/hwmon",
        "pmic": "vcgencmd is not installed",
        "rapl": "no intel-rapl in /sys/class/powercap",
    }
    with pytest.raises(
        SensorError, match=r"no power sensor to use\. jetson: not a Jetson; hwmon: no INA"
    ):
        choose(system)


def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are auto, jetson, hwmon, pmic, rapl, command"):
        choose(System(tmp_path), "tegrastats")


def test_packages_of_external_meters_are_asked_for_only_when_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for package in ("joulescope", "ppk2_api", "ppk2_api.ppk2_api"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SensorError, match="pip install joulescope"):
        choose(System(tmp_path), "joulescope")
    with pytest.raises(SensorError, match="pip install ppk2-api"):
        choose(System(tmp_path), "ppk2:5000")
    with pytest.raises(SensorError, match="needs the supply's voltage, 800 to 5000"):
        choose(System(tmp_path), "ppk2")
