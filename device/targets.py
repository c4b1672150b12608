"""What the compiler knows of a machine: one table, one row each, named after what people own.

Imports neither torch nor TVM, so that listing targets works on a board.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from headgate.errors import CompileError, UsageError, suggest


@dataclass(frozen=True)
class Target:
    """One machine.

    ``vector_fma_cycles`` maps the lanes of an fp32 vector to the cycles that one fused
    multiply-add of that width occupies; its widest entry bounds what the schedules use.
    """

    name: str
    arch: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    vector_fma_cycles: dict[int, float] = field(hash=False)
    l2_bytes: int
    fma_peak_gflops: float | None = None
    """fp32 peak of one core as measured (cpufp on boards with that core), None: not measured."""
    weight_lanes: int = 1
    """How many weights of one row are loaded at once and used by element (NEON), 1: broadcast."""

    def llvm(self) -> dict[str, Any]:
        """The TVM target."""
        triple = f"{self.arch}-linux-gnu"
        return {"kind": "llvm", "mtriple": triple, "mcpu": self.cpu, "mattr": list(self.features)}


def _arm(name: str, cpu: str, fma_cycles: float, l2_bytes: int, peak: float | None) -> Target:
    return Target(
        name=name,
        arch="aarch64",
        triple="aarch64-linux",
        cpu=cpu,
        features=("+neon",),
        vector_fma_cycles={4: fma_cycles},
        l2_bytes=l2_bytes,
        fma_peak_gflops=peak,
        weight_lanes=4,
    )


_BOARDS = (
    _arm("rpi3", "cortex-a53", 1.0, 512 << 10, 11.26),
    _arm("rpi4", "cortex-a72", 1.0, 1 << 20, 11.96),
    _arm("rpi5", "cortex-a76", 0.5, 512 << 10, 38.37),
    _arm("jetson-nano", "cortex-a57", 1.0, 2 << 20, None),
    _arm("jetson-orin", "cortex-a78", 0.5, 256 << 10, None),
)


_AVX2 = ("avx2", "fma")
_AVX512 = ("avx512f", "avx512vl", "avx512dq")


def _x86(cpu: str, lanes: dict[int, float], *features: str) -> Target:
    return Target(
        name="host",
        arch="x86_64",
        triple="x86_64-linux",
        cpu=cpu,
        features=features,
        vector_fma_cycles=lanes,
        l2_bytes=1 << 20,
    )


def _cpuinfo() -> dict[str, str]:
    rows = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in reversed(list(rows))}


@cache
def host() -> Target:
    """The row for the machine this runs on.

    Raises:
        CompileError: the processor has no vector unit the schedules know.
    """
    machine = platform.machine()
    if machine == "aarch64":
        return Target(**{**vars(_BOARDS[1]), "name": "host", "fma_peak_gflops": None})
    if machine == "x86_64":
        info = _cpuinfo()
        flags = set(info.get("flags", "").split())
        if flags.issuperset(_AVX512):
            if info.get("vendor_id") != "AuthenticAMD":
                return _x86("skylake-avx512", {16: 0.5, 8: 0.5}, "-prefer-256-bit")
            # Zen 4 runs a 512-bit operation as two halves, Zen 5 (family 26) in one.
            halves = int(info.get("cpu family", "0")) < 26
            return _x86("znver4", {16: 1.0 if halves else 0.5, 8: 0.58})
        if flags.issuperset(_AVX2):
            return _x86("haswell", {8: 0.5})
    raise CompileError(
        f"Cannot compile for this machine ({machine}): it has none of AVX2 with FMA, AVX-512 "
        "or NEON. Choose a board with --target, for example --target rpi4."
    )


TARGET_NAMES = ("host", *(board.name for board in _BOARDS))


def get_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        UsageError: no target has that name.
    """
    if name == "host":
        return host()
    for board in _BOARDS:
        if board.name == name:
            return board
    raise UsageError(f"Unknown target {name!r}.{suggest(name, TARGET_NAMES)}")
