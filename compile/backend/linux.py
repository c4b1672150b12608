"""Linux: a shared object for the Python loader, and a static program that needs only a kernel."""

from __future__ import annotations

from pathlib import Path

from headgate.compile.backend.artifact import Artifact
from headgate.compile.backend.zig import link
from headgate.device import runtime_sources
from headgate.device.manifest import SHARED_OBJECT
from headgate.device.protocol import RUNNER
from headgate.device.targets import Target

GLIBC = "2.28"
"""The oldest glibc that the shared object runs with: Debian 10, JetPack 5 and later."""
_HERE = runtime_sources("linux")
_SHARED = (_HERE / "timing.c", _HERE / "team.c")


def _link_shared(folder: Path, target: Target) -> bytes:
    triple = f"{target.triple}-gnu.{GLIBC}"
    flags = ("-shared", "-fPIC", "-fvisibility=hidden", "-pthread")
    return link(folder, "network.so", triple, _SHARED, *flags)


def _link_runner(folder: Path, target: Target) -> bytes:
    return link(
        folder, "runner", f"{target.triple}-musl", (*_SHARED, _HERE / "runner.c"), "-static"
    )


ARTIFACTS = (
    Artifact("shared", SHARED_OBJECT, _link_shared),
    Artifact("runner", RUNNER, _link_runner),
)
