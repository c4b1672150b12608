"""Timing what was prepared, counting its work image by image, and the rows of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.methods.data import sample, whole_test_set
from bench.methods.networks import HEADGATE, HEADGATE_INT8, Entry
from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.report import Report
from headgate.profiling.compare import compare
from headgate.profiling.comparison import Comparison, Standing
from headgate.profiling.effort import Effort, measure_efforts
from headgate.profiling.method_row import Row
from headgate.profiling.peers import peer_for_file
from headgate.profiling.profile import profile
from headgate.profiling.source import open_source
from headgate.profiling.statistics import Distribution
from headgate.train.data import Preprocess

PROFILED_IMAGES, PROFILED_ROUNDS = 50, 8
LARGEST_GAP = 0.002  # in accuracy, between a bundle here and what training wrote down
LARGEST_LOSS = 0.005  # in accuracy, of int8 against float32


@dataclass(frozen=True)
class Findings:
    """Everything that one network's comparison found out."""

    rows: list[Row]
    comparison: Comparison
    efforts: list[Effort]
    """Efforts of the networks with gates."""
    profiles: list[Report]
    counted_images: int
    """Over which work per image and accuracies were taken."""
    warnings: list[str]


def measure(
    network: str,
    entries: Sequence[Entry],
    folder: Path,
    rounds: int | None,
    say: Callable[[str], None],
) -> Findings:
    """Time, count and classify; ``entries`` begin with the dense network in headgate.

    Raises:
        BundleError: A bundle is damaged, or for another machine.
        ToolMissing: A peer has gone since the preparation.
    """
    images = whole_test_set(say)
    timed = sample()
    bundles = {one.name: open_source(folder / one.file) for one in entries if one.is_bundle}
    # Int8 does the same work for an image; its layers have the same names.
    shown = {one.name: bundles[one.name] for one in entries if one.program == HEADGATE}
    dense = bundles[entries[0].name]
    preprocess = Preprocess(**dense.manifest["preprocess"])
    inputs = preprocess(images.pixels)
    say(f"timing {len(entries)} programs of {network} in turn")
    comparison = compare(
        [folder / one.file for one in entries],
        names=[one.name for one in entries],
        images=preprocess(timed.pixels),
        labels=timed.labels,
        accuracies={
            one.name: one.test_accuracy
            for one in entries
            if one.program == HEADGATE and one.test_accuracy is not None
        },
        rounds=rounds,
    )
    say(f"counting the work of {', '.join(bundles)} on {len(images)} images")
    efforts = measure_efforts(bundles, inputs, images.labels)
    accuracies: dict[str, float | NotMeasured] = {
        name: effort.accuracy for name, effort in efforts.items()
    }
    for one in entries:
        if not one.is_bundle:
            say(f"classifying {len(images)} images by {one.name}")
            accuracies[one.name] = _accuracy(folder / one.file, inputs, images.labels)
    rows = make_rows(network, entries, comparison, efforts, accuracies, file_sizes(entries, folder))
    profiles = [
        profile(
            source.bundle,
            images=preprocess(timed.pixels[:PROFILED_IMAGES]),
            repeat=PROFILED_ROUNDS,
        )
        for source in shown.values()
    ]
    return Findings(
        rows=rows,
        comparison=comparison,
        efforts=[efforts[name] for name, one in shown.items() if one.manifest["gates"]],
        profiles=profiles,
        counted_images=len(images),
        warnings=[
            *timing_warnings(comparison),
            *_accuracy_warnings(rows, len(images)),
            *_loss_warnings(rows),
        ],
    )


