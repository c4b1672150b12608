"""`headgate analyze`, and what of the plan it reads, on networks that are compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile import compile_module
from headgate.compile.backend import baremetal
from headgate.compile.front.capture import capture
from headgate.compile.front.fuse import fuse
from headgate.compile.plan.arena import plan_arena
from headgate.compile.plan.describe import describe_plan, most_active
from headgate.compile.plan.select import select_kernels
from headgate.compile.plan.steps import Program
from headgate.device.elf_sections import archive_sections
from headgate.device.manifest import FIRMWARE
from headgate.device.microcontrollers import Memory, Microcontroller, microcontrollers
from headgate.device.targets import get_target
from headgate.profiling.fit import analyze
from headgate.train.gates import gate
from tests.integration.conftest import Command
from tests.integration.test_int8 import compiled
from tests.networks import conv_bn

BOARD = "nucleo-l4r5zi"


def program_of(module: nn.Module, *shape: int) -> Program:
    graph = capture(module.eval(), (torch.zeros(1, *shape),))
    fuse(graph)
    return select_kernels(graph, get_target("cortex-m4"))


@pytest.mark.parametrize(
    ("method", "options", "most"),
    [
        ("fbs", {"density": 0.25}, [4, 4]),
        ("dcp", {"density": 0.25}, [16, 16]),
        ("cgnet", {"partitions": 4}, [16 * 36, 16 * 36]),
    ],
)
def test_a_top_k_bounds_what_is_active_and_a_threshold_does_not(
    method: str, options: dict[str, float], most: list[int]
) -> None:
    module = gate(nn.Sequential(*conv_bn(8, 16), *conv_bn(16, 16)), method=method, **options)
    assert most_active(program_of(module, 8, 6, 6)) == most


class Joined(nn.Module):
    """Two gated convolutions, joined and summed, and what reads both."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.Sequential(*conv_bn(8, 16)) for _ in range(2))
        self.last = nn.ModuleList(nn.Conv2d(channels, 4, 1) for channels in (32, 16))

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.one(x), self.two(x)
        return self.last[0](torch.cat([one, two], 1)) + self.last[1](one + two)


def test_a_sum_or_a_sequence_of_lists_has_the_channels_of_both() -> None:
    module = gate(Joined(), method="fbs", density=0.25, layers=["one.0", "two.0"])
    program = program_of(module, 8, 6, 6)
    most = dict(zip((one.name for one in program.lists), most_active(program), strict=True))
    gates = [most.pop(name) for name in ("one.0", "two.0")]
    assert gates == [4, 4]
    assert list(most.values()) == [8, 8]


def test_the_plan_is_the_arenas() -> None:
    program = program_of(gate(nn.Sequential(*conv_bn(8, 16)), method="fbs"), 8, 6, 6)
    plan, (offsets, arena_bytes) = describe_plan(program), plan_arena(program)
    assert {(row["name"], row["offset"], row["bytes"]) for row in plan["buffers"]} == {
        (buffer.name, offset, buffer.bytes) for buffer, offset in offsets.items()
    }
    assert max(row["offset"] + row["bytes"] for row in plan["buffers"]) <= arena_bytes
    weights = program.constants().values()
    assert sum(plan["weights_bytes"]) == sum(array.nbytes for array in weights)
    own = {buffer.name for step in program.steps for buffer in step.own.values()}
    assert own == {row["name"] for row in plan["buffers"] if row["scratch"]} != set()


@pytest.mark.usefixtures("qemu_system_arm")
def test_on_a_board_that_has_room_and_one_that_has_not(command: Command) -> None:
    figures = command("analyze", "resnet8", "--board", BOARD)
    assert figures["fits"] and figures["advice"] == []
    needs, done = figures["needs"], figures["executed"]
    assert figures["flash_bytes"] == sum(
        needs[f"{part}_bytes"] for part in ("code", "weights", "rest")
    )
    assert 50_000 < needs["arena_bytes"] < 120_000
    # Those of dense layers lie as numbers of 16 bits, there are 78,000.
    assert 150_000 < needs["weights_bytes"] < 180_000
    assert 10_000 < needs["code_bytes"] < 100_000
    assert needs["tensors_bytes"] == 4 * (3 * 32 * 32 + 10)
    # Less would be no call of a kernel, more than firmware leaves would be a crash.
    assert 200 < needs["stack_bytes"] < 8 << 10
    dense = 12_501_632
    assert figures["dense_macs"] == figures["worst_macs"] == done["macs"] == dense
    assert 0.5 * dense < done["instructions"] < 2 * dense
    assert done["ms"] == pytest.approx(done["cycles"] / 120e3, rel=1e-3)
    assert sum(one["executed"]["instructions"] for one in figures["layers"]) == pytest.approx(
        done["instructions"], abs=len(figures["layers"])
    )
    assert (figures["machine"], figures["images"]) == ("qemu:cortex-m4", 10)

    figures = command("analyze", "resnet8-fbs-0.5", "--board", "nucleo-l433rc-p", code=3)
    assert not figures["fits"]
    over = figures["ram_bytes"] - (64 << 10)
    assert figures["missing"] == {"RAM": over} and over > 0
    peak = figures["peak"]
    layer = figures["layers"][peak["step"]]
    assert (
        layer["arena_bytes"]
        == peak["bytes"]
        == max(one["arena_bytes"] for one in figures["layers"])
    )
    assert layer["name"].startswith("stage1.0.conv") and layer["name"] in figures["advice"][0]
    assert BOARD in figures["advice"][-1]
    # Its gates keep the top half of the channels, for every image.
    assert figures["executed"]["macs"] == figures["worst_macs"] < 0.6 * figures["dense_macs"]


class Small(nn.Module):
    """Seconds less to compile than a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.usefixtures("qemu_system_arm")
def test_sizes_are_those_of_the_linked_code_and_larger_ones_than_qemus_are_judged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    module, board = Small().eval(), microcontrollers()[BOARD]
    bundle = compiled(module, images, "cortex-m4", 2)
    found = analyze(bundle, board, images.numpy())
    sections = archive_sections(bundle.members["code/libsmall.a"])
    assert found.needs.weights_bytes == bundle.manifest["weights_bytes"]
    assert found.needs.variables_bytes == 0
    assert found.flash_bytes >= sum(one.bytes for one in sections if one.stored)
    assert found.flash_bytes < len(bundle.members[FIRMWARE])

    tiny = Microcontroller("tiny", "T", "cortex-m4", 1, Memory(0, 1), Memory(1 << 29, 8))
    monkeypatch.setattr(baremetal, "microcontrollers", lambda: {"mps2-an386": tiny})
    large = compile_module(module, images[:1], target="cortex-m4", dtype="int8", calibration=images)
    assert FIRMWARE not in large.members
    assert "too large for mps2-an386" in large.manifest["checked"]["reason"]
    judged = analyze(large, tiny, np.zeros((1, 3, 8, 8), np.float32))
    assert judged.missing.keys() == {"flash", "RAM"}
    large.save(tmp_path / "large.hgb")
