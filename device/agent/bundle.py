"""A bundle without NumPy, on a board that may have less memory than the bundle has bytes.

Every member is checked by its SHA-256 first; only the test vectors are kept in memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import zipfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..protocol import RUNNER, WEIGHTS, vector_names
from .absent import NotMeasured
from .errors import AgentError, describe

SCHEMA = 1
_VECTORS = "vectors.safetensors"
_FLOAT_BYTES = 4
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A compiled network and its samples, those of each input and output one after the other."""

    path: str
    sha256: str
    manifest: dict[str, Any]
    inputs: list[bytes]
    expected: list[bytes]
    """What PyTorch gave for them; none where the inputs are the user's."""

    @property
    def samples(self) -> int:
        return len(self.inputs[0]) // self.sample_bytes("inputs")[0]

    @property
    def outputs(self) -> int:
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
        return [_FLOAT_BYTES * math.prod(tensor["shape"]) for tensor in self.manifest[key]]


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
            [tensors[name] for name in vector_names(key, len(manifest[key]))]
            for key in ("inputs", "outputs")
        )
        bundle = Bundle(str(path), sha256, manifest, inputs, expected)
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


def _tensors(data: bytes) -> dict[str, bytes]:
    """Contents of a safetensors file: header length, JSON header, data."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    places = {name: facts["data_offsets"] for name, facts in header.items()}
    return {name: body[start:stop] for name, (start, stop) in places.items()}


@dataclass(frozen=True)
class Check:
    """Like ``headgate validate``: errors as shares of the expected output's largest value."""

    passed: bool
    max_error: float
    tolerance: float
    top1_agreement: float
    samples: int


def check_outputs(bundle: Bundle, outputs: list[bytes]) -> Check | NotMeasured:
    """Compare the outputs for the bundle's test vectors with those it carries."""
    if not bundle.expected:
        return NotMeasured("the inputs are not the bundle's own")
    max_error, agreement = 0.0, 1.0
    sizes = bundle.sample_bytes("outputs")
    for got_bytes, expected_bytes, size in zip(outputs, bundle.expected, sizes):
        got, expected = array("f", got_bytes), array("f", expected_bytes)
        scale = max(abs(value) for value in expected) or 1.0
        errors = [abs(one - other) / scale for one, other in zip(got, expected)]
        # max() would lose a NaN, and a NaN is never right.
        worst = max(errors) if all(map(math.isfinite, errors)) else math.inf
        max_error = max(max_error, worst)
        length = size // _FLOAT_BYTES
        rows = range(0, len(expected), length)
        same = sum(
            _top1(got[row : row + length]) == _top1(expected[row : row + length]) for row in rows
        )
        agreement = min(agreement, same / len(rows))
    tolerance = float(bundle.manifest["tolerance"])
    return Check(
        passed=max_error <= tolerance and agreement == 1.0,
        # JSON has no infinity.
        max_error=max_error if math.isfinite(max_error) else 1e308,
        tolerance=tolerance,
        top1_agreement=agreement,
        samples=bundle.samples,
    )


def _top1(row: array[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)
