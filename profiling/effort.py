"""What a network spends on each image, and whether it spends more on hard ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent import definitions
from headgate.device.agent.absent import NotMeasured
from headgate.device.program import Program
from headgate.profiling.dynamics import Dynamics, dynamics_of
from headgate.profiling.gallery import Example, pick_examples, pictures_of
from headgate.profiling.missing import Result
from headgate.profiling.source import Source
from headgate.profiling.statistics import Distribution, distribution, rank_correlation

BINS = 24
GROUPS = 10
OLDER_PAGE = NotMeasured("the page is older than this measure")
FEWEST = 20  # images below which groups and correlations would be noise


@dataclass(frozen=True)
class LayerActivity:
    """How much of one gated layer's output was computed."""

    name: str
    gate: str
    channels: int
    """All that the gate decides on: channels, or pixels times channels."""
    active: Distribution
    shares_by_cost: list[float]
    """Mean share computed, in tenths of the images from the cheapest to the dearest; empty where
    all images cost the same."""


@dataclass(frozen=True)
class Hardness:
    """Executed MACs against how hard the dense network finds an image; Spearman's correlations."""

    loss_correlation: float | NotMeasured
    """With its cross-entropy."""
    confidence_correlation: float | NotMeasured
    """With its largest softmax output."""
    macs_by_hardness: list[float]
    """Mean MACs in tenths of the images, from the easiest for the dense network on."""
    measure: str
    """What orders these tenths."""


@dataclass(frozen=True)
class Effort(Result):
    name: str
    images: int
    dense_macs: int
    """Of the same network without gates."""
    macs: Distribution
    edges: list[float]
    counts: list[int]
    """Images with MACs between two edges each; one bin where all images cost the same."""
    layers: list[LayerActivity]
    accuracy: float | NotMeasured
    macs_if_right: float | NotMeasured
    """Mean over the images that were classified correctly."""
    macs_if_wrong: float | NotMeasured
    hardness: Hardness | NotMeasured
    cheapest: list[Example] = field(default_factory=list)
    dearest: list[Example] = field(default_factory=list)
    dynamics: Dynamics | NotMeasured = OLDER_PAGE


def measure_effort(
    name: str,
    program: Program,
    images: NDArray[np.float32],
    *,
    labels: NDArray[np.integer[Any]] | None = None,
    reference: NDArray[np.floating] | None = None,
    pixels: NDArray[np.uint8] | None = None,
    classes: Sequence[str] | None = None,
) -> Effort:
    """Run every image once and look at what was computed for it.

    Args:
        name: What to call the network.
        program: The network; its gates decide.
        images: Preprocessed, (N,C,H,W).
        labels: True classes (N,).
        reference: Outputs (N, classes) of the dense network for the same images, before softmax.
        pixels: The images as pictures (N,H,W,C), to show the cheapest and the dearest.
        classes: Their names.

    Raises:
        InputError: The images do not fit.
    """
    outputs = program.scores(images).reshape(len(images), -1)
    macs = program.executed_macs()
    predicted = outputs.argmax(axis=1)
    varies = macs.min() != macs.max()
    examples: tuple[list[Example], list[Example]] = ([], [])
    if varies and pixels is not None:
        examples = pick_examples(pixels, macs, predicted, labels, classes)
    if labels is None:
        right: float | NotMeasured = NotMeasured("the images came without labels")
        accuracy = wrong = right
    else:
        hit = predicted == labels
        accuracy = float(hit.mean())
        right = _mean(macs[hit], "no image was classified correctly")
        wrong = _mean(macs[~hit], "every image was classified correctly")
    edges, counts = _histogram(macs)
    return Effort(
        name=name,
        images=len(images),
        dense_macs=definitions.dense_macs(program.layers),
        macs=distribution(macs),
        edges=edges,
        counts=counts,
        layers=_layers(program, macs),
        accuracy=accuracy,
        macs_if_right=right,
        macs_if_wrong=wrong,
        hardness=_hardness(macs, reference, labels),
        cheapest=examples[0],
        dearest=examples[1],
        dynamics=dynamics_of(program.bundle.manifest),
    )


