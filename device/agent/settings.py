"""What can be asked of a measurement; command lines, here and of the agent, are made from it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from math import inf
from typing import Any, Callable

from .errors import UsageError


def _asked(
    kind: Callable[[str], Any], metavar: str, text: str, default: Any = None, energy: bool = False
) -> Any:
    """A field; ``energy``: it means something only where energy is measured."""
    known = {"kind": kind, "metavar": metavar, "help": text, "energy": energy}
    return field(default=default, metadata=known)


@dataclass(frozen=True)
class Settings:
    """What to measure, and how; what is None is left to the agent."""

    threads: int = _asked(int, "N", "threads that share each layer", 1)
    energy: bool = False
    """Measure it, too, in runs of its own."""
    cpus: str | None = _asked(str, "LIST", "where it runs, such as 3 or 2-3 (the highest)")
    governor: str | None = _asked(str, "NAME", "the clock's meanwhile; needs root")
    rounds: int | None = _asked(int, "N", "timed rounds over the inputs")
    repeat: int | None = _asked(int, "N", "runs of each input in a round")
    warmup: int | None = _asked(int, "N", "untimed runs of each input in a round")
    budget_s: float | None = _asked(
        float, "S", "about how long times of the whole take, and those of layers again"
    )
    sensor: str | None = _asked(
        str, "KIND", "the power sensor, such as pmic, jetson or hwmon:ina219@1-0040", energy=True
    )
    shunt_uohm: int | None = _asked(
        int, "N", "the resistor that is really on the INA module", energy=True
    )
    column: str | None = _asked(
        str,
        "NAME",
        "of a meter's CSV: the column of the board's power; or of its volts and its amperes, "
        "with a comma between",
        energy=True,
    )
    window_s: float | None = _asked(float, "S", "length of a window", energy=True)
    idle_s: float | None = _asked(float, "S", "length of the rest before", energy=True)
    windows: int | None = _asked(int, "N", "windows in turn over the inputs", energy=True)

    def arguments(self) -> list[str]:
        """For the agent, behind the bundle; a word for each, as a value may begin with a dash."""
        words = ["--energy"] if self.energy else []
        for name, about in OPTIONS.items():
            value = getattr(self, name)
            if value is not None and (self.energy or not about["energy"]):
                words.append(f"{option(name)}={value}")
        return words


OPTIONS = {one.name: one.metadata for one in fields(Settings) if one.metadata}
"""By name: ``kind``, ``metavar``, ``help``, and whether it is for ``energy`` only."""


@dataclass(frozen=True)
class Plan:
    """How much to measure; windows fewer or shorter than these are not MLPerf Tiny's any more."""

    rounds: int = 10
    """Fewer, but not below three, where so many would not fit ``budget_s``."""
    repeat: int | None = None
    """Runs of each input in a round; as many as fit ``budget_s`` if None."""
    warmup: int = 2
    budget_s: float = 10.0
    """For times of the whole, and the same again for layers."""
    window_s: float = 10.0
    idle_s: float = 10.0
    windows: int = 5

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.warmup < 0 or not 0 < self.budget_s < inf:
            raise UsageError(
                f"rounds={self.rounds}, warmup={self.warmup}, budget={self.budget_s}: "
                "at least 1, at least 0, and a number of seconds above 0 are needed"
            )
        if self.repeat is not None and self.repeat < 1:
            raise UsageError(f"repeat={self.repeat}: at least 1 is needed")
        lengths = (self.window_s, self.idle_s)
        if not all(0 < length_s < inf for length_s in lengths) or self.windows < 1:
            raise UsageError(
                f"window={self.window_s} s, idle={self.idle_s} s, windows={self.windows}: numbers "
                "above 0 are needed"
            )

    @classmethod
    def of(cls, options: argparse.Namespace) -> Plan:
        """What a command line of the agent asks for."""
        asked = {one.name: getattr(options, one.name, None) for one in fields(cls)}
        return cls(**{name: value for name, value in asked.items() if value is not None})


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        about = OPTIONS[name]
        default = Settings.__dataclass_fields__[name].default
        parser.add_argument(
            option(name),
            type=about["kind"],
            default=default,
            metavar=about["metavar"],
            help=about["help"],
        )
