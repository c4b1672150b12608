from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from headgate.profiling.absent import NotMeasured, is_measured, to_json
from headgate.profiling.context import pinned, read_context

PI4_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""


@pytest.fixture
def raspberry_pi(tmp_path: Path) -> Path:
    """A tree as a Raspberry Pi 4 has it under /proc and /sys."""
    cpufreq = "sys/devices/system/cpu/cpu0/cpufreq"
    contents = {
        "proc/cpuinfo": PI4_CPUINFO,
        "proc/loadavg": "0.52 0.31 0.10 1/190 1234\n",
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        f"{cpufreq}/scaling_governor": "ondemand\n",
        f"{cpufreq}/scaling_cur_freq": "1500000\n",
        "sys/class/thermal/thermal_zone0/temp": "48200\n",
        "sys/class/thermal/thermal_zone1/temp": "not a number\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_raspberry_pi_is_read(raspberry_pi: Path) -> None:
    context = read_context(root=raspberry_pi, bundles={"a": "ff"})
    assert context.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert context.cpu == "Cortex-A72"
    assert context.governor == "ondemand"
    assert context.frequency_mhz == 1500
    assert context.temperature_celsius == 48.2
    assert context.throttled == "50005"
    assert context.load_1min == 0.52
    assert context.bundles == {"a": "ff"}


def test_what_is_missing_says_why(tmp_path: Path) -> None:
    context = read_context(root=tmp_path)
    for name in ("cpu", "governor", "frequency_mhz", "temperature_celsius", "load_1min"):
        value = getattr(context, name)
        assert isinstance(value, NotMeasured)
        assert str(value).startswith("not measured: ")
    assert str(context.temperature_celsius).endswith("/sys/class/thermal")


def test_context_of_this_machine_is_json() -> None:
    text = json.dumps(to_json(read_context(packages=["numpy", "no-such-package"])))
    back = json.loads(text)
    assert "numpy" in back["versions"]
    assert "no-such-package" not in back["versions"]
    assert is_measured(back["kernel"])
    assert not is_measured({"not_measured": "no sensor"})


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_pinning_ends_with_the_block_even_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError), pinned() as cpu:
        assert os.sched_getaffinity(0) == {cpu}
        raise RuntimeError
    assert os.sched_getaffinity(0) == before
