"""Machines by name: ``host``, ``qemu:rpi4``, ``pi@kitchen.local``, and bundles loaded onto them."""

from __future__ import annotations

from pathlib import Path

from headgate.device.bundle import Bundle
from headgate.device.machines.base import Machine
from headgate.device.machines.host import Host
from headgate.device.machines.qemu_system import QemuSystem
from headgate.device.machines.qemu_user import Qemu
from headgate.device.machines.serial import SerialMachine
from headgate.device.machines.ssh.machine import SshMachine
from headgate.device.program import MAX_THREADS, Program
from headgate.errors import UsageError, suggest

_KINDS: tuple[type[Machine], ...] = (Host, Qemu, QemuSystem, SerialMachine, SshMachine)


def find_machine(name: str) -> Machine:
    """The machine called ``name``: one of :func:`list_machines`, or a board that ssh reaches.

    It is not connected to before it is used. A UsageError if no machine has that name.
    """
    for kind in _KINDS:
        if (machine := kind.named(name)) is not None:
            return machine
    known = [one for kind in _KINDS for one in kind.names()]
    raise UsageError(
        f"no machine {name!r}.{suggest(name, known)} A board is USER@HOST, or one of "
        "your boards.toml"
    )


def list_machines() -> list[str]:
    """Names of the machines that need no board; whether QEMU is installed is not asked."""
    return [name for kind in _KINDS if not kind.is_board for name in kind.names()]


def load(bundle: Bundle | str | Path, machine: str = "host", threads: int = 1) -> Program:
    """Load a bundle, or the file of one, onto a machine.

    Args:
        bundle: a bundle or its path; a file is verified first.
        machine: one of :func:`headgate.device.list_machines`, or a board.
        threads: how many share the work of each layer; results are the same bits for any number.

    Raises:
        UsageError: no such machine, or a number of threads outside 1 to 16.
        MissingFile, StorageError: the file cannot be read.
        BundleError: it is damaged, or for another target than the machine.
        ToolMissing: the emulator is not installed.
        DeviceError: the machine refuses it.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"threads={threads}: 1 to {MAX_THREADS} can share a network")
    chosen = find_machine(machine)
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(bundle)
    chosen.check(bundle)
    return chosen.load(bundle, threads)
