"""Linux: a shared object for the Python loader, and the runner, a program on files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from headgate.compile.backend.c_source import Generated
from headgate.compile.backend.link import Artifact
from headgate.device import runtime_sources
from headgate.device.manifest import SHARED_OBJECT
from headgate.device.protocol import RUNNER, WEIGHTS
from headgate.device.targets import GLIBC, Target

_HERE = runtime_sources("linux")
_SOURCES = (_HERE / "timing.c", _HERE / "team.c")
_LIBRARY = ("-shared", "-fPIC", "-fvisibility=hidden", "-pthread")

_RUNNER_SOURCES = (*_SOURCES, _HERE / "runner.c")
_SHARED_OBJECT = Artifact(SHARED_OBJECT, f"gnu.{GLIBC}", _SOURCES, _LIBRARY)
# A board's is static, and needs only a kernel. This machine has the glibc that its shared object
# needs, and ziglang takes a minute to build the other C library.
_STATIC_RUNNER = Artifact(RUNNER, "musl", _RUNNER_SOURCES, ("-static",))
_HOST_RUNNER = Artifact(RUNNER, f"gnu.{GLIBC}", _RUNNER_SOURCES, ("-pthread",))


def c_name(name: str) -> str:
    """What the C names of a network called ``name`` begin with: the same for all."""
    return "headgate"


def link(
    folder: Path, target: Target, name: str, generated: Generated, code: Collection[str]
) -> dict[str, bytes]:
    """The members of a bundle, made of ``network.c`` and ``kernels.o`` in ``folder``."""
    runner = _HOST_RUNNER if target.name == "host" else _STATIC_RUNNER
    linked = {
        one.member: one.link(folder, target)
        for one in (_SHARED_OBJECT, runner)
        if one.member in code
    }
    header = (runtime_sources("core") / "headgate.h").read_bytes()
    return {**linked, "include/network.h": header, WEIGHTS: generated.weights}
