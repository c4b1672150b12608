"""`headgate train`: a recipe to a checkpoint."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.options import Json
from headgate.cli.output import next_step, note, print_json
from headgate.errors import UsageError


def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A .toml file, or the name of a recipe of the package."
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change an option of the recipe; repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/NAME of the recipe by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")
    ] = False,
    json: Json = False,
) -> None:
    """Train a network as a recipe says.

    On several GPUs or machines: accelerate launch -m headgate train RECIPE
    """
    from headgate.train.recipe import load_recipe

    recipe = load_recipe(source, overrides or ())  # before torch takes seconds to load
    folder = out or Path("runs") / recipe.name
    first = os.environ.get("RANK", "0") == "0"
    if first and not resume and os.path.exists(folder / "recipe.toml"):
        raise UsageError(
            f"{folder} holds a run already; add --resume to go on with it, or name another folder "
            f"with --out"
        )

    from headgate.train.checkpoints import describe
    from headgate.train.loop import train as run

    try:
        checkpoint = run(recipe, folder, resume)
    except KeyboardInterrupt:
        words = ["headgate", "train", source, "--out", str(folder), "--resume"]
        words += [part for override in overrides or () for part in ("--set", override)]
        if first:
            note(f"stopped; go on with: {shlex.join(words)}")
        raise
    if not first:
        return
    if json:
        print_json({"checkpoint": checkpoint} | describe(checkpoint))
    else:
        next_step(f"headgate compile {checkpoint} --target rpi4 -o {recipe.name}-rpi4.hgb")
