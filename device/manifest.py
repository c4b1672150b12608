"""What manifest.json of a bundle must contain, checked key by key before anything trusts it."""

from __future__ import annotations

import math
from typing import Any

from headgate.errors import BundleError

SCHEMA = 1

VECTORS = "vectors.safetensors"
SHARED_OBJECT = "code/network.so"

NAMED = "named"
"""``results`` of a network that returns a table of its outputs."""

_MAX_BYTES = 1 << 40
_MAX_RANK = 8


def check_manifest(manifest: Any) -> None:
    """Check every required key, its type, and that offsets and indices lie inside their tables.

    Keys that this version does not know are left alone.

    Raises:
        BundleError: the first thing that is wrong, with its place in the manifest.
    """
    if not isinstance(manifest, dict):
        raise _wrong("manifest.json", "an object", manifest)
    schema = manifest.get("schema")
    if schema != SCHEMA:
        raise BundleError(
            f"the bundle has schema {schema!r}, this headgate reads {SCHEMA}; "
            "recompile it, or install the headgate that wrote it"
        )
    _text(manifest, "name")
    _check_target(_object(manifest, "target"))
    for tool, version in _object(manifest, "tools").items():
        if not isinstance(version, str):
            raise _wrong(f"tools[{tool!r}]", "a string", version)
    _sha256(manifest, "model_sha256")
    for key in ("inputs", "outputs"):
        _check_signature(key, _list(manifest, key))
    arena_bytes = _integer(manifest, "arena_bytes", largest=_MAX_BYTES)
    _integer(manifest, "thread_bytes", largest=_MAX_BYTES)
    _integer(manifest, "weights_bytes", largest=_MAX_BYTES)
    gates = _list(manifest, "gates")
    for index, gate in enumerate(gates):
        _check_gate(f"gates[{index}]", gate, arena_bytes)
    if len({gate["name"] for gate in gates}) != len(gates):
        raise BundleError("manifest.json names a gate twice; recompile the bundle")
    for index, layer in enumerate(_list(manifest, "layers")):
        _check_layer(f"layers[{index}]", layer, len(gates))
    _check_preprocess(manifest)
    tolerance = _get(manifest, "tolerance", "")
    if type(tolerance) not in (int, float) or not 0 < tolerance < math.inf:
        raise _wrong("tolerance", "a positive number", tolerance)
    if "results" in manifest and manifest["results"] != NAMED:
        raise _wrong("results", repr(NAMED), manifest["results"])
    if "checked" in manifest:
        _check_checked(_object(manifest, "checked"))
    for name, member in _object(manifest, "members").items():
        place = f"members[{name!r}]"
        _require_object(place, member)
        _sha256(member, "sha256", f"{place}.")
        _integer(member, "bytes", f"{place}.", largest=_MAX_BYTES)


def _check_target(target: dict[str, Any]) -> None:
    for key in ("name", "triple", "cpu", "arch"):
        _text(target, key, "target.")
    features = _list(target, "features", "target.")
    if not all(isinstance(feature, str) for feature in features):
        raise _wrong("target.features", "a list of strings", features)


def _check_signature(key: str, tensors: list[Any]) -> None:
    if not tensors:
        raise BundleError(f"manifest.json has no {key}; recompile the bundle")
    for index, tensor in enumerate(tensors):
        place = f"{key}[{index}]"
        _require_object(place, tensor)
        _text(tensor, "name", f"{place}.")
        shape = _list(tensor, "shape", f"{place}.")
        sizes = all(type(size) is int and 0 < size < 1 << 31 for size in shape)
        if not sizes or not 0 < len(shape) <= _MAX_RANK or shape[0] != 1:
            raise _wrong(f"{place}.shape", "positive sizes with a batch of 1 first", shape)
        if tensor.get("dtype") != "float32":
            raise _wrong(f"{place}.dtype", "'float32'", tensor.get("dtype"))
        scale = tensor.get("scale", 1.0)
        if type(scale) is not float or not 0 < scale < math.inf:
            raise _wrong(f"{place}.scale", "a positive number", scale)


