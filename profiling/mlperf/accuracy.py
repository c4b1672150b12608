"""Accuracy: top-1 and AUC over labelled images, each inferred once on the board."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headgate.device.agent.absent import NotMeasured
from headgate.device.program import Program
from headgate.errors import InputError
from headgate.profiling.missing import Result
from headgate.profiling.mlperf.rules import NOTE, Task


@dataclass(frozen=True)
class Accuracy(Result):
    """Shares; ``passed`` says whether a task's target is met."""

    network: str
    machine: str
    model_sha256: str
    images: int
    top1: float | NotMeasured
    auc: float | NotMeasured
    task: Task | NotMeasured
    passed: bool | NotMeasured
    note: str = NOTE


def measure_accuracy(
    program: Program,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    task: Task | None = None,
) -> Accuracy:
    """Of a network with one output.

    Args:
        images: (N, ...) as the network takes them.
        labels: (N,) classes; of a network with one score, 1 for what is to score high.

    Raises:
        InputError: the labels are not of so many classes.
    """
    scores = program.scores(images).reshape(len(images), -1)
    classes = scores.shape[1]
    most = max(classes, 2)
    if labels.min() < 0 or labels.max() >= most:
        raise InputError(
            f"labels are {labels.min()} to {labels.max()}, {program.name!r} has {most} classes"
        )
    top1: float | NotMeasured = NotMeasured("it has one score, and no classes")
    if classes > 1:
        top1 = float((scores.argmax(axis=1) == labels).mean())
    found = {"top1": top1, "auc": auc(scores, labels)}
    not_asked = NotMeasured("no task was named")
    passed: bool | NotMeasured = not_asked
    if task is not None:
        value = found[task.metric]
        passed = value if isinstance(value, NotMeasured) else value >= task.target
    return Accuracy(
        network=program.name,
        machine=program.machine,
        model_sha256=program.bundle.manifest["model_sha256"],
        images=len(images),
        top1=found["top1"],
        auc=found["auc"],
        task=not_asked if task is None else task,
        passed=passed,
    )


def auc(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float | NotMeasured:
    """Area under the ROC curve: of one score or two classes, else one class against the rest, the
    mean over the classes, as scikit-learn's ``roc_auc_score`` with ``multi_class="ovr"``."""
    probabilities = as_probabilities(scores)
    classes = probabilities.shape[1]
    positives = [1] if classes <= 2 else range(classes)
    areas = []
    for one in positives:
        right = labels == one
        if right.all() or not right.any():
            return NotMeasured(f"all images are of class {one}, or none is")
        areas.append(_area(probabilities[:, min(one, classes - 1)], right))
    return float(np.mean(areas))


def as_probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores as they are if they are probabilities, or one by itself; else their softmax."""
    wide = scores.astype(np.float64)
    sums = wide.sum(axis=1)
    if wide.shape[1] == 1 or ((wide >= 0).all() and np.allclose(sums, 1, atol=0.05)):
        return wide
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _area(score: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The share of pairs of one right and one wrong that the right one leads; ties count half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    # Ranks from 1, those of equal scores their mean.
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive, negative = int(right.sum()), int((~right).sum())
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))
