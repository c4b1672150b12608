"""Thumb instructions by their encoding; names as GNU's assembler and disassembler have them."""

from __future__ import annotations

import pytest

from bench.thumb import Kind, decoded

CODES = {
    Kind.LOAD: """
        6808 ldr r0, [r1]; 4830 ldr r0, [pc, #192]; 5cca ldrb r2, [r1, r3]
        f8d1_3190 ldr.w r3, [r1, #400]; 9802 ldr r0, [sp, #8]; ed90_0a00 vldr s0, [r0]
        ed90_0901 vldr.16 s0, [r0, #2]""",
    Kind.STORE: """
        52ca strh r2, [r1, r3]; 804a strh r2, [r1, #2]; f801_3b01 strb.w r3, [r1], #1
        ed80_1b02 vstr d1, [r0, #8]""",
    Kind.DOUBLE: "e9d2_0100 ldrd r0, r1, [r2]; e9e2_0102 strd r0, r1, [r2, #8]!",
    Kind.DIVIDE: "fb91_f0f2 sdiv r0, r1, r2; fbb1_f0f2 udiv r0, r1, r2",
    Kind.DIVIDE_FLOAT: """
        ee80_0a81 vdiv.f32 s0, s1, s2; eeb1_0ae0 vsqrt.f32 s0, s1
        ee80_0981 vdiv.f16 s0, s1, s2""",
    Kind.VECTOR: """
        ecb1_1e10 vldrb.u8 q0, [r1], #16; ed81_0e80 vstrb.16 q0, [r1]
        eef0_0f22 vmladava.s8 r0, q0, q1
        ef02_0644 vmax.s8 q0, q1, q2; ef22_0844 vadd.i32 q0, q1, q2; ff02_0d54 vmul.f32 q0, q1, q2
        ffbb_0142 vcvtn.s32.f32 q0, q1; ec91_0e84 vldrb.s16 q0, [r1, q2]
        ef22_0b44 vqdmulh.s32 q0, q1, q2; eea8_0f42 vmovlb.s8 q0, q1; eef1_0f22 vaddva.s8 r0, q1
        eea0_1b10 vdup.32 q0, r1""",
    Kind.LOOP_END: "f01f_c003 letp lr; f00f_c003 le lr",
    Kind.OTHER: """
        f042_c009 wls lr, r2; f042_e001 dls lr, r2; f000_f804 bl; f000_b802 b.w; bf00 nop
        fac1_f042 usub8 r0, r1, r2; faa1_f082 sel r0, r1, r2; f890_f000 pld [r0]
        fb82_0103 smull r0, r1, r2, r3; fb21_0002 smlad r0, r1, r2, r0; ec51_0b13 vmov r0, r1, d3
        eea0_0a81 vfma.f32 s0, s1, s2; eeb8_0ac0 vcvt.f32.s32 s0, s0; eebd_0a40 vcvtr.s32.f32 s0, s0
        e8d0_f001 tbb [r0, r1]; e851_0f00 ldrex r0, [r1]; ee30_0981 vadd.f16 s0, s1, s2
        eed2_0b70 vmov.u8 r0, q1[3]; ee22_0b70 vmov.16 q1[3], r0
        fe80_0a81 vmaxnm.f32 s0, s1, s2; eef1_fa10 vmrs APSR_nzcv, fpscr""",
}
REGISTERS = {
    "b530 push {r4, r5, lr}": 3,
    "bd01 pop {r0, pc}": 2,
    "e92d_4110 push.w {r4, r8, lr}": 3,
    "c81e ldm r0!, {r1-r4}": 4,
    "e889_0006 stm r9, {r1, r2}": 2,
    "ed2d_8b06 vpush {d8-d10}": 3,
    "ecb0_0a05 vldm r0!, {s0-s4}": 5,
}


def halves(text: str) -> list[int]:
    return [int(half, 16) for half in text.split()[0].split("_")]


@pytest.mark.parametrize("kind", CODES)
def test_kinds(kind: Kind) -> None:
    for text in CODES[kind].replace("\n", ";").split(";"):
        if text.strip():
            (one,) = decoded(0, halves(text))
            assert one.kind is kind, text


@pytest.mark.parametrize("text", REGISTERS)
def test_several_registers(text: str) -> None:
    (one,) = decoded(0, halves(text))
    assert (one.kind, one.registers) == (Kind.MULTIPLE, REGISTERS[text])


def test_where_instructions_begin() -> None:
    found = list(decoded(0x100, [0xBF00, 0xEEF0, 0x0F22, 0x6808]))
    assert [(one.at, one.bytes) for one in found] == [(0x100, 2), (0x102, 4), (0x106, 2)]
