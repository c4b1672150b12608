"""What can be asked of a measurement: declared here once.

The agent's options, the command line of ``headgate profile`` and the words that go to a board
are made from the fields of :class:`Settings`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from typing import Any, Callable

from .energy import Plan as EnergyPlan
from .latency import Plan as LatencyPlan


def _asked(
    kind: Callable[[str], Any], metavar: str, text: str, default: Any = None, energy: bool = False
) -> Any:
    """A field: how it is read, what stands for its value, and what it does.

    ``energy``: it means something only where energy is measured.
    """
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

    @classmethod
    def of(cls, options: argparse.Namespace) -> Settings:
        """What a command line of the agent says; verbs have those that mean something to them."""
        return cls(**{name: value for name, value in vars(options).items() if name in _NAMES})

    def latency_plan(self) -> LatencyPlan:
        """How much to time."""
        return LatencyPlan(**self._given(LatencyPlan))

    def energy_plan(self) -> EnergyPlan:
        """How long to measure energy."""
        return EnergyPlan(**self._given(EnergyPlan))

    def _given(self, kind: Any) -> dict[str, Any]:
        names = {one.name for one in fields(kind)} & _NAMES
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


_NAMES = {one.name for one in fields(Settings)}
OPTIONS = {one.name: one.metadata for one in fields(Settings) if one.metadata}
"""By name: ``kind``, ``metavar``, ``help``, and whether it is for ``energy`` only."""


def option(name: str) -> str:
    """A setting as it is written on a command line."""
    return "--" + name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Give a verb of the agent some of the settings."""
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
