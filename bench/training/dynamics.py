"""RESULTS.md's section on how much gates depend on the image, and what that is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from bench.markdown import table

Described = dict[str, Any]

EXPLAINED = """A channel is dynamic if 2 to 98 % of the first 1,000 test images open it; a pixel
gate has as many as channels times pixels. Masks: how many different ones these images have, by
layer. Information: what a channel's state tells about the class, in bits, mean over the channels.
MACs: what 5, 50 and 95 % of the images stay below. Frozen: accuracy of the same weights with each
layer's mask fixed to the channels it opens most often over 5,000 training images. Twin: accuracy
of a network trained by the same recipe for the same epochs with that mask for every image
(`headgate train CHECKPOINT --frozen-twin`). Worth: what choosing by the image brings, the points
of accuracy above the twin's, and one standard error of counting right answers among the test
images.
"""
HEADER = (
    *("checkpoint", "dynamic", "masks", "information", "MACs", "accuracy", "frozen", "twin"),
    *("worth", "twin's hours", "seed"),
)


def dynamics_section(rows: Iterable[Described], twins: Iterable[Described]) -> list[str]:
    """Lines of Markdown: each gated network beside its frozen twin.

    Args:
        rows: descriptions of networks, in the order to show them; those without gates are left out.
        twins: descriptions of twins.
    """
    gated = [row for row in rows if row["gate"]]
    if not gated:
        return ["None has gates."]
    of = {(twin["twin_of"]["sha256"], twin["seed"]): twin for twin in twins}
    lines = [_row(row, of.get((row.get("sha256"), row["seed"]))) for row in gated]
    return [EXPLAINED, table(HEADER, lines, texts=len(HEADER))]


def _row(row: Described, twin: Described | None) -> list[str]:
    measured = row.get("dynamics")
    if measured is None:
        return [row["name"], "not measured", *[""] * (len(HEADER) - 2)]
    share = measured["dynamic"] / measured["channels"]
    macs = (row["macs"][f"executed_{percentile}"] for percentile in ("p5", "p50", "p95"))
    frozen = measured.get("frozen_test_accuracy")
    return [
        row["name"],
        f"{measured['dynamic']:,} of {measured['channels']:,}, {share:.1%}",
        ", ".join(f"{layer['masks']:,}" for layer in measured["layers"].values()),
        f"{measured['information']:.4f}",
        " .. ".join(f"{count / 1e6:.2f}" for count in macs) + " M",
        f"{row['test_accuracy']:.2%}",
        "pixels" if frozen is None else f"{frozen:.2%}",
        *_twin(row, twin, possible=frozen is not None),
    ]


def _twin(row: Described, twin: Described | None, possible: bool) -> list[str]:
    if twin is None:
        return ["not trained" if possible else "pixels", "", "", ""]
    worth = 100 * (row["test_accuracy"] - twin["test_accuracy"])
    variances = (
        one["test_accuracy"] * (1 - one["test_accuracy"]) / one["test_images"]
        for one in (row, twin)
    )
    return [
        f"{twin['test_accuracy']:.2%}",
        f"{worth:+.2f} +- {100 * math.sqrt(sum(variances)):.2f}",
        f"{twin['hours']:.2f}",
        str(twin["seed"]),
    ]
