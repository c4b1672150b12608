"""Programs for boards, each one file: an executable archive that any Python from 3.8 on runs."""

from __future__ import annotations

from pathlib import Path

from headgate.device.files import stored_archive

FILE_NAME = "headgate-agent.pyz"
_HERE = Path(__file__).parent
_PROTOCOL = _HERE / "protocol.py"
# The modules of headgate.device that a program takes along keep their places in this package.
_PACKAGE = Path("headgate_device")
_SHEBANG = b"#!/usr/bin/env python3\n"
# Old Pythons must be able to read this before they fail on the rest, so no f-strings in it.
_MAIN = """\
import sys

if sys.version_info < (3, 8):
    sys.exit("{program}: needs Python 3.8 or newer, this is %d.%d" % sys.version_info[:2])

from {package}.{module} import main

sys.exit(main())
"""


def agent_archive() -> bytes:
    """The agent: ``python3 headgate-agent.pyz --help``. Equal sources give equal bytes."""
    agent = (_HERE / "agent").rglob("*.py")
    return _pack("headgate-agent", "agent.__main__", [*agent, _PROTOCOL, _HERE / "arm_cores.py"])


def on_board_archive() -> bytes:
    """What the services of an SD image run (``image/on_board.py``)."""
    return _pack("headgate", "image.on_board", [_HERE / "image/on_board.py", _PROTOCOL])


def _pack(program: str, module: str, sources: list[Path]) -> bytes:
    main = _MAIN.format(program=program, package=_PACKAGE, module=module)
    contents = {"__main__.py": main.encode()}
    for path in sources:
        place = _PACKAGE / path.relative_to(_HERE)
        contents[place.as_posix()] = path.read_bytes()
        for folder in place.parents[:-1]:
            # Without one, Python finds no package in an archive.
            contents.setdefault(f"{folder.as_posix()}/__init__.py", b"")
    return stored_archive(contents, before=_SHEBANG)
