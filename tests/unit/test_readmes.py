"""READMEs name what there is: commands that parse, rules of the Makefile, files, modules."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import click
import pytest
import typer.main

from headgate.cli.app import app
from tests.readmes import ROOT, commands, headgate_commands, inline, readmes, tracked

SOURCES = (".py", ".c", ".h", ".j2", ".sh", ".md", "/")
# What users have or get, not what the repository holds.
ELSEWHERE = re.compile(
    r"^[/~.]|[A-Z]{3,}|^(train|val|val_256|data_256)/|^runtime-|[<>*{ ]|^(include|build)/|^firstrun"
    r"|^network\.c$"
)
with_commands = pytest.mark.parametrize("readme", [r for r in readmes() if headgate_commands(r)])


@with_commands
def test_commands_parse(readme: str) -> None:
    """Every verb and option is there, and nothing that a verb needs is missing."""
    for words in headgate_commands(readme):
        command: click.Command = typer.main.get_command(app)
        context = None
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, f"no command {words}"
            command, words = found, words[1:]
        try:
            context = command.make_context(command.name, list(words))
        except click.ClickException as error:
            pytest.fail(f"{command.name} {words}: {error.format_message()}")
        assert context is not None


@pytest.mark.parametrize("readme", readmes())
def test_rules_and_modules_are_there(readme: str) -> None:
    rules = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [*commands(readme), *(code.split() for code in inline(readme))]
    for words in lines:
        for first, second in pairwise(words):
            if first == "make" and re.fullmatch(r"[a-z0-9-]+", second):
                assert second in rules, f"make {second}"
            if first == "-m" and second.split(".")[0] in ("headgate", "bench"):
                path = second.removeprefix("headgate.").replace(".", "/")
                assert {f"{path}.py", f"{path}/"} & tracked(), second


@pytest.mark.parametrize("readme", readmes())
def test_files_are_there(readme: str) -> None:
    """Each is named from a folder above, or by the end of its path under the README's folder."""
    folder = Path(readme).parent
    below = [name for name in tracked() if folder == Path() or Path(name).is_relative_to(folder)]
    above_it = [Path(), folder, *folder.parents]
    named = [
        name for name in inline(readme) if name.endswith(SOURCES) and not ELSEWHERE.search(name)
    ]
    gone = [
        name
        for name in named
        if not any(f"/{known}".endswith(f"/{name}") for known in below)
        and not any(str(above / name) + "/" * name.endswith("/") in tracked() for above in above_it)
    ]
    assert not gone
