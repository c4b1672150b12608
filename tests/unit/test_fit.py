"""Whether a network fits a microcontroller: sizes, the arena over time, verdict and advice."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headgate.cli import analyze as command
from headgate.cli import main
from headgate.cli.output import print_json
from headgate.device import Bundle
from headgate.device.agent.absent import NotMeasured
from headgate.device.elf_sections import Section, archive_sections, stored_bytes
from headgate.device.footprint import TOO_LARGE, Footprint, footprint
from headgate.device.manifest import FIRMWARE, Place, library_member
from headgate.device.microcontrollers import (
    STACK_BYTES,
    Memory,
    Microcontroller,
    microcontrollers,
)
from headgate.errors import BundleError
from headgate.profiling.fit import draw_arena
from headgate.profiling.fit.analysis import Analysis, analyze, cycle_model, judge
from headgate.profiling.fit.emulate import Emulated
from headgate.profiling.fit.timeline import find_peak
from tests.fake_bundle import TARGETS, bundle
from tests.fake_objects import ALLOC, BITS, CODE, NO_BITS, WRITE, archive, elf

OBJECTS = archive(
    elf([(".text.run", CODE, BITS, 300), (".bss.x", ALLOC | WRITE, NO_BITS, 12)]),
    elf([(".rodata.fake_weights", ALLOC, BITS, 64), (".comment", 0, BITS, 1000)]),
    elf([(".data.y", ALLOC | WRITE, BITS, 4)]),
)
PROGRAM = elf([], [(1, 400), (1, 8), (0x70000001, 50)])
PLACES = [
    Place("image", 0, 96, -1, 0, False),
    Place("block", 64, 40, 0, 2, False),
    Place("block.padded", 112, 16, 1, 1, True),
]
PLAN = {"buffers": [vars(one) for one in PLACES], "weights_bytes": [16, 48], "most_active": [3]}
BOARD = Microcontroller(
    "little", "A board", "cortex-m4", 100, Memory(0, 1), Memory(1 << 20, 1), None, None
)
RUN = Emulated(
    "qemu:cortex-m4", np.array([[10, 200], [10, 400]]), np.array([[16, 24], [16, 72]]), 56
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    row = {"arch": "armv7em", "cpu": "cortex-m4", "triple": "thumbv7em", "features": []}
    monkeypatch.setitem(TARGETS, "cortex-m4", row)
    return bundle(
        {library_member("fake"): OBJECTS, FIRMWARE: PROGRAM}, "cortex-m4", plan=PLAN, dtype="int8"
    )


class Exact(Memory):
    """Of as many bytes as ``kib`` says."""

    @property
    def bytes(self) -> int:
        return self.kib


def with_ram(size_bytes: int) -> Microcontroller:
    return replace(BOARD, ram=Exact(1 << 20, size_bytes))


def test_sections_of_a_library_and_bytes_of_a_program() -> None:
    assert archive_sections(OBJECTS) == [
        Section(".text.run", 300, written=False, stored=True),
        Section(".bss.x", 12, written=True, stored=False),
        Section(".rodata.fake_weights", 64, written=False, stored=True),
        Section(".data.y", 4, written=True, stored=True),
    ]
    assert stored_bytes(PROGRAM) == 408


@pytest.mark.parametrize("size", [0, 5, 40, 100, 170, 300])
def test_what_is_no_library_or_cut_off_is_one_error(size: int) -> None:
    for read, whole in ((archive_sections, b"?" + OBJECTS[:size]), (stored_bytes, PROGRAM[:51])):
        with pytest.raises(BundleError, match="recompile"):
            read(whole)


def test_a_cut_object_is_one_error() -> None:
    whole = elf([(".text", CODE, BITS, 300)])
    for size in range(6, len(whole)):
        with pytest.raises(BundleError, match="damaged"):
            archive_sections(archive(whole[:size]))


def test_footprint(fake: Bundle) -> None:
    needs = footprint(fake)
    assert needs == Footprint(
        code_bytes=304,
        weights_bytes=64,
        rest_bytes=40,
        arena_bytes=128,
        scratch_bytes=16,
        tensors_bytes=4 * (24 + 4),
        variables_bytes=16,
        stack_bytes=NotMeasured("it takes a run"),
    )
    assert needs.flash_bytes == 408
    assert needs.ram_bytes == 128 + 112 + 16 + STACK_BYTES
    assert needs.with_stack(56).ram_bytes == 128 + 112 + 16 + 56


def test_the_last_byte_decides(fake: Bundle) -> None:
    needs = footprint(fake).with_stack(56)
    assert needs.missing(with_ram(312)) == {}
    assert needs.missing(with_ram(311)) == {"RAM": 1}
    assert judge(fake, with_ram(312), needs, RUN).fits
    assert not judge(fake, with_ram(311), needs, RUN).fits
    assert not judge(fake, replace(BOARD, flash=Memory(0, 0)), needs, RUN).fits


def test_what_is_too_large_for_qemus_board_is_judged_by_its_sizes(fake: Bundle) -> None:
    large = bundle({library_member("fake"): OBJECTS}, "cortex-m4", plan=PLAN)
    found = analyze(large, replace(BOARD, flash=Memory(0, 0)), np.zeros((1, 4, 2, 3), np.float32))
    assert found.needs.rest_bytes == found.executed == found.machine == NotMeasured(TOO_LARGE)
    assert found.missing["flash"] == 368


def test_peak_and_drawing() -> None:
    peak = find_peak(PLACES, 2)
    assert (peak.step, peak.bytes) == (0, 136)
    assert [one.name for one in peak.buffers] == ["image", "block"]
    assert draw_arena(PLACES, ["in", "block"], 128, cells=8) == [
        "# values, s scratch, . free; a column is 16 bytes of 128",
        "  0 in    #######.       136",
        "  1 block ....###s        56",
    ]


def test_layers_and_totals(fake: Bundle) -> None:
    found = judge(fake, BOARD, footprint(fake), RUN)
    first, second = found.layers
    assert (first.weights_bytes, first.arena_bytes, first.scratch_bytes) == (16, 136, 0)
    assert (second.weights_bytes, second.arena_bytes, second.scratch_bytes) == (48, 56, 16)
    # 6 MACs for a pair of one of 4 inputs and one of at most 3 outputs.
    assert (second.dense_macs, second.worst_macs) == (96, 72)
    assert (found.dense_macs, found.worst_macs) == (96, 16 + 72)
    per_instruction = cycle_model(BOARD, "int8").cycles_per_instruction
    assert not isinstance(found.executed, NotMeasured)
    assert found.executed.macs == 64
    assert (found.executed.instructions, found.executed.most_instructions) == (310, 410)
    assert found.executed.cycles == round(310 * per_instruction)
    assert found.executed.ms == pytest.approx(310 * per_instruction / 100e3)
    assert not isinstance(second.executed, NotMeasured)
    assert (second.executed.macs, second.executed.instructions) == (48, 300)
    assert (found.images, found.machine) == (2, "qemu:cortex-m4")


def test_without_qemu_nothing_is_made_up(fake: Bundle) -> None:
    absent = NotMeasured("no QEMU here")
    found = judge(fake, BOARD, footprint(fake), absent)
    assert found.executed == found.machine == absent
    assert all(layer.executed == absent for layer in found.layers)
    assert found.needs.stack_bytes == absent
    assert found.missing == {"RAM": 128 + 112 + 16 + STACK_BYTES - 1024}


def test_qemu_that_is_not_installed_is_a_reason(
    fake: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_: None)
    found = analyze(fake, BOARD, np.zeros((1, 4, 2, 3), np.float32))
    assert isinstance(found.machine, NotMeasured)
    assert "apt-get install qemu-system-arm" in found.machine.reason
    assert found.executed == found.needs.stack_bytes == found.machine


def test_advice(fake: Bundle) -> None:
    board = with_ram(256)
    found = judge(fake, board, footprint(fake), RUN)
    assert found.missing == {"RAM": 56}
    channels, size, boards = found.advice
    assert channels == (
        "fewer channels in image: its result takes 96 of the 136 bytes that are in use during step "
        "0, block.gate"
    )
    # 256 bytes less variables and stack leave 184 for what takes 240.
    assert size.startswith("a smaller input: 2x1 instead of 3x2")
    assert boards == ("a board with more memory: nucleo-l4r5zi, nano33-ble-sense, nucleo-l433rc-p")
    found = judge(fake, replace(BOARD, flash=Memory(0, 0)), footprint(fake), RUN)
    assert found.missing == {"flash": 408}
    assert found.advice[0] == 'fewer channels in block."conv": its weights take 48 of 64 bytes'
    members = {library_member("fake"): OBJECTS, FIRMWARE: PROGRAM}
    single = bundle(members, "cortex-m4", plan=PLAN)
    _, _, dtype, _ = judge(single, board, footprint(single), RUN).advice
    assert dtype.startswith("--dtype int8")
    assert judge(fake, microcontrollers()["nucleo-l4r5zi"], footprint(fake), RUN).advice == []


def test_a_bundle_for_another_core_or_without_a_plan_is_refused(fake: Bundle) -> None:
    pico, image = microcontrollers()["pico2"], np.zeros((1, 4, 2, 3), np.float32)
    with pytest.raises(BundleError, match="compiled for cortex-m4, pico2 is a cortex-m33"):
        analyze(fake, pico, image)
    with pytest.raises(BundleError, match="recompile"):
        footprint(bundle({library_member("fake"): OBJECTS, FIRMWARE: PROGRAM}, "cortex-m4"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights_bytes": [1]}, "plan.weights_bytes has 1 numbers for 2"),
        ({"most_active": []}, "plan.most_active has 0 numbers for 1"),
        ({"buffers": [{**PLAN["buffers"][0], "offset": 64}]}, "ends outside the arena"),  # type: ignore[index]
    ],
)
def test_a_plan_that_contradicts_the_bundle_is_refused(
    fake: Bundle, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        bundle({FIRMWARE: PROGRAM}, "cortex-m4", plan={**PLAN, **change})


def test_estimates_say_what_they_are_of() -> None:
    boards = microcontrollers()
    names = ("nucleo-l4r5zi", "pico2", "corstone-300")
    known, scaled, vectors = (cycle_model(boards[name], "int8") for name in names)
    assert known.cycles_per_instruction > 1
    assert "zero wait states" in known.name
    assert (scaled.cycles_per_instruction, scaled.clock_mhz) == (1.27, 150)
    assert "scaled by CoreMark/MHz (M4 3.40, M33 4.02)" in scaled.name
    assert (vectors.cycles_per_instruction, vectors.clock_mhz) == (1.75, boards[names[2]].clock_mhz)
    assert "vectors 2" in vectors.name
    single = cycle_model(boards["nucleo-l4r5zi"], "float32")
    assert single.cycles_per_instruction == 1.0
    assert "no model of the cortex-m4 in float32" in single.name


def shown(analysis: Analysis, capsys: pytest.CaptureFixture[str]) -> str:
    command._show(analysis)
    return capsys.readouterr().out


def test_what_a_person_reads(fake: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(judge(fake, with_ram(256), footprint(fake), RUN), capsys)
    assert "56 too many" in text
    assert "stack, measured in qemu:cortex-m4" in text
    assert (
        "it does NOT fit, for want of 56 bytes of RAM; the arena is fullest in step 0, block.gate "
        "(gate), with 136 bytes. What to change:"
    ) in text
    assert "fewer channels in image" in text
    assert "  1 block" in text
    text = shown(judge(fake, BOARD, footprint(fake), RUN), capsys)
    assert "little: it fits" in text
    assert "NOT" not in text
    text = shown(judge(fake, BOARD, footprint(fake), NotMeasured("no QEMU here")), capsys)
    assert "stack, an estimate" in text
    assert "cycles and ms: not measured: no QEMU here" in text


def test_what_a_program_reads(fake: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    print_json(judge(fake, with_ram(256), footprint(fake), RUN))
    figures = json.loads(capsys.readouterr().out)
    assert (figures["fits"], figures["missing"]) == (False, {"RAM": 56})
    assert figures["arena"] == PLAN["buffers"]
    assert figures["layers"][1]["executed"]["macs"] == 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board", "nucleo-l4r5z"], "Did you mean 'nucleo-l4r5zi'?"),
        (["--board", "rpi4"], "no microcontroller is called 'rpi4'"),
        (["--board", "pico2", "--dtype", "float16"], "unknown --dtype 'float16'"),
    ],
)
def test_what_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", "resnet8", *arguments]) == 2
    assert message in capsys.readouterr().err
