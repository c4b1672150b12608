"""The table of shipped networks: ``python -m headgate.train.results [RUN ...]``.

Each folder of a finished run that is named goes into the package (weights, description, log);
then RESULTS.md is written from the descriptions alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from headgate.device.files import atomic_write
from headgate.train.checkpoints import describe, list_checkpoints
from headgate.train.history import CSV_NAME
from headgate.train.loop import RESULT_NAME
from headgate.train.recipe import recipe_names

HERE = Path(__file__).parent

INTRODUCTION = """# Trained networks

Written by `python -m headgate.train.results` from checkpoints/*.json.

Accuracy: top-1 on the 10,000 test images of CIFAR-10, in float32, of the weights after the last
epoch; no epoch was picked by its test accuracy. MACs: per image, see the convention below;
executed MACs include the gates' own and are a mean over the first 1,000 test images.
"""


def ship(run: Path) -> str:
    """Copies a finished run's checkpoint and log into the package; returns its name."""
    described = describe(run)
    name = described["name"]
    described["log"] = f"train/logs/{name}.csv"
    _write(HERE / "logs" / f"{name}.csv", (run / CSV_NAME).read_bytes())
    _write(HERE / "checkpoints" / f"{name}.safetensors", (run / RESULT_NAME).read_bytes())
    text = json.dumps(described, indent=1, sort_keys=True) + "\n"
    _write(HERE / "checkpoints" / f"{name}.json", text.encode())
    return name


def results() -> str:
    """RESULTS.md: one row a checkpoint, how to repeat it, and the recipes nobody has run."""
    names = list_checkpoints()
    described = {name: describe(name) for name in names}
    lines = [
        INTRODUCTION,
        "| checkpoint | gated layers | density | accuracy | dense MACs | executed MACs | "
        "fewer MACs | of them gates |",
        "|---|---|---|---|---|---|---|---|",
        *(_arithmetic(name, described[name]) for name in names),
        "",
        "| checkpoint | starts from | epochs | hours | seed | precision | hardware | log |",
        "|---|---|---|---|---|---|---|---|",
        *(_effort(name, described[name]) for name in names),
        "",
        "Repeat one: `headgate train NAME`. Hours are wall-clock on a machine that had other work "
        "to do as well.",
        "",
    ]
    lines += [described[name]["macs"]["convention"] for name in names[:1]]
    unrun = sorted(set(recipe_names()) - set(names))
    if unrun:
        lines += ["", f"Recipes that have not been run yet, for want of a GPU: {', '.join(unrun)}."]
    return "\n".join(lines) + "\n"


def _arithmetic(name: str, described: dict[str, Any]) -> str:
    gate, macs = described["gate"], described["macs"]
    layers = ", ".join(gate["layers"]) or "all" if gate else "none"
    density = gate["density"] if gate else ""
    return (
        f"| {name} | {layers} | {density} | {described['test_accuracy']:.2%} "
        f"| {macs['dense'] / 1e6:.2f} M | {macs['executed'] / 1e6:.2f} M "
        f"| {macs['dense'] / macs['executed']:.2f}x | {macs['gate'] / 1e6:.3f} M |"
    )


def _effort(name: str, described: dict[str, Any]) -> str:
    recipe, log = described["recipe"], Path(described["log"])
    precision = "fp32" if recipe["precision"] == "no" else recipe["precision"]
    return (
        f"| {name} | {recipe['start_from'] or 'scratch'} | {described['epochs']} "
        f"| {described['hours']:.2f} | {described['seed']} | {precision} "
        f"| {described['hardware']} | [{log.name}](logs/{log.name}) |"
    )


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        print(f"shipped {ship(Path(folder))}")
    _write(HERE / "RESULTS.md", results().encode())
    print(f"wrote {HERE / 'RESULTS.md'}")
