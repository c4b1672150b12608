"""Estimated cycles of blocks that QEMU writes down."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from bench.cortex_m_cycles import Instruction, cycles, entered

LOG = """\
----------------
IN:
0x00001550:  e92d 4ff0  push.w   {r4, r5, lr}
0x00001554:  6801       ldr      r1, [r0]
0x00001556:  d1fc       bne      #0x1554

Trace 0: 0x7f1c [00000000/00001550/00000110/ff021201]
----------------
IN:
0x00001554:  6801       ldr      r1, [r0]
0x00001556:  d1fc       bne      #0x1554

Trace 0: 0x7f1d [00000000/00001554/00000110/ff021201]
Trace 0: 0x7f1d [00000000/00001554/00000110/ff021201]
"""


def block(*lines: str) -> list[Instruction]:
    words = (line.partition(" ") for line in lines)
    return [Instruction(4 * at, 4, name, rest) for at, (name, _, rest) in enumerate(words)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["ldr r0, [r1]"], 2),
        (["ldr r0, [r1]", "ldrb r2, [r1]", "strh r2, [r1]", "ldr r3, [r1]"], 2 + 1 + 1 + 1),
        (["ldr r0, [r1]", "add r0, r0", "ldr r2, [r1]"], 2 + 1 + 2),
        (["ldrd r0, r1, [r2]", "ldr r3, [r2]"], 3 + 2),
        (["push.w {r4, r5, lr}", "ldm r0!, {r1-r4}"], 4 + 5),
        (["vpush {d8-d10}", "vldr s0, [r0]"], 4 + 2),
        (["smlad r0, r1, r2, r0", "b 0x10"], 2),
        (["sdiv r0, r1, r2", "vdiv.f32 s0, s1, s2"], 7 + 14),
    ],
)
def test_the_models_cycles(lines: list[str], expected: int) -> None:
    assert cycles(block(*lines)) == expected


def test_a_log_is_read_in_the_order_of_execution() -> None:
    first, second, third = entered(LOG.splitlines(keepends=True))
    assert [one.at for one in first] == [0x1550, 0x1554, 0x1556]
    assert [one.bytes for one in first] == [4, 2, 2]
    assert second is third
    assert (second[0].name, second[0].operands) == ("ldr", "r1, [r0]")
