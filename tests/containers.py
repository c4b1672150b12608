"""Images of docker/ built and run by a real Docker: the machine's, or a daemon of the tests' own.

Where no registry is reachable, Debian's base image is made of Debian's packages. Wheels are fetched
outside, by the user's own pip, so that the build needs no index; that is what a user behind a
mirror does, too (docker/README.md).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASE = "headgate-test/debian:bookworm"
COMPILE, IMAGE = "headgate-test/compile", "headgate-test/image"
CONTEXT = ("headgate", "train", "compile", "device", "profiling", "docker")
BUILD_S = 1500


@dataclass(frozen=True)
class Docker:
    """A client that reaches a daemon."""

    client: str
    environment: Mapping[str, str]

    def __call__(
        self, *arguments: str | Path, check: bool = True, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker ...``; unless told otherwise a failure fails the test."""
        done = subprocess.run(
            [self.client, *map(str, arguments)],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    def has(self, image: str) -> bool:
        return self("image", "inspect", image, check=False).returncode == 0


@contextmanager
def running_docker(folder: Path) -> Iterator[Docker]:
    """A Docker that works; skips the test, with the reason, where there is none."""
    client = _client()
    if client is None:
        pytest.skip("no docker with BuildKit: sudo apt install docker.io")
    docker = Docker(client, {**os.environ, "DOCKER_BUILDKIT": "1"})
    if docker("version", check=False).returncode == 0:
        yield docker
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("no docker daemon answers, and only root can start one")
    with _daemon(folder) as socket:
        own = Docker(client, {**docker.environment, "DOCKER_HOST": socket})
        deadline = time.monotonic() + 60
        while own("version", check=False).returncode:
            if time.monotonic() > deadline:
                pytest.skip(f"dockerd does not start: {(folder / 'log').read_text()[-300:]}")
            time.sleep(0.5)
        yield own


def mounted(folder: Path) -> list[str]:
    """``docker run`` with that folder as its working folder, and no network."""
    return ["run", "--rm", "--network", "none", "-v", f"{folder}:/src"]


def build_compile_image(docker: Docker, folder: Path) -> str:
    """Build docker/Dockerfile; returns the image's name."""
    return _build(docker, folder, "docker/Dockerfile", COMPILE, "headgate[compile]")


def build_image_image(docker: Docker, folder: Path) -> str:
    """Build docker/image/Dockerfile; returns the image's name."""
    return _build(docker, folder, "docker/image/Dockerfile", IMAGE, "headgate")


def _build(docker: Docker, folder: Path, dockerfile: str, name: str, needs: str) -> str:
    base = base_image(docker, folder)
    context = _context(folder / name.rpartition("/")[2], needs)
    docker(
        *("build", "--network", "host", "--build-arg", f"BASE={base}"),
        *("-t", name, "-f", context / dockerfile, context),
        timeout=BUILD_S,
    )
    shutil.rmtree(context)
    return name


def _client() -> str | None:
    """The first docker on PATH that can build with BuildKit: newer ones need a plug-in for it."""
    for folder in os.get_exec_path():
        path = shutil.which("docker", path=folder)
        if path is None:
            continue
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        shown = subprocess.run(
            [path, "build", "--help"], env=environment, capture_output=True, text=True
        )
        if "--secret" in shown.stdout:
            return path
    return None


@contextmanager
def _daemon(folder: Path) -> Iterator[str]:
    """A daemon that touches neither the network's configuration nor another daemon's files."""
    socket = f"unix://{folder}/docker.sock"
    command = ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec"]
    command += ["-p", folder / "pid", "-H", socket]
    command += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
    with (folder / "log").open("w") as log:
        daemon = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        yield socket
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
        # Gigabytes that nobody would look at; what pytest keeps of earlier runs is small.
        shutil.rmtree(folder / "data", ignore_errors=True)


def base_image(docker: Docker, folder: Path) -> str:
    """The base image that the Dockerfile names, or one made here."""
    if docker.has(BASE):
        return BASE
    line = next(x for x in (ROOT / "docker/Dockerfile").read_text().splitlines() if "ARG" in x)
    official = line.partition("=")[2]
    if docker.has(official) or docker("pull", official, check=False).returncode == 0:
        return official
    if shutil.which("mmdebstrap") is None:
        pytest.skip(f"no registry has {official}, and mmdebstrap is not installed to make it")
    archive = folder / "base.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(archive)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S)
    if made.returncode:
        pytest.skip(f"mmdebstrap cannot reach Debian's packages: {made.stderr[-300:]}")
    docker("import", archive, BASE)
    archive.unlink()
    return BASE


def _context(folder: Path, needs: str) -> Path:
    """What a checkout would send to the daemon, and wheels for what is needed."""
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", ".dockerignore"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__", "*.whl")
    for name in CONTEXT:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    extra = needs.removeprefix("headgate")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--dest", str(folder / "docker/wheels")]
    command += ["--constraint", str(ROOT / "docker/constraints.txt"), "setuptools"]
    fetched = subprocess.run(
        [*command, f"{folder}{extra}"], capture_output=True, text=True, timeout=BUILD_S
    )
    if fetched.returncode:
        pytest.skip(f"pip cannot fetch the wheels: {fetched.stderr.strip()[-300:]}")
    return folder
