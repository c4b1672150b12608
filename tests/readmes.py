"""What the READMEs say can be done: their fenced blocks, the commands in them, the files named."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


@cache
def tracked() -> frozenset[str]:
    """Files of the repository, and its folders with a slash behind."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    files = [line for line in listed.stdout.splitlines() if (ROOT / line).exists()]
    folders = {f"{parent}/" for file in files for parent in Path(file).parents}
    return frozenset(files) | folders


def readmes() -> list[str]:
    return sorted(name for name in tracked() if name.endswith(".md") and "results" not in name)


def blocks(readme: str, language: str) -> list[str]:
    """Its fenced blocks of that language, from top to bottom; "" for those without one."""
    found = _FENCE.findall((ROOT / readme).read_text(encoding="utf-8"))
    return [text for name, text in found if name == language]


def inline(readme: str) -> list[str]:
    """What stands between backquotes outside of fenced blocks."""
    return _CODE.findall(_FENCE.sub("", (ROOT / readme).read_text(encoding="utf-8")))


def commands(readme: str) -> list[list[str]]:
    """The words of every command in its fenced blocks, without comments and ``...``."""
    found = []
    for text in blocks(readme, ""):
        for line in text.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # prose, or a table
                continue
            found.append([word for word in words if word != "..."])
    return [words for words in found if words]


def headgate_commands(readme: str) -> list[list[str]]:
    """What follows ``headgate`` in them, or the name of the image that is run."""
    found = []
    for words in commands(readme):
        if words[:2] == ["docker", "run"] and "--entrypoint" not in words:
            images = [word for word in words if word in ("headgate", "headgate-image")]
            words = words[words.index(images[-1]) :] if images else []
            words = [] if "debian-base" in words else words
        elif words[:4] == ["accelerate", "launch", "-m", "headgate"]:
            words = words[3:]
        if len(words) > 1 and Path(words[0]).name in ("headgate", "headgate-image"):
            found.append(words[1:])
    return [words for words in found if words[0] != "the"]
