"""Containers of the `make system` tier: built once for all the tests that use them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.containers import Docker, build_compile_image, build_image_image, running_docker


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
