"""Machines a bundle can run on, by name: ``host``, ``qemu:rpi4``, ``pi@kitchen.local``, ..."""

from __future__ import annotations

from abc import ABC, abstractmethod

from headgate.device.bundle import Bundle
from headgate.device.program import Program
from headgate.errors import UsageError, suggest


class Machine(ABC):
    """Something that runs bundles. A new kind is a subclass and a line in :func:`_machines`."""

    name: str

    @abstractmethod
    def check(self, bundle: Bundle) -> None:
        """Refuse a bundle that this machine cannot run.

        Raises:
            BundleError: it is for another target.
            ToolMissing: a program the machine needs is not installed.
        """

    @abstractmethod
    def load(self, bundle: Bundle, threads: int) -> Program:
        """Make a bundle ready to run on so many threads, after :meth:`check`.

        Raises:
            BundleError: its code is not what its manifest says.
            DeviceError: the machine refuses it.
        """


def _machines() -> dict[str, Machine]:
    from headgate.device.machines.host import Host
    from headgate.device.machines.qemu_user import CPUS, Qemu

    machines: list[Machine] = [Host(), *(Qemu(target) for target in CPUS)]
    return {machine.name: machine for machine in machines}


def find_machine(name: str) -> Machine:
    """The machine called ``name``: one of :func:`list_machines`, or a board that ssh reaches.

    A board is one of the user's inventory (:mod:`headgate.device.boards`), or ``USER@HOST``. It
    is not connected to before it is used.

    Raises:
        UsageError: no machine has that name, or the inventory cannot be used.
    """
    known = _machines()
    if name in known:
        return known[name]
    from headgate.device.boards import find_board, inventory
    from headgate.device.machines.ssh.remote import SshMachine

    boards = inventory()
    if name in boards or "@" in name:
        return SshMachine(find_board(name))
    raise UsageError(
        f"no machine {name!r}.{suggest(name, [*known, *boards])} A board is USER@HOST, or one of "
        "your boards.toml"
    )


def list_machines() -> list[str]:
    """Names of the machines that need no board; whether QEMU is installed is not asked."""
    return list(_machines())
