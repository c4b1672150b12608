"""What reaches the screen: every character, whatever Rich would make of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
import typer

from headgate import doctor
from headgate.cli import app as app_module
from headgate.cli import deploy, flash, main, output
from headgate.device.flash import Flashed, Target
from headgate.errors import InputError
from headgate.train.progress import Progress, say

# Tags, closing tags, an emoji, an escape: Rich takes each for something else.
ODD = "runs[peers]/[/x]/[bold]/:smile:/a\\[b"
# Help texts go through markup, escaped; that leaves emoji and escapes.
TAGS = "runs[peers]/[/x]/[bold]"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What is on the screen, without colours and line ends."""
    captured = capsys.readouterr()
    return "".join(_CONTROL.sub("", captured.out + captured.err).split())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that Rich takes for a terminal, with bars and spinners."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")


def _deploy_bar() -> None:
    with deploy._progress(ODD) as progress:
        assert progress is not None
        progress(1, 2)


def _flash_bar() -> None:
    def write(source: object, target: object, show: Callable[[str, int, int], None]) -> Flashed:
        show("writing", 1, 2)
        return Flashed(1, 1, "")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flash, "write", write)
        flash._flash(SimpleNamespace(), Target(Path(ODD), None))  # type: ignore[arg-type]
        output.note(ODD)


def _spinner() -> None:
    with output.working("working") as show:
        show(ODD)


def _training_bar() -> None:
    with Progress(ODD, 2) as bar:
        bar.advance(1)


def _training_note() -> None:
    with Progress("training", 2, unit="images") as bar:
        bar.advance(1, ODD)


PATHS: dict[str, Callable[[], object]] = {
    "line": lambda: output.print_line(ODD),
    "next step": lambda: output.next_step(ODD),
    "note": lambda: output.note(ODD),
    "title of a table": lambda: output.print_table(ODD, ["a"], [("x" * len(ODD),)]),
    "column of a table": lambda: output.print_table("t", [ODD], [("a",)]),
    "cell of a table": lambda: output.print_table("t", ["a", "b"], [("a", ODD)]),
    "first cell of a table": lambda: output.print_table("t", ["a", "b"], [(ODD, 1)]),
    "spinner": _spinner,
    "deploy": _deploy_bar,
    "flash": _flash_bar,
    "training, title": _training_bar,
    "training, note": _training_note,
    "training, line": lambda: say(ODD),
}


@pytest.mark.parametrize("path", PATHS)
def test_brackets_reach_a_terminal(
    path: str, terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    PATHS[path]()
    assert ODD in shown(capsys)


@pytest.mark.parametrize("path", [name for name in PATHS if "table" in name or name == "line"])
def test_brackets_reach_a_file(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    PATHS[path]()
    assert ODD in shown(capsys)


@pytest.mark.parametrize("width", [20, 60, 100])
def test_no_cell_of_a_table_is_cut_off(
    width: int,
    terminal: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    path = "/a/path/that/has/no/blanks/at/all/and/is/longer/than/a/line/of/a/terminal/is/usually"
    output.print_table("t", ["name", "bytes", "path"], [("pi@[fe80::1]:22", 123456789, path)])
    out = capsys.readouterr().out
    rows = [_CONTROL.sub("", line) for line in out.splitlines()]
    assert any("pi@[fe80::1]:22" in row and "123,456,789" in row for row in rows)
    # The path is the last column, and what remains of each line is a piece of it.
    first = next(index for index, row in enumerate(rows) if "123,456,789" in row)
    pieces = [row.replace("pi@[fe80::1]:22", "").replace("123,456,789", "") for row in rows[first:]]
    assert "".join(piece.strip() for piece in pieces) == path


def test_doctor_names_the_extra_that_brings_a_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        doctor, "_PACKAGES", [("absent-one", "peers", "a"), ("absent-two", "compile", "b")]
    )
    assert main(["doctor"]) == 0
    out = shown(capsys)
    assert "pipinstall'headgate[peers]'" in out
    assert out.count("pipinstall'headgate[compile]'") == 2


def test_errors_and_help_keep_their_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 1000)
    application = typer.Typer(help=f"Of all: {TAGS}", pretty_exceptions_enable=False)
    application.callback()(app_module.before_the_verb)

    @application.command(help=f"Of one: {TAGS}")
    def fail(value: Annotated[str, typer.Option(help=f"Of an option: {TAGS}")] = ODD) -> None:
        raise InputError(ODD)

    monkeypatch.setattr(app_module, "app", application)
    assert main(["fail"]) == 1
    assert ODD in shown(capsys)
    assert main(["fail", "--help"]) == 0
    out = shown(capsys)
    assert f"Ofone:{TAGS}" in out and f"Ofanoption:{TAGS}" in out and f"[default:{ODD}]" in out
    assert main(["--help"]) == 0
    out = shown(capsys)
    assert f"Ofall:{TAGS}" in out and f"Ofone:{TAGS}" in out


def commands(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


@pytest.mark.parametrize(
    "words", list(commands(typer.main.get_command(app_module.app))), ids=" ".join
)
def test_help_says_every_word(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = typer.main.get_command(app_module.app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 1000)
    assert main([*words, "--help"]) == 0
    out = shown(capsys)
    texts = [command.help or "", *(getattr(one, "help", None) or "" for one in command.params)]
    for text in texts:
        assert "".join(text.split()) in out


def test_bytes_that_are_no_text_are_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    capsys.readouterr()
    output.print_line("a\udcff.img")
    assert "a\\udcff.img" in capsys.readouterr().out
