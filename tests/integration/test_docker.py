"""The images of docker/, really built, and really run as a user would.

Takes minutes, so it runs when asked for: `make system`, or HEADGATE_SYSTEM=1.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.containers import ROOT, Docker, base_image, mounted

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        not os.environ.get("HEADGATE_SYSTEM"), reason="builds images, takes minutes: make system"
    ),
]

NETWORK = "resnet8-fbs-0.5"
CALLER = 4321


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder of somebody who is not root, to be mounted as /src."""
    folder = tmp_path / "project"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, CALLER, CALLER)
    return folder


def tools(bundle: Path) -> dict[str, str]:
    with zipfile.ZipFile(bundle) as archive:
        return json.loads(archive.read("manifest.json"))["tools"]


def test_bundle_made_inside_is_the_one_made_outside(
    docker: Docker, compiler: str, home: list[str], project: Path, tmp_path: Path
) -> None:
    options = ["compile", NETWORK, "--target", "rpi4", "-o"]
    docker(*mounted(project), *home, compiler, *options, "inside.hgb")
    inside, outside = project / "inside.hgb", tmp_path / "outside.hgb"
    owner = inside.stat()
    assert (owner.st_uid, owner.st_gid) == (project.stat().st_uid, project.stat().st_gid)
    subprocess.run([sys.executable, "-m", "headgate", *options, str(outside)], check=True)
    assert tools(inside) == tools(outside)
    assert inside.read_bytes() == outside.read_bytes()
    # And it is right, says the QEMU inside.
    done = docker(*mounted(project), compiler, "validate", "inside.hgb", "--on", "qemu:rpi4")
    assert "passed" in done.stdout


def test_who_the_container_is(docker: Docker, compiler: str, project: Path, tmp_path: Path) -> None:
    run = ["--entrypoint", "entrypoint", "-e", "PATH=/src:/usr/bin:/bin:/usr/local/bin", compiler]
    others = tmp_path / "others"  # pytest's own folder is closed to the user 77
    others.mkdir()
    for folder in (project, others):
        program = folder / "headgate"
        program.write_text('#!/bin/sh\necho "$(id -u):$(id -G):$HOME:$*"; touch "$HOME/mine"\n')
        program.chmod(0o755)
    caller = f"{project.stat().st_uid}:{project.stat().st_gid}:/home/headgate:a b\n"
    assert docker(*mounted(project), *run, "a b").stdout == caller
    assert docker(*mounted(others), *run).stdout.startswith(f"{others.stat().st_uid}:")
    given = docker(*mounted(others), "--user", "77:88", *run).stdout
    assert given == "77:88:/home/headgate:\n"
    # Nothing mounted, nothing to own: no reason to be root.
    assert docker("run", "--rm", "--entrypoint", "stat", compiler, "-c", "%U", ".").stdout == (
        "nobody\n"
    )


def test_errors_are_those_of_the_command(docker: Docker, compiler: str, project: Path) -> None:
    done = docker(*mounted(project), compiler, "compile", "resnet9", check=False)
    outside = subprocess.run(
        [sys.executable, "-m", "headgate", "compile", "resnet9"], capture_output=True, text=True
    )
    assert done.returncode == outside.returncode != 0
    assert done.stderr == outside.stderr
    assert list(project.iterdir()) == []


PROGRAM = "#include <math.h>\nint main(int n, char **v) { return (int)sqrtf((float)n) - 1; }\n"


@pytest.mark.parametrize(
    "command",
    [
        "aarch64-linux-gnu-gcc -static",
        *(
            f"arm-none-eabi-gcc -mthumb {core} --specs=nosys.specs"
            for core in (
                "-mcpu=cortex-m0plus",
                "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16",
                "-mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-d16",
                "-mcpu=cortex-m33 -mfloat-abi=hard -mfpu=fpv5-sp-d16",
                "-mcpu=cortex-m55 -mfloat-abi=hard",
            )
        ),
    ],
)
def test_toolchains_link(docker: Docker, compiler: str, project: Path, command: str) -> None:
    (project / "program.c").write_text(PROGRAM)
    program, *options = command.split()
    who = f"{project.stat().st_uid}:{project.stat().st_gid}"
    docker(
        *(*mounted(project), "--user", who, "--entrypoint", program, compiler),
        *(*options, "program.c", "-lm", "-o", "program"),
    )
    assert (project / "program").read_bytes()[:4] == b"\x7fELF"
    if program.startswith("aarch64"):
        emulated = [*mounted(project), "--entrypoint", "qemu-aarch64", compiler, "./program"]
        assert docker(*emulated, check=False).returncode == 0


def test_nothing_of_the_build_stays_inside(docker: Docker, compiler: str, image_maker: str) -> None:
    for image in (compiler, image_maker):
        found = docker(
            *("run", "--rm", "--entrypoint", "sh", image, "-c"),
            "ls -A /run/secrets /wheels /project /var/lib/apt/lists /root/.cache 2>/dev/null",
            check=False,
        )
        assert [line for line in found.stdout.splitlines() if not line.endswith(":")] == []
        environment = docker("inspect", "-f", "{{json .Config.Env}}", image).stdout
        assert [one.partition("=")[0] for one in json.loads(environment)] == ["PATH", "HOME"]


def test_secrets_reach_the_build(docker: Docker, tmp_path: Path) -> None:
    """A mirror that there is not: the build asks it, and nothing else."""
    (tmp_path / "sources").write_text("deb http://mirror.invalid/debian bookworm main\n")
    failed = docker(
        *("build", "--no-cache", "--network", "host", "--target", "python", "--progress", "plain"),
        *(
            "--build-arg",
            f"BASE={base_image(docker, tmp_path)}",
            "--secret",
            f"id=apt,src={tmp_path / 'sources'}",
        ),
        *("-f", ROOT / "docker/Dockerfile", ROOT),
        check=False,
    )
    assert failed.returncode != 0
    hosts = set(re.findall(r"https?://([\w.-]+)", failed.stderr + failed.stdout))
    assert hosts == {"mirror.invalid"}, failed.stderr[-2000:]


def test_image_that_makes_images(docker: Docker, image_maker: str, project: Path) -> None:
    shown = docker(*mounted(project), image_maker, "image", "--help").stdout
    assert "--board" in shown
    for tool in ("mmdebstrap", "mcopy", "mkfs.vfat", "mkfs.ext4", "sfdisk", "depmod", "cpio"):
        which = ["--entrypoint", "sh", image_maker, "-c", f"command -v {tool}"]
        assert docker("run", "--rm", *which).stdout.strip(), tool
    # The script's own words, not the shell's.
    refused = docker(*mounted(project), image_maker, "debian-base", check=False)
    assert refused.returncode == 1 and "usage: debian-base.sh OUT.img" in refused.stderr
    assert list(project.iterdir()) == []