def measure_efforts(
    sources: Mapping[str, Source],
    images: NDArray[np.float32],
    labels: NDArray[np.integer[Any]] | None = None,
) -> dict[str, Effort]:
    """:func:`measure_effort` of several bundles by name; the first dense one says what is hard."""
    dense = next((one for one in sources.values() if not one.manifest["gates"]), None)
    reference = None if dense is None else dense.program.scores(images)
    pixels = None
    for one in sources.values():
        pixels = pictures_of(images, one.manifest["preprocess"]) if pixels is None else pixels
    return {
        name: measure_effort(
            name,
            source.program,
            images,
            labels=labels,
            reference=reference,
            pixels=pixels,
            classes=source.manifest["classes"],
        )
        for name, source in sources.items()
    }


def _histogram(macs: NDArray[np.int64]) -> tuple[list[float], list[int]]:
    if macs.min() == macs.max():
        return [float(macs[0]), float(macs[0]) + 1], [len(macs)]
    counts, edges = np.histogram(macs, bins=BINS)
    return edges.tolist(), counts.tolist()


def _layers(program: Program, macs: NDArray[np.int64]) -> list[LayerActivity]:
    """The layers whose output is gated, in order of execution."""
    manifest: Mapping[str, Any] = program.bundle.manifest
    counts = program.active_counts
    groups = _groups(macs) if macs.min() != macs.max() else []
    rows = []
    for layer in manifest["layers"]:
        if (
            layer["out_gate"] is None
            or not layer["dense_macs"]
            or definitions.is_gate(layer["operator"])
        ):
            continue
        gate = manifest["gates"][layer["out_gate"]]
        active, channels = counts[gate["name"]], int(gate["channels"])
        shares = [float(active[group].mean()) / channels for group in groups]
        name = layer["name"]
        rows.append(LayerActivity(name, gate["name"], channels, distribution(active), shares))
    return rows


def _groups(keys: NDArray[Any]) -> list[NDArray[np.intp]]:
    """Indices in ten equal groups by rising key; none where images are too few for that."""
    if len(keys) < FEWEST:
        return []
    return np.array_split(np.argsort(keys, kind="stable"), GROUPS)


def _hardness(
    macs: NDArray[np.int64],
    reference: NDArray[np.floating] | None,
    labels: NDArray[np.integer[Any]] | None,
) -> Hardness | NotMeasured:
    if reference is None:
        return NotMeasured("there is no dense network to say how hard an image is")
    if macs.min() == macs.max():
        return NotMeasured("every image costs the same")
    if len(macs) < FEWEST:
        return NotMeasured(f"{len(macs)} images are too few")
    shares = _softmax(np.asarray(reference, np.float64).reshape(len(macs), -1))
    confidence = shares.max(axis=1)
    if labels is None:
        loss_correlation: float | NotMeasured = NotMeasured("the images came without labels")
        order, measure = 1 - confidence, "lack of confidence"
    else:
        right = shares[np.arange(len(macs)), labels]
        order, measure = -np.log(np.maximum(right, np.finfo(np.float64).tiny)), "loss"
        loss_correlation = _correlation(macs, order)
    return Hardness(
        loss_correlation=loss_correlation,
        confidence_correlation=_correlation(macs, confidence),
        macs_by_hardness=[float(macs[group].mean()) for group in _groups(order)],
        measure=measure,
    )


def _correlation(macs: NDArray[np.int64], other: NDArray[np.float64]) -> float | NotMeasured:
    value = rank_correlation(macs, other)
    return NotMeasured("the dense network rates all images alike") if value is None else value


def _softmax(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _mean(values: NDArray[np.int64], reason: str) -> float | NotMeasured:
    return float(values.mean()) if values.size else NotMeasured(reason)
