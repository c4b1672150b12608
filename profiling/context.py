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

from headgate.device.agent import affinity
from headgate.device.agent.affinity import choose_cpus
from headgate.device.agent.context import board_model, cpu_model, load_1min, temperatures_celsius
from headgate.device.agent.system import System
from headgate.profiling.absent import NotMeasured

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
    system = System(root)
    temperatures = temperatures_celsius(system)
    return Context(
        taken_utc=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        machine=machine,
        architecture=platform.machine(),
        board=board_model(system),
        cpu=cpu_model(system),
        cpu_count=os.cpu_count() or 1,
        governor=system.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequency_mhz=_frequency_mhz(system),
        temperature_celsius=(
            max(temperatures.values())
            if temperatures
            else NotMeasured("no zone in /sys/class/thermal")
        ),
        throttled=system.text("sys/devices/platform/soc/soc:firmware/get_throttled"),
        load_1min=load_1min(system),
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
    cpus = choose_cpus(1, None if cpu is None else frozenset({cpu}))
    with affinity.pinned(cpus):
        yield max(cpus, default=None)


def _frequency_mhz(system: System) -> float | NotMeasured:
    khz = system.number("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    if isinstance(khz, int):
        return khz / 1000
    text = system.text("proc/cpuinfo")
    if isinstance(text, str):
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "cpu MHz":
                return float(value)
    return NotMeasured("neither cpufreq nor /proc/cpuinfo tells")


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
