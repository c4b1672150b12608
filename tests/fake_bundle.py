"""A bundle of fake_network.c, linked the way the compiler links generated networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from headgate.device import Bundle, runtime_sources
from headgate.device.targets import GLIBC, host_architecture

HERE = host_architecture()
WEIGHTS = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
TARGETS: dict[str, dict[str, Any]] = {
    "host": {"arch": HERE, "cpu": "generic", "triple": f"{HERE}-linux-gnu", "features": []},
    "rpi4": {"arch": "aarch64", "cpu": "cortex-a72", "triple": "aarch64-linux-gnu", "features": []},
}
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
NETWORK = Path(__file__).with_name("fake_network.c")


def zig_cc(*arguments: str | Path, output: Path, target: str = f"{HERE}-linux-gnu.{GLIBC}") -> None:
    """Compile with warnings as errors; the compiler's words are in the failure.

    The target is the compiler's, and the folder one that ziglang is not in: else zig builds
    another C library, which takes it half a minute.
    """
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-std=c11", "-O2", "-s"]
    command += [*WARNINGS, "-I", runtime_sources("core"), *arguments, "-o", output]
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=output.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def link_shared_object(path: Path, *options: str) -> None:
    """network.so for this machine."""
    sources = [NETWORK, *(runtime_sources("linux") / name for name in ("timing.c", "team.c"))]
    zig_cc("-shared", "-fPIC", *options, *sources, output=path)


def link_runner(path: Path, arch: str = "aarch64", *options: str) -> None:
    """The runner: this machine's, or a static one."""
    sources = [NETWORK, *sorted(runtime_sources("linux").glob("*.c"))]
    if arch == HERE:
        zig_cc("-pthread", *options, *sources, output=path)
    else:
        zig_cc("-static", *options, *sources, output=path, target=f"{arch}-linux-musl")


def expected(images: np.ndarray) -> np.ndarray:
    """What fake_network.c computes: (N,4,2,3) -> (N,4)."""
    sums = images.sum(axis=(2, 3))
    return np.where(sums > 0, WEIGHTS * sums, 0).astype(np.float32)


def images(count: int, seed: int = 0) -> np.ndarray:
    """(count,4,2,3) float32."""
    return np.random.default_rng(seed).normal(size=(count, 4, 2, 3)).astype(np.float32)


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """A safetensors file of float32 arrays."""
    header, offset = {}, 0
    for name, array in tensors.items():
        span = [offset, offset + array.nbytes]
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": span}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(array.tobytes() for array in tensors.values())
    return len(text).to_bytes(8, "little") + text + data


def manifest(target: str = "host") -> dict[str, Any]:
    """All keys but those that Bundle fills in."""
    gate = {"name": "block", "channels": 4, "count_offset": 64, "list_offset": 68}
    gate_layer = {
        "name": "block.gate",
        "operator": "gate",
        "dense_macs": 16,
        "in_gate": None,
        "out_gate": None,
        "in_channels": 4,
        "out_channels": 4,
        "macs_per_pair": 1,
    }
    conv = {"name": 'block."conv"', "operator": "gated_conv2d", "out_gate": 0, "macs_per_pair": 6}
    return {
        "name": "fake",
        "target": {"name": target, **TARGETS[target]},
        "tools": {"ziglang": "0.17.0"},
        "model_sha256": "0" * 64,
        "inputs": [{"name": "image", "shape": [1, 4, 2, 3], "dtype": "float32"}],
        "outputs": [{"name": "score", "shape": [1, 4], "dtype": "float32"}],
        "arena_bytes": 128,
        "thread_bytes": 0,
        "weights_bytes": 16,
        "gates": [gate],
        "layers": [gate_layer, {**gate_layer, **conv, "dense_macs": 96}],
        "preprocess": {"mean": [0.5] * 3, "std": [0.25] * 3},
        "classes": ["a", "b", "c", "d"],
        "tolerance": 1e-4,
    }


def bundle(code: dict[str, bytes], target: str = "host", **changes: Any) -> Bundle:
    """A bundle with the given code members; ``changes`` replace keys of its manifest."""
    vectors = {"inputs": images(5), "outputs": expected(images(5))}
    members = {
        "include/network.h": b"/* none */\n",
        "weights.safetensors": safetensors({"scale": WEIGHTS}),
        "vectors.safetensors": safetensors(vectors),
        **code,
    }
    return Bundle({**manifest(target), **changes}, members)
