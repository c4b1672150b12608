"""Estimated cycles of a Cortex-M4 for the instructions that QEMU executes of a network.

    python -m bench.cortex_m_cycles resnet8 resnet8-fbs-0.5

Prints what `cycles_per_instruction` of ``device/targets.toml`` is taken from. QEMU writes down each
block that it enters; the instructions of a block are classified by their names. Blocks that the
firmware executes without running the network (the serial line, start-up) are left out.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from bench.cortex_m import build
from headgate.device import Bundle
from headgate.device.machines import qemu_system
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.serial_protocol import Session

TARGET = "cortex-m4"
PATIENCE_S = 300.0
_LINE = re.compile(r"0x([0-9a-f]{8}):\s+((?:[0-9a-f]{4} ?){1,2})\s*(\S+)\s*(.*)")
_ENTERED = re.compile(r"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")


@dataclass(frozen=True)
class Instruction:
    """One of a block, ``bytes`` long."""

    at: int
    bytes: int
    name: str
    operands: str


Block = tuple[Instruction, ...]


def cycles(block: Iterable[Instruction]) -> int:
    """Of a Cortex-M4 with zero wait states, branches not taken: Arm's technical reference manual,
    a load two cycles, or one behind a load or a store.
    """
    total, streaming = 0, False
    for one in block:
        single = one.name.startswith(("ldr", "str", "vldr", "vstr"))
        double = one.name.startswith(("ldrd", "strd"))
        if double:
            total += 3
        elif one.name.startswith(("ldm", "stm", "push", "pop", "vldm", "vstm", "vpush", "vpop")):
            total += 1 + _registers(one.operands)
        elif one.name.startswith(("ldr", "vldr")):
            total += 1 if streaming else 2
        elif one.name.startswith(("sdiv", "udiv")):
            total += 7
        elif one.name.startswith(("vdiv", "vsqrt")):
            total += 14
        else:
            total += 1
        streaming = single and not double
    return total


def _registers(operands: str) -> int:
    listed = operands[operands.index("{") + 1 : operands.index("}")].split(",")
    count = 0
    for one in listed:
        first, _, last = one.strip().partition("-")
        count += int(last[1:]) - int(first[1:]) + 1 if last else 1
    return count


def entered(log: Iterable[str]) -> Iterator[Block]:
    """The blocks in the order in which they were entered."""
    known: dict[int, Block] = {}
    reading: list[Instruction] = []
    for line in log:
        if line.startswith("IN:"):
            reading = []
        elif (found := _LINE.match(line)) is not None:
            at, size = int(found[1], 16), len(found[2].replace(" ", "")) // 2
            reading.append(Instruction(at, size, found[3], found[4]))
            known[reading[0].at] = tuple(reading)
        elif (found := _ENTERED.match(line)) is not None:
            yield known[int(found[1], 16)]


def trace(bundle: Bundle, folder: Path, *, run: bool) -> Path:
    """QEMU's log of a session in which an image is sent, and ``run`` or not."""
    path = folder / ("run" if run else "idle")
    options = (*qemu_system._OPTIONS, "-d", "in_asm,exec,nochain", "-D", str(path))
    inputs, _ = bundle.vectors()
    with patch.object(qemu_system, "_OPTIONS", options):
        program = qemu_system.QemuSystem(TARGET).load(bundle, 1)
        assert isinstance(program, SerialProgram)
        with closing(program._open_line()) as line:
            session = Session(line, program.machine)
            session.greet(program._model)
            for index, array in enumerate(inputs):
                session.write(index, array[:1].tobytes())
            if run:
                session.run(False, PATIENCE_S)
            session.read(0, 4)
    return path


def count(bundle: Bundle) -> tuple[int, int]:
    """Instructions and estimated cycles of one inference."""
    with tempfile.TemporaryDirectory(prefix="headgate-") as name:
        folder = Path(name)
        with trace(bundle, folder, run=False).open() as log:
            idle = {block[0].at for block in entered(log)}
        times: Counter[Block] = Counter()
        taken, end = 0, None
        with trace(bundle, folder, run=True).open() as log:
            for block in entered(log):
                if block[0].at in idle:
                    end = None
                    continue
                times[block] += 1
                taken += end not in (None, block[0].at)
                end = block[-1].at + block[-1].bytes
    instructions = sum(len(block) * number for block, number in times.items())
    total = sum(cycles(block) * number for block, number in times.items())
    return instructions, total + 2 * taken


def main() -> None:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    for name in parser.parse_args().names:
        instructions, total = count(build(name, TARGET))
        print(
            f"{name}: {instructions:,} instructions, {total:,} estimated cycles, "
            f"{total / instructions:.3f} an instruction"
        )


if __name__ == "__main__":
    main()
