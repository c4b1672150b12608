"""Text files that say which class an image belongs to: one line an image."""

from __future__ import annotations

from pathlib import Path

from headgate.errors import DataError, why


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty; a DataError if there are none to be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # with the mark of Windows' editors, or not
    except OSError as error:
        raise DataError(f"{path} cannot be read: {why(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: save it as UTF-8") from error
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise DataError(f"{path} is empty")
    return found


def pairs(path: Path) -> list[tuple[str, str]]:
    """The name and the last word of each line; a DataError for a line of one word."""
    found = []
    for line in lines(path):
        name, space, value = line.rpartition(" ")
        if not space:
            raise DataError(f"{path}: the line {line!r} is no name and class")
        found.append((name.strip(), value))
    return found


def numbered(path: Path) -> list[tuple[str, int]]:
    """The name and the number of each line; a DataError for a line that does not end in one."""
    found = []
    for name, number in pairs(path):
        if not number.isdecimal():
            raise DataError(f"{path}: {number!r} of {name} is no class's number")
        found.append((name, int(number)))
    return found
