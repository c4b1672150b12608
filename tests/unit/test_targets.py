"""The table of machines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.device import runtime_sources, targets
from headgate.device.machines.serial import BAUD
from headgate.device.microcontrollers import Microcontroller, microcontrollers, pin_index
from headgate.device.targets import TARGET_NAMES, emulated_microcontrollers, get_target
from headgate.errors import CompileError, UsageError
from tests.package_copy import copy_package, run_with
from tests.readmes import ROOT

BOARDS = [name for name in TARGET_NAMES if name != "host"]
LINUX = [name for name in BOARDS if get_target(name).os == "linux"]
GUIDE = ROOT / "device/MICROCONTROLLERS.md"
BARE = [name for name in BOARDS if get_target(name).os == "none"]


@pytest.fixture(autouse=True)
def _forget_the_host() -> Iterator[None]:
    yield
    targets.host.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, machine: str, flags: str = "", **cpuinfo: str) -> None:
    targets.host.cache_clear()
    monkeypatch.setattr("platform.machine", lambda: machine)
    lines = [f"{key} : {value}" for key, value in {"flags": flags, **cpuinfo}.items()]
    monkeypatch.setattr(targets, "_read_cpuinfo", lambda: "\n".join(lines))


def test_names() -> None:
    linux = ("rpi3", "rpi4", "rpi5", "jetson-nano", "jetson-orin")
    cortex_m = [f"cortex-m{name}" for name in ("4", "7", "33", "4-nofp", "33-nofp", "55")]
    assert ("host", *linux, *cortex_m) == TARGET_NAMES
    assert [get_target(name).name for name in BOARDS] == BOARDS


@pytest.mark.parametrize("name", LINUX)
def test_boards_are_64_bit_arm(name: str) -> None:
    row = get_target(name)
    assert (row.arch, row.triple) == ("aarch64", "aarch64-linux")
    assert row.llvm() == {
        "kind": "llvm",
        "mtriple": "aarch64-linux-gnu",
        "mcpu": row.cpu,
        "mattr": ["+neon"],
    }


@pytest.mark.parametrize("name", BARE)
def test_microcontrollers_pass_floats_in_registers_if_they_have_an_fpu(name: str) -> None:
    row, has_fpu = get_target(name), not name.endswith("-nofp")
    assert row.cpu == name.removesuffix("-nofp")
    assert row.triple.startswith("thumb")
    assert row.triple.endswith("-none-eabihf" if has_fpu else "-unknown-none-eabi")
    assert row.llvm()["mfloat-abi"] == row.float_abi == ("hard" if has_fpu else "soft")
    assert row.zig == f"thumb-freestanding-eabi{'hf' * has_fpu}"
    assert ("+" in row.zig_cpu) == has_fpu  # without one zig passes floats in other registers
    assert row.runs_on == (None if has_fpu else row.cpu)
    assert row.has("dsp")
    assert row.has("mve") == (name == "cortex-m55")


def test_qemu_is_a_board_of_each_microcontroller() -> None:
    emulated = emulated_microcontrollers()
    assert list(emulated) == BARE
    for target, board in emulated.items():
        row = microcontrollers()[board]
        assert row.target in (target, get_target(target).runs_on)
        assert row.uart is not None
        assert row.uart_kind is not None
        assert row.pin_kind is not None


@pytest.mark.parametrize("board", microcontrollers().values(), ids=lambda board: board.name)
def test_memories_of_microcontrollers_do_not_overlap(board: Microcontroller) -> None:
    assert board.target in BARE
    first, second = sorted((board.flash, board.ram), key=lambda memory: memory.address)
    assert first.address + first.bytes <= second.address
    # What answers on the line has drivers for both, and a chip sets up their pins.
    assert (
        len({one is None for one in (board.uart, board.uart_kind, board.pin, board.pin_kind)}) == 1
    )
    assert board.uart is not None or board.chip is None
    assert (board.uart_tx is None) == (board.uart_rx is None)
    assert not board.uart_usb or (board.uart_tx is not None and board.is_flashed)
    runtime = runtime_sources("baremetal")
    for kind, name in (("chip", board.chip), ("uart", board.uart_kind), ("pin", board.pin_kind)):
        assert name is None or (runtime / f"{kind}_{name}.c").is_file()


def test_boards_and_hosts_have_one_speed() -> None:
    assert f"enum {{ BAUD = {BAUD} }};" in (runtime_sources("baremetal") / "line.h").read_text()
    text = GUIDE.read_text()
    assert {int(speed) for speed in re.findall(r"serial:[\w/]+,(\d+)", text)} <= {BAUD}
    assert {int(speed) for speed in re.findall(r"(\d+) baud", text)} == {BAUD}


@pytest.mark.parametrize(
    "name", [row.name for row in microcontrollers().values() if not row.is_emulated]
)
def test_the_guide_says_what_a_board_is_flashed_by_and_where_its_line_is(name: str) -> None:
    lines = GUIDE.read_text().splitlines()
    cells = next(line for line in lines if line.startswith(f"| `{name}` | ")).split(" | ")
    line, flashed = cells[2], cells[4]
    board = microcontrollers()[name]
    assert ("serial port" in line) == board.uart_usb
    assert ("pyOCD" in flashed) == (board.pyocd is not None)
    assert ("UF2" in flashed) == (board.uf2_family is not None)
    for pin in (board.uart_tx, board.uart_rx):
        assert pin is None or pin in line


def test_pins_are_numbered_through() -> None:
    names = ("PA0", "PG7", "PK15", "P0.00", "P1.03", "P1.31", "GPIO0", "GPIO47")
    assert [pin_index(name) for name in names] == [0, 103, 175, 0, 35, 63, 0, 47]
    for name in ("", "PA16", "PL1", "P1.3", "P1.32", "P2.00", "GPIO", "GPIO100", "PA0 "):
        with pytest.raises(ValueError, match="is no pin"):
            pin_index(name)


@pytest.mark.parametrize("name", BOARDS)
def test_measured_peak_is_below_what_the_core_can_issue(name: str) -> None:
    row = get_target(name)
    fastest_clock_ghz = 2.5
    most = max(2 * lanes / cycles for lanes, cycles in row.vector_fma_cycles.items())
    assert row.fma_peak_gflops is None or 5 < row.fma_peak_gflops <= most * fastest_clock_ghz


def test_unknown_name_has_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"Unknown target 'rpi6'\. Did you mean 'rpi"):
        get_target("rpi6")
    with pytest.raises(UsageError, match=r"Known: cortex-m33, cortex-m33-nofp, .*, rpi3"):
        get_target("toaster")


AVX512 = "avx2 fma avx512f avx512vl avx512dq"


@pytest.mark.parametrize(
    ("flags", "cpuinfo", "cpu", "widest"),
    [
        ("avx2 fma", {}, "haswell", 8),
        (AVX512, {"vendor_id": "GenuineIntel"}, "skylake-avx512", 16),
        (AVX512, {"vendor_id": "AuthenticAMD", "cpu family": "25"}, "znver4", 16),
        ("avx2 fma avx512f", {"vendor_id": "GenuineIntel"}, "haswell", 8),
    ],
)
def test_host_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, flags: str, cpuinfo: dict[str, str], cpu: str, widest: int
) -> None:
    pretend(monkeypatch, "x86_64", flags, **cpuinfo)
    row = get_target("host")
    assert (row.name, row.arch, row.cpu) == ("host", "x86_64", cpu)
    assert max(row.vector_fma_cycles) == widest
    assert row.fma_peak_gflops is None


def test_host_on_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "aarch64")
    row = get_target("host")
    assert (row.name, row.arch, row.vector_fma_cycles) == ("host", "aarch64", {4: 1.0})


@pytest.mark.parametrize(("machine", "flags"), [("x86_64", "sse2"), ("riscv64", "")])
def test_host_without_a_known_vector_unit(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: str
) -> None:
    pretend(monkeypatch, machine, flags)
    with pytest.raises(CompileError, match="--target rpi4"):
        get_target("host")


ROW = """
[target.rpi6]
arch = "aarch64"
cpu = "cortex-a76"
vector_fma_cycles.4 = 0.25
l2_kib = 2048
qemu = "cortex-a76"

[board.rpi6]
model = "Raspberry Pi 6"
target = "rpi6"
cores = 4
sensors = ["hwmon"]
"""
USE = """
from headgate.device import list_machines
from headgate.device.boards import kinds, read_inventory
from headgate.device.machines.find import find_machine
from headgate.device.targets import get_target
from tests.fake_bundle import bundle

assert get_target("rpi6").vector_fma_cycles == {4: 0.25}
assert "qemu:rpi6" in list_machines()
board = read_inventory("[den]\\nboard = 'rpi6'\\nhost = 'den'", "x")["den"]
assert board.kind == kinds()["rpi6"] and board.target_of("Raspberry Pi 6 Model B") == "rpi6"
made = bundle({"code/runner": b"code"}, "rpi4")
made.manifest["target"]["name"] = "rpi6"
find_machine("qemu:rpi6").check(made)
"""


def test_a_new_target_is_a_row(tmp_path: Path) -> None:
    with (copy_package(tmp_path, "device") / "device/targets.toml").open("a") as table:
        table.write(ROW)
    (tmp_path / "qemu-aarch64").write_text("#!/bin/sh\n")
    (tmp_path / "qemu-aarch64").chmod(0o755)
    run_with(tmp_path, USE)
