"""`headgate image`: an SD card's image that measures a bundle on its first boot."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.options import Json
from headgate.cli.output import next_step, print_json, print_line, working
from headgate.device.files import storage_error
from headgate.device.image import Settings, Wifi, make_image, must_not_be
from headgate.device.image.settings import read_keys
from headgate.errors import MissingFile, ToolMissing, UsageError

PASSWORD_VARIABLE = "HEADGATE_WIFI_PASSWORD"


def image(
    board: Annotated[str, typer.Option(help="A Raspberry Pi of `headgate boards`, such as rpi4.")],
    bundle: Annotated[
        Path, typer.Option(metavar="BUNDLE", help="A .hgb file compiled for that board.")
    ],
    ssh_key: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE", help="Public keys that may log in; may be given several times."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The image to write.")],
    hostname: Annotated[
        str, typer.Option(help="The board's name: ssh pi@NAME.local.")
    ] = "headgate",
    user: Annotated[str, typer.Option(help="Who logs in; has no password.")] = "pi",
    sudo: Annotated[
        bool, typer.Option("--sudo", help="Let that user become root, without a password.")
    ] = False,
    wifi: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"A wireless network. Its password is asked for, or in ${PASSWORD_VARIABLE}; "
            "empty for an open network.",
        ),
    ] = None,
    wifi_country: Annotated[
        str | None, typer.Option(metavar="CC", help="With --wifi: where the board is, such as GB.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="Raspberry Pi OS as it was downloaded: .img, .img.xz; or what `debian-base` of "
            "the image container makes of Debian's packages (docker/README.md).",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make an image for an SD card: the bundle is measured on the first boot and stays ready."""
    for path in ssh_key:
        must_not_be(output, path.expanduser(), "public key")
    keys = tuple(key for path in ssh_key for key in read_keys(_read_text(path), str(path)))
    settings = Settings(hostname, keys, user, sudo, _wifi(wifi, wifi_country))
    if base is None:
        raise ToolMissing(
            "--base is missing: an image of Raspberry Pi OS from "
            "https://www.raspberrypi.com/software/operating-systems, or one that the image "
            "container makes (docker/README.md)"
        )
    with working(f"making {output}"):
        form = make_image(base, output, board, bundle, settings)
    if json:
        print_json({"image": output, "bytes": output.stat().st_size, "first_boot": form})
        return
    print_line(
        f"{output}: first boot by {form}; then headgate/report.json on its boot partition, and "
        f"ssh {user}@{hostname}.local"
    )
    next_step(f"headgate flash {output} /dev/sdX")


def _read_text(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MissingFile(f"there is no {path}; make a key: ssh-keygen -t ed25519") from error
    except OSError as error:
        raise storage_error("read", path, error) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no public key of OpenSSH") from error


def _wifi(name: str | None, country: str | None) -> Wifi | None:
    if name is None:
        if country is not None:
            raise UsageError("--wifi-country needs --wifi")
        return None
    if country is None:
        raise UsageError("--wifi needs --wifi-country: radio has other rules in every country")
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        if not sys.stdin.isatty():
            raise UsageError(f"--wifi needs a password: put it into ${PASSWORD_VARIABLE}")
        password = typer.prompt(f"Password of {name}", default="", hide_input=True, err=True)
    return Wifi.from_password(name, password or None, country)
