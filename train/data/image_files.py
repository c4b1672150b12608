"""Images that stay on disk and are decoded when a batch needs them."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from headgate.device.pictures.pixels import to_rgb
from headgate.errors import DataError, why
from headgate.train.data import crops
from headgate.train.data.folders import ImageFolder
from headgate.train.progress import Progress

FORMATS = ("JPEG", "PNG")
_CHUNK = 1024
READ_AHEAD = 3  # batches being decoded while the network works on an earlier one

Job = TypeVar("Job")


class ImageFiles:
    """Image files of any size, indexed like the uint8 tensor (N, size, size, 3) they stand for.

    ``images[rows]`` decodes the middle of each of these images in threads; rows are a slice or an
    int64 tensor.

    Args:
        folder: what the N ``names`` are relative to.
        size: side of the square that each image becomes, in pixels.
        device: where the pixels go.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], size: int, device: torch.device | str = "cpu"
    ) -> None:
        self.folder, self.names, self.size = folder, names, size
        self.device = torch.device(device)
        self.shape = (len(names), size, size, 3)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """uint8 (n, size, size, 3) on the device; see :func:`decode` for the errors."""
        return self.read(rows)

    def read(
        self, rows: slice | Tensor, draws: crops.FloatArray | None = None, smallest: float = 1.0
    ) -> Tensor:
        """Like indexing; with ``draws`` (n, tries, 4) a random window of each image instead."""
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()

        def one(index: int) -> NDArray[np.uint8]:
            drawn = None if draws is None else draws[index : index + 1]
            return decode(self.folder / self.names[chosen[index]], self.size, drawn, smallest)

        pixels = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for index, image in enumerate(_threads().map(one, range(len(chosen)))):
            pixels[index] = image
        return torch.from_numpy(pixels).to(self.device)


def decode_all(found: ImageFolder) -> None:
    """Decodes every image once; a DataError names the first that cannot be read."""
    for split in (found.train, found.test):
        images = ImageFiles(split.folder, split.names, size=8)
        with Progress(f"decoding {split.folder}", len(images), "images") as progress:
            for first in range(0, len(images), _CHUNK):
                progress.advance(len(images[first : first + _CHUNK]))


Images = Tensor | ImageFiles


def read(images: Images, rows: Tensor, draws: crops.FloatArray | None, smallest: float) -> Tensor:
    """These rows of ``images``, uint8 (n, H, W, 3): whole, or with ``draws`` random windows."""
    if isinstance(images, ImageFiles):
        return images.read(rows, draws, smallest)
    pixels = images[rows.to(images.device)]
    if draws is None:
        return pixels
    _, height, width, _ = pixels.shape
    windows = crops.random_windows(width, height, draws, smallest)
    return crops.crop_and_resize(pixels, windows)


def ahead(images: Images, fetch: Callable[[Job], Tensor], jobs: Iterable[Job]) -> Iterator[Tensor]:
    """``fetch`` of each job, in order; of files, some are fetched before they are asked for."""
    if isinstance(images, Tensor):
        yield from map(fetch, jobs)
        return
    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(READ_AHEAD, "batches") as readers:
        try:
            for job in jobs:
                waiting.append(readers.submit(fetch, job))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """The threads that decode, as many as this process's share of the cores."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // processes), "decode")


def decode(
    path: Path, size: int, draws: crops.FloatArray | None = None, smallest: float = 1.0
) -> NDArray[np.uint8]:
    """One image as (size, size, 3): its middle, or with ``draws`` (1, tries, 4) a random window.

    Scaled bilinearly with antialiasing; a large JPEG by a power of two while it is decoded.

    Raises:
        DataError: if it is not there, cut off, no JPEG or PNG, or :func:`to_rgb` does not take it.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            window: Sequence[float] = crops.centre_window(width, height)
            if draws is not None:
                window = crops.random_windows(width, height, draws, smallest)[0].tolist()
            left, top, right, bottom = window
            shrink = max(1.0, min(right - left, bottom - top) / size)
            drafted = image.draft(None, (int(width / shrink), int(height / shrink)))
            share = 1.0 if drafted is None else drafted[1][2] / width  # 1, 1/2, 1/4 or 1/8
            box = (left * share, top * share, right * share, bottom * share)
            rgb = to_rgb(image)
            return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR, box))
    except Exception as error:  # whatever Pillow's readers raise on a damaged file
        raise DataError(
            f"image {path} cannot be read ({why(error)}): fetch or save it again, or remove it"
        ) from error
