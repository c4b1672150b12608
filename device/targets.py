"""The targets that ``targets.toml`` describes, and which of them a CPU can run."""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from headgate.errors import CompileError, UsageError, suggest

TABLE: dict[str, Any] = tomllib.loads(Path(__file__).with_name("targets.toml").read_text())
"""``targets.toml``, which says what its keys mean."""


@dataclass(frozen=True)
class Target:
    """One machine to compile for.

    ``vector_fma_cycles`` maps the lanes of an fp32 vector to the cycles that one fused multiply-add
    of that width occupies; its widest entry bounds what the schedules use.
    """

    name: str
    arch: str
    triple: str
    """LLVM's, without the ABI where an operating system has several."""
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
    """The CPU that QEMU's user mode has to be, None: it is not emulated so."""
    qemu_machine: str | None = None
    """The microcontroller that QEMU's system mode has to be, None: it is not emulated so."""
    cycles_per_instruction: float | None = None
    """Estimated cycles over executed instructions; None: no model of the core."""
    cycle_model: str | None = None
    """What the estimate is of."""
    zig: str | None = None
    """What the C compiler calls the triple; None: as LLVM, with the ABI behind it."""
    zig_cpu: str | None = None
    """What it calls the CPU; None: one of the triple's base."""
    zig_library_cpu: str | None = None
    """What it calls the CPU whose library is linked where code needs one."""
    runs_on: str | None = None
    """Another target, whose boards run code for this one, too."""

    @property
    def float_abi(self) -> str:
        """``hard``: numbers are passed in registers of the FPU; ``soft``: there is none."""
        return "hard" if self.triple.endswith("hf") else "soft"

    def has(self, feature: str) -> bool:
        """Whether its code may use an instruction set, by LLVM's name of it."""
        return feature in _implied(self.cpu) or f"+{feature}" in self.features

    def llvm(self) -> dict[str, Any]:
        """The TVM target."""
        if self.os == "none":
            return {
                "kind": "llvm",
                "mtriple": self.triple,
                "mcpu": self.cpu,
                "mattr": list(self.features),
                "mfloat-abi": self.float_abi,
                "vector-width": 128,
            }
        triple = f"{self.triple}-gnu"
        return {"kind": "llvm", "mtriple": triple, "mcpu": self.cpu, "mattr": list(self.features)}


def _target(name: str, row: Mapping[str, Any]) -> Target:
    found = {**TABLE["arch"][row["arch"]], **row}
    found["l2_bytes"] = found["l2_kib"] << 10
    found["features"] = tuple(found.get("features", ()))
    found["vector_fma_cycles"] = {int(key): one for key, one in row["vector_fma_cycles"].items()}
    known = [one.name for one in fields(Target) if one.name in found]
    return Target(name, **{key: found[key] for key in known})


_TARGETS = {name: _target(name, row) for name, row in TABLE["target"].items()}
TARGET_NAMES = ("host", *_TARGETS)

GLIBC = "2.28"
"""The oldest glibc that what is compiled runs with: Debian 10, JetPack 5 and later."""


_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


def host_architecture() -> str:
    """``x86_64``, ``aarch64``, or whatever else this machine calls itself."""
    machine = platform.machine().lower()
    return _ARCHITECTURES.get(machine, machine)


def _read_cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""


def _facts(cpuinfo: str) -> dict[str, str]:
    """Those of the first core."""
    rows = (line.partition(":") for line in reversed(cpuinfo.splitlines()))
    return {key.strip(): value.strip() for key, _, value in rows}


def missing_features(target: Mapping[str, Any], cpuinfo: str | None = None) -> list[str]:
    """Which of a target's instruction sets a CPU lacks; none if Linux does not tell.

    Running without asking would end in SIGILL, which takes the Python process with it. ``target``
    is that of a manifest, ``cpuinfo`` what ``/proc/cpuinfo`` holds there, None: here.
    """
    facts = _facts(_read_cpuinfo() if cpuinfo is None else cpuinfo)
    flags = {flag for key in ("flags", "Features") for flag in facts.get(key, "").split()}
    if not flags:
        return []
    names = TABLE["arch"].get(target["arch"], {}).get("flags", {})
    needed = {one.lstrip("+") for one in target["features"] if not one.startswith("-")}
    needed |= _implied(target["cpu"])
    return sorted(name for name in needed if name in names and names[name] not in flags)


def _implied(cpu: str) -> set[str]:
    """Instruction sets that choosing a CPU by LLVM's name implies."""
    names = TABLE["cpu"].get(cpu, {}).get("implies", ())
    return {name for one in names for name in (_implied(one) if one in TABLE["cpu"] else {one})}


@cache
def host() -> Target:
    """The row for this machine; a CompileError if the schedules do not know its vector unit."""
    machine = platform.machine()
    rows = [row for row in TABLE["host"] if row["arch"] == machine]
    info = _facts(_read_cpuinfo())
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
    """The target called ``name``; a UsageError if there is none."""
    if name == "host":
        return host()
    if name in _TARGETS:
        return _TARGETS[name]
    raise UsageError(f"Unknown target {name!r}.{suggest(name, TARGET_NAMES)}")


def emulated_targets() -> dict[str, str]:
    """Targets that QEMU emulates -> the CPU that it has to be."""
    return {name: target.qemu for name, target in _TARGETS.items() if target.qemu}


def emulated_microcontrollers() -> dict[str, str]:
    """Targets that QEMU emulates as a whole board -> the board."""
    return {name: t.qemu_machine for name, t in _TARGETS.items() if t.qemu_machine}
