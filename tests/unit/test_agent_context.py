"""What the agent reads about a board, and what it concludes about a run."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pytest

from headgate.device.agent.absent import NotMeasured, is_measured, to_json
from headgate.device.agent.context import (
    board_id,
    context_warnings,
    invalid_reasons,
    read_context,
)
from headgate.device.agent.cpus import choose_cpus, parse_cpus, pinned
from headgate.device.agent.errors import AgentError, UsageError
from headgate.device.agent.frequency import ClockRange, governor
from headgate.device.agent.system import System
from headgate.device.agent.throttle import parse_throttled
from headgate.device.agent.watch import Watched
from tests.board_trees import plant

SHORT = NotMeasured("the runs were short")
QUIET = Watched(SHORT, SHORT, SHORT)


def reasons(
    tmp_path: Path, name: str, change: dict[str, str], during: Watched = QUIET
) -> list[str]:
    """Why a run does not count during which a recording changed like this."""
    before = read_context(System(plant(name, tmp_path / "before")))
    after = read_context(System(plant(name, tmp_path / "after", change)))
    return invalid_reasons(before, after, during)


def test_a_pi_5_is_read(tmp_path: Path) -> None:
    plant("rpi5", tmp_path)
    power = tmp_path / "proc/device-tree/chosen/power/max_current"
    power.parent.mkdir(parents=True)
    power.write_bytes(struct.pack(">I", 3000))
    context = read_context(System(tmp_path))
    assert context.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert context.cpu == "Cortex-A76"
    (clock,) = context.clocks
    assert (clock.name, clock.cpus, clock.governor) == ("policy0", "0,1,2,3", "performance")
    assert (clock.minimum_mhz, clock.current_mhz, clock.maximum_mhz) == (1500, 2400, 2400)
    assert context.temperatures_celsius == {"cpu-thermal": 49.4}
    assert context.throttle.firmware_bits == 0
    assert context.throttle.undervoltage_alarm is False
    assert context.throttle.cpu_cooling_states == {}  # a fan slows nothing down
    assert context.supply_max_ma == 3000
    assert context.supply_volts == 5.0511
    assert context.load_1min == 0.08
    assert to_json(context.memory) == {
        "total_mib": 8052,
        "available_mib": 7434,
        "swap_used_mib": 0,
    }
    assert context.system == "Debian GNU/Linux 12 (bookworm)"
    assert context_warnings(context, context) == ["the supply gives 3000 mA, this board wants 5000"]


def test_a_jetson_is_read(tmp_path: Path) -> None:
    context = read_context(System(plant("jetson-orin-nano-jp6", tmp_path)))
    assert context.board == ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super")
    assert isinstance(context.l4t, str)
    assert context.l4t.startswith("R36 (release), REVISION: 4.3")
    assert context.power_mode == "NV Power Mode: 15W 0"
    assert context.throttle.overcurrent_events == {
        "oc1_event_cnt": 0,
        "oc2_event_cnt": 0,
        "oc3_event_cnt": 27,
    }


def test_a_pc_is_known_by_dmi(tmp_path: Path) -> None:
    context = read_context(System(plant("x86-rapl", tmp_path)))
    assert context.board == "Example Computers Workstation 9"
    assert context.cpu == "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"
    assert context.throttle.core_throttle_events == 7


def test_what_is_missing_says_why(tmp_path: Path) -> None:
    context = to_json(read_context(System(tmp_path)))
    json.dumps(context, allow_nan=False)
    for key in ("board", "cpu", "load_1min", "memory", "power_mode", "supply_max_ma", "l4t"):
        assert not is_measured(context[key]), key
    assert context["clocks"] == []


def test_firmware_bits_come_from_vcgencmd_or_sysfs(tmp_path: Path) -> None:
    assert parse_throttled("throttled=0x50005") == parse_throttled("50005") == 0x50005
    sysfs = read_context(System(plant("rpi3-bare", tmp_path / "3")))
    assert sysfs.throttle.firmware_bits == 0x50005
    program = read_context(System(plant("rpi4-ina219", tmp_path / "4")))
    assert program.throttle.firmware_bits == 0x50000


def test_a_run_on_a_throttled_board_does_not_count(tmp_path: Path) -> None:
    assert reasons(tmp_path, "rpi3-bare", {}) == [
        "under-voltage at the time of the run (throttled=0x50005)",
        "throttled at the time of the run (throttled=0x50005)",
    ]


def test_what_happened_before_the_run_counts_not_what_happens_in_it_does(tmp_path: Path) -> None:
    # Bits 16 and 18 were there before.
    assert reasons(tmp_path / "a", "rpi4-ina219", {}) == []
    assert reasons(tmp_path / "b", "rpi4-ina219", {"0x50000": "0xd0000"}) == [
        "soft temperature limit happened during the run (throttled=0xd0000)"
    ]
    assert reasons(tmp_path / "c", "rpi4-ina219", {"0x50000": "0x50002"}) == [
        "frequency capped at the time of the run (throttled=0x50002)"
    ]


def test_the_voltage_alarm_counts(tmp_path: Path) -> None:
    (reason,) = reasons(tmp_path, "rpi5", {"in0_lcrit_alarm = 0": "in0_lcrit_alarm = 1"})
    assert reason.startswith("under-voltage alarm of rpi_volt")


def test_over_current_events_of_a_jetson_count_if_they_are_new(tmp_path: Path) -> None:
    assert reasons(tmp_path / "a", "jetson-orin-nano-jp6", {}) == []
    change = {"oc3_event_cnt = 27": "oc3_event_cnt = 179"}
    assert reasons(tmp_path / "b", "jetson-orin-nano-jp6", change) == [
        "oc3_event_cnt: throttled 152 times for over-current during the run"
    ]


def test_other_witnesses_of_heat(tmp_path: Path) -> None:
    change = {"core_throttle_count = 3": "core_throttle_count = 5"}
    assert reasons(tmp_path / "x86", "x86-rapl", change) == [
        "CPU throttled 2 times for heat during the run"
    ]
    change = {"cooling_device0/cur_state = 0": "cooling_device0/cur_state = 2"}
    assert reasons(tmp_path / "nano", "jetson-nano-jp4", change) == [
        "cooling device cpu-balanced (cooling_device0) was slowing the CPU down (state 2)"
    ]
    change = {"scaling_max_freq = 2400000": "scaling_max_freq = 1500000"}
    assert reasons(tmp_path / "pi", "rpi5", change) == [
        "policy0: highest frequency lowered from 2400 to 1500 MHz during the run"
    ]


def test_a_governor_that_changed_does_not_count(tmp_path: Path) -> None:
    change = {"scaling_governor = performance": "scaling_governor = powersave"}
    assert reasons(tmp_path, "rpi5", change) == [
        "policy0: governor changed from performance to powersave"
    ]


def test_a_clock_that_moved_does_not_count(tmp_path: Path) -> None:
    clock = ClockRange(2400.0, 2400.0, 9)
    steady = Watched(clock, 60.0, SHORT, {"policy0": clock})
    assert reasons(tmp_path / "a", "rpi5", {}, steady) == []
    clock = ClockRange(1500.0, 2400.0, 9)
    moved = Watched(clock, 85.0, SHORT, {"policy0": clock})
    (reason,) = reasons(tmp_path / "b", "rpi5", {}, moved)
    assert reason.startswith("policy0: the clock changed between 1500 and 2400 MHz during the run")


def test_a_busy_or_saving_board_is_a_warning(tmp_path: Path) -> None:
    context = read_context(System(plant("rpi4-ina219", tmp_path, {"= 0.52 0.31": "= 99.5 0.31"})))
    busy, saving = context_warnings(context, context)
    assert busy.startswith("the machine was busy before the run: load 99.5")
    assert saving == "policy0: governor is 'ondemand', not 'performance': clock and times vary"


@pytest.mark.parametrize("error_us", [16_000_000, 1200])
def test_a_clock_that_nobody_has_set_is_a_warning(
    error_us: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(System, "clock_error_us", lambda self: error_us)
    system = System(plant("rpi5", tmp_path))
    context = read_context(system)
    warnings = context_warnings(context, context)
    assert context.clock_synchronised is (error_us < 16_000_000)
    assert len(warnings) == (not context.clock_synchronised)
    if warnings:
        assert warnings[0].startswith("the clock was not synchronised before the run: ")
        assert context.taken_utc in warnings[0]
    # systemd-timesyncd is believed first.
    mark = tmp_path / "run/systemd/timesync/synchronized"
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert read_context(system).clock_synchronised is True


def test_the_kernel_is_asked_about_this_machines_clock(tmp_path: Path) -> None:
    assert System(tmp_path).clock_error_us() == NotMeasured("a recorded tree has no clock")
    error_us = System().clock_error_us()
    assert isinstance(error_us, int) and 0 <= error_us < 1 << 40


def test_a_governor_is_set_for_a_while(tmp_path: Path) -> None:
    system = System(plant("rpi5", tmp_path))
    path = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    with pytest.raises(RuntimeError), governor(system, "userspace"):
        assert system.read(path) == "userspace"
        raise RuntimeError
    assert system.read(path) == "performance"
    with pytest.raises(UsageError, match="knows conservative ondemand"), governor(system, "fast"):
        pass
    nothing = System(tmp_path / "nothing")
    with pytest.raises(AgentError, match="no cpufreq"), governor(nothing, "performance"):
        pass


@pytest.mark.parametrize(
    ("text", "cpus"), [("3", {3}), ("0-2", {0, 1, 2}), ("0,2-3", {0, 2, 3}), ("1,1", {1})]
)
def test_lists_of_cpus_are_those_of_taskset(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1,", "99999"])
def test_wrong_lists_of_cpus(text: str) -> None:
    with pytest.raises(UsageError, match="--cpus"):
        parse_cpus(text)


def test_the_highest_cpus_are_chosen() -> None:
    assert choose_cpus(1, allowed={0, 1, 2, 3}) == {3}
    assert choose_cpus(2, allowed={0, 1, 2, 3}) == {2, 3}
    assert choose_cpus(2, frozenset({0, 1}), {0, 1, 2, 3}) == {0, 1}
    with pytest.raises(UsageError, match="4 threads want as many CPUs, there are 2"):
        choose_cpus(4, allowed={0, 1})
    with pytest.raises(UsageError, match="CPU 7 is not available; this process may use 0, 1"):
        choose_cpus(1, frozenset({7}), {0, 1})


def test_pinning_ends_with_the_block() -> None:
    before = os.sched_getaffinity(0)
    with pinned({max(before)}):
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before
    with pinned(()):
        assert os.sched_getaffinity(0) == before


def test_a_boards_identity_is_its_own_and_no_serial_number(tmp_path: Path) -> None:
    serial, machine = "proc/device-tree/serial-number", "etc/machine-id"
    found = []
    for place, (name, text) in enumerate(
        [(serial, "10000000abcdef01\0"), (serial, "10000000abcdef02\0"), (machine, "0123\n")]
    ):
        file = tmp_path / str(place) / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
        found.append(board_id(System(tmp_path / str(place))))
        assert isinstance(found[-1], str) and re.fullmatch("[0-9a-f]{16}", found[-1])
        assert board_id(System(tmp_path / str(place))) == found[-1]
    assert len(set(found)) == 3
    assert board_id(System(tmp_path / "none")) == NotMeasured("no /etc/machine-id")
