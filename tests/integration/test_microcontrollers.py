"""int8 networks in firmware, on QEMU's boards: the bytes and the channels of the host."""

from __future__ import annotations

import re
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.backend.baremetal import link_program
from headgate.device import Bundle, load
from headgate.device.machines import qemu_system
from headgate.device.machines.qemu_system import BOARDS, QemuLine, QemuSystem
from headgate.device.machines.serial_program import SerialProgram
from headgate.device.manifest import FIRMWARE, library_member
from headgate.device.microcontrollers import microcontrollers
from headgate.device.targets import get_target
from headgate.errors import BundleError, DeviceError, StorageError, UsageError
from headgate.train.checkpoints import load_checkpoint
from tests.full import FULL
from tests.integration.conftest import Command
from tests.integration.test_int8 import Mixed, compiled, images_of_cifar
from tests.oracle import machine_of

pytestmark = pytest.mark.usefixtures("qemu_system_arm")


def compare_with_host(module: nn.Module, images: torch.Tensor, target: str) -> Bundle:
    """The bundle, once its bytes and channels are the host's and the reference's."""
    here, there = (compiled(module, images, name, 8) for name in ("host", target))
    inputs, expected = here.vectors()
    inputs = [array[:2] for array in inputs]
    with load(here) as program:
        outputs, counts = program.outputs(inputs), program.active_counts
    with load(there, machine_of(target)) as program:
        found = program.outputs(inputs)
        for name, active in counts.items():
            np.testing.assert_array_equal(program.active_counts[name], active)
        assert program.active_counts.keys() == counts.keys()
    for one, other, reference in zip(outputs, found, expected, strict=True):
        assert one.tobytes() == other.tobytes() == reference[:2].tobytes()
    return there


@pytest.mark.parametrize("target", BOARDS)
def test_a_gated_checkpoint_on_every_board(target: str) -> None:
    compare_with_host(load_checkpoint("resnet8-fbs-0.5").module.eval(), images_of_cifar(8), target)


