"""Estimated cycles of blocks that QEMU writes down."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from bench.cortex_m_cycles import CORES, entered, scalar_cycles
from bench.thumb import Instruction, decoded

# Of a Cortex-M55: QEMU takes the second half of what it does not know for the next instruction.
LOG = """\
----------------
IN:
0x00001550:  e92d 4ff0  push.w   {r4, r5, lr}
0x00001554:  6801       ldr      r1, [r0]
0x00001556:  d1fc       bne      #0x1554

Trace 0: 0x7f1c [00000000/00001550/00000110/ff021201]
----------------
IN:
0x00001554:  eef0       .byte    0xf0, 0xee
0x00001556:  0f22       lsrs     r2, r4, #0x1c
0x00001558:  f00f       .byte    0x0f, 0xf0
0x0000155a:  c003       stm      r0!, {r0, r1}

Trace 0: 0x7f1d [00000000/00001554/00000110/ff021201]
Trace 0: 0x7f1d [00000000/00001554/00000110/ff021201]
"""
LDR, LDRB, STRH, ADD, LDRD = (0x6808,), (0x5CCA,), (0x52CA,), (0x1840,), (0xE9D2, 0x0100)
PUSH, LDM, VPUSH, VLDR = (0xB530,), (0xC81E,), (0xED2D, 0x8B06), (0xED90, 0x0A00)
SMLAD, SDIV, VDIV = (0xFB21, 0x0002), (0xFB91, 0xF0F2), (0xEE80, 0x0A81)
VMLADAVA, LE = (0xEEF0, 0x0F22), (0xF00F, 0xC003)


def block(*codes: tuple[int, ...]) -> list[Instruction]:
    return list(decoded(0, [half for code in codes for half in code]))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([LDR], 2),
        ([LDR, LDRB, STRH, LDR], 2 + 1 + 1 + 1),
        ([LDR, ADD, LDR], 2 + 1 + 2),
        ([LDRD, LDR], 3 + 2),
        ([PUSH, LDM], 4 + 5),
        ([VPUSH, VLDR], 4 + 2),
        ([SMLAD, ADD], 2),
        ([SDIV, VDIV], 7 + 14),
    ],
)
def test_the_models_cycles(codes: list[tuple[int, ...]], expected: int) -> None:
    assert scalar_cycles(block(*codes)) == expected
    assert CORES["cortex-m4"].cycles(block(*codes), taken=1) == expected + 2


def test_vectors_take_two_cycles_and_their_loops_end_for_nothing() -> None:
    core = CORES["cortex-m55"]
    assert core.cycles(block(VMLADAVA, LE), taken=1) == 2
    assert core.cycles(block(VMLADAVA, LDR), taken=1) == pytest.approx(2 + 4 * 3.4 / 4.2)


def test_a_log_is_read_in_the_order_of_execution() -> None:
    first, second, third = entered(LOG.splitlines(keepends=True))
    assert [one.at for one in first] == [0x1550, 0x1554, 0x1556]
    assert [one.bytes for one in first] == [4, 2, 2]
    assert second is third
    assert [one.code for one in second] == [VMLADAVA, LE]
