"""The agent's report, read back on this side of the wire and checked before anything trusts it.

It is decoded into the agent's own dataclasses (``agent/report.py``), field by field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from headgate.device.agent.energy import Energy, Stretch
from headgate.device.agent.latency import Latency
from headgate.device.agent.percentiles import Summary
from headgate.device.agent.report import SCHEMA, Report
from headgate.device.schema import SHA256, Mismatch, decode
from headgate.errors import DeviceError, MissingFile, why

PERCENTILES = ("p50", "p90", "p95", "p99")

_MOST_BYTES = 64 << 20


def read_agent_report(source: bytes | Path, name: str = "the agent's report") -> Report:
    """Read a report of ``headgate-agent run``, ``profile`` or ``energy``; unknown keys are ignored.

    ``source`` is the JSON text, ``name`` what errors call it, or the file that holds it.

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
    return decode_agent_report(document, name)


def decode_agent_report(document: Any, name: str) -> Report:
    """The report that JSON stands for, as :func:`read_agent_report`."""
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
        report = decode(Report, document)
        _check_sense(report)
    except Mismatch as wrong:
        raise DeviceError(f"{name}: {wrong}; measure again") from wrong
    return report


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


def _check_sense(report: Report) -> None:
    for key in ("sha256", "model_sha256"):
        if not SHA256.holds(value := getattr(report.bundle, key)):
            raise Mismatch(f"bundle.{key} is {value!r}, not a SHA-256")
    if report.valid == bool(report.invalid_because):
        raise Mismatch("valid and invalid_because contradict each other")
    if isinstance(report.latency, Latency):
        _check_latency(report.latency)
    if isinstance(report.energy, Energy):
        _check_energy(report.energy)


def _check_latency(latency: Latency) -> None:
    if isinstance(latency.latency_us, Summary):
        for name in PERCENTILES:
            if name not in latency.latency_us.percentiles:
                raise Mismatch(f"it has no latency.latency_us.percentiles.{name}")
    if latency.inputs < 1 or (isinstance(latency.latency_us, Summary) and not latency.latencies_us):
        raise Mismatch("latency rests on no runs")
    lists: dict[str, Any] = {f"gates.{gate}": counts for gate, counts in latency.gates.items()}
    lists |= _per_input(latency, ("median_us_per_input", "executed_macs"), "")
    for index, layer in enumerate(latency.layers):
        keys = ("median_us_per_input", "executed_macs", "active_inputs", "active_outputs")
        lists |= _per_input(layer, keys, f"layers[{index}].")
    for place, values in lists.items():
        if len(values) != latency.inputs:
            raise Mismatch(f"latency.{place} has {len(values)} entries for {latency.inputs} inputs")


def _per_input(part: Any, keys: tuple[str, ...], place: str) -> Mapping[str, Any]:
    values = {f"{place}{key}": getattr(part, key) for key in keys}
    return {key: one for key, one in values.items() if isinstance(one, list)}


def _check_energy(energy: Energy) -> None:
    if not energy.windows:
        raise Mismatch("energy has no windows")
    spans: dict[str, Stretch] = {"idle": energy.idle}
    spans |= {f"windows[{index}]": window for index, window in enumerate(energy.windows)}
    for place, span in spans.items():
        if not span.start_s < span.end_s:
            raise Mismatch(f"energy.{place} ends before it starts")
