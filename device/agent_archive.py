"""The agent as one file: an executable archive that the Python of any board runs, 3.8 or newer."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from headgate.device.files import atomic_write

FILE_NAME = "headgate-agent.pyz"
_SOURCES = Path(__file__).parent / "agent"
_PACKAGE = "headgate_agent"
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_SHEBANG = b"#!/usr/bin/env python3\n"
# Old Pythons must be able to read this before they fail on the rest, so no f-strings in it.
_MAIN = f"""\
import sys

if sys.version_info < (3, 8):
    sys.exit("headgate-agent: needs Python 3.8 or newer, this is %d.%d" % sys.version_info[:2])

from {_PACKAGE}.__main__ import main

sys.exit(main())
"""


def agent_archive() -> bytes:
    """The archive: ``python3 headgate-agent.pyz --help``. Equal sources give equal bytes."""
    contents = {"__main__.py": _MAIN.encode()}
    for path in _SOURCES.rglob("*.py"):
        contents[f"{_PACKAGE}/{path.relative_to(_SOURCES).as_posix()}"] = path.read_bytes()
    buffer = io.BytesIO()
    buffer.write(_SHEBANG)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # Unix, also when written elsewhere
            info.external_attr = _MODE
            archive.writestr(info, contents[name])
    return buffer.getvalue()


def write_agent(path: str | Path) -> None:
    """Write the archive, executable, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    data = agent_archive()
    with atomic_write(path) as file:
        file.write(data)
    Path(path).chmod(0o755)
