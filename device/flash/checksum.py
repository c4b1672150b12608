"""The SHA-256 that lies beside an image: ``HASH  NAME``, ``SHA256 (NAME) = HASH`` or ``HASH``.

``sha256sum``, ``sha256sum --tag``, BSD's ``sha256`` and Windows make these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from headgate.errors import InputError, why

_ENDINGS = (".xz", ".gz")
_PLAIN = re.compile(r"\\?([0-9A-Fa-f]{64})(?:\s+\*?(.+))?")
_TAGGED = re.compile(r"\\?SHA(?:2?-)?256 ?\((.+)\) ?= ?([0-9A-Fa-f]{64})", re.IGNORECASE)


_FILE, _CONTENTS, _EITHER = "the file", "what it unpacks to", "either: no name says which"


@dataclass(frozen=True)
class Checksums:
    """Where they were found, what each is of, and the hexadecimal digits in lower case."""

    path: Path
    wanted: list[tuple[str, str]]

    def fit(self, file: str, contents: str) -> bool:
        """Whether both SHA-256 are what is wanted."""
        found = {_FILE: {file}, _CONTENTS: {contents}, _EITHER: {file, contents}}
        return all(digest in found[of] for of, digest in self.wanted)


def find_checksums(image: Path) -> Checksums | None:
    """Those of ``IMAGE.sha256``; or, where ``IMAGE`` is packed, of the unpacked file's own.

    An InputError: there is such a file, and it has no SHA-256 of this image.
    """
    if (beside := _beside(image)) is None:
        return None
    try:
        lines = beside.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {beside}: {why(error)}; repair or remove it") from error
    sums = [entry for line in lines if (entry := _read(line.strip())) is not None]
    if not sums:
        raise InputError(f"{beside} holds no SHA-256; repair or remove it")
    names = {_unpacked(image): _CONTENTS, image.name: _FILE}
    # Of another name: somebody has renamed the image, or none was written down.
    other = _EITHER if len(sums) == 1 else None
    wanted = [(of, digest) for name, digest in sums if (of := names.get(name, other))]
    if not wanted:
        raise InputError(
            f"{beside} has {len(sums)} lines and none for {image.name}; repair or remove it"
        )
    return Checksums(beside, wanted)


def _beside(image: Path) -> Path | None:
    own = image.with_name(f"{image.name}.sha256")
    if own.exists():
        return own
    contents = image.with_name(_unpacked(image))
    of_contents = contents.with_name(f"{contents.name}.sha256")
    # Where the unpacked file is there as well, the checksum is that one's.
    return of_contents if of_contents.exists() and not contents.exists() else None


def _unpacked(image: Path) -> str:
    """The name of what is in a packed image; its own of another."""
    return image.stem if image.suffix.lower() in _ENDINGS else image.name


def _read(line: str) -> tuple[str, str] | None:
    """A name without its folders, and a SHA-256; None of any other line."""
    if tagged := _TAGGED.fullmatch(line):
        name, digest = tagged.groups()
    elif plain := _PLAIN.fullmatch(line):
        digest, name = plain[1], plain[2] or ""
    else:
        return None
    if line.startswith("\\"):
        # Marks a name in which sha256sum has escaped a backslash or a line's end.
        name = name.replace("\\n", "\n").replace("\\\\", "\\")
        return name.rpartition("/")[2], digest.lower()
    return re.split(r"[/\\]", name)[-1], digest.lower()
