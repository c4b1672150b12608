"""`headgate run`: a bundle on images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from headgate.cli.machines import machines_of, work_on
from headgate.cli.options import BundleFile, Images, Json, Machines, Threads
from headgate.cli.output import next_step, on_machine, print_line, print_table
from headgate.device import Bundle, load
from headgate.device.agent.definitions import dense_macs
from headgate.device.files import atomic_write
from headgate.errors import InputError, UsageError
from headgate.images import Batch, read_images, vectors_of
from headgate.profiling.peers import open_tflite

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
    tflite = bundle.suffix == ".tflite"
    if tflite and threads > 1:
        raise UsageError("--threads is for bundles; a .tflite file runs in one thread")
    names = list(machines_of(machines, threads))
    if len(names) > 1 and output is not None:
        raise UsageError("--output is for one machine; name one with --on")

    def work(machine: str) -> Outcome:
        if tflite:
            done = _tflite(bundle, machine, images)
        else:
            done = _bundle(bundle, machine, images, threads)
        if output is not None:
            with atomic_write(output) as file:
                np.save(file, done.scores)
        return done

    work_on(names, work, _show, _COLUMNS, _row, lambda done: done.figures, json)


class Outcome(NamedTuple):
    """What came of it on one machine: what JSON has, and what the table of images is made of."""

    figures: dict[str, Any]
    names: list[str]
    manifest: Mapping[str, Any]
    scores: NDArray[np.float32]


_COLUMNS = ["images", "accuracy", "executed MACs"]


def _row(outcome: Outcome) -> tuple[object, ...]:
    figures = outcome.figures
    accuracy, done = figures["accuracy"], figures.get("executed_macs")
    return (
        figures["images"],
        accuracy if accuracy is None else f"{accuracy:.1%}",
        float(np.mean(done)) if done else None,
    )


def _bundle(path: Path, machine: str, images: list[str] | None, threads: int) -> Outcome:
    opened = Bundle.open(path)
    # With several outputs, which one is the prediction is unknown.
    outputs = [one["name"] for one in opened.manifest["outputs"]]
    if len(outputs) > 1:
        raise InputError(
            f"{path} has {len(outputs)} outputs ({', '.join(outputs)}), and `run` shows the scores "
            "of one; headgate.load in Python gives them all, `headgate validate` checks them"
        )
    batch = read_images(images, opened.manifest) if images else vectors_of(opened)
    with load(opened, machine, threads) as program:
        scores = program.scores(batch.array)
    figures = {
        **_common("bundle", path, machine, batch, scores),
        "dense_macs": dense_macs(opened.manifest["layers"]),
        "executed_macs": program.executed_macs().tolist(),
        "active_counts": program.active_counts,
    }
    return Outcome(figures, batch.names, opened.manifest, scores)


def _tflite(path: Path, machine: str, images: list[str] | None) -> Outcome:
    opened = open_tflite(path, machine)
    if not images:
        raise UsageError("a .tflite file carries no test vectors; add --images, say sample")
    batch = read_images(images, opened.manifest)
    scores = opened.run(batch.array)
    figures = {
        **_common("file", path, machine, batch, scores),
        "quantization": opened.manifest["quantization"],
        "dense_macs": opened.manifest["dense_macs"],
    }
    return Outcome(figures, batch.names, opened.manifest, scores)


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


def _show(outcome: Outcome) -> None:
    figures, names, manifest, scores = outcome
    classes, done = manifest["classes"], figures.get("executed_macs")
    columns = ["image", "prediction", "score"]
    rows: list[list[object]] = [
        [name, classes[best] if classes else best, float(row.ravel()[best])]
        for name, best, row in zip(names, figures["predicted"], scores, strict=True)
    ]
    if done:
        columns.append("executed MACs")
        rows = [[*row, macs] for row, macs in zip(rows, done, strict=True)]
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
    path = figures.get("bundle") or figures["file"]
    next_step(on_machine(f"headgate profile {path}", figures["machine"]))
