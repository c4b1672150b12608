"""What results of measurements share in tests: the machine that they say they come from."""

from __future__ import annotations

from typing import Any

CONTEXT: dict[str, Any] = {
    "cpu": "a CPU",
    "cpu_count": 2,
    "load_1min": 0.5,
    "kernel": "Linux",
    "taken_utc": "2026-01-01T00:00:00Z",
    "versions": {"headgate": "0.1.0"},
}
