"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else.")]

BundleFile = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE", help="A .hgb file that `headgate compile` wrote, or a .tflite file."
    ),
]

Machine = Annotated[
    str,
    typer.Option("--on", metavar="MACHINE", help="host, or an emulated board such as qemu:rpi4."),
]

Images = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        metavar="WHAT",
        help="'sample' for the 200 CIFAR-10 test images of the package, an image file, a folder "
        "of them, or a .npy array (uint8 NHWC, or float32 NCHW as the network takes it). "
        "May be given several times.",
    ),
]
