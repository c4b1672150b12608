"""`headgate run`: a bundle on images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from headgate.cli.options import BundleFile, Images, Json, Machines, Threads, check_cores
from headgate.cli.output import next_step, on_machine, print_json, print_line, print_table
from headgate.cli.several import on_several
from headgate.errors import InputError, UsageError

if TYPE_CHECKING:
    from headgate.images import Batch

SHOWN_IMAGES = 12


def run(
    bundle: BundleFile,
    machines: Machines = "host",
    images: Images = None,
    threads: Threads = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the scores [N, classes] to this .npy file."),
    ] = None,
    json: Json = False,
) -> None:
    """Run a bundle on images, or on its own test vectors, and show what it computed."""
    from headgate.device.files import atomic_write
    from headgate.device.machines.fleet import names_of

    if bundle.suffix == ".tflite" and threads > 1:
        raise UsageError("--threads is for bundles; a .tflite file runs in one thread")

    def work(machine: str) -> Outcome:
        if bundle.suffix == ".tflite":
            return _tflite(bundle, machine, images)
        return _bundle(bundle, machine, images, threads)

    names = names_of(machines)
    check_cores(names, threads)
    if len(names) > 1:
        if output is not None:
            raise UsageError("--output is for one machine; name one with --on")
        on_several(names, work, _COLUMNS, _row, lambda outcome: outcome[0], json)
        return
    figures, batch, manifest, scores = work(names[0])
    if output is not None:
        with atomic_write(output) as file:
            np.save(file, scores)
    if json:
        print_json(figures)
        return
    _print(figures, batch.names, manifest, scores)
    next_step(on_machine(f"headgate profile {bundle}", names[0]))


Outcome = tuple[dict[str, Any], "Batch", Mapping[str, Any], NDArray[np.float32]]
_COLUMNS = ["images", "accuracy", "executed MACs"]


def _row(outcome: Outcome) -> tuple[object, ...]:
    """One machine of several."""
    figures = outcome[0]
    accuracy, done = figures["accuracy"], figures.get("executed_macs")
    return (
        figures["images"],
        "" if accuracy is None else f"{accuracy:.1%}",
        float(np.mean(done)) if done else "",
    )


def _bundle(path: Path, machine: str, images: list[str] | None, threads: int) -> Outcome:
    """Figures, images, manifest and scores of a bundle."""
    from headgate import Bundle, load
    from headgate.device.agent.definitions import dense_macs
    from headgate.images import read_images, vectors_of

    opened = Bundle.open(path)
    # With several outputs, which one is the prediction is unknown.
    outputs = [one["name"] for one in opened.manifest["outputs"]]
    if len(outputs) > 1:
        raise InputError(
            f"{path} has {len(outputs)} outputs ({', '.join(outputs)}), and `run` shows the scores "
            "of one; headgate.load in Python gives them all, `headgate validate` checks them"
        )
    batch = read_images(images, opened) if images else vectors_of(opened)
    with load(opened, machine, threads) as program:
        scores = program.scores(batch.array)
    figures = {
        **_common("bundle", path, machine, batch, scores),
        "dense_macs": dense_macs(opened.manifest["layers"]),
        "executed_macs": program.executed_macs().tolist(),
        "active_counts": program.active_counts,
    }
    return figures, batch, opened.manifest, scores


def _tflite(path: Path, machine: str, images: list[str] | None) -> Outcome:
    """Figures, images, manifest and scores of a ``.tflite`` file."""
    from headgate.images import read_images
    from headgate.profiling.peers import open_tflite

    opened = open_tflite(path, machine)
    if not images:
        raise UsageError("a .tflite file carries no test vectors; add --images, say sample")
    batch = read_images(images, opened)
    scores = opened.run(batch.array)
    figures = {
        **_common("file", path, machine, batch, scores),
        "quantization": opened.manifest["quantization"],
        "dense_macs": opened.manifest["dense_macs"],
    }
    return figures, batch, opened.manifest, scores


def _common(
    what: str, path: Path, machine: str, batch: Batch, scores: NDArray[np.float32]
) -> dict[str, Any]:
    predicted = scores.reshape(len(scores), -1).argmax(axis=1)
    return {
        what: path,
        "machine": machine,
        "images": len(batch.names),
        "accuracy": batch.accuracy(predicted),
        "predicted": predicted.tolist(),
    }


def _print(
    figures: dict[str, Any],
    names: list[str],
    manifest: Mapping[str, Any],
    scores: NDArray[np.float32],
) -> None:
    classes = manifest["classes"]
    done = figures.get("executed_macs")
    rows = [
        (name, classes[best] if classes else best, float(row.ravel()[best]), *macs)
        for name, best, row, macs in zip(
            names,
            figures["predicted"],
            scores,
            [(count,) for count in done] if done else [()] * len(names),
            strict=True,
        )
    ]
    columns = ["image", "prediction", "score", *(["executed MACs"] if done else [])]
    print_table(f"{manifest['name']} on {figures['machine']}", columns, rows[:SHOWN_IMAGES])
    if len(rows) > SHOWN_IMAGES:
        print_line(f"... and {len(rows) - SHOWN_IMAGES} more images")
    if figures["accuracy"] is not None:
        print_line(f"accuracy: {figures['accuracy']:.1%} of {figures['images']} images")
    if done:
        mean, dense = float(np.mean(done)), figures["dense_macs"]
        print_line(
            f"executed MACs: {mean:,.0f} of {dense:,} dense ({mean / dense:.1%}), "
            "mean of the images"
        )
