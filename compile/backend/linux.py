"""Linux: a shared object for the Python loader, and a static program that needs only a kernel."""

from __future__ import annotations

from pathlib import Path

from headgate.compile.backend.artifact import Artifact
from headgate.compile.backend.zig import link
from headgate.device.manifest import RUNNER, SHARED_OBJECT
from headgate.device.targets import Target

GLIBC = "2.28"
"""The oldest glibc that the shared object runs with: Debian 10, JetPack 5 and later."""
_RUNTIME = ("timing.c", "team.c")


def _link_shared(folder: Path, target: Target) -> bytes:
    triple = f"{target.triple}-gnu.{GLIBC}"
    flags = ("-shared", "-fPIC", "-fvisibility=hidden", "-pthread")
    return link(folder, "network.so", triple, _RUNTIME, *flags)


def _link_runner(folder: Path, target: Target) -> bytes:
    return link(folder, "runner", f"{target.triple}-musl", (*_RUNTIME, "runner.c"), "-static")


ARTIFACTS = (
    Artifact("shared", SHARED_OBJECT, _link_shared),
    Artifact("runner", RUNNER, _link_runner),
)
