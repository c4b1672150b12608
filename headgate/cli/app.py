"""The table of verbs, in the order in which one uses them."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate import __version__
from headgate.cli import Settings
from headgate.cli.doctor import doctor

app = typer.Typer(
    name="headgate",
    help="Train CNNs with gated channels, compile them to code that really skips the closed ones, "
    "and measure what that saves.",
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
    settings = context.obj
    if isinstance(settings, Settings):
        settings.debug = settings.debug or debug


app.command()(doctor)
