"""Firmware projects: built from their folder alone, run on QEMU's boards; sizes on the others."""

from __future__ import annotations

import pickle
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")
pytest.importorskip("ziglang", reason="ziglang is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.compile.firmware.project import make_project, sizes
from headgate.device import Bundle, validate
from headgate.device.elf import flash_image, load_segments
from headgate.device.machines.qemu_system import BOARDS
from headgate.device.manifest import FIRMWARE
from headgate.device.microcontrollers import Memory, Microcontroller, microcontrollers
from headgate.device.project import Project
from headgate.errors import CompileError, StorageError
from headgate.train.gates import gate
from tests.integration.test_int8 import compiled
from tests.session_cache import once

REAL = [name for name, board in microcontrollers().items() if not board.is_emulated]
IMAGE_DEFINITION = struct.pack("<5I", 0xFFFFDED3, 0x10210142, 0x000001FF, 0, 0xAB123579)


def network() -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    rest = (nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    module = nn.Sequential(*convolution, *rest, nn.Flatten(), nn.Linear(8, 5))
    return gate(module, density=0.5).eval()


def bundle(target: str) -> Bundle:
    images = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    make = lambda: compiled(network(), images, target, 4).to_bytes()  # noqa: E731
    return Bundle.open(once("project", target, make))


def project_of(board: str, target: str | None = None) -> Project:
    """The project ``demo``, built once in a session."""
    found = microcontrollers()[board]

    def make() -> bytes:
        return pickle.dumps(make_project(bundle(target or found.target), "demo", found))

    made: Project = pickle.loads(once("built project", (board, target), make).read_bytes())
    return made


def written(folder: Path, board: str, target: str | None = None) -> Path:
    """The project in a bundle's folder, for the board's own target unless another is said."""
    made = bundle(target or microcontrollers()[board].target)
    made.save_folder(folder / "fw", project_of(board, target))
    return folder / "fw" / "demo"


def build(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As on a machine with ziglang and no headgate: the folder is elsewhere, and so is Python."""
    text = (project / "build.py").read_text()
    assert "headgate" not in text
    command = [sys.executable, "-P", "build.py", *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)


@pytest.mark.usefixtures("qemu_system_arm")
@pytest.mark.parametrize(("target", "board"), BOARDS.items())
def test_a_project_runs_its_vectors_in_qemu(target: str, board: str, tmp_path: Path) -> None:
    project = written(tmp_path, board, target)
    shipped = (project / "build/demo.elf").read_bytes()
    moved = (tmp_path / "fw").rename(tmp_path / "elsewhere") / "demo"
    shutil.rmtree(moved / "build")
    ran = build(moved, "run")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].endswith(f"on {board}") and lines[-1] == "passed"
    assert len(lines) == 2 + 4
    for i, line in enumerate(lines[1:-1]):
        said, count, *rest = line.replace(":", "").replace(",", "").split()[1:]
        assert (said, rest) == (str(i), ["instructions", "right"]) and int(count) > 2000
    assert "warning" not in ran.stderr
    assert load_segments((moved / "build/demo.elf").read_bytes()) == load_segments(shipped)


# Corstone-300 has the memories and the UART of QEMU's board with that core.
@pytest.mark.usefixtures("qemu_system_arm")
@pytest.mark.parametrize(
    ("target", "board"), [("cortex-m4", "mps2-an386"), ("cortex-m55", "corstone-300")]
)
def test_the_program_that_answers_does_so_in_qemu(target: str, board: str) -> None:
    made, project = bundle(target), project_of(board)
    assert project.serve is not None
    facts = {key: one for key, one in made.manifest.items() if key not in ("schema", "members")}
    served = Bundle(facts, {**made.members, FIRMWARE: project.serve})
    assert validate(served, f"qemu:{target}").passed


@pytest.mark.usefixtures("qemu_system_arm")
def test_a_wrong_result_fails(tmp_path: Path) -> None:
    project = written(tmp_path, "mps2-an386")
    vectors = project / "src/vectors.bin"
    data = bytearray(vectors.read_bytes())
    for value in (float("nan"), struct.unpack_from("<f", data, len(data) - 4)[0] + 1):
        struct.pack_into("<f", data, len(data) - 4, value)
        vectors.write_bytes(data)
        # The compiler's cache does not look into files that assembly includes.
        (project / "src/vectors.S").write_text(
            f"/* {value} */\n" + (project / "src/vectors.S").read_text()
        )
        ran = build(project, "run")
        assert ran.returncode == 1
        assert ran.stdout.splitlines()[-2:] == [ran.stdout.splitlines()[-2], "FAILED"]
        assert [line.endswith("WRONG") for line in ran.stdout.splitlines()[1:5]] == [False] * 3 + [
            True
        ]


def test_without_a_debugger_the_firmware_runs_on(tmp_path: Path, qemu_system_arm: str) -> None:
    project = written(tmp_path, "mps2-an386")
    log = tmp_path / "log"
    command = [qemu_system_arm, "-M", "mps2-an386", "-display", "none", "-serial", "null"]
    command += ["-monitor", "none", "-d", "int", "-D", str(log)]
    command += ["-kernel", str(project / "build/demo.elf")]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=3)
    # Each print is a breakpoint, which is a fault here; the last is the one that finishes.
    assert log.read_text().count("[Breakpoint]") == 1 + 4 * 7 + 1 + 1


@pytest.mark.parametrize("name", REAL)
def test_real_boards_are_built_and_fit(name: str, tmp_path: Path) -> None:
    board = microcontrollers()[name]
    project = written(tmp_path, name)
    program = (project / "build/demo.elf").read_bytes()
    address, image = flash_image(load_segments(program), board.flash)
    stack, reset = struct.unpack_from("<2I", image)
    assert address == board.flash.address
    assert stack == board.ram.address + board.ram.bytes
    assert address < reset < address + len(image) and reset % 2 == 1
    found = sizes(program, board)
    assert found["flash_bytes"] == len(image) < board.flash.bytes
    arena = bundle(board.target).manifest["arena_bytes"]
    assert arena < found["ram_bytes"] < arena + 1024
    assert (IMAGE_DEFINITION in image[:4096]) == (name == "pico2")
    serve = (project / "build/demo-serve.elf").read_bytes()
    address, image = flash_image(load_segments(serve), board.flash)
    assert address == board.flash.address
    assert (IMAGE_DEFINITION in image[:4096]) == (name == "pico2")
    tensors = 4 * (3 * 9 * 9 + 5)
    assert arena + tensors < sizes(serve, board)["ram_bytes"] < arena + tensors + 3072
    text = (project / "README.md").read_text()
    assert "build.py run" not in text
    assert f"at {board.clock_mhz} MHz" in text and f"{board.uart_place}, at 115200 baud" in text
    assert f"headgate validate . --on {board.port}`" in text
    assert ("`headgate flash " in text) == board.is_flashed
    assert ("load `build/demo-serve.elf`" in text) != board.is_flashed
    assert build(project, "run").returncode != 0


def smaller(board: Microcontroller, **memories: int) -> Microcontroller:
    return replace(
        board,
        **{key: Memory(getattr(board, key).address, kib) for key, kib in memories.items()},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("memory", "says"), [("flash", "FLASH"), ("ram", "stack|RAM")])
def test_what_does_not_fit_is_one_error(memory: str, says: str) -> None:
    board = smaller(microcontrollers()["nucleo-l4r5zi"], **{memory: 8})
    with pytest.raises(CompileError, match=f"building the project demo failed: .*({says})"):
        make_project(bundle("cortex-m4"), "demo", board)


def test_without_room_for_inputs_nothing_answers() -> None:
    board = smaller(microcontrollers()["nucleo-l4r5zi"], ram=13)
    project = make_project(bundle("cortex-m4"), "demo", board)
    assert project.serve is None and not [name for name in project.files if "serve" in name]
    assert b"serve" not in project.files["README.md"] + project.files["CMakeLists.txt"]


@pytest.mark.parametrize(
    ("board", "target"),
    [
        *(("mps2-an386", None), ("mps3-an547", None), ("pico2", None), ("nucleo-h7a3zi-q", None)),
        ("mps2-an386", "cortex-m4-nofp"),
    ],
)
def test_the_same_with_gcc(board: str, target: str | None, tmp_path: Path) -> None:
    for tool in ("arm-none-eabi-gcc", "cmake"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt install gcc-arm-none-eabi cmake")
    project = written(tmp_path, board, target)
    shutil.rmtree(project / "build")
    for command in (
        ["cmake", "-B", "build", "-DCMAKE_TOOLCHAIN_FILE=arm-none-eabi.cmake"],
        ["cmake", "--build", "build"],
    ):
        done = subprocess.run(command, cwd=project, capture_output=True, text=True)
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    program = project / "build/demo.elf"
    found = microcontrollers()[board]
    for built in (program, project / "build/demo-serve.elf"):
        flash_image(load_segments(built.read_bytes()), found.flash)
    if found.is_emulated and shutil.which("qemu-system-arm"):
        # The command of build.py, with this program.
        script = (project / "build.py").read_text().replace("    build()\n", "")
        (project / "run.py").write_text(script)
        command = [sys.executable, "run.py", "run"]
        ran = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0 and ran.stdout.endswith("passed\n"), ran.stdout


def test_what_was_edited_is_not_replaced(tmp_path: Path) -> None:
    project = written(tmp_path, "mps2-an386")
    (project / "build/object.o").write_bytes(b"built")
    again = written(tmp_path, "mps2-an386")
    assert again == project and not (project / "build/object.o").exists()
    (project / "src/main.c").write_text("mine")
    with pytest.raises(StorageError, match=r"demo/src/main\.c was edited; choose another folder"):
        written(tmp_path, "mps2-an386")
    assert (project / "src/main.c").read_text() == "mine"
    assert Bundle.open(tmp_path / "fw").facts.project is not None
    (project / "src/mine.c").write_text("int one;")
    with pytest.raises(StorageError, match=r"demo/src/mine\.c in it is not of a bundle"):
        written(tmp_path, "mps2-an386")


@pytest.mark.usefixtures("qemu_system_arm")
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
def test_float32_with_a_function_of_the_math_library(target: str, tmp_path: Path) -> None:
    module = nn.Sequential(*network().children(), nn.Softmax(1)).eval()
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    made = compile_module(module, images[:1], target=target, vectors=images, check=False)
    assert validate(made, f"qemu:{target}").passed
    project = make_project(made, "demo", microcontrollers()[BOARDS[target]])
    assert b"-nostdlib" not in project.files["build.py"]
    made.save_folder(tmp_path / "fw", project)
    ran = build(tmp_path / "fw/demo", "run")
    assert ran.returncode == 0 and ran.stdout.count("right") == 2, ran.stdout + ran.stderr
