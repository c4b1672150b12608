"""`headgate demo`: what `make demo` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.compare import print_comparison
from headgate.cli.options import Json
from headgate.cli.output import BAD_RESULT, next_step, note, print_json, print_line, print_table
from headgate.demo import Built
from headgate.demo import demo as run
from headgate.device import Validation


def demo(
    folder: Annotated[
        Path, typer.Option("--out", help="Where the bundles and the report go.")
    ] = Path("runs/demo"),
    json: Json = False,
) -> None:
    """Compile, check and compare the shipped networks, and write a report."""
    result = run(folder, note)
    valid = all(
        check.passed
        for built in result.networks
        for check in (built.on_host, built.on_board)
        if check is not None
    )
    if json:
        print_json({"valid": valid, "comparison": result.comparison, "report": result.report})
    else:
        print_line("")
        print_table(
            "Against PyTorch: largest error as a share of the output's scale",
            ["name", "on host", "on qemu:rpi4", "instructions", "a MAC"],
            [_row(built) for built in result.networks],
        )
        print_line("")
        print_comparison(result.comparison)
        for reason in result.missing:
            print_line(f"left out: {reason}")
        print_line(f"report: {result.report}")
        next_step("headgate compile resnet8-fbs-0.5 --target rpi5")
    if not valid:
        raise typer.Exit(BAD_RESULT)


def _row(built: Built) -> tuple[object, ...]:
    def show(check: Validation | None) -> str:
        if check is None:
            return "left out"
        return f"{'ok' if check.passed else 'WRONG'}, {check.max_error:.1g}"

    count = built.instructions
    instructions, per_mac = (count.instructions, f"{count.per_mac:.2f}") if count else ("", "")
    return built.network.name, show(built.on_host), show(built.on_board), instructions, per_mac
