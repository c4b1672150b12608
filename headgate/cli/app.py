"""The table of verbs, in the order in which one uses them."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate import __version__
from headgate.cli.compare import compare
from headgate.cli.compile import compile_
from headgate.cli.data import data
from headgate.cli.demo import demo
from headgate.cli.deploy import deploy
from headgate.cli.doctor import doctor
from headgate.cli.fetch import fetch
from headgate.cli.flash import flash
from headgate.cli.image import image
from headgate.cli.lists import boards, checkpoints, models, targets
from headgate.cli.profile import profile
from headgate.cli.report import report
from headgate.cli.run import run
from headgate.cli.train import train
from headgate.cli.validate import validate

app = typer.Typer(
    name="headgate",
    help="Train CNNs with gated channels, compile them to code that really skips the inactive "
    "ones, and measure what that saves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def before_the_verb(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the Python traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    # `main` reads it when the verb has failed.
    settings = context.ensure_object(dict)
    settings["debug"] = settings.get("debug", False) or debug


LOOK, MAKE, CHECK, MEASURE = "Look around", "Make", "Run and check", "Measure"

app.command(rich_help_panel=LOOK)(demo)
app.command(rich_help_panel=LOOK)(doctor)
app.command(rich_help_panel=LOOK)(models)
app.command(rich_help_panel=LOOK)(checkpoints)
app.command(rich_help_panel=LOOK)(targets)
app.command(rich_help_panel=LOOK)(boards)
app.add_typer(data, name="data", rich_help_panel=MAKE)
app.add_typer(fetch, name="fetch", rich_help_panel=CHECK)
app.command(rich_help_panel=MAKE)(train)
app.command("compile", rich_help_panel=MAKE)(compile_)
app.command(rich_help_panel=MAKE)(image)
app.command(rich_help_panel=MAKE)(flash)
app.command(rich_help_panel=CHECK)(deploy)
app.command(rich_help_panel=CHECK)(run)
app.command(rich_help_panel=CHECK)(validate)
app.command(rich_help_panel=MEASURE)(profile)
app.command(rich_help_panel=MEASURE)(compare)
app.command(rich_help_panel=MEASURE)(report)
