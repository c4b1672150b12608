"""Linux: a shared object for the Python loader, and a static program that needs only a kernel."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from headgate.compile.backend.c_source import Generated
from headgate.compile.backend.link import Artifact
from headgate.device import runtime_sources
from headgate.device.manifest import SHARED_OBJECT
from headgate.device.protocol import RUNNER, WEIGHTS
from headgate.device.targets import Target

GLIBC = "2.28"
"""The oldest glibc that the shared object runs with: Debian 10, JetPack 5 and later."""
_HERE = runtime_sources("linux")
_SOURCES = (_HERE / "timing.c", _HERE / "team.c")
_LIBRARY = ("-shared", "-fPIC", "-fvisibility=hidden", "-pthread")

_ARTIFACTS = (
    Artifact(SHARED_OBJECT, f"gnu.{GLIBC}", _SOURCES, _LIBRARY),
    Artifact(RUNNER, "musl", (*_SOURCES, _HERE / "runner.c"), ("-static",)),
)


def c_name(name: str) -> str:
    """What the C names of a network called ``name`` begin with: the same for all."""
    return "headgate"


def link(
    folder: Path, target: Target, name: str, generated: Generated, code: Collection[str]
) -> dict[str, bytes]:
    """The members of a bundle, made of ``network.c`` and ``kernels.o`` in ``folder``."""
    linked = {one.member: one.link(folder, target) for one in _ARTIFACTS if one.member in code}
    header = (runtime_sources("core") / "headgate.h").read_bytes()
    return {**linked, "include/network.h": header, WEIGHTS: generated.weights}
