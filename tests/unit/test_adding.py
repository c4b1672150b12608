"""Adding a gate, a sensor or a board takes one file and one row, as docs/ADDING.md says."""

from __future__ import annotations

from pathlib import Path

from tests.package_copy import add_row, copy_package, run_with

GATE = '''
"""Keeps the channels whose filters are largest, whatever the image."""

import torch

from headgate.train.gates.base import GatedConv2d, start_level
from headgate.train.gates.operators import keep_top_k


class LargestConv2d(GatedConv2d):
    def __init__(self, conv, norm, name, density):
        super().__init__(conv, norm, name, density)
        self.register_buffer("size", start_level(conv, norm))

    def saliency(self, x):
        return self.size.expand(len(x), -1)

    def select(self, saliency):
        return keep_top_k(saliency, self.active)
'''
USE_GATE = """
import headgate, torch
from torch import nn
from headgate.train.gates import gates
conv = nn.Conv2d(3, 4, 3, padding=1)
with torch.no_grad():
    conv.weight.mul_(torch.tensor([1.0, 4.0, 2.0, 3.0])[:, None, None, None])
network = nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
network[1].weight.data = torch.tensor([0.1, 0.4, 0.2, 0.3])
gated = headgate.gate(network, method="largest", density=0.5, layers=["0"])
gated(torch.randn(2, 3, 8, 8))
(layer,) = gates(gated).values()
assert (layer.last_gate != 0).tolist() == [[False, True, False, True]] * 2, layer.last_gate
"""
SENSOR = '''
"""A battery's own gauge."""

from .base import SAMPLED, Channel, Probe, Sample, Sensor


class Gauge(Sensor):
    def poll(self, now_ns):
        return [Sample(now_ns, {"battery": 1250.0})]


def probe(system):
    if not system.exists("sys/battery"):
        return Probe(absent="there is no battery")
    channel = Channel("battery", "board", "/sys/battery")
    return Probe([Gauge("gauge", SAMPLED, [channel], ["battery"], "the board", 10.0)])
'''
USE_SENSOR = """
from pathlib import Path
from headgate.device.agent.sensors import KINDS, choose
from headgate.device.agent.system import System
from headgate.device.boards import read_inventory
Path("root/sys").mkdir(parents=True)
Path("root/sys/battery").touch()
system = System(Path("root"))
assert "gauge" in KINDS
assert choose(system).poll(5)[0].values == {"battery": 1250.0}
assert choose(system, "gauge").name == "gauge"
board = read_inventory("[desk]\\nboard = 'rpi4'\\nhost = 'desk'\\nsensor = 'gauge'", "here")["desk"]
assert board.sensor == "gauge"
"""
# Of a family that is here a board is its row alone.
BOARDS = """
[microcontroller.nucleo-l496zg]
model = "ST NUCLEO-L496ZG"
target = "cortex-m4"
clock_mhz = 80
flash = { address = 0x08000000, kib = 1024 }
ram = { address = 0x20000000, kib = 256 }
chip = "stm32l4"
uart = 0x40008000
uart_kind = "stm32"
uart_steps = 256
uart_tx = "PG7"
uart_rx = "PG8"
uart_function = 8
pin = 0x48001400
pin_number = 13
pin_kind = "stm32"

[microcontroller.sam-board]
model = "A board of another family"
target = "cortex-m4"
clock_mhz = 120
flash = { address = 0x00000000, kib = 1024 }
ram = { address = 0x20000000, kib = 256 }
chip = "sam"
uart = 0x41012000
uart_kind = "sam"
pin = 0x41008000
pin_kind = "sam"
"""
USE_BOARD = """
from dataclasses import replace
from headgate.compile.backend import board
from headgate.device.microcontrollers import get_microcontroller
def names(paths):
    return {path.name for path in board.with_headers(paths)}
network = board.Served("net", [12], [4], layers=3, gates=1, arena_bytes=64)
new, other = get_microcontroller("nucleo-l496zg"), get_microcontroller("sam-board")
assert {"chip_stm32l4.c", "stm32.h", "start.c"} <= names(board.start_sources(new))
assert {"pin_stm32.c", "serve.c", "window.h"} <= names(board.serve_sources(new))
header = board.board_header(new, network, b"library")
assert "#define BOARD_UART_TX 103 /* PG7 */" in header
assert "#define NETWORK_TENSOR_BYTES 24" in header
assert {"chip_sam.c", "sam.h"} <= names(board.start_sources(other))
assert board.line_source(other).name == "uart_sam.c"
assert "BOARD_UART_TX" not in board.board_header(other, network, b"library")
mute = replace(other, chip=None, uart=None, uart_kind=None, pin=None, pin_kind=None)
assert "BOARD_UART" not in board.board_header(mute, network, b"library")
"""


def test_a_gate_is_a_file_and_a_row(tmp_path: Path) -> None:
    folder = copy_package(tmp_path, "device", "train") / "train/gates"
    (folder / "largest.py").write_text(GATE)
    attach = folder / "attach.py"
    add_row(attach, "METHODS: dict", "from headgate.train.gates.largest import LargestConv2d\n")
    add_row(attach, '"cgnet": CGNetConv2d', '"largest": LargestConv2d, ')
    run_with(tmp_path, USE_GATE)


def test_a_sensor_is_a_file_and_a_row(tmp_path: Path) -> None:
    folder = copy_package(tmp_path, "device") / "device/agent/sensors"
    (folder / "gauge.py").write_text(SENSOR)
    table = folder / "__init__.py"
    add_row(table, "from .base import", "from . import gauge\n")
    add_row(
        table, '    "jetson": lambda', '    "gauge": lambda system, options: gauge.probe(system),\n'
    )
    run_with(tmp_path, USE_SENSOR)


def test_a_board_is_a_row_and_a_family_a_file_and_a_row(tmp_path: Path) -> None:
    package = copy_package(tmp_path, "device", "compile")
    runtime = package / "device/runtime/baremetal"
    (runtime / "sam.h").touch()
    for kind in ("chip", "uart", "pin"):
        (runtime / f"{kind}_sam.c").write_text('#include "sam.h"\n')
    table = package / "device/targets.toml"
    table.write_text(table.read_text() + BOARDS)
    run_with(tmp_path, USE_BOARD)
