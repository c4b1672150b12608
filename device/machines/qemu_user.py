"""Boards emulated by QEMU's user mode: right results and exact instruction counts, no times."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.agent_call import measure_here
from headgate.device.bundle import Bundle
from headgate.device.machines.base import Machine
from headgate.device.machines.runner import RunnerProgram
from headgate.device.program import Program
from headgate.device.targets import emulated_targets
from headgate.errors import BundleError, ToolMissing, UsageError

# Target -> the CPU that QEMU has to be, so that an instruction the board lacks is an error.
CPUS = emulated_targets()
_PREFIX = "qemu:"


class Qemu(Machine):
    """``qemu:<target>``: the bundle's static runner under qemu-aarch64."""

    emulated = True

    @classmethod
    def names(cls) -> list[str]:
        return [f"{_PREFIX}{target}" for target in CPUS]

    @classmethod
    def named(cls, name: str) -> Qemu | None:
        return cls(name.removeprefix(_PREFIX)) if name in cls.names() else None

    def __init__(self, target: str) -> None:
        self.target = target
        self.name = f"{_PREFIX}{target}"

    def command(self) -> list[str]:
        """The emulator and its options, to go before an aarch64 program."""
        for program in ("qemu-aarch64", "qemu-aarch64-static"):
            if path := shutil.which(program):
                return [path, "-cpu", CPUS[self.target]]
        raise ToolMissing(
            f"machine {self.name} needs qemu-aarch64; install it: apt-get install qemu-user"
        )

    def check(self, bundle: Bundle) -> None:
        target = bundle.target
        if target["name"] != self.target:
            raise BundleError(
                f"{bundle.name!r} is compiled for target {target['name']}, "
                f"machine {self.name} is a {self.target}; recompile with --target {self.target}"
            )
        self.command()

    def load(self, bundle: Bundle, threads: int) -> Program:
        # An empty environment, because its size changes how many instructions are executed.
        return RunnerProgram(bundle, self.name, self.command(), {}, threads)

    def measure(
        self, bundle: str | Path, settings: Settings, inputs: Sequence[Path] = ()
    ) -> Report:
        """MACs and active channels: an emulator's clock says nothing about a device."""
        if settings.energy:
            raise UsageError(f"{self.name} is emulated: it has no energy to measure")
        command = self.command()
        return measure_here(bundle, settings, machine=self.name, inputs=inputs, emulator=command)
