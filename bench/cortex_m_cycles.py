"""Estimated cycles of a Cortex-M for the instructions that QEMU executes of a network.

    python -m bench.cortex_m_cycles resnet8 resnet8-fbs-0.5 --target cortex-m4

Prints what `cycles_per_instruction` of ``device/targets.toml`` is taken from. QEMU writes down each
block that it enters; the instructions of a block are classified by their encoding. Blocks that the
firmware executes without running the network (the serial line, start-up) are left out.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from bench.cortex_m import build
from bench.thumb import Instruction, Kind, decoded
from headgate.device import Bundle
from headgate.device.machines import qemu_system
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.serial_protocol import Session

PATIENCE_S = 300.0
_LINE = re.compile(r"0x([0-9a-f]{8}):\s+((?:[0-9a-f]{4} ?){1,2})\s")
_ENTERED = re.compile(r"Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/")

Block = tuple[Instruction, ...]


@dataclass(frozen=True)
class Core:
    """How many cycles a core takes: ``scalar`` for each that a Cortex-M4 would take, and 2 for a
    vector, which has four beats, two a cycle.

    That the beats of unlike vectors overlap is left out.
    """

    scalar: float = 1.0

    def cycles(self, block: Sequence[Instruction], taken: int = 0) -> float:
        """Of a block, ``taken`` of whose ends are taken branches."""
        vectors = sum(one.kind is Kind.VECTOR for one in block)
        jumps = 0 if block[-1].kind is Kind.LOOP_END else 2 * taken
        return 2 * vectors + self.scalar * (scalar_cycles(block) + jumps)


CORES = {"cortex-m4": Core(), "cortex-m55": Core(3.40 / 4.20)}
"""Those that there is a model of; the M55's by CoreMark/MHz beside the M4's."""


def scalar_cycles(block: Iterable[Instruction]) -> int:
    """Of a Cortex-M4 with zero wait states, branches not taken: Arm's technical reference manual,
    a load two cycles, or one behind a load or a store. What is no scalar instruction takes none.
    """
    total, streaming = 0, False
    for one in block:
        kind = one.kind
        if kind is Kind.LOAD:
            total += 1 if streaming else 2
        elif kind is Kind.MULTIPLE:
            total += 1 + one.registers
        else:
            total += _CYCLES.get(kind, 1)
        streaming = kind in (Kind.LOAD, Kind.STORE)
    return total


_CYCLES = {
    Kind.DOUBLE: 3,
    Kind.DIVIDE: 7,
    Kind.DIVIDE_FLOAT: 14,
    Kind.VECTOR: 0,
    Kind.LOOP_END: 0,
}


def entered(log: Iterable[str]) -> Iterator[Block]:
    """The blocks in the order in which they were entered."""
    code: dict[int, list[int]] = {}
    known: dict[int, Block] = {}
    begin: int | None = None
    for line in log:
        if line.startswith("IN:"):
            begin = None
        elif (found := _LINE.match(line)) is not None:
            if begin is None:
                begin = int(found[1], 16)
                code[begin] = []
                known.pop(begin, None)
            code[begin] += [int(half, 16) for half in found[2].split()]
        elif (found := _ENTERED.match(line)) is not None:
            at = int(found[1], 16)
            if at not in known:
                known[at] = tuple(decoded(at, code[at]))
            yield known[at]


def trace(bundle: Bundle, folder: Path, target: str, *, run: bool) -> Path:
    """QEMU's log of a session in which an image is sent, and ``run`` or not."""
    path = folder / ("run" if run else "idle")
    options = (*qemu_system._OPTIONS, "-d", "in_asm,exec,nochain", "-D", str(path))
    inputs, _ = bundle.vectors()
    with patch.object(qemu_system, "_OPTIONS", options):
        program = qemu_system.QemuSystem(target).load(bundle, 1)
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


def count(bundle: Bundle, target: str) -> tuple[int, float]:
    """Instructions and estimated cycles of one inference."""
    with tempfile.TemporaryDirectory(prefix="headgate-") as name:
        folder = Path(name)
        with trace(bundle, folder, target, run=False).open() as log:
            idle = {block[0].at for block in entered(log)}
        times: Counter[Block] = Counter()
        taken: Counter[Block] = Counter()
        last: Block | None = None
        with trace(bundle, folder, target, run=True).open() as log:
            for block in entered(log):
                if block[0].at in idle:
                    last = None
                    continue
                times[block] += 1
                if last is not None and last[-1].at + last[-1].bytes != block[0].at:
                    taken[last] += 1
                last = block
    core = CORES[target]
    instructions = sum(len(block) * number for block, number in times.items())
    straight = sum(core.cycles(block) * number for block, number in times.items())
    jumps = sum(core.cycles(block, number) - core.cycles(block) for block, number in taken.items())
    return instructions, straight + jumps


def main() -> None:
    """Prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--target", choices=CORES, default="cortex-m4")
    arguments = parser.parse_args()
    for name in arguments.names:
        instructions, total = count(build(name, arguments.target), arguments.target)
        print(
            f"{name}: {instructions:,} instructions, {total:,.0f} estimated cycles, "
            f"{total / instructions:.3f} an instruction"
        )


if __name__ == "__main__":
    main()
