"""The bundle format: deterministic, verified, and one clear line for everything that is wrong."""

from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.device import Bundle
from headgate.errors import BundleError, MissingFile, StorageError
from tests.fake_bundle import bundle, expected, images, safetensors

CODE = {"code/network.so": b"\x7fELF shared", "code/runner": b"\x7fELF static"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "fake.hgb"
    bundle(CODE).save(path)
    return path


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Alter the members of an archive, whose own checksums are then right again."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_round_trip(saved: Path) -> None:
    opened, original = Bundle.open(saved), bundle(CODE)
    assert opened.manifest == original.manifest
    assert opened.members == original.members
    assert opened.name == "fake"
    assert opened.target["name"] == "host"


def test_equal_contents_are_equal_bytes(saved: Path) -> None:
    original = bundle(CODE)
    shuffled = Bundle(
        dict(reversed(original.manifest.items())), dict(reversed(original.members.items()))
    )
    assert shuffled.to_bytes() == original.to_bytes() == saved.read_bytes()
    assert Bundle.open(saved).to_bytes() == saved.read_bytes()


def test_archive_is_plain_and_stored(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        infos = archive.infolist()
        manifest = json.loads(archive.read("manifest.json"))
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
    runner = manifest["members"]["code/runner"]
    assert runner == {
        "sha256": hashlib.sha256(CODE["code/runner"]).hexdigest(),
        "bytes": len(CODE["code/runner"]),
    }
    assert "manifest.json" not in manifest["members"]


def test_vectors_and_weights() -> None:
    (inputs,), (outputs,) = bundle(CODE).vectors()
    np.testing.assert_array_equal(inputs, images(5))
    np.testing.assert_array_equal(outputs, expected(images(5)))
    assert np.frombuffer(bundle(CODE).weights(), np.float32).tolist() == [1.0, -2.0, 3.0, 0.5]


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255))
def test_a_flipped_byte_is_found_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: float, value: int
) -> None:
    original = bundle(CODE)
    data = bytearray(original.to_bytes())
    data[int(place * len(data))] ^= value
    assert_found_or_harmless(tmp_path_factory, original, bytes(data))


@given(start=st.floats(0, 1), end=st.floats(0, 1))
def test_a_missing_part_is_found_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, start: float, end: float
) -> None:
    original = bundle(CODE)
    data = original.to_bytes()
    first, last = sorted([int(start * len(data)), int(end * len(data))])
    assert_found_or_harmless(tmp_path_factory, original, data[:first] + data[last:])


def test_every_truncation_is_found(tmp_path: Path, saved: Path) -> None:
    data = saved.read_bytes()
    for size in range(0, len(data), 7):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(BundleError):
            Bundle.open(tmp_path / "cut")


def assert_found_or_harmless(
    factory: pytest.TempPathFactory, original: Bundle, data: bytes
) -> None:
    path = factory.getbasetemp() / "damaged.hgb"
    path.write_bytes(data)
    try:
        opened = Bundle.open(path)
    except BundleError as error:
        assert "\n" not in str(error)
        return
    assert opened.manifest == original.manifest
    assert opened.members == original.members


def with_vectors(data: bytes) -> Bundle:
    """A bundle whose test vectors are these bytes; most are a BundleError."""
    whole = bundle(CODE)
    return Bundle(whole.manifest, {**whole.members, "vectors.safetensors": data})


@given(st.binary(max_size=200))
def test_any_bytes_as_tensors(data: bytes) -> None:
    for prefix in (b"", len(data).to_bytes(8, "little")):
        with contextlib.suppress(BundleError):
            with_vectors(prefix + data)


@given(
    st.recursive(
        st.none() | st.integers(-2, 100) | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["t", "dtype", "shape", "data_offsets", "F32"]), inner, max_size=4
            )
        ),
    )
)
def test_any_json_as_tensor_header(header: Any) -> None:
    text = json.dumps(header).encode()
    with contextlib.suppress(BundleError):
        with_vectors(len(text).to_bytes(8, "little") + text + bytes(64))


