"""The C compiler and linker: the clang in the ziglang package, which knows every target."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from headgate.device import runtime_sources
from headgate.errors import CompileError, ToolMissing

# Without -fno-sanitize zig makes undefined behaviour a trap; without a build id and symbols the
# same input gives the same bytes.
_FLAGS = ("-std=c11", "-O2", "-g0", "-s", "-fno-sanitize=all", "-Wl,--build-id=none")


def link(folder: Path, name: str, triple: str, sources: Sequence[Path], *flags: str) -> bytes:
    """Links ``network.c`` and ``kernels.o`` of ``folder`` with C sources of the runtime.

    Raises:
        ToolMissing: ziglang is not installed.
        CompileError: it refuses a file.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise ToolMissing("The C compiler is missing; run: pip install 'headgate[compile]'")
    inputs = [folder / "network.c", *sources, folder / "kernels.o"]
    output = folder / name
    command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, *_FLAGS, *flags]
    command += [f"-I{runtime_sources('core')}", *map(str, inputs), "-lm", "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if result.returncode:
        reason = next((x for x in result.stderr.splitlines() if "error" in x), result.stderr[-300:])
        raise CompileError(f"Linking {name} for {triple} failed: {reason.strip()}")
    return output.read_bytes()
