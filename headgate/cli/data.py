"""`headgate data`: data sets on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.options import Json
from headgate.cli.output import next_step, print_json, print_line

if TYPE_CHECKING:
    from headgate.train.data.cifar import Cifar
    from headgate.train.data.folders import ImageFolder

data = typer.Typer(
    name="data", help="Fetch data sets, or check those you have.", no_args_is_help=True
)

Kept = Annotated[
    Path | None,
    typer.Option(help="Where to keep it; $HEADGATE_DATA or ~/.cache/headgate by default."),
]
Place = Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="Where it lies.")]
All = Annotated[bool, typer.Option("--decode", help="Decode every image, not only list them.")]


@data.command()
def cifar10(
    folder: Kept = None,
    own: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Your folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Fetch CIFAR-10 and verify it; does nothing when it is there."""
    from headgate.train.data.cifar import CIFAR10

    _fetch(CIFAR10, own, folder, json, "headgate train resnet8")


@data.command()
def cifar100(
    folder: Kept = None,
    own: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Your folder with train.bin and test.bin."),
    ] = None,
    json: Json = False,
) -> None:
    """Fetch CIFAR-100 and verify it; does nothing when it is there."""
    from headgate.train.data.cifar import CIFAR100

    _fetch(CIFAR100, own, folder, json, "headgate train resnet20-cifar100")


@data.command()
def imagenet(folder: Place = None, decode: All = False, json: Json = False) -> None:
    """Check your ImageNet: train/WNID/*.JPEG, and val/ sorted or with a list."""
    from headgate.train.data.imagenet import imagenet

    _check(imagenet, folder or _kept("imagenet"), decode, json, "headgate train resnet18")


@data.command()
def places365(folder: Place = None, decode: All = False, json: Json = False) -> None:
    """Check your Places365-Standard, in folders or with its lists."""
    from headgate.train.data.places365 import places365

    step = "headgate train resnet50-places365"
    _check(places365, folder or _kept("places365"), decode, json, step)


@data.command(name="folder")
def image_folder(folder: Path, decode: All = False, json: Json = False) -> None:
    """Check your own images: train/CLASS/ and val/CLASS/, JPEG or PNG."""
    from headgate.train.data.folders import image_folder

    step = f"headgate train resnet18 --set dataset=folder --set data_folder={folder}"
    _check(image_folder, folder, decode, json, step)


def _fetch(dataset: Cifar, own: Path | None, folder: Path | None, json: bool, step: str) -> None:
    path = dataset.fetch(own, folder)
    if json:
        print_json({"path": path})
    else:
        next_step(step)


def _kept(name: str) -> Path:
    from headgate.train.data.dataset import data_folder

    return data_folder() / name


def _check(
    look: Callable[[Path], ImageFolder], place: Path, decode: bool, json: bool, step: str
) -> None:
    found = look(place)
    if decode:
        from headgate.train.data.image_files import decode_all

        decode_all(found)
    sides = {"train": len(found.train.names), "test": len(found.test.names)}
    if json:
        print_json({"path": place, "classes": len(found.classes), "images": sides})
        return
    print_line(
        f"{place}: {len(found.classes)} classes, {sides['train']} training and {sides['test']} "
        f"test images{', all of them decode' if decode else ''}"
    )
    next_step(step)
