"""What is made once for all the tests that use it: kernels, and the images of `make system`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.cli import main
from tests import serial_firmware, session_cache
from tests.containers import Docker, build_compile_image, build_image_image, running_docker

Command = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """What this process compiles takes kernels from the session's cache, programs from its own."""
    if not importlib.util.find_spec("tvm"):
        yield
        return
    from tests.captured import exported_once

    with pytest.MonkeyPatch.context() as patched, exported_once():
        patched.setattr("headgate.compile.build.write_object", session_cache.write_object)
        yield


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firmware's C as a program of this machine (``tests/serial_firmware.py``)."""
    folder = tmp_path_factory.mktemp("firmware")
    program = session_cache.once(
        "firmware", "fake", lambda: serial_firmware.build(folder).read_bytes()
    )
    program.chmod(0o755)
    return program


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with --json and gives back what it printed."""

    def run(*arguments: str | Path, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == code, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with running_docker(tmp_path_factory.mktemp("docker")) as found:
        yield found


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """``docker run`` options: a home that outlives the container, with the C library in it."""
    folder = tmp_path_factory.mktemp("home")
    folder.chmod(0o1777)
    return ["-v", f"{folder}:/home/headgate"]


@pytest.fixture(scope="session")
def compiler(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_compile_image(docker, tmp_path_factory.mktemp("context"))


@pytest.fixture(scope="session")
def image_maker(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_image_image(docker, tmp_path_factory.mktemp("context"))
