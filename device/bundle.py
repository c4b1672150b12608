"""The bundle: one deterministic archive with a compiled network and all it needs.

README.md in this folder has the format and the keys of the manifest.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from headgate.device.bundle_folder import read_folder, write_folder
from headgate.device.files import atomic_write, storage_error, stored_archive
from headgate.device.manifest import (
    FIRMWARE,
    SCHEMA,
    SHARED_OBJECT,
    VECTORS,
    Member,
    Signature,
    check_manifest,
    library_of,
)
from headgate.device.project import Project
from headgate.device.protocol import RUNNER, WEIGHTS, vector_names
from headgate.errors import BundleError, MissingFile, why

MANIFEST = "manifest.json"
_COPY_AGAIN = "copy or compile it again"

# All that zipfile is known to raise for a damaged archive.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    KeyError,
    ValueError,
    OverflowError,
    struct.error,
    zlib.error,
)


class Bundle:
    """A compiled network: ``manifest``, the same as ``facts``, and ``members`` by name.

    Args:
        manifest: everything but ``schema`` and ``members``, which are filled in here.
        members: contents of every member but manifest.json.

    Raises:
        BundleError: the manifest lacks a key or contradicts the members.
    """

    def __init__(self, manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
        self.members: dict[str, bytes] = dict(members)
        self.manifest: dict[str, Any] = {
            **manifest,
            "schema": SCHEMA,
            "members": {name: asdict(_digest(data)) for name, data in members.items()},
        }
        self.facts = check_manifest(self.manifest)
        self._check_members()

    @property
    def scales(self) -> tuple[float, ...]:
        """The least that the outputs' scales are taken for, when they are compared."""
        return tuple(tensor.scale for tensor in self.facts.outputs)

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read a bundle, a file or a folder, and verify all of it.

        That is structure, names, sizes, SHA-256 and manifest; of a folder, other files do not
        matter.

        This finds damage, not malice: a bundle holds machine code, so trust where it comes from.

        Raises:
            MissingFile: there is no such file.
            StorageError: it cannot be read.
            BundleError: it is truncated, altered or of another schema.
        """
        try:
            folder = Path(path).is_dir()
            data = b"" if folder else Path(path).read_bytes()
        except FileNotFoundError as error:
            raise MissingFile(f"no bundle {path}; check the path, or compile one") from error
        except OSError as error:
            raise storage_error("read", path, error) from error
        try:
            contents = read_folder(Path(path), MANIFEST) if folder else _read_archive(data)
            return cls._from_contents(contents)
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from error

    @classmethod
    def _from_contents(cls, contents: dict[str, bytes]) -> Bundle:
        if MANIFEST not in contents:
            raise BundleError(f"not a headgate bundle: it has no {MANIFEST}; {_COPY_AGAIN}")
        members = {name: data for name, data in contents.items() if name != MANIFEST}
        try:
            manifest = json.loads(contents[MANIFEST])
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{MANIFEST} is not JSON ({why(error)}); {_COPY_AGAIN}") from error
        facts = check_manifest(manifest)
        _compare_members(facts.members, members)
        bundle = cls.__new__(cls)  # __init__ would compute every SHA-256 again
        bundle.manifest, bundle.facts, bundle.members = manifest, facts, members
        bundle._check_members()
        return bundle

    def _check_members(self) -> None:
        for name in self.members:
            _check_name(name)
        for name in (WEIGHTS, VECTORS):
            if name not in self.members:
                raise BundleError(f"member {name} is missing; recompile the bundle")
        code = {SHARED_OBJECT, RUNNER, FIRMWARE} & self.members.keys()
        if not code and library_of(self.members) is None:
            raise BundleError(f"no {SHARED_OBJECT}, {RUNNER} or {FIRMWARE}; recompile it")
        stated, present = self.facts.weights_bytes, len(self.weights())
        if present < stated:
            raise BundleError(f"{WEIGHTS} has {present} bytes of {stated}; recompile the bundle")
        self.vectors()

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def target(self) -> dict[str, Any]:
        """``name``, ``triple``, ``cpu``, ``features`` and ``arch`` it was compiled for."""
        return self.manifest["target"]

    def weights(self) -> memoryview:
        """The data section of weights.safetensors, the way the compiled code wants it."""
        data = self.members[WEIGHTS]
        begin = 8 + int.from_bytes(data[:8], "little")
        if not 8 <= begin <= len(data):
            raise BundleError(f"{WEIGHTS} is not a whole safetensors file; recompile the bundle")
        return memoryview(data)[begin:]

    def vectors(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The test vectors: inputs and expected outputs, each (samples, ...) float32."""
        tensors = _read_tensors(self.members[VECTORS])
        groups = []
        for key, wanted in (("inputs", self.facts.inputs), ("outputs", self.facts.outputs)):
            names = zip(vector_names(key, len(wanted)), wanted, strict=True)
            groups.append([_vector(tensors, *pair) for pair in names])
        samples = {len(array) for group in groups for array in group}
        if len(samples) != 1 or 0 in samples:
            raise BundleError(f"{VECTORS} has unequal samples or none; recompile the bundle")
        return groups[0], groups[1]

    def contents(self, project: Project | None = None) -> dict[str, bytes]:
        """All members by name, the manifest too. Equal manifests and members give equal bytes.

        The manifest notes ``project``, and no other.
        """
        facts = {key: value for key, value in self.manifest.items() if key != "project"}
        facts |= {} if project is None else {"project": project.note()}
        manifest = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        return {**self.members, MANIFEST: manifest.encode()}

    def to_bytes(self) -> bytes:
        """The archive."""
        return stored_archive(self.contents(), executable=[RUNNER])

    def save(self, path: str | Path) -> None:
        data = self.to_bytes()
        with atomic_write(path) as file:
            file.write(data)

    def save_folder(self, folder: str | Path, project: Project | None = None) -> None:
        """Writes the members as files, and ``project`` beside them; what was there is replaced.

        A StorageError if the folder holds other files, an edited project for one, or cannot be
        written.
        """
        contents = self.contents(project) | (project.contents() if project else {})
        write_folder(Path(folder), contents, MANIFEST)


