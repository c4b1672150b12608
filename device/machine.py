"""Machines a bundle can run on, by name: ``host``, ``qemu:rpi4``, ..."""

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
    from headgate.device.host import Host
    from headgate.device.qemu import CPUS, Qemu

    machines: list[Machine] = [Host(), *(Qemu(target) for target in CPUS)]
    return {machine.name: machine for machine in machines}


def find_machine(name: str) -> Machine:
    """The machine called ``name``.

    Raises:
        UsageError: no machine has that name.
    """
    known = _machines()
    if name not in known:
        raise UsageError(f"no machine {name!r}.{suggest(name, known)}")
    return known[name]


def list_machines() -> list[str]:
    """Names of all machines; whether QEMU is installed is not asked."""
    return list(_machines())
