"""`headgate run`: a bundle on images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from headgate.cli.options import BundleFile, Images, Json, Machine
from headgate.cli.output import next_step, on_machine, print_json, print_line, print_table

SHOWN_IMAGES = 12


def run(
    bundle: BundleFile,
    machine: Machine = "host",
    images: Images = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the scores [N, classes] to this .npy file."),
    ] = None,
    json: Json = False,
) -> None:
    """Run a bundle on images, or on its own test vectors, and show what it computed."""
    from headgate import Bundle, load
    from headgate.device.files import atomic_write
    from headgate.images import Batch, read_images, vectors_of
    from headgate.profiling.layers import dense_macs

    opened = Bundle.open(bundle)
    batch: Batch = read_images(images, opened) if images else vectors_of(opened)
    with load(opened, machine) as program:
        scores = program.run(batch.array)
    if output is not None:
        with atomic_write(output) as file:
            np.save(file, scores)
    predicted = scores.reshape(len(scores), -1).argmax(axis=1)
    figures = {
        "bundle": bundle,
        "machine": machine,
        "images": len(batch.names),
        "accuracy": batch.accuracy(predicted),
        "dense_macs": dense_macs(opened.manifest),
        "executed_macs": program.executed_macs().tolist(),
        "predicted": predicted.tolist(),
        "active_counts": program.active_counts,
    }
    if json:
        print_json(figures)
        return
    _print(figures, batch.names, opened.manifest, scores)
    next_step(on_machine(f"headgate profile {bundle}", machine))


def _print(
    figures: dict[str, Any], names: list[str], manifest: dict[str, Any], scores: NDArray[np.float32]
) -> None:
    classes = manifest["classes"]
    rows = [
        (name, classes[best] if classes else best, float(row.ravel()[best]), macs)
        for name, best, row, macs in zip(
            names, figures["predicted"], scores, figures["executed_macs"], strict=True
        )
    ]
    columns = ["image", "prediction", "score", "MACs done"]
    print_table(f"{manifest['name']} on {figures['machine']}", columns, rows[:SHOWN_IMAGES])
    if len(rows) > SHOWN_IMAGES:
        print_line(f"... and {len(rows) - SHOWN_IMAGES} more images")
    if figures["accuracy"] is not None:
        print_line(f"accuracy: {figures['accuracy']:.1%} of {figures['images']} images")
    done, dense = float(np.mean(figures["executed_macs"])), figures["dense_macs"]
    print_line(
        f"MACs done: {done:,.0f} of {dense:,} dense ({done / dense:.1%}), mean of the images"
    )
