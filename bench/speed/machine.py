"""The machine that a benchmark ran on, as its results are kept under.

Cloud machines hide the model of their CPU ("AMD EPYC"), so what its instruction set does for
convolutions is part of the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.speed.without_amx import amx_is_refused
from headgate.device.agent.absent import is_measured

_WIDE = {"avx512f": "AVX-512", "avx512_vnni": "VNNI", "amx_int8": "AMX"}
"""Flags of x86 that decide how fast a convolution can be, with their usual names."""

AMX_REFUSED = "AMX refused"


def machine_name(context: Mapping[str, Any], cpuinfo: str | None = None) -> str:
    """Of a comparison's context, taken here: ``AMD EPYC with AVX-512, VNNI``.

    ``cpuinfo``: what ``/proc/cpuinfo`` holds; None: this machine's.
    """
    cpu = str(context["cpu"] if is_measured(context["cpu"]) else context["architecture"])
    text = Path("/proc/cpuinfo").read_text(errors="replace") if cpuinfo is None else cpuinfo
    flags = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    found = [title for flag, title in _WIDE.items() if flag in flags]
    if found[-1:] == ["AMX"] and amx_is_refused():
        found[-1] = AMX_REFUSED
    return f"{cpu} with {', '.join(found)}" if found else cpu
