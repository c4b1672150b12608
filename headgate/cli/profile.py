"""`headgate profile`: where one bundle's time goes, and what its gates left out."""

from __future__ import annotations

from typing import Annotated

import typer

from headgate.cli.options import BundleFile, Images, Json, Machine
from headgate.cli.output import next_step, print_json


def profile(
    bundle: BundleFile,
    machine: Machine = "host",
    images: Images = None,
    repeat: Annotated[
        int | None,
        typer.Option(min=1, help="Timed rounds over the images; fitted to four seconds if unset."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure one bundle, layer by layer."""
    from headgate import Bundle
    from headgate.images import read_images
    from headgate.profiling import profile as measure

    opened = Bundle.open(bundle)
    array = read_images(images, opened).array if images else None
    result = measure(opened, machine, array, repeat)
    if json:
        print_json(result)
        return
    next_step(f"headgate compare {bundle} OTHER.hgb --report runs/report.html")
