"""What a machine is: something that runs bundles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from headgate.device.agent.report import Report
from headgate.device.agent.settings import Settings
from headgate.device.bundle import Bundle
from headgate.device.program import Program


class Machine(ABC):
    """Something that runs bundles. A new kind is a subclass and a row in ``machines/find.py``."""

    name: str
    is_board: bool = False
    """It is another computer, which only the agent there can time."""
    emulated: bool = False
    """Its clock means nothing."""

    @classmethod
    @abstractmethod
    def names(cls) -> list[str]:
        """Names of the machines of this kind that are known here."""

    @classmethod
    @abstractmethod
    def named(cls, name: str) -> Machine | None:
        """The machine of this kind that has the name, None if there is none."""

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

    @abstractmethod
    def measure(
        self, bundle: str | Path, settings: Settings, inputs: Sequence[Path] = ()
    ) -> Report:
        """Measure a bundle with the agent; an emulated machine has MACs to tell and no times.

        ``inputs`` are a file of raw float32 samples for each input, the test vectors if none; not
        for boards. Whether the report counts is in its ``valid``: wrong outputs, throttling, and a
        sensor that failed during the measurement do not raise.

        Raises:
            UsageError: the agent refuses a setting.
            DeviceError: there is no sensor for the energy that was asked for, or the agent failed.
        """

    def check_threads(self, threads: int) -> None:  # noqa: B027
        """Refuse more threads than it is known to have cores, before it is asked: a UsageError."""
