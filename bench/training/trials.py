"""``python -m bench.training.trials DIRECTION ...``: tries ways to make gates follow the image.

Every direction of trials.toml is trained with the same short recipe, its frozen twin too, and
judged by training images that were held out. A run that was interrupted goes on. The row of each,
whether it helped or not, goes into trials.json, from which RESULTS.md's tables are made, one for
each network.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.markdown import table
from headgate.device.files import atomic_write
from headgate.errors import UsageError, suggest
from headgate.train.checkpoints import describe
from headgate.train.loop import train
from headgate.train.recipe import recipe_from
from headgate.train.twin import twin_recipe

HERE = Path(__file__).parent
NETWORK = "resnet8"
_KEY = ("network", "direction", "seed")
RUNS = Path("runs/trials")
EXPLAINED = """Each direction was trained from the dense network of its kind by the same short
recipe (`bench/training/trials.toml`), and its frozen twin where there is one, on {images} of the
training images, and judged by {held_out} others, which neither had learnt from. It chooses
between directions and says nothing of what a full training reaches. Hours are those of all its
runs, wall-clock. Repeat one: `python -m bench.training.trials DIRECTION --network NETWORK`.
"""
HEADER = (
    *("direction", "what", "source", "accuracy", "dynamic", "information", "frozen", "twin"),
    *("worth", "executed MACs", "hours", "seed"),
)

Row = dict[str, Any]


def plan() -> dict[str, Any]:
    """trials.toml."""
    return tomllib.loads((HERE / "trials.toml").read_text(encoding="utf-8"))


def rows() -> list[Row]:
    """trials.json: what was tried, in the order of trials.toml."""
    path = HERE / "trials.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    networks, order = list(plan()["network"]), list(plan()["direction"])
    return sorted(
        found,
        key=lambda row: (
            networks.index(row["network"]),
            order.index(row["direction"]),
            row["seed"],
        ),
    )


def run(
    direction: str,
    seed: int,
    with_twin: bool = True,
    network: str = NETWORK,
    runs: Path = RUNS,
) -> Row:
    """Trains a direction and, if wanted, its twin, unless they are there; returns its row."""
    planned, runs = plan(), runs / network
    changed = planned["network"][network]
    recipe = planned["dense"] | changed.get("dense", {}) | {"seed": seed, "name": "dense"}
    dense = _trained(recipe, runs / f"dense-{seed}")
    common = planned["trial"] | changed.get("trial", {})
    common |= {"seed": seed, "start_from": str(dense), "teacher": str(dense)}
    options = planned["direction"][direction].get("options", {})
    folder = runs / f"{direction}-{seed}"
    trial = describe(_trained(common | {"name": direction} | options, folder))
    twin_folder = runs / f"{direction}-{seed}-twin"
    with_twin &= trial["dynamics"].get("frozen_test_accuracy") is not None  # pixel gates have none
    there = (twin_folder / "model.json").exists()
    if with_twin and not there:
        train(twin_recipe(folder), twin_folder, resume=True)
    twin = describe(twin_folder) if with_twin or there else None
    return row_of(network, direction, trial, twin)


def _trained(recipe: dict[str, Any], folder: Path) -> Path:
    """The folder of a finished run of ``recipe``, which goes on where it was interrupted."""
    if not (folder / "model.json").exists():
        train(recipe_from(recipe), folder, resume=True)
    return folder


def row_of(network: str, direction: str, trial: Row, twin: Row | None) -> Row:
    """What trials.json keeps of a finished trial, from the descriptions of its networks."""
    measured = trial["dynamics"]
    return {
        "network": network,
        "direction": direction,
        "seed": trial["seed"],
        "accuracy": trial["test_accuracy"],
        "held_out": trial["test_images"],
        "images": trial["recipe"]["limit_train"],
        **{key: measured[key] for key in ("channels", "dynamic", "information")},
        "frozen_accuracy": measured.get("frozen_test_accuracy"),
        "twin_accuracy": twin and twin["test_accuracy"],
        "executed_macs": trial["macs"]["executed"],
        "hours": round(trial["hours"] + (twin["hours"] if twin else 0.0), 3),
        "hardware": trial["hardware"],
    }


def keep(row: Row) -> None:
    """Writes a row into trials.json, in place of an earlier one of the same trial."""
    others = [one for one in rows() if any(one[key] != row[key] for key in _KEY)]
    with atomic_write(HERE / "trials.json") as file:
        file.write((json.dumps([*others, row], indent=1, sort_keys=True) + "\n").encode())


def trials_section(found: Sequence[Row]) -> list[str]:
    """Lines of Markdown: every direction that was tried, and those that wait."""
    directions = plan()["direction"]
    if not found:
        return [f"Not tried yet: {', '.join(directions)}."]
    explained = EXPLAINED.format(
        images=f"{found[0]['images']:,}", held_out=f"{found[0]['held_out']:,}"
    )
    tables = []
    for network in dict.fromkeys(row["network"] for row in found):
        own = [row for row in found if row["network"] == network]
        cells = [_cells(row, directions[row["direction"]]) for row in own]
        tables += [f"{network}:", "", table(HEADER, cells, texts=len(HEADER)), ""]
        tried = {row["direction"] for row in own}
        if waiting := [name for name in directions if name not in tried]:
            tables += [f"Not tried yet: {', '.join(waiting)}.", ""]
    return [explained, *tables[:-1]]


def _cells(row: Row, direction: dict[str, Any]) -> list[str]:
    twin = row["twin_accuracy"]
    return [
        row["direction"],
        direction["what"],
        direction["source"],
        f"{row['accuracy']:.2%}",
        f"{row['dynamic']} of {row['channels']}",
        f"{row['information']:.4f}",
        "pixels" if row["frozen_accuracy"] is None else f"{row['frozen_accuracy']:.2%}",
        "not trained" if twin is None else f"{twin:.2%}",
        "" if twin is None else f"{100 * (row['accuracy'] - twin):+.2f}",
        f"{row['executed_macs'] / 1e6:.2f} M",
        f"{row['hours']:.2f}",
        str(row["seed"]),
    ]


def main() -> None:
    """Runs the directions that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench.training.trials")
    parser.add_argument("directions", nargs="+", metavar="DIRECTION", help="of trials.toml")
    parser.add_argument("--network", choices=plan()["network"], default=NETWORK)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-twin", action="store_true", help="leave the frozen twins out")
    arguments = parser.parse_args()
    known = plan()["direction"]
    for direction in arguments.directions:
        if direction not in known:
            raise UsageError(f"unknown direction {direction!r}.{suggest(direction, known)}")
    for direction in arguments.directions:
        keep(run(direction, arguments.seed, not arguments.no_twin, arguments.network))


if __name__ == "__main__":
    main()
