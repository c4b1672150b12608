"""What QEMU counts of a network in firmware: instructions and MACs of each layer, and the stack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headgate.device import load
from headgate.device.agent.absent import NotMeasured
from headgate.device.bundle import Bundle
from headgate.device.footprint import TOO_LARGE
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.manifest import FIRMWARE
from headgate.device.targets import emulated_microcontrollers
from headgate.errors import ToolMissing

IMAGES = 10
"""How many are run at the most: each takes the better part of a second."""
MACS = 250_000_000
"""Large networks run fewer, with so many MACs together, but one at least."""


@dataclass(frozen=True)
class Emulated:
    """Of some images on ``machine``: (images, layers) ``instructions`` and ``macs``."""

    machine: str
    instructions: NDArray[np.int64]
    macs: NDArray[np.int64]
    stack_bytes: int


def emulate(bundle: Bundle, images: NDArray[np.float32]) -> Emulated | NotMeasured:
    """Runs the first of images (N, C, H, W) on QEMU's board of the bundle's target.

    An instruction is a nanosecond there, so that the board's clock counts them, in ticks of 30 to
    50. NotMeasured where QEMU has no such board, or is not installed.

    Raises:
        DeviceError: the firmware fails.
    """
    target = bundle.target["name"]
    if target not in emulated_microcontrollers():
        return NotMeasured(f"QEMU has no board with a {target}")
    if FIRMWARE not in bundle.members:
        return NotMeasured(TOO_LARGE)
    machine = f"qemu:{target}"
    try:
        with load(bundle, machine) as program:
            assert isinstance(program, SerialProgram)
            count = max(1, min(IMAGES, MACS // max(1, program.dense_macs())))
            times = program.profile(images[:count], repeat=1, warmup=0)
            stack_bytes = program.stack_bytes([images])
            instructions = np.rint(1e3 * times).astype(np.int64)
            return Emulated(machine, instructions, program.layer_macs(), stack_bytes)
    except ToolMissing as error:
        return NotMeasured(str(error))
