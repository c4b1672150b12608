"""Microcontrollers emulated by QEMU: firmware on a whole board, with its serial line."""

from __future__ import annotations

import os
import random
import select
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.bundle import Bundle
from headgate.device.files import storage_error
from headgate.device.machines.base import Machine
from headgate.device.machines.firmware_network import FirmwareNetwork, samples_of
from headgate.device.machines.firmware_report import measure_firmware
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.manifest import FIRMWARE
from headgate.device.serial_protocol import Line
from headgate.device.targets import emulated_microcontrollers
from headgate.errors import BundleError, DeviceError, ToolMissing, UsageError, why

BOARDS = emulated_microcontrollers()
"""Targets -> QEMU's machine."""
_PREFIX = "qemu:"
_PROGRAM = "qemu-system-arm"
# One instruction is a nanosecond of the board's time, so that its clock counts instructions.
_OPTIONS = (
    *("-display", "none", "-monitor", "none", "-icount", "shift=0"),
    *("-chardev", "stdio,id=line,signal=off", "-serial", "chardev:line"),
)


class QemuSystem(Machine):
    """``qemu:<target>`` of a microcontroller; its times are instructions, one a nanosecond."""

    emulated = True

    @classmethod
    def names(cls) -> list[str]:
        return [f"{_PREFIX}{target}" for target in BOARDS]

    @classmethod
    def named(cls, name: str) -> QemuSystem | None:
        return cls(name.removeprefix(_PREFIX)) if name in cls.names() else None

    def __init__(self, target: str) -> None:
        self.target = target
        self.name = f"{_PREFIX}{target}"

    def command(self, firmware: str) -> list[str]:
        """The emulator and its options."""
        path = shutil.which(_PROGRAM)
        if path is None:
            raise ToolMissing(
                f"machine {self.name} needs {_PROGRAM}; install it: apt-get install {_PROGRAM}"
            )
        return [path, "-M", BOARDS[self.target], *_OPTIONS, "-kernel", firmware]

    def check(self, bundle: Bundle) -> None:
        target = bundle.target
        if target["name"] != self.target:
            raise BundleError(
                f"{bundle.name!r} is compiled for target {target['name']}, "
                f"machine {self.name} is a {self.target}; recompile with --target {self.target}"
            )
        if FIRMWARE not in bundle.members:
            raise BundleError(
                f"{bundle.name!r} has no {FIRMWARE}, as it is too large for {BOARDS[self.target]}, "
                "which QEMU is; `headgate analyze` says by how much"
            )
        self.command("")

    def check_threads(self, threads: int) -> None:
        if threads > 1:
            raise UsageError(f"{self.name} has one core; leave out --threads")

    def load(self, bundle: Bundle, threads: int) -> SerialProgram:
        self.check_threads(threads)
        firmware = bundle.members[FIRMWARE]
        return SerialProgram(bundle, self.name, lambda: QemuLine(self, firmware))

    def measure(
        self, bundle: str | Path, settings: Settings, inputs: Sequence[Path] = ()
    ) -> Report:
        """Instructions, MACs and active channels: an emulator's clock says nothing of a device."""
        opened = Bundle.open(bundle)
        self.check(opened)
        with self.load(opened, settings.threads) as program:
            network = FirmwareNetwork(program, samples_of(opened, bundle, inputs), [self.name])
            return measure_firmware(network, program, settings)


def _stay_on_one_cpu() -> None:
    """QEMU's two threads hand a lock over at each byte of the line, which takes twice as long
    between two CPUs as on one. Where that is forbidden it only takes longer."""
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})


class QemuLine(Line):
    """A board that QEMU has just switched on, and its serial line."""

    def __init__(self, machine: QemuSystem, firmware: bytes) -> None:
        self._name = machine.name
        self._folder = tempfile.TemporaryDirectory(prefix="headgate-")
        path = Path(self._folder.name) / "firmware.elf"
        try:
            path.write_bytes(firmware)
        except OSError as error:
            self._folder.cleanup()
            raise storage_error("write", path, error) from error
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                machine.command(str(path)),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                preexec_fn=_stay_on_one_cpu,
            )
        except OSError as error:
            self._folder.cleanup()
            raise DeviceError(f"cannot start {self._name}: {why(error)}") from error

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def read(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.fileno()
        if not select.select([line], [], [], seconds)[0]:
            return b""
        data = os.read(line, 1 << 16)
        if not data:
            raise self._ended()
        return data

    def _ended(self) -> DeviceError:
        assert self._process.stderr is not None
        self._process.kill()
        words = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return DeviceError(f"{self._name} ended: {words[-1] if words else 'QEMU says nothing'}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._folder.cleanup()