def _digest(data: bytes) -> Member:
    return Member(hashlib.sha256(data).hexdigest(), len(data))


def _compare_members(stated: dict[str, Member], members: dict[str, bytes]) -> None:
    for name in sorted(stated.keys() | members.keys()):
        if name not in members:
            raise BundleError(f"member {name!r} is missing; {_COPY_AGAIN}")
        if name not in stated:
            raise BundleError(f"member {name} is not in its manifest; {_COPY_AGAIN}")
        found = _digest(members[name])
        for key in ("bytes", "sha256"):
            there, wanted = getattr(found, key), getattr(stated[name], key)
            if there != wanted:
                raise BundleError(
                    f"member {name} was altered: {key} is {there}, its manifest says {wanted}; "
                    f"{_COPY_AGAIN}"
                )


def _check_name(name: str) -> None:
    parts = name.split("/")
    # Printable, because names are part of one-line messages.
    if not name.isprintable() or set("\\:") & set(name) or {"", ".", ".."} & set(parts):
        raise BundleError(f"member name {name!r} leads outside the bundle; do not use this file")


def _read_tensors(data: bytes) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{VECTORS} is no safetensors file, or damaged ({why(error)}); recompile the bundle"
        ) from error


def _vector(tensors: dict[str, np.ndarray], name: str, wanted: Signature) -> np.ndarray:
    if name not in tensors:
        raise BundleError(f"{VECTORS} has no tensor {name!r}; recompile the bundle")
    array = tensors[name]
    if (
        array.dtype != np.float32
        or not len(array.shape)
        or list(array.shape[1:]) != wanted.shape[1:]
    ):
        raise BundleError(
            f"tensor {name!r} of {VECTORS} is {array.dtype} {list(array.shape)}, "
            f"not float32 [samples, {str(wanted.shape[1:])[1:]}; recompile the bundle"
        )
    return array


def _read_archive(data: bytes) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                _check_name(info.filename)
                if info.filename in contents:
                    raise BundleError(f"member {info.filename} is there twice; {_COPY_AGAIN}")
                # Before reading: stored and no larger than the file, so memory is bounded.
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                    raise BundleError(f"member {info.filename} is not stored; {_COPY_AGAIN}")
                contents[info.filename] = archive.read(info)
    except _ZIP_ERRORS as error:
        raise BundleError(f"truncated or not a bundle ({why(error)}); {_COPY_AGAIN}") from error
    return contents
