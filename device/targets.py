"""The targets that ``targets.toml`` describes, and the one that this machine is.

Imports neither torch nor TVM, so that listing targets works on a board.
"""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from headgate.errors import CompileError, UsageError, suggest

TABLE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("targets.toml").read_text())
"""``targets.toml``, which says what its keys mean."""


@dataclass(frozen=True)
class Target:
    """One machine to compile for.

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
    os: str
    fma_peak_gflops: float | None = None
    """fp32 peak of one core as measured, None: not measured."""
    weight_lanes: int = 1
    """How many weights of one row are loaded at once and used by element (NEON), 1: broadcast."""
    qemu: str | None = None
    """The CPU that QEMU has to be, None: it is not emulated."""

    def llvm(self) -> dict[str, Any]:
        """The TVM target."""
        triple = f"{self.triple}-gnu"
        return {"kind": "llvm", "mtriple": triple, "mcpu": self.cpu, "mattr": list(self.features)}


def _target(name: str, row: Mapping[str, Any]) -> Target:
    values = {**TABLE["arch"][row["arch"]], **row}
    return Target(
        name=name,
        arch=values["arch"],
        triple=values["triple"],
        cpu=values["cpu"],
        features=tuple(values.get("features", ())),
        vector_fma_cycles={int(lanes): time for lanes, time in values["vector_fma_cycles"].items()},
        l2_bytes=values["l2_kib"] << 10,
        os=values["os"],
        fma_peak_gflops=values.get("fma_peak_gflops"),
        weight_lanes=values.get("weight_lanes", 1),
        qemu=values.get("qemu"),
    )


_TARGETS = {name: _target(name, row) for name, row in TABLE["target"].items()}
TARGET_NAMES = ("host", *_TARGETS)


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
    rows = [row for row in TABLE["host"] if row["arch"] == machine]
    info = _cpuinfo() if any("needs" in row for row in rows) else {}
    for row in rows:
        if (
            set(info.get("flags", "").split()).issuperset(row.get("needs", ()))
            and row.get("vendor") in (None, info.get("vendor_id"))
            and int(info.get("cpu family", "0")) >= row.get("family", 0)
        ):
            return _target("host", row)
    raise CompileError(
        f"Cannot compile for this machine ({machine}): it has none of AVX2 with FMA, AVX-512 "
        "or NEON. Choose a board with --target, for example --target rpi4."
    )


def get_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        UsageError: no target has that name.
    """
    if name == "host":
        return host()
    if name in _TARGETS:
        return _TARGETS[name]
    raise UsageError(f"Unknown target {name!r}.{suggest(name, TARGET_NAMES)}")


def emulated_targets() -> dict[str, str]:
    """Targets that QEMU emulates -> the CPU that it has to be."""
    return {name: target.qemu for name, target in _TARGETS.items() if target.qemu}
