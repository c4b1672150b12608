"""The checker of plain data: what it decodes, and how it says what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from headgate.device.schema import Choice, Demand, Mismatch, at_least, check, decode

Even = Annotated[int, Demand("an even number", lambda value: value % 2 == 0)]
Colour = Annotated[str, Choice(lambda: ["red", "green"])]


@dataclass(frozen=True)
class Absent:
    reason: str = field(metadata={"key": "not_measured"})


@dataclass(frozen=True)
class Part:
    size: Even
    colour: Colour
    mode: Literal["on", "off"] = "on"


@dataclass(frozen=True)
class Whole:
    name: str
    parts: list[Part]
    span: tuple[float, float]
    weights: dict[str, float]
    power: float | Absent
    count: Annotated[int, at_least(1)] | None = None

    def __post_init__(self) -> None:
        if self.span[0] > self.span[1]:
            raise ValueError("span ends before it starts")


GOOD: dict[str, Any] = {
    "name": "a",
    "parts": [{"size": 2, "colour": "red"}],
    "span": [0, 1.5],
    "weights": {"x": 1},
    "power": {"not_measured": "no sensor"},
}


def test_plain_data_becomes_dataclasses() -> None:
    assert decode(Whole, GOOD) == Whole(
        "a", [Part(2, "red")], (0, 1.5), {"x": 1}, Absent("no sensor")
    )
    assert decode(Whole, GOOD | {"power": 3, "later": 1}).power == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name is 3, not text"),
        ({"parts": {}}, "parts is {}, not a list"),
        ({"parts": [{"size": 3, "colour": "red"}]}, "parts[0].size is 3, not an even number"),
        ({"parts": [{"size": True, "colour": "red"}]}, "parts[0].size is True, not a whole number"),
        (
            {"parts": [{"size": 2, "colour": "gren"}]},
            "parts[0].colour is 'gren', which is unknown. Did you mean 'green'?",
        ),
        ({"parts": [{"size": 2}]}, "it has no parts[0].colour. Known: red, green"),
        (
            {"parts": [{"size": 2, "colour": "red", "mode": "of"}]},
            "parts[0].mode is 'of', which is unknown. Did you mean 'off'?",
        ),
        (
            {"parts": [{"size": 2, "colour": "red", "mod": "on"}]},
            "parts[0]: unknown key 'mod'. Did you mean 'mode'?",
        ),
        ({"span": [1]}, "span has 1 entries, not 2"),
        ({"span": [2, 1]}, "span ends before it starts"),
        ({"weights": {"a\nb": "x"}}, r"weights['a\nb'] is 'x', not a number"),
        ({"power": float("nan")}, "power is nan, not a number"),
        ({"power": {"not_measured": 3}}, "power.not_measured is 3, not text"),
        ({"count": 0}, "count is 0, not a whole number of at least 1"),
        ({"nmae": "b"}, "unknown key 'nmae'. Did you mean 'name'?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Mismatch) as caught:
        decode(Whole, GOOD | change, strict=True)
    assert str(caught.value) == message


def test_a_place_stands_in_front() -> None:
    with pytest.raises(Mismatch, match=r"^board: unknown key 'x'"):
        decode(Part, {"x": 1}, "board", strict=True)
    with pytest.raises(Mismatch, match=r"^levels\[1\] is 'b', not a number$"):
        check(list[float], [1, "b"], "levels")
    with pytest.raises(Mismatch, match=r"^it is \[\], not a table$"):
        decode(Part, [])
