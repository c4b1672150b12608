"""Boards as folders: trees of ``/proc``, ``/sys`` and programs, made from tests/recordings/."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from headgate.device.agent.absent import NotMeasured
from headgate.device.agent.sensors.base import Sensor
from headgate.device.agent.system import System

RECORDINGS = Path(__file__).with_name("recordings")


class FakeTime(System):
    """A board whose clock moves by sleeping and by reading it, never by itself.

    ``on_read`` sees the name and content of every file that is read, and may give another
    content, or raise; that is how sensors change with time.
    """

    def __init__(self, root: str | Path, read_ns: int = 0) -> None:
        super().__init__(root)
        self.now_ns = 1_000_000_000
        self.read_ns = read_ns
        self.on_read: Callable[[str], str | None] = lambda name: None

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def read(self, name: str) -> str:
        self.now_ns += self.read_ns
        changed = self.on_read(name)
        return super().read(name) if changed is None else changed


def plant(name: str, root: Path, changes: dict[str, str] | None = None) -> Path:
    """Make the tree of a recording; ``changes`` replace text in it."""
    text = (RECORDINGS / f"{name}.txt").read_text()
    for old, new in (changes or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    plant_text(text, root)
    return root


def tree(root: Path, name: str, changes: dict[str, str] | None = None) -> System:
    """The system of a board that is planted there."""
    return System(plant(name, root, changes))


def read(sensor: Sensor) -> dict[str, float]:
    """What a sensor reads once, by channel."""
    (sample,) = sensor.poll(0)
    return sample.values


def total_mw(sensor: Sensor) -> float:
    """What it reads of the whole board."""
    assert not isinstance(sensor.total, NotMeasured), sensor.total
    values = read(sensor)
    return sum(values[name] for name in sensor.total)


def plant_text(text: str, root: Path) -> None:
    """Make the tree that a text in the format of tests/recordings/README.md describes."""
    programs: dict[str, dict[str, list[str]]] = defaultdict(dict)
    lines: list[str] | None = None
    files: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("|"):
            assert lines is not None, line
            lines.append(line[1:])
        elif line.startswith("$ "):
            program, _, arguments = line[2:].partition(" ")
            lines = programs[program].setdefault(arguments, [])
        elif " -> " in line:
            link, target = line.split(" -> ")
            path = _made(root, link)
            path.symlink_to(root / target)
        elif " ! EIO" in line:
            # Reading address 0 of a process's own memory is an input/output error, always.
            _made(root, line.partition(" ! ")[0]).symlink_to("/proc/self/mem")
        elif " = " in line:
            name, _, content = line.partition(" = ")
            files[name] = [content]
        elif line.startswith("/"):
            lines = files.setdefault(line, [])
    for name, content in files.items():
        _made(root, name).write_text("\n".join(content).replace("\\0", "\0") + "\n")
    for program, answers in programs.items():
        _plant_program(_made(root, f"usr/bin/{program}"), answers)


def _plant_program(path: Path, answers: dict[str, list[str]]) -> None:
    cases = [
        f"{shlex.quote(arguments)}) cat <<'END'\n" + "\n".join(lines) + "\nEND\n;;"
        for arguments, lines in answers.items()
    ]
    otherwise = '*) echo "unknown: $*" >&2; exit 1;;'
    path.write_text("\n".join(["#!/bin/sh", 'case "$*" in', *cases, otherwise, "esac", ""]))
    path.chmod(0o755)


def _made(root: Path, name: str) -> Path:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
