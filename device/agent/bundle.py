"""Reading a bundle without NumPy, on a board that may have less memory than the bundle has bytes.

The format is described in ``device/README.md``. Every member is checked against the manifest's
SHA-256 before anything of it is used or started. Only the test vectors are kept in memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

from ..protocol import RUNNER, WEIGHTS
from .errors import AgentError, describe

SCHEMA = 1
_VECTORS = "vectors.safetensors"
_FLOAT_BYTES = 4
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A compiled network."""

    path: str
    sha256: str
    manifest: dict[str, Any]
    inputs: list[bytes]
    """One for each input of the network: its test vectors, samples one after the other."""
    expected: list[bytes]
    """The outputs that PyTorch gave for them; none where the inputs are the user's."""

    @property
    def samples(self) -> int:
        """How many test vectors there are."""
        return len(self.inputs[0]) // self.sample_bytes("inputs")[0]

    @property
    def outputs(self) -> int:
        """How many outputs the network has."""
        return len(self.manifest["outputs"])

    def with_inputs(self, paths: Sequence[str]) -> Bundle:
        """The same network with the user's samples: one file of raw float32 for each input."""
        sizes = self.sample_bytes("inputs")
        if len(paths) != len(sizes):
            raise AgentError(f"--input given {len(paths)} times, the network has {len(sizes)}")
        inputs = []
        for path, size in zip(paths, sizes):
            try:
                data = Path(path).read_bytes()
            except OSError as error:
                raise AgentError(f"cannot read {path}: {describe(error)}") from error
            if not data or len(data) % size:
                raise AgentError(f"{path} has {len(data)} bytes, a sample {size}")
            inputs.append(data)
        if len({len(data) // size for data, size in zip(inputs, sizes)}) > 1:
            raise AgentError("the files given to --input hold different numbers of samples")
        return dataclasses.replace(self, inputs=inputs, expected=[])

    def extract(self, member: str, path: Path) -> None:
        """Copy a member to a file."""
        try:
            with zipfile.ZipFile(self.path) as archive, open(path, "wb") as target:
                shutil.copyfileobj(archive.open(member), target, _CHUNK_BYTES)
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise AgentError(
                f"cannot copy {member} to {path}: {describe(error)}; set TMPDIR to a folder with "
                "room"
            ) from error

    def sample_bytes(self, key: str) -> list[int]:
        """Size of one sample of each of the ``inputs`` or ``outputs``."""
        return [_FLOAT_BYTES * prod(tensor["shape"]) for tensor in self.manifest[key]]


def open_bundle(path: str | Path) -> Bundle:
    """Read and verify a bundle."""
    try:
        with open(path, "rb") as file:
            sha256 = _sha256(file)
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            stated, schema = manifest["members"], manifest["schema"]
            if schema != SCHEMA:
                raise AgentError(f"{path} has schema {schema}, this agent reads {SCHEMA}")
            for name in (RUNNER, WEIGHTS, _VECTORS):
                # What is not in the manifest would not be checked.
                if name not in stated:
                    raise AgentError(f"{path} has no {name}; compile it again")
            for name, facts in stated.items():
                if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"member {name} is not stored")
                with archive.open(name) as member:
                    if _sha256(member) != facts["sha256"]:
                        raise ValueError(f"member {name} was altered")
            vectors = archive.read(_VECTORS)
    except OSError as error:
        raise AgentError(f"cannot read {path}: {describe(error)}") from error
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError, TypeError) as error:
        raise AgentError(
            f"{path} is no bundle, or damaged: {describe(error)}; copy it again"
        ) from error
    try:
        tensors = _tensors(vectors)
        inputs, expected = (
            [tensors[name] for name in _vector_names(key, len(manifest[key]))]
            for key in ("inputs", "outputs")
        )
        bundle = Bundle(
            path=str(path),
            sha256=sha256,
            manifest=manifest,
            inputs=inputs,
            expected=expected,
        )
        counts = {
            len(part) / size
            for key, parts in (("inputs", inputs), ("outputs", expected))
            for part, size in zip(parts, bundle.sample_bytes(key))
        }
    except (KeyError, ValueError, TypeError) as error:
        raise AgentError(f"{path}: its test vectors cannot be read: {describe(error)}") from error
    if len(counts) != 1 or min(counts) < 1 or min(counts) % 1:
        raise AgentError(f"{path}: its test vectors do not fit its manifest; compile it again")
    return bundle


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
        digest.update(chunk)
    return digest.hexdigest()


def _vector_names(key: str, count: int) -> list[str]:
    return [key] if count == 1 else [f"{key[:-1]}{index}" for index in range(count)]


def _tensors(data: bytes) -> dict[str, bytes]:
    """Contents of a safetensors file: header length, JSON header, data."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    tensors = {}
    for name, facts in header.items():
        if name != "__metadata__":
            start, stop = facts["data_offsets"]
            tensors[name] = body[start:stop]
    return tensors
