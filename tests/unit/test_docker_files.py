"""docker/ without Docker: what is pinned is what pyproject.toml says, and no place is named."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = (DOCKER / "Dockerfile", DOCKER / "image/Dockerfile")
SCRIPTS = [*sorted(DOCKER.glob("*.sh")), DOCKER / "image/entrypoint.sh"]


def constraints() -> dict[str, str]:
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def instructions(dockerfile: Path) -> list[str]:
    """One line each, without comments."""
    lines = [x for x in dockerfile.read_text().splitlines() if not x.startswith("#")]
    return [x for x in "\n".join(lines).replace("\\\n", " ").splitlines() if x]


def needed(name: str, extra: str = "") -> Iterator[str]:
    """What a distribution installed here needs, all the way down."""
    markers = pytest.importorskip("packaging.requirements")
    seen, waiting = set(), [(name, extra), (name, "")]
    while waiting:
        one, wanted = waiting.pop()
        for line in importlib.metadata.requires(one) or []:
            requirement = markers.Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
                continue
            for inner in ("", *requirement.extras):
                if (requirement.name, inner) not in seen:
                    seen.add((requirement.name, inner))
                    waiting.append((requirement.name, inner))
                    yield canonical(requirement.name)


def test_every_package_in_the_images_has_a_version() -> None:
    pytest.importorskip(
        "torch", reason="needs what the image holds: pip install 'headgate[compile]'"
    )
    pins = constraints()
    assert set(needed("headgate", "compile")) == set(pins)
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins.values())


def test_versions_are_those_of_the_project() -> None:
    pins = constraints()
    for line in (*project()["dependencies"], *project()["optional-dependencies"]["compile"]):
        name, version = line.split("==")
        assert pins[canonical(name)] == version


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_base_and_debian_packages_are_pinned(dockerfile: Path) -> None:
    lines = instructions(dockerfile)
    assert re.fullmatch(r"ARG BASE=debian:bookworm-\d{8}-slim", lines[0])
    assert [x for x in lines if x.startswith("FROM")] == ["FROM ${BASE} AS python", "FROM ${BASE}"]
    installed = [x.split("packages.sh", 1)[1].split() for x in lines if " packages.sh " in x]
    # These two are dates and certificates: the newest are the right ones.
    unpinned = {"ca-certificates", "debian-archive-keyring"}
    names = [one for packages in installed for one in packages if "=" not in one]
    assert len(installed) == 2 and set(names) <= unpinned


@pytest.mark.parametrize("path", [*DOCKERFILES, *SCRIPTS], ids=lambda path: path.name)
def test_no_host_proxy_or_credential_is_named(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?://|proxy=|index-url|token|password", text, re.IGNORECASE)
    assert "# syntax" not in text  # a front end would be fetched from a registry


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_is_copied_is_sent_to_the_daemon(dockerfile: Path) -> None:
    sent = {x[1:] for x in (ROOT / ".dockerignore").read_text().splitlines() if x.startswith("!")}
    copies = [x.split()[1:-1] for x in instructions(dockerfile) if x.startswith("COPY")]
    sources = [one for copy in copies if not copy[0].startswith("--from") for one in copy]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert Path(source).parts[0] in sent, source


def test_images_hold_every_part_of_the_package() -> None:
    folders = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
            "package-dir"
        ].values()
    )
    for dockerfile in DOCKERFILES:
        copied = {x.split()[1] for x in instructions(dockerfile) if x.startswith("COPY")}
        assert folders <= copied


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[0] == "#!/bin/sh"
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("me", "folder", "expected"),
    [
        ("0", "1000 100", "setpriv --reuid 1000 --regid 100 --clear-groups headgate compile a b"),
        ("0", "0 0", "headgate compile a b"),
        ("1000", "1000 100", "headgate compile a b"),
        ("1000", "0 0", "headgate compile a b"),
    ],
)
def test_entry_point_becomes_the_owner(me: str, folder: str, expected: str, tmp_path: Path) -> None:
    user, group = folder.split()
    fakes = {
        "id": f"echo {me}",
        "stat": f'[ "$2" = %u ] && echo {user} || echo {group}',
        "setpriv": 'echo setpriv "$@"',
        "headgate": 'echo headgate "$@"',
    }
    for name, body in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(DOCKER / "entrypoint.sh"), "compile", "a b"],
        env={"PATH": f"{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == expected
