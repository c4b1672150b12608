"""Firmware to boards: ELF to UF2 and back, drives of boot ROMs, a probe that is a script."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.cli import main
from headgate.cli.project import following_project
from headgate.device.elf import flash_image, load_segments
from headgate.device.flash import firmware as flashing
from headgate.device.flash.firmware import find_firmware
from headgate.device.flash.uf2 import read_uf2, to_uf2
from headgate.device.microcontrollers import microcontrollers
from headgate.device.project import Project
from headgate.errors import InputError
from tests.fake_bundle import bundle

PICO = microcontrollers()["pico2"]
FAMILY = 0xE48BFF59
CODE, DATA = bytes(range(256)) * 3, b"data"
START = 0x10000000


def elf(*segments: tuple[int, int, bytes, int], machine: int = 40) -> bytes:
    """A program of (load address, address, bytes, size in memory)."""
    begin = 52 + 32 * len(segments)
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    head += struct.pack(
        "<HHIIIIIHHHHHH", 2, machine, 1, 0, 52, 0, 0, 52, 32, len(segments), 0, 0, 0
    )
    table, body = b"", b""
    for load, address, data, size in segments:
        table += struct.pack(
            "<8I", 1, begin + len(body), address, load, len(data), max(size, len(data)), 7, 4
        )
        body += data
    return head + table + body


PROGRAM = elf(
    (START, START, CODE, 0), (START + 1024, 0x20000000, DATA, 0), (0x20000010, 0x20000010, b"", 64)
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "blink.elf"
    path.write_bytes(PROGRAM)
    return path


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    folder = tmp_path / "RP2350"
    folder.mkdir()
    (folder / "INFO_UF2.TXT").write_text(
        "UF2 Bootloader v1.0\nModel: Raspberry Pi RP2350\nBoard-ID: RP2350\n"
    )
    return folder


def test_what_an_elf_file_stores() -> None:
    segments = load_segments(PROGRAM)
    assert [one.memory_bytes for one in segments] == [768, 4, 64]
    address, image = flash_image(segments, PICO.flash)
    assert (address, image) == (START, CODE + b"\xff" * 256 + DATA)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no 32-bit ELF"),
        (b"\x7fELF\x02" + PROGRAM[5:], "no 32-bit ELF"),
        (PROGRAM[:40], "cut off"),
        (PROGRAM[:100], "cut off"),
        (PROGRAM[:-1], "cut off"),
        (elf((START, START, CODE, 0), machine=62), "machine 62"),
        (elf((START, START, b"", 8)), "empty"),
        (elf((START - 1, START, CODE, 0)), "0x0fffffff"),
        (elf((START + (4 << 20) - 1, START, CODE, 0)), "of another board"),
    ],
)
def test_what_is_no_program_of_the_board(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        flash_image(load_segments(data), PICO.flash)


def test_the_blocks_of_a_uf2_file() -> None:
    data = to_uf2(START, CODE[:257], FAMILY)
    assert len(data) == 2 * 512
    words = [struct.unpack_from("<8I", data, at) for at in (0, 512)]
    start, family = (0x0A324655, 0x9E5D5157, 0x2000), 0xE48BFF59
    assert words[0] == (*start, START, 256, 0, 2, family)
    assert words[1] == (*start, START + 256, 256, 1, 2, family)
    assert (
        data[32:288] == CODE[:256] and data[512 + 32 : 512 + 288] == CODE[256:257] + b"\xff" * 255
    )
    assert data[288:508] == bytes(220) and data[508:512] == data[1020:] == b"\x30\x6f\xb1\x0a"
    with pytest.raises(InputError, match="not at a multiple of 256"):
        to_uf2(START + 4, CODE, FAMILY)


@given(st.binary(min_size=1, max_size=2000), st.integers(0, 100))
def test_uf2_back_and_forth(image: bytes, page: int) -> None:
    address = START + 256 * page
    found, again = read_uf2(to_uf2(address, image, FAMILY), FAMILY, PICO.flash)
    assert found == address
    assert again == image + b"\xff" * (-len(image) % 256)


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (0, 1, "magic"),
        (4, 1, "magic"),
        (508, 1, "magic"),
        (8, 0, "flags"),
        (8, 0x2001, "flags"),
        (12, START, "address"),
        (12, START + 257, "address"),
        (12, 0x20000000, "address"),
        (16, 255, "size"),
        (20, 0, "number"),
        (24, 3, "number"),
        (28, 0xE48BFF56, "family"),
    ],
)
def test_a_wrong_block_is_named(at: int, value: int, says: str) -> None:
    data = bytearray(to_uf2(START, CODE[:512], FAMILY))
    struct.pack_into("<I", data, 512 + at, value)
    with pytest.raises(InputError, match=f"block 1 of the UF2 file has a wrong {says}"):
        read_uf2(bytes(data), FAMILY, PICO.flash)


@pytest.mark.parametrize("start", [START - 512, START + (4 << 20) - 256])
def test_blocks_outside_of_flash(start: int) -> None:
    with pytest.raises(InputError, match="wrong address"):
        read_uf2(to_uf2(start, CODE[:512], FAMILY), FAMILY, PICO.flash)


@pytest.mark.parametrize("length", [0, 511, 513])
def test_a_cut_uf2_file(length: int) -> None:
    with pytest.raises(InputError, match="blocks of 512 bytes"):
        read_uf2(to_uf2(START, CODE, FAMILY)[:length], FAMILY, PICO.flash)


def held(path: Path) -> bytes:
    return read_uf2(path.read_bytes(), FAMILY, PICO.flash)[1][: 1024 + len(DATA)]


def test_a_uf2_file_beside_the_program_or_where_one_says(program: Path, tmp_path: Path) -> None:
    assert main(["flash", str(program), "--board", "pico2", "--dry-run"]) == 0
    assert not program.with_suffix(".uf2").exists()
    assert main(["flash", str(program), "--board", "pico2"]) == 0
    assert held(program.with_suffix(".uf2")) == CODE + b"\xff" * 256 + DATA
    other = tmp_path / "other.uf2"
    assert main(["flash", str(program), str(other), "--board", "pico2"]) == 0
    assert other.read_bytes() == program.with_suffix(".uf2").read_bytes()


def test_a_drive_gets_the_file(program: Path, drive: Path) -> None:
    assert main(["flash", str(program), str(drive), "--board", "pico2"]) == 0
    assert held(drive / "blink.uf2") == CODE + b"\xff" * 256 + DATA


def test_a_folder_that_is_no_drive(
    program: Path, drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (drive / "INFO_UF2.TXT").write_text("Model: Raspberry Pi RP2\nBoard-ID: RPI-RP2\n")
    assert main(["flash", str(program), str(drive), "--board", "pico2"]) == 2
    assert "is of board RPI-RP2, and pico2 is RP2350" in capsys.readouterr().err
    (drive / "INFO_UF2.TXT").unlink()
    assert main(["flash", str(program), str(drive), "--board", "pico2"]) == 2
    assert "hold BOOTSEL" in capsys.readouterr().err
    assert not (drive / "blink.uf2").exists()


@pytest.mark.parametrize("error", [OSError(5, "EIO"), KeyboardInterrupt()])
def test_what_was_not_written_whole_is_not_left(
    error: BaseException, program: Path, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    for target in (drive, drive.parent / "file.uf2"):
        assert main(["flash", str(program), str(target), "--board", "pico2"]) != 0
    assert [path.name for path in drive.iterdir()] == ["INFO_UF2.TXT"]
    assert {path.name for path in drive.parent.iterdir()} == {"RP2350", "blink.elf"}


def test_a_board_that_restarts_takes_its_drive_along(
    program: Path, drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restart(descriptor: int) -> None:
        (drive / "INFO_UF2.TXT").unlink()
        raise OSError(5, "EIO")

    monkeypatch.setattr(flashing.os, "fsync", restart)
    assert main(["flash", str(program), str(drive), "--board", "pico2"]) == 0


def test_a_bundle_stands_for_what_answers_and_its_project_for_its_own_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = elf((START, START, CODE[:8], 0))
    programs = {"demo.elf": other, "demo-serve.elf": PROGRAM}
    files = {"serve/serve.c": b"", "src/main.c": b""}
    made = bundle({"code/runner": b"none"})
    made.save_folder(tmp_path / "fw", Project("demo", "pico2", files, programs))
    assert find_firmware(tmp_path / "fw", None).path.name == "demo-serve.elf"
    assert find_firmware(tmp_path / "fw/demo", None).image == CODE[:8]
    monkeypatch.chdir(tmp_path / "fw")
    for folder, image in ((".", CODE + b"\xff" * 256 + DATA), ("demo", CODE[:8])):
        found = find_firmware(Path(folder), "pico2")
        assert (found.image, found.board.name) == (image, "pico2")
    assert main(["flash", "demo"]) == 0 and (tmp_path / "fw/demo/build/demo.uf2").is_file()
    assert "next: headgate flash demo DRIVE" in capsys.readouterr().out
    assert main(["flash", ".", "demo.uf2"]) == 0
    said = capsys.readouterr().out
    assert "PORT is that of an adapter at the pins GPIO0 (out) and GPIO1 (in)\n" in said
    assert "next: headgate validate . --on serial:PORT\n" in said
    assert main(["flash", "demo", "--board", "corstone-300"]) == 2
    assert "is for pico2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("driver", "says"),
    [
        (True, "compiled by an older headgate or without room for it; compile it again, or flash"),
        (False, "for which pico2 has no driver; flash"),
    ],
)
def test_a_project_without_what_answers_says_why(
    driver: bool,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not driver:
        mute = replace(PICO, uart=None, uart_kind=None)
        monkeypatch.setattr(flashing, "get_microcontroller", lambda name: mute)
    project = Project("demo", "pico2", {"src/main.c": b""}, {"demo.elf": PROGRAM})
    folder = tmp_path / "fw"
    bundle({"code/runner": b"none"}).save_folder(folder, project)
    assert main(["flash", str(folder)]) == 2
    assert f"{says} its own: headgate flash {folder / 'demo'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("board", "serves", "says"),
    [
        ("mps3-an547", True, "python fw/demo/build.py run"),
        ("pico2", True, "headgate flash fw"),
        ("nucleo-l433rc-p", True, "headgate flash fw"),
        ("nano33-ble-sense", False, "headgate flash fw/demo"),
        (
            "corstone-300",
            True,
            "load fw/demo/build/demo-serve.elf with the board's own tools, then headgate validate "
            "fw --on serial:PORT",
        ),
        ("corstone-300", False, "load fw/demo/build/demo.elf with the board's own tools"),
    ],
)
def test_what_follows_a_project(board: str, serves: bool, says: str) -> None:
    programs = {"demo.elf": PROGRAM} | ({"demo-serve.elf": PROGRAM} if serves else {})
    assert following_project(Path("fw"), Project("demo", board, {}, programs)) == says


L4 = elf((0x08000000, 0x08000000, CODE, 0))


@pytest.fixture
def pyocd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes ``python -m pyocd`` a script that notes its arguments, in the file given back."""

    def make(script: str) -> Path:
        package = tmp_path / "packages/pyocd"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        said = tmp_path / "arguments"
        text = f"import sys\nopen({str(said)!r}, 'w').write('\\n'.join(sys.argv[1:]))\n{script}\n"
        (package / "__main__.py").write_text(text)
        monkeypatch.syspath_prepend(str(package.parent))
        monkeypatch.setenv("PYTHONPATH", str(package.parent))
        return said

    return make


