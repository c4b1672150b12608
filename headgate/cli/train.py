"""`headgate train`: a recipe to a checkpoint."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.options import Json
from headgate.cli.output import next_step, note, print_json
from headgate.errors import UsageError

if TYPE_CHECKING:
    from headgate.train.recipe import Recipe


def train(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A .toml file, or the name of a recipe of the package."
        ),
    ],
    frozen_twin: Annotated[
        bool,
        typer.Option(
            "--frozen-twin",
            help="Train the twin of a gated checkpoint, named in RECIPE's place: by its recipe, "
            "with the channels it opens most often for every image.",
        ),
    ] = False,
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
    recipe = _recipe(source, overrides or [], frozen_twin)
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
        words += ["--frozen-twin"] * frozen_twin
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


def _recipe(source: str, overrides: list[str], frozen_twin: bool) -> Recipe:
    if frozen_twin:
        from headgate.train.twin import twin_recipe

        return twin_recipe(source, overrides)
    from headgate.train.recipe import load_recipe

    return load_recipe(source, overrides)  # before torch takes seconds to load
