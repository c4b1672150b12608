"""Does this CPU have the instructions that a bundle was compiled for?

Running without asking would end in SIGILL, which takes the Python process with it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from headgate.device.targets import TABLE

_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


def host_architecture() -> str:
    """``x86_64``, ``aarch64``, or whatever else this machine calls itself."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def missing_features(
    cpu: str, features: Iterable[str], arch: str, cpuinfo: Path = Path("/proc/cpuinfo")
) -> list[str]:
    """Which of a target's instruction sets this CPU lacks; none if Linux does not tell.

    Args:
        cpu: LLVM name of the target's CPU.
        features: LLVM names; a leading ``+`` is optional, those with ``-`` are not needed.
        arch: architecture that both are about.
        cpuinfo: where to read what is there.
    """
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return []
    return lacking(cpu, features, arch, text)


def lacking(cpu: str, features: Iterable[str], arch: str, cpuinfo: str) -> list[str]:
    """As :func:`missing_features`, of any machine whose ``/proc/cpuinfo`` is at hand."""
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags.update(value.split())
    if not flags:
        return []
    names = TABLE["arch"].get(arch, {}).get("flags", {})
    needed = {feature.lstrip("+") for feature in features if not feature.startswith("-")}
    needed |= _implied(cpu)
    return sorted(name for name in needed if name in names and names[name] not in flags)


def _implied(cpu: str) -> set[str]:
    """Instruction sets that choosing a CPU by LLVM's name implies."""
    names = TABLE["cpu"].get(cpu, {}).get("implies", ())
    return {name for one in names for name in (_implied(one) if one in TABLE["cpu"] else {one})}