def make_rows(
    network: str,
    entries: Sequence[Entry],
    comparison: Comparison,
    efforts: Mapping[str, Effort],
    accuracies: Mapping[str, float | NotMeasured],
    sizes: Mapping[str, tuple[int, int]],
) -> list[Row]:
    """The table's lines, in the order of the entries.

    Args:
        network: The architecture.
        entries: What was timed.
        comparison: Its standings, against the dense network in headgate.
        efforts: Of every bundle, by name of the entry.
        accuracies: Of every entry on the counted images.
        sizes: Bytes of weights and of the file, by name of the entry.
    """
    dense = efforts[entries[0].name]
    by_checkpoint = {
        one.checkpoint: efforts[one.name] for one in entries if one.program == HEADGATE
    }
    references = {
        one.program: comparison[one.name]
        for one in entries
        if one.checkpoint == entries[0].checkpoint
    }
    rows = []
    for one in entries:
        # A peer does the same arithmetic for the same network.
        effort = efforts.get(one.name, by_checkpoint[one.checkpoint])
        standing = comparison[one.name]
        measured = accuracies[one.name]
        recorded = one.test_accuracy if one.program == HEADGATE else None
        rows.append(
            Row(
                name=one.name,
                checkpoint=one.checkpoint,
                network=network,
                method=one.method,
                program=one.program,
                accuracy=measured if recorded is None else recorded,
                accuracy_images=effort.images if recorded is None else one.test_images,
                accuracy_source="this program, here" if recorded is None else "training",
                bundle_accuracy=measured,
                dense_macs=dense.dense_macs,
                macs=effort.macs,
                counted_macs=one.counted_macs,
                fewer=dense.dense_macs / effort.macs.mean,
                latency_us=standing.latency_us,
                speedup=standing.speedup,
                realised=_realised(
                    standing, references.get(one.program), effort.macs, dense.dense_macs
                ),
                weights_bytes=sizes[one.name][0],
                file_bytes=sizes[one.name][1],
            )
        )
    return rows


def _realised(
    one: Standing, reference: Standing | None, macs: Distribution, dense: int
) -> float | NotMeasured:
    """Time saved / MACs saved against the dense network in the same program."""
    if reference is None:
        return NotMeasured("this program has not run the dense network")
    speedup = one.speedup.median / reference.speedup.median
    return definitions.realised(speedup, definitions.macs_saved(macs.mean, dense))


def _accuracy(path: Path, inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    peer = peer_for_file(path)
    assert peer is not None, "what is no bundle here is a file of a peer"
    outputs = peer(path).run(inputs)
    return float((outputs.reshape(len(inputs), -1).argmax(axis=1) == labels).mean())


def file_sizes(entries: Sequence[Entry], folder: Path) -> dict[str, tuple[int, int]]:
    """Bytes of the weights and of the whole file; a peer's is little but weights."""
    sizes = {}
    for one in entries:
        path = folder / one.file
        size = path.stat().st_size
        weights = open_source(path).manifest["weights_bytes"] if one.is_bundle else size
        sizes[one.name] = (int(weights), size)
    return sizes


def timing_warnings(comparison: Comparison) -> list[str]:
    """A pruned network is meant to have fewer MACs, an int8 one to decide differently at times."""
    expected = ("not the same architecture", "is it the same network?")
    return [line for line in comparison.warnings if not line.endswith(expected)]


def _accuracy_warnings(rows: Sequence[Row], images: int) -> list[str]:
    found = []
    for row in rows:
        if row.program != HEADGATE or images != row.accuracy_images:
            continue
        if not isinstance(row.accuracy, float) or not isinstance(row.bundle_accuracy, float):
            continue
        if abs(row.accuracy - row.bundle_accuracy) > LARGEST_GAP:
            found.append(
                f"{row.name}: the bundle classifies {row.bundle_accuracy:.2%} of the test set "
                f"correctly, its training recorded {row.accuracy:.2%}"
            )
    return found


def _loss_warnings(rows: Sequence[Row]) -> list[str]:
    """Bundles of int8 that classify worse than those of float32, over the same images."""
    exact = {row.checkpoint: row.bundle_accuracy for row in rows if row.program == HEADGATE}
    found = []
    for row in rows:
        before, after = exact[row.checkpoint], row.bundle_accuracy
        if row.program != HEADGATE_INT8:
            continue
        if isinstance(before, float) and isinstance(after, float) and before - after > LARGEST_LOSS:
            found.append(f"{row.name}: {after:.2%} of the images, in float32 {before:.2%}")
    return found
