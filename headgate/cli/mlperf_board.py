"""What the modes of `headgate mlperf` share: the board with its network, and the inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from headgate.device import Bundle
from headgate.device.machines.find import find_machine
from headgate.device.machines.serial import SerialMachine
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.program import Program
from headgate.errors import UsageError
from headgate.images import read_images

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the JSON to this file.")]


def inputs_of(bundle: Bundle, images: list[str] | None) -> list[np.ndarray]:
    if images:
        return [read_images(images, bundle.manifest).array]
    return bundle.vectors()[0]


def program_on(bundle: Bundle, name: str) -> Program:
    machine = find_machine(name)
    machine.check(bundle)
    return machine.load(bundle, 1)


def board_on(bundle: Bundle, name: str) -> SerialProgram:
    machine = find_machine(name)
    if not isinstance(machine, SerialMachine):
        raise UsageError(
            f"{name} has no time of its own that means anything: give a board's port, such as "
            "serial:/dev/ttyACM0"
        )
    machine.check(bundle)
    return machine.load(bundle, 1)
