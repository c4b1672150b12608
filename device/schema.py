"""Plain data (JSON, TOML) checked against annotations and decoded into dataclasses.

The annotations of a dataclass say what its table must hold: ``str``, ``int``, ``float``, ``bool``,
``list[X]``, ``tuple[X, Y]``, ``dict[str, X]``, ``Literal``, ``X | None``, other dataclasses, and
``Annotated[X, ...]`` with a :class:`Demand` or a :class:`Choice`. A field with a default may be
absent; ``field(metadata={"key": ...})`` names its key where that is another word. What annotations
cannot say, ``__post_init__`` says with a ValueError, which is reported with the place.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from headgate.errors import suggest, why

T = TypeVar("T")

_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class Mismatch(ValueError):
    """Data that is not as annotated: the place, the value and what is expected, in one line."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """A condition on a value whose type is right; ``wanted`` describes what meets it."""

    wanted: str
    holds: Callable[[Any], bool]


@dataclasses.dataclass(frozen=True)
class Choice:
    """Text that is one of ``known()``, asked for when a value is checked."""

    known: Callable[[], Iterable[str]]


def within(low: int, high: int) -> Demand:
    return Demand(f"a whole number from {low} to {high}", lambda value: low <= value <= high)


def at_least(low: int) -> Demand:
    return Demand(f"a whole number of at least {low}", lambda value: bool(value >= low))


POSITIVE = Demand("a positive number", lambda value: bool(value > 0))
NOT_NEGATIVE = Demand("a number of at least 0", lambda value: bool(value >= 0))
SHARE = Demand("a share in 0..1", lambda value: 0 <= value <= 1)
BELOW_1 = Demand("a share of at least 0 and below 1", lambda value: 0 <= value < 1)
SHA256 = Demand("a SHA-256", lambda text: re.fullmatch("[0-9a-f]{64}", text) is not None)


def decode(kind: type[T], data: Any, place: str = "", *, strict: bool = False) -> T:
    """The ``kind``, a dataclass, that plain data stands for, as a JSON or TOML reader returned it.

    Args:
        place: where the data lies, put before the names of its keys.
        strict: refuse keys that no field has; without it they are left alone.

    Raises:
        Mismatch: the first thing that is not as annotated.
    """
    decoded: T = _decode(kind, data, place, strict)
    return decoded


def check(kind: Any, value: Any, place: str) -> None:
    """Check one value against any annotation; a Mismatch if it does not fit."""
    _decode(kind, value, place, strict=False)


def _decode(kind: Any, value: Any, place: str, strict: bool) -> Any:
    if kind in _PLAIN:
        return _plain(kind, value, place)
    if kind is Any:
        return value
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _object(kind, value, place, strict)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotated(inner, value, place, strict)
    if origin is Literal:
        return _one_of(inner, value, place)
    if origin in (Union, UnionType):
        return _union(inner, value, place, strict)
    if origin is dict:
        entries = _require(dict, value, "a table", place)
        return {
            key: _decode(inner[1], one, _at(place, key), strict) for key, one in entries.items()
        }
    if origin is tuple and inner[-1] is not ...:
        entries = _require(list, value, f"a list of {len(inner)}", place)
        if len(entries) != len(inner):
            raise Mismatch(f"{place} has {len(entries)} entries, not {len(inner)}")
        kinds: Sequence[Any] = inner
    else:
        if origin not in (list, tuple, Sequence):
            raise TypeError(f"{place}: data cannot be checked against {kind!r}")
        entries = _require(list, value, "a list", place)
        kinds = [inner[0]] * len(entries)
    found = [
        _decode(one, entry, f"{place}[{index}]", strict)
        for index, (one, entry) in enumerate(zip(kinds, entries, strict=True))
    ]
    return tuple(found) if origin is tuple else found


def _plain(kind: type, value: Any, place: str) -> Any:
    if kind is float:
        fits = type(value) in (int, float) and math.isfinite(value)
    else:
        fits = type(value) is kind  # True is an int to isinstance
    if not fits:
        raise _wrong(value, _PLAIN[kind], place)
    return value


def _annotated(inner: tuple[Any, ...], value: Any, place: str, strict: bool) -> Any:
    found = _decode(inner[0], value, place, strict)
    for demand in inner[1:]:
        if isinstance(demand, Choice):
            _one_of(demand.known(), value, place)
        elif isinstance(demand, Demand) and not demand.holds(value):
            raise _wrong(value, demand.wanted, place)
    return found


def _one_of(known: Iterable[str], value: Any, place: str) -> Any:
    known = list(known)
    if value not in known:
        hint = suggest(str(value), known)
        raise Mismatch(f"{place} is {_shown(value)}, which is unknown.{hint}")
    return value


def _union(kinds: Sequence[Any], value: Any, place: str, strict: bool) -> Any:
    """The member that has the very keys of a table, else the first that is not None."""
    if value is None and NoneType in kinds:
        return None
    members = [kind for kind in kinds if kind is not NoneType]
    exact = [kind for kind in members if isinstance(value, dict) and _keys(kind) == value.keys()]
    return _decode((exact or members)[0], value, place, strict)


def _object(kind: type, value: Any, place: str, strict: bool) -> Any:
    table = _require(dict, value, "a table", place)
    fields = _fields(kind)
    if strict and (unknown := [key for key in table if key not in fields]):
        hint = suggest(unknown[0], fields)
        raise Mismatch(f"{place and place + ': '}unknown key {unknown[0]!r}.{hint}")
    values = {}
    for key, (name, annotation, needed) in fields.items():
        if key in table:
            values[name] = _decode(annotation, table[key], _at(place, key), strict)
        elif needed:
            raise Mismatch(f"it has no {_at(place, key)}{_choices(annotation)}")
    try:
        return kind(**values)
    except Mismatch:
        raise
    except ValueError as error:
        raise Mismatch(f"{place and place + ': '}{why(error)}") from error


@cache
def _fields(kind: type) -> dict[str, tuple[str, Any, bool]]:
    """Key -> the field's name, its annotation, and whether it must be there."""
    hints = get_type_hints(kind, include_extras=True)
    missing = dataclasses.MISSING
    return {
        field.metadata.get("key", field.name): (
            field.name,
            hints[field.name],
            field.default is missing and field.default_factory is missing,
        )
        for field in dataclasses.fields(kind)
        if field.init
    }


def _keys(kind: Any) -> set[str]:
    known = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return set(_fields(kind)) if known else set()


def _choices(annotation: Any) -> str:
    choices = [one for one in get_args(annotation)[1:] if isinstance(one, Choice)]
    return f". Known: {', '.join(choices[0].known())}" if choices else ""


def _require(kind: type, value: Any, wanted: str, place: str) -> Any:
    if not isinstance(value, kind):
        raise _wrong(value, wanted, place)
    return value


def _at(place: str, key: Any) -> str:
    if not (isinstance(key, str) and key.isidentifier()):
        return f"{place}[{key!r}]"
    return f"{place}.{key}" if place else key


def _wrong(value: Any, wanted: str, place: str) -> Mismatch:
    return Mismatch(f"{place or 'it'} is {_shown(value)}, not {wanted}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
