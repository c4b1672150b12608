from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``headgate`` in the user's cache folder; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "headgate"
