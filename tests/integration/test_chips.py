"""Firmware for real boards in an emulated core: the registers of its chip are a model, which knows
what the chip forbids. Nothing of this is silicon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")
pytest.importorskip("unicorn", reason="unicorn is not installed: pip install 'headgate[dev]'")

from headgate.device.machines.serial_program import SerialProgram
from headgate.device.microcontrollers import microcontrollers
from headgate.device.serial_frames import Frame
from headgate.device.serial_protocol import Kind
from tests.chips.machine import EmulatedLine, Machine
from tests.chips.model import Chip, Violation
from tests.chips.nrf52 import Nrf52
from tests.chips.rp2350 import Rp2350
from tests.chips.stm32 import H7A3, L4, L4Plus
from tests.integration.test_project import bundle, project_of

PORT = {letter: index for index, letter in enumerate("ABCDEFGHIJK")}
# Where each board's connectors are, beside its row.
CHIPS: dict[str, Callable[[str], Chip]] = {
    "nucleo-l4r5zi": lambda hasty: L4Plus(
        hasty, tx=(PORT["G"], 7), rx=(PORT["G"], 8), function=8, meter=(PORT["F"], 13)
    ),
    "nucleo-l433rc-p": lambda hasty: L4(
        hasty, tx=(PORT["A"], 2), rx=(PORT["A"], 3), function=8, meter=(PORT["C"], 7)
    ),
    "nucleo-h7a3zi-q": lambda hasty: H7A3(
        hasty, tx=(PORT["D"], 8), rx=(PORT["D"], 9), function=7, meter=(PORT["G"], 12)
    ),
    "pico2": Rp2350,
    "nano33-ble-sense": Nrf52,
}
FLAGS = [(name, flag) for name, chip in CHIPS.items() for flag in chip("").waits]


def machine(name: str, hasty: str = "") -> Machine:
    program = project_of(name).serve
    assert program is not None
    return Machine(program, microcontrollers()[name], CHIPS[name](hasty))


@pytest.mark.parametrize("name", CHIPS)
def test_a_board_reaches_its_clock_and_answers_as_the_host_expects(name: str) -> None:
    row, board = microcontrollers()[name], machine(name)
    made = bundle(row.target)
    (images, *_), (expected, *_) = made.vectors()
    with SerialProgram(made, name, lambda: EmulatedLine(board)) as program:
        np.testing.assert_array_equal(program.run(images[:2]), expected[:2])
        assert board.chip.core_mhz() == row.clock_mhz
        with program.session() as (session, greeting):
            assert (greeting.board, greeting.counter) == (name, "DWT")
            assert greeting.clock_hz == row.clock_mhz * 10**6
            session.run(False, program.run_s, inferences=2, window=True)
    # An output that is high; low in the window, and once more behind it.
    assert board.chip.levels == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(("name", "flag"), FLAGS)
def test_each_flag_is_waited_for(name: str, flag: str) -> None:
    """Of a flag that is set too early the model notices; so does it if the wait is taken away."""
    board = machine(name, flag)
    with pytest.raises(Violation):
        board.run()
        EmulatedLine(board).write(Frame(Kind.HELLO, 1, b"abcd").encode())
        board.run()


def test_an_m7_has_its_caches_on() -> None:
    board = machine("nucleo-h7a3zi-q")
    board.run()
    assert isinstance(board.chip, H7A3) and board.chip.core.caches == 3 << 16
