"""Power rails of NVIDIA's Jetson boards.

JetPack 4 shows them as iio devices of the driver ``ina3221x`` (milliwatts, channels from 0),
JetPack 5 and later as hwmon devices of ``ina3221`` (millivolts and milliamperes, from 1). Which
rails make up the board is a table, never a guess from their names: some overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..absent import NotMeasured
from ..system import System
from .base import Channel, Probe
from .rails import (
    Rail,
    connected,
    label_of,
    microwatts,
    polling_rate_hz,
    rail_sensor,
    readable,
    volts_and_amperes,
)


@dataclass(frozen=True)
class Board:
    """A board, and which of its rails add up to it without overlap."""

    title: str
    modules: tuple[str, ...]
    """NVIDIA's numbers for it, as the device tree's ``compatible`` has them."""
    model: str
    """A pattern for the device tree's ``model``, where the carrier is somebody else's."""
    total: tuple[str, ...]
    carrier: tuple[str, ...] = ()
    """Rails beside the module's that belong to the total where the carrier board has them."""


_SIX = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
# VIN_SYS_5V0 feeds its fourth rail, VDDQ_VDD2_1V8AO.
_ORIN = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
# From NVIDIA's developer guides and device trees, as energymon collected them (JETSON.md has all
# rails). The first row that fits counts. Thor's supply is on an ina238 of its own.
BOARDS = (
    Board("Jetson Nano", ("p3448", "p3450"), r"Jetson Nano\b", ("POM_5V_IN",)),
    Board("Jetson TX2 NX", ("p3636",), r"TX2 NX|^lanai", ("VDD_IN",)),
    Board("Jetson TX2", ("p3310", "p3489"), r"TX2|^quill$", ("VDD_IN",), ("VDD_MUX",)),
    Board("Jetson Xavier NX", ("p3668",), r"Xavier NX", ("VDD_IN",)),
    Board("Jetson AGX Xavier", ("p2888", "p2972"), r"AGX Xavier|^Jetson-AGX$", _SIX),
    Board("Jetson Orin Nano or NX", ("p3767",), r"Orin (Nano|NX)", ("VDD_IN",)),
    Board("Jetson AGX Orin", ("p3701",), r"AGX Orin", _ORIN),
    Board("Jetson AGX Thor", ("p3834",), r"AGX Thor", ("VIN",)),
)
_WITHOUT_SENSOR = ("p3448-0003", "p3541")
_SCOPE = "module with its memory, not what else the carrier board feeds"
_SCOPE_WITH_CARRIER = "module and carrier board"


def is_jetson(system: System) -> bool:
    return any(name.startswith("nvidia,tegra") for name in _compatible(system)) or system.exists(
        "etc/nv_tegra_release"
    )


def find_board(system: System) -> Board | NotMeasured:
    """The row of the table for this board, or why there is none."""
    numbers = set(re.findall(r"p\d{4}(?:-\d{4})?", " ".join(_compatible(system))))
    text = system.text("proc/device-tree/model")
    model = text if isinstance(text, str) else ""
    if "Nano 2GB" in model or any(number.startswith(_WITHOUT_SENSOR) for number in numbers):
        return NotMeasured("the Jetson Nano 2GB has no power sensor")
    for board in BOARDS:
        if any(number.startswith(board.modules) for number in numbers):
            return board
    for board in BOARDS:
        if re.search(board.model, model):
            return board
    return NotMeasured(f"no table of rails for board {model or ' '.join(sorted(numbers))!r}")


def probe(system: System) -> Probe:
    """The rails of this board, with a total where the table knows it."""
    if not is_jetson(system):
        return Probe(absent="not a Jetson")
    board = find_board(system)
    found = [*_iio_rails(system), *_hwmon_rails(system)]
    # A device may be reached by several links; the first one counts.
    once = {rail.channel.name: rail for rail, _ in reversed(found)}
    rails, warnings = readable([*reversed(once.values())], system)
    if not rails:
        if isinstance(board, NotMeasured):
            return Probe(absent=board.reason)
        return Probe(absent="; ".join(warnings) or f"{board.title}: no ina3221 in /sys/bus/i2c")
    total, scope = _total(board, {rail.channel.name for rail in rails}, set(once)), _SCOPE
    if isinstance(board, Board) and isinstance(total, list) and set(board.carrier) & set(total):
        scope = _SCOPE_WITH_CARRIER
    rate_hz = polling_rate_hz(interval_ms for _, interval_ms in found)
    return Probe([rail_sensor(system, "jetson", rails, total, scope, warnings, rate_hz=rate_hz)])


def _total(
    board: Board | NotMeasured, names: set[str], present: set[str]
) -> list[str] | NotMeasured:
    """The rails of the total, of those that answer and those that are there at all."""
    if isinstance(board, NotMeasured):
        return NotMeasured(f"{board.reason}; name the rails that make it up: --sensor jetson/RAIL")
    wanted = [*board.total, *(name for name in board.carrier if name in present)]
    missing = [name for name in wanted if name not in names]
    if missing:
        return NotMeasured(
            f"{board.title}: rail {', '.join(missing)} of its total cannot be read; "
            f"there are {', '.join(sorted(names))}"
        )
    return wanted


def _compatible(system: System) -> list[str]:
    text = system.text("proc/device-tree/compatible")
    return text.split("\0") if isinstance(text, str) else []


def _iio_rails(system: System) -> Iterator[tuple[Rail, int]]:
    """JetPack 4: ``rail_name_N`` and ``in_powerN_input`` in milliwatts; how long it averages."""
    for path in system.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*"):
        folder, _, file = path.rpartition("/")
        number, name = file.rpartition("_")[2], system.text(path)
        if isinstance(name, str) and connected(name):
            power = f"{folder}/in_power{number}_input"
            # It reads "0 ms" on JetPack 4, which says nothing.
            text = system.text(f"{folder}/polling_delay_{number}")
            delay = text.partition(" ")[0] if isinstance(text, str) else ""
            rail = Rail(Channel(name, "rail", f"/{power}"), power_file=power)
            yield rail, int(delay) if delay.isdigit() else 0


def _hwmon_rails(system: System) -> Iterator[tuple[Rail, int | NotMeasured]]:
    """JetPack 5 and later: mainline's drivers; Thor has its supply on an ina238 beside them."""
    for path in system.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[123]_label"):
        folder, _, file = path.rpartition("/")
        number, name = int(file[2]), system.text(path)
        if isinstance(name, str) and connected(name):
            interval_ms = system.number(f"{folder}/update_interval")
            yield volts_and_amperes(folder, number, name), interval_ms
    for path in system.glob("sys/bus/i2c/drivers/ina238/*/hwmon/hwmon*/power1_input"):
        folder = path.rpartition("/")[0]
        yield microwatts(path, label_of(system, f"{folder}/label", "VIN")), 0
