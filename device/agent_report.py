"""The agent's report, read back on this side of the wire and checked before anything trusts it.

What a report must contain is not written down a second time: its parts are the agent's own
dataclasses (``agent/context.py``, ``latency.py``, ``energy.py``, ``check.py``, ``watch.py``), and
a report is held against their annotations, field by field.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from headgate.device.agent.absent import NotMeasured, is_measured
from headgate.device.agent.check import Check
from headgate.device.agent.context import Context
from headgate.device.agent.energy import Energy
from headgate.device.agent.latency import Latency
from headgate.device.agent.report import SCHEMA
from headgate.device.agent.watch import Watched
from headgate.errors import DeviceError, MissingFile, why

PERCENTILES = ("p50", "p90", "p95", "p99")

_MOST_BYTES = 64 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DOCUMENT: dict[str, Any] = {
    "agent": str,
    "verb": str,
    "arguments": list[str],
    "valid": bool,
    "invalid_because": list[str],
    "warnings": list[str],
    "bundle": {
        "name": str,
        "path": str,
        "sha256": str,
        "model_sha256": str,
        "target": {"name": str, "arch": str, "cpu": str},
        "tools": dict[str, str],
        "samples": int,
    },
    "context": {"before": Context, "during": Watched | NotMeasured, "after": Context},
    "outputs": Check | NotMeasured,
    "gates": dict[str, list[int]] | NotMeasured,
    "latency": Latency | NotMeasured,
    "energy": Energy | NotMeasured,
}


class _Wrong(Exception):
    """What is wrong, with its place in the report."""


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
        _check(document, _DOCUMENT, "")
        _check_sense(document)
    except _Wrong as wrong:
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


def _check(value: Any, kind: Any, place: str) -> None:
    """Hold a JSON value against an annotation, or against a table of them."""
    if isinstance(kind, Mapping):
        _check_keys(value, kind, place)
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        present = value if isinstance(value, dict) else {}
        later = _added_later(kind) - present.keys()
        kinds = {key: one for key, one in _annotations(kind).items() if key not in later}
        _check_keys(value, kinds, place)
    elif isinstance(kind, types.UnionType):
        _check_union(value, typing.get_args(kind), place)
    elif typing.get_origin(kind) is list:
        (item,) = typing.get_args(kind)
        for index, one in enumerate(_require(value, list, "a list", place)):
            _check(one, item, f"{place}[{index}]")
    elif typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        if len(_require(value, list, f"a list of {len(items)}", place)) != len(items):
            raise _Wrong(f"{place} has {len(value)} entries, not {len(items)}")
        for index, (one, item) in enumerate(zip(value, items, strict=True)):
            _check(one, item, f"{place}[{index}]")
    elif typing.get_origin(kind) is dict:
        _, item = typing.get_args(kind)
        for key, one in _require(value, dict, "an object", place).items():
            _check(one, item, f"{place}.{key}")
    else:
        _check_plain(value, kind, place)


def _check_keys(value: Any, kinds: Mapping[str, Any], place: str) -> None:
    _require(value, dict, "an object", place)
    for key, kind in kinds.items():
        inner = f"{place}.{key}" if place else key
        if key not in value:
            raise _Wrong(f"it has no {inner}")
        _check(value[key], kind, inner)


def _check_union(value: Any, kinds: tuple[Any, ...], place: str) -> None:
    if NotMeasured in kinds and not is_measured(value):
        _check(value["not_measured"], str, f"{place}.not_measured")
        return
    if value is None and types.NoneType in kinds:
        return
    # The agent's annotations have one other member at most: X | NotMeasured, X | None.
    (kind,) = [one for one in kinds if one not in (NotMeasured, types.NoneType)]
    _check(value, kind, place)


def _check_plain(value: Any, kind: type, place: str) -> None:
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise _Wrong(f"{place} is {_shown(value)}, not a number")
    elif type(value) is not kind:
        names = {str: "text", int: "a whole number", bool: "true or false"}
        raise _Wrong(f"{place} is {_shown(value)}, not {names[kind]}")


def _check_sense(document: Mapping[str, Any]) -> None:
    """What annotations cannot say."""
    for key in ("sha256", "model_sha256"):
        if not _SHA256.fullmatch(document["bundle"][key]):
            raise _Wrong(f"bundle.{key} is {_shown(document['bundle'][key])}, not a SHA-256")
    if document["valid"] == bool(document["invalid_because"]):
        raise _Wrong("valid and invalid_because contradict each other")
    if is_measured(document["latency"]):
        _check_latency(document["latency"])
    if is_measured(document["energy"]):
        _check_energy(document["energy"])


def _check_latency(latency: Mapping[str, Any]) -> None:
    inputs = latency["inputs"]
    for name in PERCENTILES:
        if name not in latency["latency_us"]["percentiles"]:
            raise _Wrong(f"it has no latency.latency_us.percentiles.{name}")
    if inputs < 1 or not latency["latencies_us"]:
        raise _Wrong("latency rests on no runs")
    lists = {"median_us_per_input": latency["median_us_per_input"]}
    lists |= {"done_macs": latency["done_macs"]}
    lists |= {f"gates.{gate}": counts for gate, counts in latency["gates"].items()}
    for index, layer in enumerate(latency["layers"]):
        for key in ("median_us_per_input", "done_macs", "active_inputs", "active_outputs"):
            if layer[key] is not None:
                lists[f"layers[{index}].{key}"] = layer[key]
    for place, values in lists.items():
        if len(values) != inputs:
            raise _Wrong(f"latency.{place} has {len(values)} entries for {inputs} inputs")


def _check_energy(energy: Mapping[str, Any]) -> None:
    if not energy["windows"]:
        raise _Wrong("energy has no windows")
    spans = {"idle": energy["idle"]}
    spans |= {f"windows[{index}]": window for index, window in enumerate(energy["windows"])}
    for place, span in spans.items():
        if not span["start_s"] < span["end_s"]:
            raise _Wrong(f"energy.{place} ends before it starts")


def _require(value: Any, kind: type, what: str, place: str) -> Any:
    if not isinstance(value, kind):
        raise _Wrong(f"{place or 'it'} is {_shown(value)}, not {what}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


@cache
def _added_later(kind: type) -> frozenset[str]:
    """Fields that earlier agents did not write: those with a default."""
    missing = dataclasses.MISSING
    return frozenset(
        field.name
        for field in dataclasses.fields(kind)
        if field.default is not missing or field.default_factory is not missing
    )


@cache
def _annotations(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