def test_a_probe_that_shows_the_line_is_the_port(
    tmp_path: Path, pyocd: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pyocd("")
    files = {"serve/serve.c": b""}
    project = Project("demo", "nucleo-l4r5zi", files, {"demo.elf": L4, "demo-serve.elf": L4})
    folder = tmp_path / "fw"
    bundle({"code/runner": b"none"}).save_folder(folder, project)
    assert main(["flash", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "adapter" not in said
    assert f"next: headgate validate {folder} --on serial:/dev/ttyACM0\n" in said


def flash_l4(tmp_path: Path, *options: str) -> int:
    path = tmp_path / "l4.elf"
    path.write_bytes(L4)
    return main(["flash", str(path), "--board", "nucleo-l4r5zi", *options])


def test_a_probe_gets_the_program(tmp_path: Path, pyocd: Callable[[str], Path]) -> None:
    said = pyocd("")
    assert flash_l4(tmp_path, "--dry-run") == 0 and not said.exists()
    assert flash_l4(tmp_path) == 0
    words = said.read_text().splitlines()
    assert words[0] == "load" and words[-1] == str(tmp_path / "l4.elf")
    assert words[words.index("--target") + 1] == "stm32l4r5zitx" and "--no-wait" in words


# As pyOCD 0.46 says it.
FAILURES = {
    "no probe": (
        "print('No connected debug probes')\n"
        "sys.stderr.write('0000952 E No target device available [load_cmd]\\n')",
        "no debug probe is plugged in",
    ),
    "no pack": (
        "sys.stderr.write(\"0000321 C Target type stm32l4r5zitx not recognized. Use 'pyocd list "
        "--targets' [__main__]\\n\")",
        "run: python -m pyocd pack install stm32l4r5zitx",
    ),
    "other": (
        "sys.stderr.write('0000952 I begin [x]\\n0001000 C Flash init failed [__main__]\\n')",
        "pyOCD failed: Flash init failed\n",
    ),
    "silent": ("", "pyOCD failed: it says nothing\n"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_probe_that_fails_is_one_line(
    case: str,
    tmp_path: Path,
    pyocd: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, says = FAILURES[case]
    pyocd(f"{script}\nsys.exit(1)")
    assert flash_l4(tmp_path) == 1
    error = capsys.readouterr().err
    assert says in error
    assert len([line for line in error.splitlines() if "error" in line]) == 1


def test_refusals(
    program: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("headgate.errors.importlib.util.find_spec", lambda name: None)
    corstone = tmp_path / "corstone.elf"
    corstone.write_bytes(elf((0x10000000, 0x10000000, CODE, 0)))
    gone = str(tmp_path / "gone.elf")
    for words, says in [
        ([str(program)], "which board"),
        ([str(program), "--board", "pico3"], "Did you mean 'pico2'"),
        ([gone, "--board", "pico2"], "no program"),
        ([str(program), "--board", "nucleo-l4r5zi"], "is it of another board"),
        ([str(corstone), "--board", "corstone-300"], f"load {corstone} with its own tools"),
        ([str(corstone), "--board", "mps3-an547"], "is QEMU's"),
        ([str(tmp_path), "--board", "pico2"], "not a headgate bundle"),
    ]:
        assert main(["flash", *words]) != 0
        error = capsys.readouterr().err
        assert says in error
    assert flash_l4(tmp_path) == 1
    assert "pip install 'headgate[pyocd]'" in capsys.readouterr().err
    assert flash_l4(tmp_path, "--json") == 1
    assert main(["flash", "--board", "pico2"]) == 2