def _check_gate(place: str, gate: Any, arena_bytes: int) -> None:
    _require_object(place, gate)
    _text(gate, "name", f"{place}.")
    channels = _integer(gate, "channels", f"{place}.", smallest=1)
    places = [("count_offset", 1)]
    if _get(gate, "list_offset", f"{place}.") is not None:  # a pixel gate keeps no list
        places.append(("list_offset", channels))
    for key, length in places:
        offset = _integer(gate, key, f"{place}.")
        if offset % 4 or offset + 4 * length > arena_bytes:
            raise _wrong(f"{place}.{key}", f"a place inside {arena_bytes} bytes of arena", offset)


def _check_layer(place: str, layer: Any, gate_count: int) -> None:
    _require_object(place, layer)
    _text(layer, "name", f"{place}.")
    _text(layer, "operator", f"{place}.")
    for key in ("dense_macs", "in_channels", "out_channels", "macs_per_pair"):
        _integer(layer, key, f"{place}.", largest=_MAX_BYTES)
    if "base_macs" in layer:
        _integer(layer, "base_macs", f"{place}.", largest=_MAX_BYTES)
    if "pixel_tile" in layer:
        tile = _list(layer, "pixel_tile", f"{place}.")
        if len(tile) != 2 or not all(type(size) is int and size > 0 for size in tile):
            raise _wrong(f"{place}.pixel_tile", "a number of channels and one of pixels", tile)
    for key in ("in_gate", "out_gate"):
        if _get(layer, key, f"{place}.") is not None:
            _integer(layer, key, f"{place}.", largest=gate_count - 1)


def _check_preprocess(manifest: dict[str, Any]) -> None:
    preprocess = _get(manifest, "preprocess", "")
    if preprocess is not None:
        _require_object("preprocess", preprocess)
        for key in ("mean", "std"):
            values = _list(preprocess, key, "preprocess.")
            if not all(isinstance(value, (int, float)) for value in values):
                raise _wrong(f"preprocess.{key}", "a list of numbers", values)
    if _get(manifest, "classes", "") is not None:
        classes = _list(manifest, "classes")
        if not all(isinstance(name, str) for name in classes):
            raise _wrong("classes", "a list of strings", classes)


def _check_checked(checked: dict[str, Any]) -> None:
    """Bundles that were compiled before there was a check say nothing of it."""
    if _get(checked, "machine", "checked.") is None:
        _text(checked, "reason", "checked.")
        return
    _text(checked, "machine", "checked.")
    _integer(checked, "vectors", "checked.", smallest=1)
    _integer(checked, "excused", "checked.")
    error = _get(checked, "max_error", "checked.")
    if type(error) not in (int, float) or not 0 <= error < math.inf:
        raise _wrong("checked.max_error", "a number of 0 or more", error)


def _wrong(place: str, wanted: str, value: Any) -> BundleError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return BundleError(f"manifest.json: {place} is {shown}, not {wanted}; recompile the bundle")


def _get(table: dict[str, Any], key: str, place: str) -> Any:
    if key not in table:
        raise BundleError(f"manifest.json has no {place}{key}; recompile the bundle")
    return table[key]


def _require_object(place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place, "an object", value)
    return value


def _object(table: dict[str, Any], key: str) -> dict[str, Any]:
    return _require_object(key, _get(table, key, ""))


def _list(table: dict[str, Any], key: str, place: str = "") -> list[Any]:
    value = _get(table, key, place)
    if not isinstance(value, list):
        raise _wrong(place + key, "a list", value)
    return value


def _text(table: dict[str, Any], key: str, place: str = "") -> str:
    value = _get(table, key, place)
    if not isinstance(value, str):
        raise _wrong(place + key, "a string", value)
    return value


def _integer(
    table: dict[str, Any],
    key: str,
    place: str = "",
    smallest: int = 0,
    largest: int = (1 << 31) - 1,
) -> int:
    value = _get(table, key, place)
    if type(value) is not int or not smallest <= value <= largest:
        raise _wrong(place + key, f"an integer from {smallest} to {largest}", value)
    return value


def _sha256(table: dict[str, Any], key: str, place: str = "") -> None:
    value = _text(table, key, place)
    if len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise _wrong(place + key, "a SHA-256 in hexadecimal", value)
