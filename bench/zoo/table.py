"""The page's table: one line for each network, counts above, what is not right below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench import markdown
from bench.zoo import verdict

HEADER = (
    *("network", "family", "input"),
    *("convolutions", "found", "gated", "at density 1", "dense", "at density 0.5", "compiled in"),
)
_QUESTIONS: dict[str, Callable[[verdict.Found], str]] = {
    "gates at density 1 change nothing": verdict.at_one,
    "compiled dense": verdict.dense,
    "compiled with gates at density 0.5": verdict.half,
}


def render(records: Sequence[Mapping[str, Any]], context: Mapping[str, Any]) -> str:
    """Markdown: counts, the table, networks under QEMU, what is not right, what has no gates."""
    parts = [
        _counts(records),
        markdown.table(HEADER, [_row(one) for one in records], texts=3),
        _emulated(records),
        _faults(records),
        _without_gates(records),
        markdown.circumstances([context]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _counts(records: Sequence[verdict.Found]) -> str:
    families = {one["family"] for one in records}
    lines = [f"{len(records)} networks of {len(families)} families.", ""]
    for question, answer in _QUESTIONS.items():
        counts = Counter(answer(one) for one in records)
        told = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        lines.append(f"* {question}: {told}")
    return "\n".join(lines)


def _row(record: verdict.Found) -> list[str]:
    sizes = (" x ".join(map(str, shape)) for shape in record["input"])
    seconds = [record.get(key, {}).get("seconds") for key in ("dense", "half")]
    return [
        record["name"],
        record["family"],
        "; ".join(sizes),
        *(_number(record.get(key)) for key in ("convolutions", "found", "gated")),
        _cell(verdict.at_one(record), record.get("at_one")),
        _cell(verdict.dense(record), record.get("dense", {}).get("error")),
        _cell(verdict.half(record), _half_error(record)),
        " + ".join(f"{one:.0f}" for one in seconds if one is not None) + " s",
    ]


def _half_error(record: verdict.Found) -> float | None:
    """The largest error; where a gate flipped, that of a second try in which none can."""
    key = "steady" if verdict.half(record) == verdict.FLIPS else "half"
    error: float | None = record.get(key, {}).get("error")
    return error


def _cell(word: str, error: float | None) -> str:
    number = "not finite" if error is None else f"{error:.0e}"
    if word == verdict.RIGHT:
        return number
    if word == verdict.FLIPS:
        return f"{number}, flips"
    return f"**{word}**, {number}" if word == verdict.WRONG else word


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _emulated(records: Sequence[verdict.Found]) -> str:
    rows = [
        [
            one["name"],
            *(
                _cell(verdict.emulated(one, key), one.get(key, {}).get("error"))
                for key in verdict.EMULATED
            ),
        ]
        for one in records
        if verdict.EMULATED[0] in one
    ]
    header = ("on qemu:rpi4", "dense", "at density 0.5")
    return markdown.table(header, rows) if rows else ""


def _faults(records: Sequence[verdict.Found]) -> str:
    lines = [
        f"* `{record['name']}`, {stage}: {message}"
        for record in records
        for stage, message in verdict.faults(record).items()
    ]
    return "\n".join(["Not right:", "", *lines]) if lines else ""


def _without_gates(records: Sequence[verdict.Found]) -> str:
    lines = []
    for record in records:
        if verdict.at_one(record) == verdict.NOTHING:
            reasons = [f"{one} ({count})" for one, count in record["obstacles"].items()]
            why = "; ".join(reasons) or "no convolution of one or two dimensions"
            lines.append(f"* `{record['name']}`: {why}")
    return (
        "\n".join(["Nothing to gate, and of how many convolutions:", "", *lines]) if lines else ""
    )
