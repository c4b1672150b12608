"""Linking by the clang in the ziglang package, which knows every target."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from headgate.device import runtime_sources
from headgate.device.targets import Target
from headgate.errors import CompileError, ToolMissing

COMPILE = ("-std=c11", "-O2", "-g0", "-fno-sanitize=all")
"""Flags of every C file; without the last zig makes undefined behaviour a trap."""
# Without a build id and symbols the same input gives the same bytes.
_LINK = ("-s", "-Wl,--build-id=none")


def zig(folder: Path, *command: str) -> None:
    """Runs a tool of ziglang in ``folder``: ``cc``, ``ar``.

    Raises:
        ToolMissing: ziglang is not installed.
        CompileError: the tool fails; says for which file, which the command ends with.
    """
    words = [str(find_zig()), *command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        reason = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr[-300:])
        raise CompileError(f"Making {Path(command[-1]).name} failed: {reason.strip()}")


def find_zig() -> Path:
    """The program of ziglang, which ``python -m ziglang`` only starts; else a ToolMissing."""
    package = importlib.util.find_spec("ziglang")
    for folder in package.submodule_search_locations or () if package else ():
        if (program := Path(folder) / "zig").is_file():
            return program
    raise ToolMissing("The C compiler is missing; run: pip install 'headgate[compile]'")


def lacks_a_symbol(error: CompileError) -> bool:
    """Whether linking failed for want of a function, which a library may have."""
    return re.search(r"undefined (\w+ )?symbol", str(error)) is not None


@dataclass(frozen=True)
class Artifact:
    """A file of machine code in a bundle."""

    member: str
    abi: str
    """What the target's triple ends with."""
    sources: tuple[Path, ...]
    """C of the runtime that is linked in."""
    flags: tuple[str, ...]

    def link(self, folder: Path, target: Target) -> bytes:
        """The file, made of the ``network.c`` and ``kernels.o`` in ``folder``.

        Raises:
            ToolMissing: ziglang is not installed.
            CompileError: it refuses a file.
        """
        triple, output = f"{target.triple}-{self.abi}", folder / Path(self.member).name
        inputs = [folder / "network.c", *self.sources, folder / "kernels.o"]
        command = ["cc", "-target", triple, *COMPILE, *_LINK, *self.flags]
        command += [f"-I{runtime_sources('core')}", *map(str, inputs), "-lm", "-o", str(output)]
        zig(folder, *command)
        return output.read_bytes()
