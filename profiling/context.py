"""The circumstances of a measurement, read from the machine that ran it.

Whatever cannot be read is :class:`~headgate.profiling.absent.NotMeasured` with the reason. ``root``
stands for ``/``, so that recorded ``/sys`` and ``/proc`` trees can be read in tests.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from headgate.profiling.absent import NotMeasured

# arm64's /proc/cpuinfo gives numbers; these are the cores of the boards we know
_ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd42": "Cortex-A78AE",
}
_PACKAGES = ("headgate", "numpy")


@dataclass(frozen=True)
class Context:
    """One machine at one moment."""

    taken_utc: str
    machine: str
    architecture: str
    board: str | NotMeasured
    cpu: str | NotMeasured
    cpu_count: int
    governor: str | NotMeasured
    frequency_mhz: float | NotMeasured
    temperature_celsius: float | NotMeasured
    throttled: str | NotMeasured
    load_1min: float | NotMeasured
    kernel: str
    python: str
    threads: int = 1
    pinned_cpu: int | NotMeasured = field(default_factory=lambda: NotMeasured("not pinned"))
    versions: dict[str, str] = field(default_factory=dict)
    bundles: dict[str, str] = field(default_factory=dict)
    """Name of each measured file -> SHA-256."""


def read_context(
    machine: str = "host",
    *,
    packages: Iterable[str] = (),
    bundles: dict[str, str] | None = None,
    pinned_cpu: int | None = None,
    root: Path = Path("/"),
) -> Context:
    """Read the run context; never fails, absent values carry their reason."""
    pinned = NotMeasured("not pinned") if pinned_cpu is None else pinned_cpu
    return Context(
        taken_utc=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        machine=machine,
        architecture=platform.machine(),
        board=_text(root, "proc/device-tree/model"),
        cpu=_cpu_model(root),
        cpu_count=os.cpu_count() or 1,
        governor=_text(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequency_mhz=_frequency_mhz(root),
        temperature_celsius=_temperature_celsius(root),
        throttled=_text(root, "sys/devices/platform/soc/soc:firmware/get_throttled"),
        load_1min=_load(root),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        pinned_cpu=pinned,
        versions=_versions([*_PACKAGES, *packages]),
        bundles=dict(bundles or {}),
    )


@contextmanager
def pinned(cpu: int | None = None) -> Iterator[int | None]:
    """Keep this process on one CPU, so that nobody's thread pool helps; yields the CPU or None.

    The default is the highest CPU allowed, because interrupts mostly land on the lowest. Where
    the system has no affinity call, nothing happens and None is yielded.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    chosen = max(before) if cpu is None else cpu
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)


def _text(root: Path, name: str) -> str | NotMeasured:
    try:
        return (root / name).read_text(errors="replace").strip("\0 \n")
    except OSError:
        return NotMeasured(f"no /{name}")


def _cpu_model(root: Path) -> str | NotMeasured:
    text = _text(root, "proc/cpuinfo")
    if isinstance(text, NotMeasured):
        return text
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    if facts.get("model name"):
        return facts["model name"]
    if part := facts.get("CPU part"):
        return _ARM_CORES.get(part, f"ARM part {part}")
    return NotMeasured("/proc/cpuinfo names no model")


def _frequency_mhz(root: Path) -> float | NotMeasured:
    khz = _text(root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if isinstance(khz, str) and khz.isdigit():
        return int(khz) / 1000
    text = _text(root, "proc/cpuinfo")
    if isinstance(text, str):
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "cpu MHz":
                return float(value)
    return NotMeasured("neither cpufreq nor /proc/cpuinfo tells")


def _temperature_celsius(root: Path) -> float | NotMeasured:
    readings = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp")):
        try:
            readings.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):  # a zone that is switched off answers with an error
            continue
    return max(readings) if readings else NotMeasured("no zone in /sys/class/thermal")


def _load(root: Path) -> float | NotMeasured:
    text = _text(root, "proc/loadavg")
    return text if isinstance(text, NotMeasured) else float(text.split()[0])


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
