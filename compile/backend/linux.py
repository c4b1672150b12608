"""Linux: a shared object for the Python loader, and a static program that needs only a kernel."""

from __future__ import annotations

from headgate.compile.backend.link import Artifact
from headgate.device import runtime_sources
from headgate.device.manifest import SHARED_OBJECT
from headgate.device.protocol import RUNNER

GLIBC = "2.28"
"""The oldest glibc that the shared object runs with: Debian 10, JetPack 5 and later."""
_HERE = runtime_sources("linux")
_SOURCES = (_HERE / "timing.c", _HERE / "team.c")
_LIBRARY = ("-shared", "-fPIC", "-fvisibility=hidden", "-pthread")

ARTIFACTS = (
    Artifact(SHARED_OBJECT, f"gnu.{GLIBC}", _SOURCES, _LIBRARY),
    Artifact(RUNNER, "musl", (*_SOURCES, _HERE / "runner.c"), ("-static",)),
)
