"""Lists the images in a folder.

Hidden files, what systems make for themselves and what is no image (``Thumbs.db``) do not count. An
image that would silently be left out, and a folder that cannot be read, are DataErrors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from headgate.errors import DataError, why

SUFFIXES = (".jpeg", ".jpg", ".png")
_OTHER_SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".tif", ".tiff", ".webp")
_OF_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


def subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if _holds(entry.is_dir))


def images_in(folder: Path) -> list[str]:
    """The images that :func:`find_images` finds, at least one."""
    found = find_images(folder)
    if not found:
        raise DataError(
            f"{folder} holds no images ({', '.join(SUFFIXES)}): put some there, or remove it"
        )
    return found


def images_beside_folders(folder: Path) -> list[str]:
    entries = [entry for entry in _entries(folder) if not _holds(entry.is_dir)]
    return sorted(entry.name for entry in entries if _counts(entry))


def find_images(folder: Path) -> list[str]:
    """The images in ``folder`` and the folders in it: sorted paths relative to ``folder``.

    Links are followed. A folder that leads back to itself, a link to nothing and an image that is
    neither JPEG nor PNG by its name are DataErrors, too.
    """
    return sorted(_below(folder, "", set()))


def _below(folder: Path, above: str, on_the_way: set[tuple[int, int]]) -> Iterator[str]:
    entries, status = _entries(folder), folder.stat()
    this = (status.st_dev, status.st_ino)
    if this in on_the_way:
        raise DataError(f"{folder} leads back to a folder that it lies in: remove that link")
    for entry in entries:
        if _holds(entry.is_dir):
            yield from _below(Path(entry.path), f"{above}{entry.name}/", on_the_way | {this})
        elif _counts(entry):
            yield above + entry.name


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link to itself
        return False


def _counts(entry: os.DirEntry[str]) -> bool:
    name = entry.name.lower()
    if name.endswith(_OTHER_SUFFIXES):
        raise DataError(f"{entry.path} is neither JPEG nor PNG: convert it, or remove it")
    if not name.endswith(SUFFIXES):
        return False
    if not _holds(entry.is_file):
        raise DataError(f"{entry.path} is no file, or a link to nothing: remove it")
    return True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [
                entry
                for entry in entries
                if not entry.name.startswith(".") and entry.name not in _OF_SYSTEMS
            ]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {why(error)}") from error
