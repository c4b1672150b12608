"""What is seen of a board while the network runs, and what follows from it."""

from __future__ import annotations

import os
from pathlib import Path

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.context import invalid_reasons, read_context
from headgate.device.agent.frequency import ClockRange
from headgate.device.agent.system import System
from headgate.device.agent.watch import Watch, Watched
from tests.board_trees import FakeTime, plant


def reasons(tmp_path: Path, name: str, during: Watched) -> list[str]:
    """Why a run does not count in which this was seen, on a board that is as before after it."""
    context = read_context(System(plant(name, tmp_path / "before")))
    return invalid_reasons(context, context, during)


def test_clusters_with_clocks_of_their_own_are_judged_by_themselves(tmp_path: Path) -> None:
    plant("rpi5", tmp_path)
    cpufreq = tmp_path / "sys/devices/system/cpu/cpufreq"
    (cpufreq / "policy0/affected_cpus").write_text("0 1\n")
    (cpufreq / "policy2").mkdir()
    for name, content in {"affected_cpus": "2 3", "scaling_cur_freq": "1500000"}.items():
        (cpufreq / "policy2" / name).write_text(f"{content}\n")
    watch = Watch(System(tmp_path), {1, 2})
    watch.look()
    watch.look()
    seen = watch.result()
    little = ClockRange(1500.0, 1500.0, 2)
    assert seen.clocks == {"policy0": ClockRange(2400.0, 2400.0, 2), "policy2": little}
    assert seen.clock == ClockRange(1500.0, 2400.0, 4)
    assert reasons(tmp_path / "steady", "rpi5", seen) == []
    (cpufreq / "policy2/scaling_cur_freq").write_text("1200000\n")
    watch.look()
    (reason,) = reasons(tmp_path / "moved", "rpi5", watch.result())
    assert reason.startswith("policy2: the clock changed between 1200 and 1500 MHz")


def test_the_watch_looks_at_the_clocks_of_the_cpus_measured(tmp_path: Path) -> None:
    plant("rpi5", tmp_path)
    watch = Watch(System(tmp_path), {3}, period_s=0.001)
    assert isinstance(watch.result().clock, NotMeasured)
    watch.look()
    clock = tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
    clock.write_text("1800000\n")
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text("81200\n")
    watch.look()
    seen = watch.result()
    assert seen.clock == ClockRange(1800.0, 2400.0, 2)
    assert seen.hottest_celsius == 81.2
    elsewhere = Watch(System(tmp_path), {17}).result().clock
    assert elsewhere == NotMeasured("no cpufreq in /sys for these CPUs")


def test_the_watch_runs_beside_what_is_measured(tmp_path: Path) -> None:
    watch = Watch(System(plant("rpi5", tmp_path)), (), period_s=0.001)
    with watch.watch():
        while isinstance(watch.result().clock, NotMeasured):
            os.sched_yield()
    clock = watch.result().clock
    assert isinstance(clock, ClockRange)
    assert clock.highest_mhz == 2400


def test_a_clock_that_falls_when_the_network_has_ended_does_not_count(tmp_path: Path) -> None:
    system = FakeTime(plant("rpi5", tmp_path))
    watch = Watch(system, (), period_s=1000)
    clock = tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
    with watch.watch() as ended:
        watch.look()
        ended(system.monotonic_ns())
        system.sleep(0.1)
        clock.write_text("600000\n")
        watch.look()
    assert watch.result().clock == ClockRange(2400.0, 2400.0, 1)
    # A runner that failed has no end.
    with watch.watch():
        watch.look()
    assert watch.result().clock == ClockRange(600.0, 2400.0, 2)


def test_throttling_again_is_seen_where_the_firmware_remembers_an_earlier_time(
    tmp_path: Path,
) -> None:
    # 0x50000 before and after; in between the board throttled once more.
    system = FakeTime(plant("rpi4-ina219", tmp_path / "during"))
    watch = Watch(system, ())
    vcgencmd = tmp_path / "during/usr/bin/vcgencmd"
    quiet = vcgencmd.read_text()
    system.sleep(1)
    vcgencmd.write_text(quiet.replace("0x50000", "0x50005"))
    watch.look()
    vcgencmd.write_text(quiet.replace("0x50000", "0x50008"))
    watch.look()  # too early to ask again
    seen = watch.result()
    assert seen.firmware_bits == 0x50005
    assert reasons(tmp_path, "rpi4-ina219", seen) == [
        "under-voltage at the time of the run (throttled=0x50005)",
        "throttled at the time of the run (throttled=0x50005)",
    ]


def test_without_vcgencmd_the_kernels_alarm_is_looked_at_meanwhile(tmp_path: Path) -> None:
    plant("rpi5", tmp_path / "during")
    (tmp_path / "during/usr/bin/vcgencmd").unlink()  # Debian
    watch = Watch(System(tmp_path / "during"), ())
    assert watch.result().undervoltage_alarm == NotMeasured("the runs were shorter than 0.3 s")
    alarm = tmp_path / "during/sys/class/hwmon/hwmon3/in0_lcrit_alarm"
    for state in ("0", "1", "0"):
        alarm.write_text(f"{state}\n")
        watch.look()
    seen = watch.result()
    assert seen.undervoltage_alarm is True
    (reason,) = reasons(tmp_path, "rpi5", seen)
    assert reason.startswith("under-voltage alarm of rpi_volt")


def test_cooling_that_ended_before_the_run_did_is_seen(tmp_path: Path) -> None:
    watch = Watch(System(plant("jetson-nano-jp4", tmp_path / "during")), ())
    cooler = tmp_path / "during/sys/class/thermal/cooling_device0/cur_state"
    for state in ("0", "3", "1", "0"):
        cooler.write_text(f"{state}\n")
        watch.look()
    seen = watch.result()
    assert seen.cpu_cooling_states["cpu-balanced (cooling_device0)"] == 3
    assert reasons(tmp_path, "jetson-nano-jp4", seen) == [
        "cooling device cpu-balanced (cooling_device0) was slowing the CPU down (state 3)"
    ]


def test_boards_without_these_witnesses_say_so(tmp_path: Path) -> None:
    watch = Watch(System(plant("x86-rapl", tmp_path)), ())
    watch.look()
    seen = watch.result()
    assert seen.undervoltage_alarm == NotMeasured("no hwmon device rpi_volt")
    assert reasons(tmp_path / "run", "x86-rapl", seen) == []


def test_firmware_that_remembers_nothing_is_not_asked_meanwhile(tmp_path: Path) -> None:
    watch = Watch(System(plant("rpi5", tmp_path)), ())
    watch.look()
    assert watch.result().firmware_bits == NotMeasured("bits 16 to 19 say it after the run")
