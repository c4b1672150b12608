"""The images that a network finds cheapest and dearest, as pictures that fit into a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = 8
LARGEST = 96  # pixels on a side; larger pictures are thinned


@dataclass(frozen=True)
class Example:
    """One image and what was spent on it; ``picture`` is a data URI."""

    index: int
    macs: int
    predicted: str
    label: str | None
    """True class, None where it is not known."""
    picture: str


def pick_examples(
    pixels: NDArray[np.uint8],
    macs: NDArray[np.int64],
    predicted: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]] | None,
    classes: Sequence[str] | None,
) -> tuple[list[Example], list[Example]]:
    """At most eight of the cheapest images, cheapest first, and of the dearest, dearest first."""
    order = np.argsort(macs, kind="stable")
    shown = min(SHOWN, len(order) // 2)

    def name(index: int) -> str:
        return classes[index] if classes else f"class {index}"

    def example(index: int) -> Example:
        return Example(
            index=int(index),
            macs=int(macs[index]),
            predicted=name(int(predicted[index])),
            label=None if labels is None else name(int(labels[index])),
            picture=data_uri(pixels[index]),
        )

    cheapest = [example(index) for index in order[:shown]]
    dearest = [example(index) for index in order[::-1][:shown]]
    return cheapest, dearest


def pictures_of(
    images: NDArray[np.float32], preprocess: Mapping[str, Sequence[float]] | None
) -> NDArray[np.uint8] | None:
    """Preprocessed images (N,C,H,W) back as pixels (N,H,W,C); None where that cannot be done."""
    if preprocess is None or images.shape[1] not in (1, 3):
        return None
    mean, std = (np.asarray(preprocess[key], np.float32) for key in ("mean", "std"))
    if mean.shape != (images.shape[1],):
        return None
    values = images.transpose(0, 2, 3, 1) * std + mean
    pixels: NDArray[np.uint8] = np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
    return pixels


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) or (H, W, 1) as a PNG's data URI, 96 pixels a side at most."""
    from PIL import Image  # only where pictures are shown

    step = -(-max(pixels.shape[:2]) // LARGEST)
    thinned = pixels[::step, ::step]
    data = io.BytesIO()
    Image.fromarray(thinned[..., 0] if thinned.shape[2] == 1 else thinned).save(data, "png")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
