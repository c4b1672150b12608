"""Whether tests run at full length: HEADGATE_FULL=1, see tests/README.md."""

from __future__ import annotations

import os

FULL = os.environ.get("HEADGATE_FULL") == "1"
