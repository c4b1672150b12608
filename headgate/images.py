"""Images from files, made into what a network takes. Arrays do without Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.device.bundle import Bundle
from headgate.device.files import storage_error
from headgate.device.pictures import Preprocess, sample_images
from headgate.device.pictures.labelled import LABELS, read_labelled
from headgate.device.pictures.listing import SUFFIXES, find_images
from headgate.device.pictures.pixels import to_rgb
from headgate.errors import InputError, MissingFile, why


@dataclass(frozen=True)
class Batch:
    """``array`` [N, C, H, W] float32; no ``labels`` unless the class of every image is known."""

    array: NDArray[np.float32]
    names: list[str]
    labels: NDArray[np.int64] | None = None

    def accuracy(self, predicted: NDArray[np.int64]) -> float | None:
        """Share of the images whose class was predicted; None where classes are not known."""
        return None if self.labels is None else float((predicted == self.labels).mean())


def vectors_of(bundle: Bundle) -> Batch:
    """The inputs whose outputs the bundle records."""
    inputs, _ = bundle.vectors()
    return Batch(inputs[0], [f"vector {index}" for index in range(len(inputs[0]))])


def read_images(sources: Sequence[str], manifest: Mapping[str, Any]) -> Batch:
    """Reads images as a network's first input takes them.

    Args:
        sources: each ``sample`` (the 200 CIFAR-10 test images of the package), an image file, a
            folder of image files with all folders in it, one of MLPerf Tiny's data sets with its
            ``y_labels.csv``, or a ``.npy`` file. A uint8 array is
            taken as NHWC pixels and preprocessed as the network wants, a float32 one as NCHW
            values, ready to use. What image files become says :func:`to_rgb`.
        manifest: of a bundle, a network or a ``.tflite`` file: the first of its ``inputs`` has a
            ``shape`` [1, C, H, W], and ``preprocess`` says what to do with pixels.

    Raises:
        InputError: a shape or type other than the network's, or a file that cannot be decoded.
        DataError: a folder that :func:`find_images` refuses.
        MissingFile: a source that is not there, or a folder without images.
        StorageError: an array that cannot be read.
    """
    _, *shape = manifest["inputs"][0]["shape"]
    parts = [part for source in sources for part in _read(source, tuple(shape))]
    arrays = [
        _prepare(name, array, tuple(shape), manifest["preprocess"]) for name, array, _ in parts
    ]
    names = [
        name if len(array) == 1 else f"{name}[{index}]"
        for (name, _, _), array in zip(parts, arrays, strict=True)
        for index in range(len(array))
    ]
    labels = [known for *_, known in parts if known is not None]
    all_known = len(labels) == len(parts)
    return Batch(np.concatenate(arrays), names, np.concatenate(labels) if all_known else None)


_Part = tuple[str, NDArray[Any], NDArray[np.int64] | None]


def _read(source: str, shape: tuple[int, ...]) -> list[_Part]:
    if source == "sample":
        pixels, labels = sample_images()
        return [("sample", pixels, np.asarray(labels, np.int64))]
    path = Path(source)
    if (path / LABELS).is_file():
        return [(source, *read_labelled(path, shape))]
    if path.is_dir():
        files = find_images(path)
        if not files:
            raise MissingFile(f"{path} holds no images; expected files ending in {SUFFIXES}")
        return [(str(path / file), _decode(path / file), None) for file in files]
    if not path.is_file():
        raise MissingFile(
            f"there are no images at {source!r}; give an image, a folder of images, a .npy file, "
            f"or 'sample'"
        )
    return [(source, _load_array(path) if path.suffix == ".npy" else _decode(path), None)]


def _load_array(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise storage_error("read", path, error) from error
    except Exception as error:  # whatever NumPy's reader raises on a damaged file
        raise InputError(f"{path} is not an array that NumPy can read: {why(error)}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of arrays (.npz); save the images alone as .npy")
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or not len(array):
        raise InputError(
            f"{path} has shape {array.shape}; expected one image or a batch of them: uint8 "
            f"[N, H, W, C] or float32 [N, C, H, W]"
        )
    return array


def _decode(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(to_rgb(image))[None]
    except Exception as error:  # whatever Pillow's readers raise on a damaged file
        raise InputError(
            f"{path} is not an image that can be decoded ({why(error)}): save it again as JPEG "
            "or PNG, or leave it out"
        ) from error


def _prepare(
    name: str,
    array: NDArray[Any],
    shape: tuple[int, ...],
    normalisation: Mapping[str, Sequence[float]] | None,
) -> NDArray[np.float32]:
    if array.dtype == np.uint8:
        if normalisation is None:
            raise InputError(
                f"{name} holds pixels, but the file does not say how to preprocess them; give a "
                "float32 .npy file"
            )
        given = (array.shape[3], *array.shape[1:3])
        if given != shape:
            # An image file's pixels are always red, green and blue.
            remedy = "resize it first" if given[1:] != shape[1:] else "give a .npy file"
            raise InputError(
                f"{name} is {given[2]}x{given[1]} with {given[0]} channels, the network takes "
                f"{shape[2]}x{shape[1]} with {shape[0]}: {remedy}"
            )
        return Preprocess(**normalisation)(array)
    if array.dtype != np.float32:
        raise InputError(f"{name} has type {array.dtype}; expected uint8 pixels or float32 values")
    if array.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise InputError(f"{name} has shape {array.shape}, the network takes [N, {wanted}]")
    return array
