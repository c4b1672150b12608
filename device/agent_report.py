"""The agent's report, read back on this side of the wire and checked before anything trusts it.

What a report must contain is not written down a second time: its parts are the agent's own
dataclasses (``agent/context.py``, ``latency.py``, ``energy.py``, ``check.py``, ``watch.py``), and
a report is held against their annotations, field by field.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

from headgate.device.agent.absent import NotMeasured, is_measured
from headgate.device.agent.check import Check
from headgate.device.agent.context import Context
from headgate.device.agent.energy import Energy
from headgate.device.agent.latency import Latency
from headgate.device.agent.report import SCHEMA
from headgate.device.agent.watch import Watched
from headgate.device.schema import SHA256, Mismatch, decode
from headgate.errors import DeviceError, MissingFile, why

PERCENTILES = ("p50", "p90", "p95", "p99")

_MOST_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class _Target:
    name: str
    arch: str
    cpu: str


@dataclasses.dataclass(frozen=True)
class _Bundle:
    name: str
    path: str
    sha256: Annotated[str, SHA256]
    model_sha256: Annotated[str, SHA256]
    target: _Target
    tools: dict[str, str]
    samples: int


@dataclasses.dataclass(frozen=True)
class _Moments:
    before: Context
    during: Watched | NotMeasured
    after: Context


@dataclasses.dataclass(frozen=True)
class _Document:
    agent: str
    verb: str
    arguments: list[str]
    valid: bool
    invalid_because: list[str]
    warnings: list[str]
    bundle: _Bundle
    context: _Moments
    outputs: Check | NotMeasured
    gates: dict[str, list[int]] | NotMeasured
    latency: Latency | NotMeasured
    energy: Energy | NotMeasured


def read_agent_report(source: bytes | Path, name: str = "the agent's report") -> dict[str, Any]:
    """Read a report of ``headgate-agent run``, ``profile`` or ``energy``.

    Keys that this version does not know are left alone, and those that have a default in the
    agent's dataclasses may be missing: reports of earlier agents do not have them.

    Args:
        source: The JSON text, or the file that holds it.
        name: What errors call the text; a file has its own name.

    Raises:
        MissingFile: There is no such file.
        DeviceError: It cannot be read, is no report, is cut off, or contradicts itself.
    """
    if isinstance(source, Path):
        name, data = str(source), _bytes(source)
    else:
        data = source
    if len(data) > _MOST_BYTES:
        raise DeviceError(f"{name} has {len(data):,} bytes, no report is that long")
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DeviceError(f"{name} is not JSON, or cut off: {why(error)}; measure again") from error
    check_agent_report(document, name)
    return dict(document)


def check_agent_report(document: Any, name: str) -> None:
    """Hold JSON that was read already against what a report is.

    Raises:
        DeviceError: It is no report, or one that contradicts itself.
    """
    if not looks_like_agent_report(document):
        raise DeviceError(
            f"{name} is no report of the agent's; `headgate-agent profile BUNDLE -o FILE` makes one"
        )
    if document["schema"] != SCHEMA:
        raise DeviceError(
            f"{name} has schema {document['schema']!r}, this headgate reads {SCHEMA}; measure "
            "again, with the agent of this headgate"
        )
    try:
        decode(_Document, document)
        _check_sense(document)
    except Mismatch as wrong:
        raise DeviceError(f"{name}: {wrong}; measure again") from wrong


def looks_like_agent_report(document: Any) -> bool:
    """Whether some JSON is meant to be one, whole or not, rather than another kind of file."""
    return isinstance(document, dict) and {"schema", "agent", "verb"} <= document.keys()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFile(f"no report {path}; check the path") from error
    except OSError as error:
        raise DeviceError(f"cannot read {path}: {why(error)}") from error


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _check_sense(document: Mapping[str, Any]) -> None:
    """What annotations cannot say."""
    if document["valid"] == bool(document["invalid_because"]):
        raise Mismatch("valid and invalid_because contradict each other")
    if is_measured(document["latency"]):
        _check_latency(document["latency"])
    if is_measured(document["energy"]):
        _check_energy(document["energy"])


def _check_latency(latency: Mapping[str, Any]) -> None:
    inputs = latency["inputs"]
    for name in PERCENTILES:
        if name not in latency["latency_us"]["percentiles"]:
            raise Mismatch(f"it has no latency.latency_us.percentiles.{name}")
    if inputs < 1 or not latency["latencies_us"]:
        raise Mismatch("latency rests on no runs")
    lists = {"median_us_per_input": latency["median_us_per_input"]}
    lists |= {"done_macs": latency["done_macs"]}
    lists |= {f"gates.{gate}": counts for gate, counts in latency["gates"].items()}
    for index, layer in enumerate(latency["layers"]):
        for key in ("median_us_per_input", "done_macs", "active_inputs", "active_outputs"):
            if layer[key] is not None:
                lists[f"layers[{index}].{key}"] = layer[key]
    for place, values in lists.items():
        if len(values) != inputs:
            raise Mismatch(f"latency.{place} has {len(values)} entries for {inputs} inputs")


def _check_energy(energy: Mapping[str, Any]) -> None:
    if not energy["windows"]:
        raise Mismatch("energy has no windows")
    spans = {"idle": energy["idle"]}
    spans |= {f"windows[{index}]": window for index, window in enumerate(energy["windows"])}
    for place, span in spans.items():
        if not span["start_s"] < span["end_s"]:
            raise Mismatch(f"energy.{place} ends before it starts")
