"""`headgate analyze`: whether a network fits a microcontroller, without the board."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.options import Json
from headgate.cli.output import (
    BAD_RESULT,
    next_step,
    print_json,
    print_line,
    print_table,
    working,
)
from headgate.device.agent.absent import NotMeasured
from headgate.device.microcontrollers import Microcontroller, microcontrollers
from headgate.errors import UsageError, suggest

if TYPE_CHECKING:
    from headgate.profiling.fit import Analysis, Executed

DTYPES = ("float32", "int8")


def analyze(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A checkpoint of `headgate checkpoints`, a .safetensors file that `headgate "
            "train` wrote, or, with --random-weights, a name of `headgate models`.",
        ),
    ],
    board: Annotated[
        str,
        typer.Option(
            "--board",
            "-b",
            help=f"The microcontroller: {', '.join(microcontrollers())}.",
        ),
    ],
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="What the network computes with: int8, float32.")
    ] = "int8",
    calibrate: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="Real images, as for `headgate compile`: int8's ranges are found on them, and the "
            "first are run in QEMU.",
        ),
    ] = "sample",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Untrained: the sizes are the same.")
    ] = False,
    method: Annotated[
        str | None, typer.Option(help="Put untrained gates of this method on, such as fbs.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Share of the channels that are active, 0 to 1.")
    ] = None,
    json: Json = False,
) -> None:
    """Say whether a network fits a microcontroller: memory, MACs and estimated time by layer."""
    row = _find(board)
    if dtype not in DTYPES:
        raise UsageError(f"unknown --dtype {dtype!r}.{suggest(dtype, DTYPES)}")
    from headgate.calibration import calibration_images
    from headgate.networks import compile_network, find_network
    from headgate.profiling.fit import analyze as fit

    network = find_network(model, random_weights=random_weights, method=method, density=density)
    images = calibration_images(network, calibrate)
    with working(f"compiling {network.name} for {row.target}") as say:
        bundle = compile_network(
            network, row.target, dtype=dtype, calibration=images if dtype == "int8" else None
        )
        say(f"running {network.name} in QEMU")
        found = fit(bundle, row, images)
    if json:
        print_json(found)
    else:
        _show(found)
        option = "" if dtype == "float32" else f" --dtype {dtype}"
        if found.fits:
            next_step(f"headgate compile {model} --target {row.target}{option} -o fw/")
    if not found.fits:
        raise typer.Exit(BAD_RESULT)


def _find(name: str) -> Microcontroller:
    known = microcontrollers()
    if name not in known:
        raise UsageError(f"no microcontroller is called {name!r}.{suggest(name, known)}")
    return known[name]


def _show(found: Analysis) -> None:
    _show_memory(found)
    _show_layers(found)
    _show_arena(found)
    print_line(f"\n{found.board.name}: {_conclusion(found)}")
    for line in found.advice:
        print_line(f"  {line}")


def _show_memory(found: Analysis) -> None:
    board, needs = found.board, found.needs
    assumed = isinstance(needs.stack_bytes, NotMeasured)
    stack = "an estimate" if assumed else f"measured in {found.machine}"
    print_table(
        f"{found.network} in {found.dtype} on {board.name}: {board.target}, {board.clock_mhz} MHz",
        ["memory", "bytes", "of", ""],
        [
            ("flash", found.flash_bytes, board.flash.bytes, _verdict(found, "flash")),
            ("  code", needs.code_bytes, None, None),
            ("  weights", needs.weights_bytes, None, None),
            ("  start-up, serial line, C library", needs.rest_bytes, None, None),
            ("RAM", found.ram_bytes, board.ram.bytes, _verdict(found, "RAM")),
            (f"  arena (scratch in it: {needs.scratch_bytes:,})", needs.arena_bytes, None, None),
            ("  inputs and outputs", needs.tensors_bytes, None, None),
            ("  variables of the library", needs.variables_bytes, None, None),
            (f"  stack, {stack}", needs.assumed_stack_bytes, None, None),
        ],
    )


def _show_layers(found: Analysis) -> None:
    print_table(
        "layers, for one image",
        ["layer", "operator", *_COLUMNS],
        [
            (
                *(f"{index:2} {one.name}", one.operator, one.weights_bytes, one.arena_bytes),
                *(one.dense_macs, one.worst_macs, *_executed(one.executed)),
            )
            for index, one in enumerate(found.layers)
        ]
        + [
            (
                *("   all", "", sum(one.weights_bytes for one in found.layers), None),
                *(found.dense_macs, found.worst_macs, *_executed(found.executed)),
            )
        ],
    )
    if isinstance(found.executed, NotMeasured):
        print_line(f"Mean MACs, instructions, cycles and ms: {found.executed}.")
        return
    print_line(
        f"Mean MACs and instructions are of {found.images} images in {found.machine}, the dearest "
        f"took {found.executed.most_instructions:,} instructions. Worst MACs: every gate at its "
        f"most. Cycles and ms are estimates: {found.cycle_model.name}."
    )


def _show_arena(found: Analysis) -> None:
    from headgate.profiling.fit import draw_arena

    layer = found.layers[found.peak.step]
    print_line(
        f"\nArena over time, fullest in step {found.peak.step} ({layer.name}, {layer.operator}) "
        f"with {found.peak.bytes:,} bytes"
    )
    names = [one.name for one in found.layers]
    for line in draw_arena(found.arena, names, found.needs.arena_bytes):
        print_line(line)


_COLUMNS = [
    *("weights", "arena", "dense MACs", "worst", "mean"),
    *("instructions", "cycles", "ms"),
]


def _executed(one: Executed | NotMeasured) -> tuple[object, ...]:
    if isinstance(one, NotMeasured):
        return (None,) * 4
    return one.macs, one.instructions, one.cycles, f"{one.ms:.3f}"


def _verdict(found: Analysis, memory: str) -> str:
    over = found.missing.get(memory)
    return "fits" if over is None else f"{over:,} too many"


def _conclusion(found: Analysis) -> str:
    if found.fits:
        board = found.board
        flash, ram = board.flash.bytes - found.flash_bytes, board.ram.bytes - found.ram_bytes
        return f"it fits; {flash:,} bytes of flash and {ram:,} of RAM are left for your own program"
    lacking = " and ".join(
        f"{amount:,} bytes of {memory}" for memory, amount in found.missing.items()
    )
    layer, peak = found.layers[found.peak.step], found.peak
    where = (
        f"; the arena is fullest in step {peak.step}, {layer.name} ({layer.operator}), with "
        f"{peak.bytes:,} bytes"
        if "RAM" in found.missing
        else ""
    )
    return f"it does NOT fit, for want of {lacking}{where}. What to change:"
