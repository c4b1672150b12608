"""`headgate models`, `checkpoints`, `targets`, `boards`: the names that other commands take."""

from __future__ import annotations

from headgate.cli.options import Json
from headgate.cli.output import next_step, print_json, print_line, print_table
from headgate.device.boards import INVENTORY, inventory, kinds
from headgate.device.targets import TARGET_NAMES, get_target


def models(json: Json = False) -> None:
    """List the architectures that can be trained, or compiled with random weights."""
    from headgate.train.models import input_shape, list_models

    rows = [(name, *input_shape(name)) for name in list_models()]
    if json:
        print_json([{"name": name, "input_shape": shape} for name, *shape in rows])
        return
    print_table("models", ["name", "channels", "height", "width"], rows)
    next_step("headgate compile resnet20 --random-weights --method fbs --density 0.5")


def checkpoints(json: Json = False) -> None:
    """List the trained networks that come with the package."""
    from headgate import checkpoints as names
    from headgate.train.checkpoints import describe

    rows = [describe(name) for name in names()]
    if json:
        print_json(rows)
        return
    print_table(
        "checkpoints",
        ["name", "architecture", "density", "test accuracy", "M MACs", "dense"],
        [
            (
                row["name"],
                row["architecture"],
                row["gate"]["density"] if row["gate"] else "",
                f"{row['test_accuracy']:.2%}",
                *(f"{row['macs'][kind] / 1e6:.2f}" for kind in ("executed", "dense")),
            )
            for row in rows
        ],
    )
    next_step("headgate compile resnet8-fbs-0.5 --target host")


def targets(json: Json = False) -> None:
    """List the machines that can be compiled for."""
    rows = [get_target(name) for name in TARGET_NAMES]
    if json:
        print_json(rows)
        return
    print_table(
        "targets",
        ["name", "architecture", "CPU", "fp32 peak of a core, GFLOP/s"],
        [(row.name, row.arch, row.cpu, row.fma_peak_gflops) for row in rows],
    )
    next_step("headgate compile resnet8-fbs-0.5 --target rpi4")


def boards(json: Json = False) -> None:
    """List your boards.toml, and the kinds of boards that one can name."""
    shipped, own = kinds(), inventory()
    if json:
        print_json({"kinds": shipped, "boards": own})
        return
    print_table(
        "kinds of boards",
        ["name", "board", "target", "cores", "sensors"],
        [
            (kind.name, kind.model, kind.target, kind.cores, ", ".join(kind.sensors))
            for kind in shipped.values()
        ],
    )
    if not own:
        print_line(f"your boards: none, as there is no {INVENTORY}")
        next_step("headgate deploy MODEL.hgb USER@HOST")
        return
    print_table(
        "your boards",
        ["name", "address", "kind", "target", "sensor"],
        [
            (
                board.name,
                board.address,
                board.kind.name if board.kind else "",
                board.kind.target if board.kind else "",
                board.sensor or "auto",
            )
            for board in own.values()
        ],
    )
    next_step("headgate validate MODEL.hgb --on all")
