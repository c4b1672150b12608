"""The table of verbs, in the order in which one uses them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from headgate import __version__
from headgate.cli.analyze import analyze
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
from headgate.cli.mlperf import mlperf
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


VERBS: dict[str, list[Any]] = {
    "Look around": [demo, doctor, models, checkpoints, targets, boards],
    "Make": [data, train, compile_, analyze, image, flash],
    "Run and check": [fetch, deploy, run, validate],
    "Measure": [profile, compare, report, mlperf],
}
for panel, verbs in VERBS.items():
    for verb in verbs:
        if isinstance(verb, typer.Typer):
            app.add_typer(verb, rich_help_panel=panel)
        else:
            app.command(verb.__name__.strip("_"), rich_help_panel=panel)(verb)
