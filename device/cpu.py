"""Does this CPU have the instructions that a bundle was compiled for?

Running without asking would end in SIGILL, which takes the Python process with it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

# Names of LLVM, and what Linux calls the same thing in /proc/cpuinfo. Features that are not
# listed (tuning hints, 64bit, ...) select no instruction that could be missing.
_X86_FLAGS = {
    "sse2": "sse2",
    "sse3": "pni",
    "ssse3": "ssse3",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "popcnt": "popcnt",
    "lzcnt": "abm",
    "movbe": "movbe",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512ifma": "avx512ifma",
    "avx512vbmi": "avx512vbmi",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni",
    "avx512bitalg": "avx512_bitalg",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16",
    "avxvnni": "avx_vnni",
    "amx-tile": "amx_tile",
    "amx-int8": "amx_int8",
    "amx-bf16": "amx_bf16",
}
_AARCH64_FLAGS = {
    "fp-armv8": "fp",
    "neon": "asimd",
    "crc": "crc32",
    "lse": "atomics",
    "rdm": "asimdrdm",
    "fullfp16": "asimdhp",
    "fp16fml": "asimdfhm",
    "dotprod": "asimddp",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
}
_FLAGS = {"x86_64": _X86_FLAGS, "aarch64": _AARCH64_FLAGS}

_V2 = ["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt"]
_V3 = [*_V2, "avx", "avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe"]
_V4 = [*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]
_ARMV8_2 = ["lse", "rdm", "fullfp16", "dotprod"]
# What choosing a CPU by name implies beyond its architecture's base.
_CPUS = {
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "haswell": _V3,
    "x86-64-v4": _V4,
    "skylake-avx512": _V4,
    "znver4": [*_V4, "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni", "avx512bitalg"],
    "cortex-a76": _ARMV8_2,
    "cortex-a78": _ARMV8_2,
}

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
    names = _FLAGS.get(arch, {})
    needed = [feature.lstrip("+") for feature in features if not feature.startswith("-")]
    needed += _CPUS.get(cpu, [])
    return sorted({name for name in needed if name in names and names[name] not in flags})
