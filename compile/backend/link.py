"""Compiling the C parts and linking them with the kernels, by the clang in the ziglang package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from headgate.device import runtime_sources
from headgate.device.targets import Target
from headgate.errors import CompileError, ToolMissing

GLIBC = "2.28"
"""The oldest glibc that the shared object runs with: Debian 10, JetPack 5 and later."""
# Without -fno-sanitize zig makes undefined behaviour a trap; without a build id and symbols the
# same input gives the same bytes.
_FLAGS = ("-std=c11", "-O2", "-g0", "-s", "-fno-sanitize=all", "-Wl,--build-id=none")


def link_shared(folder: Path, target: Target) -> bytes:
    """The shared object of the ``network.c`` and ``kernels.o`` in ``folder``."""
    triple = f"{target.triple}-gnu.{GLIBC}"
    return _zig(
        folder,
        "network.so",
        triple,
        [*_sources(folder), folder / "kernels.o"],
        *("-shared", "-fPIC", "-fvisibility=hidden", "-pthread"),
    )


def link_runner(folder: Path, target: Target) -> bytes:
    """The static program of the same, which needs nothing but a Linux kernel."""
    sources = [*_sources(folder), runtime_sources("linux") / "runner.c", folder / "kernels.o"]
    return _zig(folder, "runner", f"{target.triple}-musl", sources, "-static")


def _sources(folder: Path) -> list[Path]:
    shared = (runtime_sources("linux") / name for name in ("timing.c", "team.c"))
    return [folder / "network.c", *shared]


def _zig(folder: Path, name: str, triple: str, sources: list[Path], *flags: str) -> bytes:
    if importlib.util.find_spec("ziglang") is None:
        raise ToolMissing("The C compiler is missing; run: pip install 'headgate[compile]'")
    output = folder / name
    command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, *_FLAGS, *flags]
    command += [f"-I{runtime_sources('core')}", *map(str, sources), "-lm", "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if result.returncode:
        reason = next((x for x in result.stderr.splitlines() if "error" in x), result.stderr[-300:])
        raise CompileError(f"Linking {name} for {triple} failed: {reason.strip()}")
    return output.read_bytes()