def test_the_command_writes_a_folder_that_commands_read(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, machine = "resnet8", ("--on", "qemu:cortex-m4")
    made = command("compile", name, "--target", "cortex-m4", "--dtype", "int8", "-o", "fw/")
    assert made["checked"]["machine"] == "qemu:cortex-m4"
    assert made["checked"]["max_error"] == 0
    assert {path.name for path in Path("fw").iterdir()} >= {"CMakeLists.txt", "code", "include"}
    assert command("validate", "fw", *machine)["passed"]
    (row,) = command("compare", "fw", *machine)["standings"]
    assert row["instructions"] < 1.1 * row["executed_macs"]
    Path("fw/notes").write_text("mine")
    with pytest.raises(StorageError, match="cannot replace fw: notes in it is not of a bundle"):
        Bundle.open("fw").save_folder("fw")
    assert Path("fw/notes").read_text() == "mine"


@pytest.mark.parametrize("name", ["resnet8-dcp-0.5"])
def test_checkpoints(name: str) -> None:
    module = load_checkpoint(name).module.eval()
    compare_with_host(module, images_of_cifar(8), "cortex-m4")


@pytest.mark.skipif(not FULL, reason="a minute in QEMU each: HEADGATE_FULL=1")
@pytest.mark.parametrize(
    "name", ["resnet8", "resnet8-fbs-0.5", "resnet8-dcp-0.5", "resnet8-frs-1.9x"]
)
def test_every_shipped_image(name: str) -> None:
    module, images = load_checkpoint(name).module.eval(), images_of_cifar(200)
    found = []
    for target in ("host", "cortex-m4"):
        with load(compiled(module, images, target, 8), machine_of(target)) as program:
            found.append((program.outputs([images.numpy()])[0], program.executed_macs()))
    (here, executed_here), (there, executed_there) = found
    assert len(here) == 200 and here.tobytes() == there.tobytes()
    np.testing.assert_array_equal(executed_here, executed_there)


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m4-nofp", "cortex-m55"])
def test_other_layers(target: str) -> None:
    torch.manual_seed(0)
    compare_with_host(Mixed().eval(), torch.randn(8, 3, 19, 23), target)


class Small(nn.Module):
    """Seconds less to compile than a checkpoint."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(5, outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Other(Small):
    """Another name."""


@cache
def small(kind: type[Small], outputs: int) -> Bundle:
    torch.manual_seed(outputs)
    return compiled(kind(outputs).eval(), torch.randn(4, 3, 8, 8), "cortex-m4", 4)


# Writes the code of each call, then the outputs of both networks for the input.
CALLS = """
#include "line.h"
#include "other.h"
#include "small.h"

#include "input.h"

static _Alignas(64) unsigned char one[SMALL_ARENA_BYTES + 64], two[OTHER_ARENA_BYTES];
static float result[7];

void fault(void) {}

static void tell(int32_t code)
{
    line_write((const uint8_t *)&code, 4);
}

int main(void)
{
    line_open();
    const void *in[] = { image }, *nothing[] = { 0 }, *odd[] = { (const char *)image + 1 };
    void *out[] = { result }, *nowhere[] = { 0 }, *uneven[] = { (char *)result + 2 };
    tell(small_run(0, out, one, sizeof one, 0));
    tell(small_run(nothing, out, one, sizeof one, 0));
    tell(small_run(in, 0, one, sizeof one, 0));
    tell(small_run(in, nowhere, one, sizeof one, 0));
    tell(small_run(in, out, 0, sizeof one, 0));
    tell(small_run(odd, out, one, sizeof one, 0));
    tell(small_run(in, uneven, one, sizeof one, 0));
    tell(small_run(in, out, one + 4, sizeof one - 4, 0));
    tell(small_run(in, out, one, SMALL_ARENA_BYTES - 1, 0));
    for (int i = 0; i < 7; i++)
        tell((int32_t)result[i]);
    tell(small_run(in, out, one, SMALL_ARENA_BYTES, 0));
    line_write((const uint8_t *)result, SMALL_OUTPUT0_BYTES);
    tell(other_run(in, out, two, sizeof two, 0));
    line_write((const uint8_t *)result, OTHER_OUTPUT0_BYTES);
    for (;;) {
    }
}
"""


def test_wrong_calls_return_their_code_and_two_networks_fit_one_program(tmp_path: Path) -> None:
    first, second = small(Small, 7), small(Other, 6)
    for bundle in (first, second):
        for name, data in bundle.members.items():
            (tmp_path / Path(name).name).write_bytes(data)
    image = first.vectors()[0][0][:1]
    board = microcontrollers()["mps2-an386"]
    numbers = ", ".join(f"{value!r}f" for value in image.reshape(-1).tolist())
    (tmp_path / "input.h").write_text(f"static const float image[] = {{ {numbers} }};\n")
    (tmp_path / "board.h").write_text(
        f"#define BOARD_UART {board.uart}u\n#define BOARD_UART_CLOCK_HZ {board.clock_mhz}000000u\n"
    )
    (tmp_path / "calls.c").write_text(CALLS)
    libraries = [tmp_path / "libsmall.a", tmp_path / "libother.a"]
    sources = [tmp_path / "calls.c"]
    program = link_program(tmp_path, get_target("cortex-m4"), board, sources, libraries)
    line = QemuLine(QemuSystem("cortex-m4"), program)
    found, deadline = b"", time.monotonic() + 60
    while len(found) < 4 * (16 + 1 + 7 + 1 + 6) and time.monotonic() < deadline:
        found += line.read(1.0)
    line.close()
    words = np.frombuffer(found, "<i4")
    assert words[:9].tolist() == [-1] * 5 + [-2] * 3 + [-3]
    assert words[9:16].tolist() == [0] * 7  # nothing was written
    for at, bundle in ((16, first), (24, second)):
        with load(bundle, "qemu:cortex-m4") as loaded:
            expected = loaded.scores(image)
        assert words[at] == 0
        assert words[at + 1 : at + 1 + expected.size].tobytes() == expected.tobytes()


def test_profile_and_report_of_a_board_in_qemu(tmp_path: Path, command: Command) -> None:
    path, page = tmp_path / "small.hgb", tmp_path / "page.html"
    small(Small, 7).save(path)
    found = command("profile", path, "--on", "qemu:cortex-m4")
    assert found["valid"] and found["outputs"]["max_error"] == 0
    firmware, latency = found["firmware"], found["latency"]
    assert (firmware["unit"], firmware["counter"], firmware["tick"]) == (
        *("instructions", "SysTick"),
        40,
    )
    # A clock is read around each layer, and the whole has a little between them.
    assert 0.9 * firmware["count"] < sum(firmware["layer_counts"]) < 1.1 * firmware["count"]
    assert abs(found["instructions"]["instructions"] - firmware["counts"][0]) <= firmware["tick"]
    conv = [layer["operator"] for layer in latency["layers"]].index("conv2d")
    assert firmware["layer_counts"][conv] > 0.5 * latency["layers"][conv]["dense_macs"]
    assert set(latency["latency_us"]) == {"not_measured"}
    assert firmware["ram_bytes"]["arena"] == Bundle.open(path).facts.arena_bytes
    assert 0 < firmware["ram_bytes"]["stack"] < 8192
    assert firmware["flash_bytes"]["weights"] > 0
    assert firmware["memory_bytes"] == {"flash": 4 << 20, "RAM": 4 << 20}
    command("report", path, "-o", page)
    html = page.read_text()
    assert "qemu:cortex-m4: instructions, flash and RAM" in html
    assert f"{sum(firmware['ram_bytes'].values()):,}" in html


def test_a_window_of_inferences_in_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # QEMU has no such pins; it notes what is written to them.
    log = tmp_path / "log"
    options = (*qemu_system._OPTIONS, "-d", "unimp", "-D", str(log))
    monkeypatch.setattr(qemu_system, "_OPTIONS", options)
    bundle = small(Small, 7)
    (image, *_), _ = bundle.vectors()
    with load(bundle, "qemu:cortex-m4") as program:
        assert isinstance(program, SerialProgram)
        with program.session() as (session, greeting):
            assert (greeting.board, greeting.counter) == ("mps2-an386", "SysTick")
            session.write(0, image[0].tobytes())
            one = session.run(False, program.run_s)
            many = session.run(False, program.run_s, inferences=20, window=True)
    # Ticks of 40 instructions; in a window the clock is read behind each inference.
    assert 19 * one < many < 21 * one + 20
    writes = re.findall(r"gpio: .*write.* offset (\w+), value (\w+)", log.read_text())
    found = [(int(offset, 16), int(value, 16)) for offset, value in writes]
    # An output that is high; low in the window, and once more behind it.
    assert found == [(0x10, 1), *((0x4, level) for level in (1, 0, 1, 0, 1))]


def test_firmware_of_another_network_is_refused() -> None:
    first, second = small(Small, 7), small(Other, 6)
    facts = {key: one for key, one in first.manifest.items() if key not in ("schema", "members")}
    wrong = Bundle(facts, {**first.members, FIRMWARE: second.members[FIRMWARE]})
    with (
        load(wrong, "qemu:cortex-m4") as program,
        pytest.raises(BundleError, match="runs firmware of another network"),
    ):
        program.run(first.vectors()[0][0][:1])


def test_a_program_is_made_of_the_files_in_its_own_folder(tmp_path: Path) -> None:
    # The compiler's cache takes a header for unchanged that lies, unchanged, in another folder.
    board, source = microcontrollers()["mps2-an386"], tmp_path / "main.c"
    source.write_text(
        '#include "board.h"\nvoid fault(void) {}\n'
        "const volatile int number = NUMBER;\nint main(void) { return number; }\n"
    )
    for number in (0x12345601, 0x12345602):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "board.h").write_text(
            f"#define NUMBER {number}\n#define BOARD_UART 0u\n#define BOARD_UART_CLOCK_HZ 1\n"
        )
        made = link_program(folder, get_target("cortex-m4"), board, [source], [])
        assert number.to_bytes(4, "little") in made


def test_what_qemu_refuses_is_one_line(tmp_path: Path) -> None:
    bundle = small(Small, 7)
    with pytest.raises(BundleError, match="recompile with --target cortex-m7"):
        load(bundle, "qemu:cortex-m7")
    with pytest.raises(BundleError, match="or use machine qemu:cortex-m4"):
        load(bundle, "host")
    with pytest.raises(UsageError, match="has one core"):
        load(bundle, "qemu:cortex-m4", threads=2)
    nonsense = Bundle(
        {key: value for key, value in bundle.manifest.items() if key not in ("schema", "members")},
        {**bundle.members, FIRMWARE: b"no program"},
    )
    image = bundle.vectors()[0][0][:1]
    with load(nonsense, "qemu:cortex-m4") as program, pytest.raises(DeviceError):
        program.run(image)
    assert library_member("small") in bundle.members
    bundle.save_folder(tmp_path / "fw")
    with load(tmp_path / "fw", "qemu:cortex-m4") as again, load(bundle, "qemu:cortex-m4") as one:
        np.testing.assert_array_equal(again.run(image), one.run(image))