def test_tensor_outside_the_file() -> None:
    whole = safetensors({"a": np.ones(4, np.float32)})
    with pytest.raises(
        BundleError, match=r"vectors.safetensors is no safetensors file, or damaged"
    ):
        with_vectors(whole[:-1])


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("code/runner", b"\x7fELF STATIC", "code/runner was altered: sha256"),
        ("code/runner", b"", "code/runner was altered: bytes is 0"),
        ("code/runner", None, "code/runner' is missing"),
        ("LICENSE", b"x", "LICENSE is not in its manifest"),
        ("../../etc/passwd", b"x", "outside the bundle"),
        ("/etc/passwd", b"x", "outside the bundle"),
        ("code\\x", b"x", "outside the bundle"),
        ("a\nb", b"x", "outside the bundle"),
        ("manifest.json", None, "not a headgate bundle"),
        ("manifest.json", b"[]", "not a table"),
        ("manifest.json", b"{", "not JSON"),
        ("manifest.json", b"[" * 100_000, "not JSON"),
    ],
)
def test_altered_member(saved: Path, name: str, data: bytes | None, words: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        if data is None:
            del members[name]
        else:
            members[name] = data

    rewrite(saved, change)
    with pytest.raises(BundleError, match=words) as caught:
        Bundle.open(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_compressed_or_doubled_members_are_refused(tmp_path: Path, saved: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", bytes(1_000_000))
    with pytest.raises(BundleError, match="not stored"):
        Bundle.open(tmp_path / "bomb")
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("code/runner", b"other")
    with pytest.raises(BundleError, match="twice"):
        Bundle.open(saved)


CHANGES: list[tuple[tuple[Any, ...], Any]] = [
    (("schema",), 2),
    (("name",), 3),
    (("target",), []),
    (("target", "arch"), None),
    (("target", "features"), [1]),
    (("tools", "ziglang"), 1),
    (("model_sha256",), "xyz"),
    (("inputs",), []),
    (("inputs", 0, "shape"), [2, 4, 2, 3]),
    (("inputs", 0, "shape"), [1, -4, 2, 3]),
    (("inputs", 0, "shape"), [True, 4, 2, 3]),
    (("inputs", 0, "shape"), [1] * 9),
    (("inputs", 0, "dtype"), "int8"),
    (("outputs", 0), "score"),
    (("arena_bytes",), -1),
    (("thread_bytes",), -1),
    (("arena_bytes",), 1 << 60),
    (("arena_bytes",), 1.5),
    (("weights_bytes",), 17),
    (("gates", 0, "count_offset"), 128),
    (("gates", 0, "count_offset"), 63),
    (("gates", 0, "list_offset"), 116),
    (("gates", 0, "channels"), 0),
    (("layers", 0, "in_gate"), 1),
    (("layers", 1, "out_gate"), -1),
    (("gates", 0, "list_offset"), "68"),
    (("layers", 0, "macs_per_pair"), None),
    (("layers", 0, "base_macs"), -1),
    (("layers", 0, "base_macs"), None),
    (("layers", 0, "pixel_tile"), 8),
    (("layers", 0, "pixel_tile"), [8]),
    (("layers", 0, "pixel_tile"), [8, 0]),
    (("preprocess",), {"mean": [0.5]}),
    (("classes",), [1]),
    (("tolerance",), 0),
    (("tolerance",), float("nan")),
    (("tolerance",), float("inf")),
    (("members", "a\nb"), 1),
    (("members",), None),
    (("members", "code/runner"), 1),
    (("members", "code/runner", "sha256"), 1),
]


@pytest.mark.parametrize(("where", "value"), CHANGES, ids=[f"{a}={b}" for a, b in CHANGES])
def test_manifest_with_a_wrong_value(saved: Path, where: tuple[Any, ...], value: Any) -> None:
    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        place = manifest
        for key in where[:-1]:
            place = place[key]
        place[where[-1]] = value
        members["manifest.json"] = json.dumps(manifest).encode()

    rewrite(saved, change)
    with pytest.raises(BundleError, match="recompile") as caught:
        Bundle.open(saved)
    assert "\n" not in str(caught.value)


def test_a_pixel_gate_keeps_no_list(saved: Path) -> None:
    manifest = copy.deepcopy(bundle(CODE).manifest)
    manifest["gates"][0]["list_offset"] = None
    manifest["layers"][1] |= {"base_macs": 24, "pixel_tile": [8, 16]}
    bundle(CODE, gates=manifest["gates"], layers=manifest["layers"]).save(saved)
    opened = Bundle.open(saved).manifest
    assert opened["gates"] == manifest["gates"]
    assert opened["layers"] == manifest["layers"]


def paths(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in the manifest a key could be absent."""
    if not isinstance(value, dict):
        items = list(enumerate(value)) if isinstance(value, list) else []
        return [path for key, inner in items for path in paths(inner, (*where, key))]
    own = [(*where, key) for key in value]
    return own + [path for key, inner in value.items() for path in paths(inner, (*where, key))]


PATHS = [path for path in paths(bundle(CODE).manifest) if path != ("tools", "ziglang")]


@pytest.mark.parametrize("where", PATHS, ids=str)
def test_manifest_without_a_key(saved: Path, where: tuple[Any, ...]) -> None:
    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        place = manifest
        for key in where[:-1]:
            place = place[key]
        del place[where[-1]]
        members["manifest.json"] = json.dumps(manifest).encode()

    rewrite(saved, change)
    with pytest.raises(BundleError) as caught:
        Bundle.open(saved)
    assert "\n" not in str(caught.value)


def test_unknown_keys_are_left_alone(saved: Path) -> None:
    changed = bundle(CODE, future={"a": 1})
    changed.save(saved)
    assert Bundle.open(saved).manifest["future"] == {"a": 1}


CHECKED = {"machine": "host", "vectors": 8, "max_error": 2e-7, "excused": 0}


@pytest.mark.parametrize("checked", [CHECKED, {"machine": None, "reason": "no QEMU"}])
def test_what_a_check_found(saved: Path, checked: dict[str, Any]) -> None:
    bundle(CODE, checked=checked, results="named").save(saved)
    opened = Bundle.open(saved).manifest
    assert opened["checked"] == checked
    assert opened["results"] == "named"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checked": "host"}, "checked is 'host'"),
        ({"checked": {}}, "no checked.machine"),
        ({"checked": {"machine": None}}, "no checked.reason"),
        ({"checked": CHECKED | {"machine": 5}}, "checked.machine is 5"),
        ({"checked": CHECKED | {"vectors": 0}}, "checked.vectors is 0"),
        ({"checked": CHECKED | {"excused": -1}}, "checked.excused is -1"),
        ({"checked": CHECKED | {"max_error": "small"}}, "checked.max_error is 'small'"),
        ({"checked": CHECKED | {"max_error": float("nan")}}, "checked.max_error is nan"),
        ({"results": "nested"}, "results is 'nested'"),
    ],
)
def test_what_no_check_found(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        bundle(CODE, **changes)


def test_members_that_do_not_fit_the_manifest() -> None:
    good = bundle(CODE)
    without_code = {name: data for name, data in good.members.items() if name[:4] != "code"}
    cases: list[tuple[dict[str, bytes], str]] = [
        (without_code, "no code/network.so, code/runner or code/firmware.elf"),
        ({**good.members, "weights.safetensors": b"1234"}, "not a whole safetensors"),
        ({**good.members, "vectors.safetensors": safetensors({})}, "no tensor 'inputs'"),
        (
            {
                **good.members,
                "vectors.safetensors": safetensors({"inputs": images(2)[:, :1]}),
            },
            r"'inputs'.*float32 \[2, 1, 2, 3\], not float32 \[samples, 4, 2, 3\]",
        ),
        (
            {
                **good.members,
                "vectors.safetensors": safetensors(
                    {"inputs": images(2), "outputs": expected(images(3))}
                ),
            },
            "unequal samples",
        ),
    ]
    for members, words in cases:
        with pytest.raises(BundleError, match=words):
            Bundle(good.manifest, members)


def test_constructor_leaves_its_arguments_alone() -> None:
    manifest = copy.deepcopy(bundle(CODE).manifest)
    del manifest["schema"], manifest["members"]
    before = copy.deepcopy(manifest)
    Bundle(manifest, bundle(CODE).members)
    assert manifest == before


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"none\.hgb"):
        Bundle.open(tmp_path / "none.hgb")
    with pytest.raises(BundleError, match=r"it has no manifest\.json"):
        Bundle.open(tmp_path)


def test_full_disk_leaves_the_old_bundle(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        bundle(CODE, name="other").save(saved)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert saved.read_bytes() == before


def test_other_archives_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    for data in (b"", b"PK\x03\x04", b"hello", buffer.getvalue()):
        (tmp_path / "x.hgb").write_bytes(data)
        with pytest.raises(BundleError):
            Bundle.open(tmp_path / "x.hgb")
