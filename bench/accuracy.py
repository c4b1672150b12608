"""``python -m bench.accuracy``: what int8 costs each shipped checkpoint in accuracy.

Every checkpoint is compiled for this machine in float32 and in int8, calibrated on the 200 images
of the package and on 1,000 training images, and its bundles classify CIFAR-10's test images.
Leaves ``accuracy.json`` and ``accuracy.md`` in profiling/results/, and the table in
compile/README.md between its markers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import markdown
from bench.command import known
from bench.publish import publish, with_earlier
from headgate.calibration import calibration_images
from headgate.device import load
from headgate.errors import HeadgateError
from headgate.networks import Network, compile_network, find_network
from headgate.profiling import units
from headgate.train.checkpoints import list_checkpoints
from headgate.train.data import cifar10

SOURCES = ("sample", "cifar10")
PAGE = Path("compile/README.md")
HEADER = (
    "checkpoint",
    "float32",
    "int8, 200 images",
    "points",
    "int8, 1,000 images",
    "points",
    "same class",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.accuracy", description=__doc__)
    parser.add_argument("checkpoints", nargs="*", help="which; all shipped ones by default")
    options = parser.parse_args(arguments)
    try:
        data = cifar10()
        for name in known(options.checkpoints, list_checkpoints()):
            found = measure(find_network(name), data.test_images, data.test_labels)
            networks = with_earlier("accuracy", {name: found}, list_checkpoints())
            results = {"schema": 1, "networks": networks}
            publish("accuracy", results, render(results), PAGE)
            print(" ".join(row(name, found)), flush=True)
    except HeadgateError as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def measure(
    network: Network, pixels: NDArray[np.uint8], labels: NDArray[np.integer[Any]]
) -> dict[str, Any]:
    """The share of ``pixels`` that each bundle of ``network`` puts into their class."""
    assert network.preprocess is not None
    images = network.preprocess(pixels)
    float32 = _classes(network, images, None)
    found: dict[str, Any] = {"float32": _share(float32 == labels), "images": len(labels)}
    for source in SOURCES:
        int8 = _classes(network, images, calibration_images(network, source))
        found[source] = {"int8": _share(int8 == labels), "same": _share(int8 == float32)}
    return found


def _classes(
    network: Network, images: NDArray[np.float32], calibration: NDArray[np.float32] | None
) -> NDArray[np.intp]:
    bundle = compile_network(network, "host", check=False, calibration=calibration)
    with load(bundle) as program:
        classes: NDArray[np.intp] = program.run(images).reshape(len(images), -1).argmax(axis=1)
    return classes


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean())


def render(results: Mapping[str, Any]) -> str:
    """Markdown: a row for each checkpoint."""
    rows = [row(name, found) for name, found in results["networks"].items()]
    notes = (
        "Accuracy of the bundles themselves on the test images of CIFAR-10; points: int8 less "
        "float32. Calibrated on the 200 images of the package, or on 1,000 training images; same "
        "class: of the latter and float32."
    )
    return f"{markdown.table(HEADER, rows)}\n\n{notes}\n"


def row(name: str, found: Mapping[str, Any]) -> list[str]:
    """One checkpoint's line of the table."""
    cells = [name, units.percent(found["float32"], 2)]
    for source in SOURCES:
        points = 100 * (found[source]["int8"] - found["float32"])
        cells += [units.percent(found[source]["int8"], 2), f"{points:+.2f}"]
    return [*cells, units.percent(found[SOURCES[-1]]["same"], 1)]


if __name__ == "__main__":
    sys.exit(main())
