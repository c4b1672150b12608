"""The code of tiny kernels, as text: what is visited, and how often.

After a change of the schedules, look at the difference and store the new text with
``HEADGATE_UPDATE_GOLDEN=1 pytest tests/integration/test_schedules_text.py``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="TVM is not installed: pip install 'headgate[compile]'")

from headgate.compile.backend.lower import write_object
from headgate.compile.kernels import tir
from headgate.compile.kernels.convolution import ConvShape, Epilogue
from headgate.compile.kernels.float.conv2d import ConvKernel
from headgate.compile.kernels.float.gating import ChannelMean, KeepTopK, ListActive
from headgate.compile.kernels.float.linear import Linear
from headgate.compile.kernels.float.pixel_gated import PixelGatedConv
from headgate.compile.kernels.float.planes import ClearInactive
from headgate.compile.kernels.float.window import Pool
from headgate.compile.kernels.kernel import Kernel
from headgate.compile.kernels.lists import MergeLists
from headgate.compile.kernels.pixel_loops import PixelGate
from headgate.compile.kernels.tiling import Tiling
from headgate.device.targets import get_target
from headgate.device.tensor_type import INT32

GOLDEN = Path(__file__).parents[1] / "golden"
RELU = (0.0, None)
POINTWISE = ConvShape(8, 4, 4, 4, (1, 1))


def image(kernel: int) -> ConvShape:
    return ConvShape(4, 8, 6, 4, (kernel, kernel), padding=(0, kernel - 1, 0, 0))


def conv(shape: ConvShape, mode: str, gated: bool, weight_lanes: int = 1) -> ConvKernel:
    tiling = Tiling(mode, 4, 1, 4, shape.out_height, False)
    return ConvKernel(shape, tiling, Epilogue(gated, None, RELU), gated, None, weight_lanes)


def pixel_gated(shape: ConvShape, mode: str, gate: PixelGate) -> PixelGatedConv:
    tiling = Tiling(mode, gate.rows, 1, 4, shape.out_height, False)
    return PixelGatedConv(ConvKernel(shape, tiling, Epilogue(clamp=RELU), False), gate)


KERNELS: dict[str, Kernel] = {
    "conv2x2_gated": conv(image(2), "padded", True),
    "conv2x2_dense": conv(image(2), "padded", False),
    "conv1x1_gated_neon": conv(POINTWISE, "direct", True, weight_lanes=4),
    "conv1x1_pixel_gated": pixel_gated(
        POINTWISE, "direct", PixelGate(2, grouped=False, shuffle=True, block=(1, 1))
    ),
    "pool_gated": Pool(ConvShape(4, 4, 4, 4, (2, 2), (2, 2), groups=4), "max", 4, True),
    "linear_gated": Linear(8, 4, 4, gated=True, run=4),
    "channel_mean_gated": ChannelMean(4, 8, 4, gated=True),
    "keep_top_k": KeepTopK(8, 3, 4),
    "list_active": ListActive(8),
    "merge_lists": MergeLists(8, (8, 8), (0, 0), (True, True)),
    "clear_inactive": ClearInactive(4, 8, 4),
}


def text(kernel: Kernel) -> str:
    return kernel.build("kernel").script(show_meta=False) + "\n"


@pytest.mark.parametrize("name", KERNELS)
def test_code_is_what_was_reviewed(name: str) -> None:
    path = GOLDEN / f"{name}.tir"
    if os.environ.get("HEADGATE_UPDATE_GOLDEN") == "1":
        path.write_text(text(KERNELS[name]), encoding="utf-8")
    hint = f"{name} changed; see the docstring of {Path(__file__).name}"
    assert text(KERNELS[name]) == path.read_text(encoding="utf-8"), hint


def test_names_of_names_are_not_written_out(tmp_path: Path) -> None:
    """A number that is 2^60 terms long without its names: TVM would not come to an end."""

    def doubled(x: tir.Buffer) -> None:
        value = tir.let(x[0])
        for at in range(60):
            value = tir.let(value + x[value - value + at])
        tir.store(x, 0, value)

    function = tir.prim_func("doubled", [("x", INT32)], doubled)
    write_object({"doubled": function}, get_target("rpi5"), tmp_path / "doubled.o")
    assert function.script().count("alloc_local") > 5


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_products_of_a_gated_convolution(kernel: int) -> None:
    """The loop around them visits active inputs only and tests nothing; rows come from a list."""
    code = text(conv(image(kernel), "padded", True)).splitlines()
    (inputs,) = re.findall(r"(\w+): .* = in_count\[0\]", "\n".join(code))
    (outputs,) = re.findall(r"(\w+): .* = out_count\[0\]", "\n".join(code))
    product = re.compile(r"\+ T\.Broadcast\(\w+, 4\) \* \w+$")
    places = [i for i, line in enumerate(code) if product.search(line)]
    # Whole tiles of four rows, then halves of two for what remains.
    assert len(places) == (4 + 2) * kernel**2
    around = set()
    for place in places:
        top = next(i for i in range(place, 0, -1) if indent(code[i]) < indent(code[place]))
        assert not [line for line in code[top:place] if line.lstrip().startswith("if ")]
        around.add(code[top].strip().partition(" in ")[2])
    assert around == {f"range({inputs}):"}
    assert re.search(rf"= in_list\[\w+\] \* {kernel**2}\b", "\n".join(code))
    # A thread's share of them, in whole tiles.
    (end,) = re.findall(rf"(\w+): .* = T\.min\({outputs}, .*part\[0\] \+ 1\)", "\n".join(code))
    (mine,) = re.findall(rf"(\w+): .* = {end} - \w+$", "\n".join(code), re.MULTILINE)
    (tiles,) = re.findall(rf"(\w+): .* = {mine} // 4$", "\n".join(code), re.MULTILINE)
    assert f"range({tiles})" in "".join(code)


def loops_around(code: list[str], place: int) -> list[str]:
    """The headers of the loops that a line lies in, innermost first."""
    found, depth = [], indent(code[place])
    for line in reversed(code[:place]):
        if indent(line) < depth:
            found.append(line.strip())
            depth = indent(line)
    return found


@pytest.mark.parametrize("kernel", [2, 3])
def test_products_of_a_pixel_gated_convolution(kernel: int) -> None:
    """The base path goes over all vectors, the conditional one over those that are listed.

    Nothing is tested among the products, and vectors that are not listed get none.
    """
    gate = PixelGate(4, grouped=False, shuffle=False, block=(4, 16))
    code = text(pixel_gated(image(kernel), "padded", gate)).splitlines()
    product = re.compile(r"\+ T\.Broadcast\(\w+, 4\) \* \w+$")
    places = [i for i, line in enumerate(code) if product.search(line)]
    taps = kernel**2
    assert len(places) == 2 * 4 * taps
    base, rest = places[: 4 * taps], places[4 * taps :]
    for path in (base, rest):
        among = "\n".join(code[path[0] : path[-1]])
        assert not re.search(r"\bif\b|\bfor\b|Select", among)

    def ranges(place: int) -> list[str]:
        return [line.partition(" in ")[2] for line in loops_around(code, place)]

    # One input in four decides, for two units of four channels.
    vectors = image(kernel).out_height
    over, units, *_ = ranges(base[0])
    before = "\n".join(code[: rest[0]])
    assert over == f"range({vectors}):"
    (end, first) = re.findall(r"range\((\w+) - (\w+)\)", units)[0]
    for name, index in ((first, r"part\[0\]"), (end, r"\(part\[0\] \+ 1\)")):
        assert re.search(rf"\b{name}: .* = T\.min\(2, T\.Div\(.*{index}.*, part\[1\]\)\)", before)
    # How many are listed is counted while they are.
    needed, order = re.findall(r"(\w+): .* = (buffer_\w+)\[0\]$", before, re.MULTILINE)[-1]
    assert f"vectors[{order}[0]] = " in before
    inputs, listed, *_ = ranges(rest[0])
    assert inputs == "range(3):"
    (name,) = re.findall(r"range\((\w+)\)", listed)
    assert re.findall(rf"\b{name}: .* = (.*)$", before, re.MULTILINE)[-1] == needed
    assert re.search(r"= vectors\[\w+\]$", before, re.MULTILINE)
    after = "\n".join(code[rest[-1] :])
    assert f"range({vectors} - {needed}):" in after


def test_dense_convolution_knows_no_lists() -> None:
    code = text(KERNELS["conv2x2_dense"])
    assert "_list" not in code
    assert "_count" not in code


def test_clearing_visits_what_the_list_has_behind_its_active_channels() -> None:
    code = text(KERNELS["clear_inactive"])
    (active,) = re.findall(r"(\w+): .* = in_count\[0\]", code)
    assert f"range(4 - {active})" in code
    assert f"in_list[{active} + " in code
