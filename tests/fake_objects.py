"""Static libraries and programs of a few sections, written byte by byte."""

from __future__ import annotations

import struct

WRITE, ALLOC, CODE = 1, 2, 6
BITS, NO_BITS = 1, 8


def elf(sections: list[tuple[str, int, int, int]], segments: list[tuple[int, int]] = []) -> bytes:  # noqa: B006
    """An ELF file of (name, flags, kind, bytes) sections and (kind, bytes) segments."""
    names = b"\0"
    places = []
    for name, *_ in [*sections, (".shstrtab", 0, 0, 0)]:
        places.append(len(names))
        names += name.encode() + b"\0"
    start = 52 + 32 * len(segments)
    rows = [bytes(40)]
    for at, (_, flags, kind, size) in zip(places, sections, strict=False):
        rows.append(struct.pack("<IIIIII16x", at, kind, flags, 0, 0, size))
    rows.append(struct.pack("<IIIIII16x", places[-1], 3, 0, 0, start, len(names)))
    header = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack(
        *("<HHIIIIIHHHHHH", 1, 40, 1, 0, 52, start + len(names), 0, 52, 32, len(segments)),
        *(40, len(rows), len(rows) - 1),
    )
    file = header + bytes(32 * len(segments)) + names + b"".join(rows)
    for index, (kind, size) in enumerate(segments):
        row = struct.pack("<IIIIII8x", kind, len(file), 0, 0, size, size)
        file = file[: 52 + 32 * index] + row + file[84 + 32 * index :] + bytes(size)
    return file


def archive(*members: bytes) -> bytes:
    """As ``ar`` writes it, with a table in front."""
    found = b"!<arch>\n"
    for name, data in [("/", b"odd"), *(("one.o/", member) for member in members)]:
        found += f"{name:16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode() + data
        found += b"\n" * (len(data) % 2)
    return found
