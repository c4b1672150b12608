"""`headgate data`: data sets on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.options import Json
from headgate.cli.output import next_step, print_json

data = typer.Typer(help="Fetch data sets.", no_args_is_help=True)


@data.callback()
def before_the_data_set() -> None:
    """Fetch data sets."""


@data.command()
def cifar10(
    folder: Annotated[
        Path | None,
        typer.Option(help="Where to keep it; $HEADGATE_DATA or ~/.cache/headgate by default."),
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Your folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Fetch CIFAR-10 and verify it; does nothing when it is there."""
    from headgate.train.data import fetch

    path = fetch(own_folder=own, folder=folder)
    if json:
        print_json({"path": path})
    else:
        next_step("headgate train resnet8")
