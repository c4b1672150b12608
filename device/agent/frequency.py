"""CPU clocks: cpufreq's policies, their governors, and whether a clock held still."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .absent import NotMeasured
from .cpus import parse_cpus
from .errors import AgentError, UsageError, describe
from .system import System

_POLICIES = "sys/devices/system/cpu/cpufreq/policy*"
# Clocks are set in steps of several per cent; below is how exactly a frequency is known.
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Policy:
    """CPUs that share a clock."""

    name: str
    cpus: str
    governor: str | NotMeasured
    minimum_mhz: float | NotMeasured
    current_mhz: float | NotMeasured
    maximum_mhz: float | NotMeasured


def read_policies(system: System) -> list[Policy]:
    """All clocks; none where the kernel has no cpufreq, as in virtual machines."""

    def mhz(folder: str, kind: str) -> float | NotMeasured:
        khz = system.number(f"{folder}/scaling_{kind}_freq")
        return khz if isinstance(khz, NotMeasured) else khz / 1000

    return [
        Policy(
            name=folder.rpartition("/")[2],
            cpus=",".join(str(cpu) for cpu in sorted(_cpus_of(system, folder))),
            governor=system.text(f"{folder}/scaling_governor"),
            minimum_mhz=mhz(folder, "min"),
            current_mhz=mhz(folder, "cur"),
            maximum_mhz=mhz(folder, "max"),
        )
        for folder in system.glob(_POLICIES)
    ]


@dataclass(frozen=True)
class ClockRange:
    """Lowest and highest frequency of a clock seen while the network ran."""

    lowest_mhz: float
    highest_mhz: float
    samples: int

    def reason(self, policy: str) -> str | None:
        """Why a run at these frequencies does not count; None if it does."""
        if self.highest_mhz <= self.lowest_mhz * (1 + _TOLERANCE):
            return None
        return (
            f"{policy}: the clock changed between {self.lowest_mhz:.0f} and "
            f"{self.highest_mhz:.0f} MHz during the run; set the governor 'performance', and cool "
            "the board"
        )


def clock_files(system: System, cpus: Collection[int]) -> dict[str, str]:
    """Policy -> where to read its clock, for those of some CPUs; all, if ``cpus`` is empty."""
    return {
        folder.rpartition("/")[2]: f"{folder}/scaling_cur_freq"
        for folder in system.glob(_POLICIES)
        if not cpus or _cpus_of(system, folder) & set(cpus)
    }


@contextmanager
def governor(system: System, name: str | None) -> Iterator[None]:
    """Give every clock this governor for the block, then what it had before; None: as it is."""
    folders = system.glob(_POLICIES) if name else []
    if name and not folders:
        raise AgentError(f"--governor {name}: this kernel has no cpufreq; leave the option out")
    before: dict[str, str] = {}
    try:
        for folder in folders:
            known = system.text(f"{folder}/scaling_available_governors")
            if isinstance(known, str) and name not in known.split():
                raise UsageError(f"--governor {name}: {folder} knows {known}")
            path = f"{folder}/scaling_governor"
            try:
                earlier = system.read(path)
                (system.root / path).write_text(f"{name}\n")
            except OSError as error:
                raise AgentError(
                    f"cannot set governor {name} in /{path}: {describe(error)}; run as root, or "
                    "leave --governor out"
                ) from error
            before[path] = earlier
        yield
    finally:
        for path, earlier in before.items():
            (system.root / path).write_text(f"{earlier}\n")


def _cpus_of(system: System, folder: str) -> frozenset[int]:
    listed = system.text(f"{folder}/affected_cpus")
    if isinstance(listed, NotMeasured) or not listed:
        return frozenset()
    return parse_cpus(listed.replace(" ", ","))
