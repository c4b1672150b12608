"""Every error says something: other people's exceptions pass through one function on their way."""

from __future__ import annotations

import ast
import errno
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate import errors
from headgate.cli import main
from headgate.device.agent import errors as agent_errors
from headgate.device.agent.errors import AgentError, SensorError, describe
from headgate.device.files import storage_error
from headgate.errors import HeadgateError, InputError, why

ROOT = Path(__file__).parents[2]
# One program of its own, without the rest of headgate, whose errors are the system calls'.
ALONE = ROOT / "device/image/on_board.py"
OURS = {
    name
    for module in (errors, agent_errors)
    for name, one in vars(module).items()
    if isinstance(one, type) and issubclass(one, (HeadgateError, AgentError))
} | {"TyperException", "Mismatch", "Untranslatable"}


@pytest.mark.parametrize("tell", [why, describe])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EACCES, "Permission denied", "/a/b"), "Permission denied"),
        (OSError("the stream cannot seek"), "the stream cannot seek"),
        (OSError(), "OSError"),
        (ValueError(), "ValueError"),
        (lzma.LZMAError("Corrupt\n input data"), "Corrupt input data"),
        (KeyError("inputs"), "no 'inputs'"),
        (SensorError("none"), "none"),
    ],
)
def test_an_exception_is_told_in_words(
    tell: Callable[[Exception], str], error: Exception, text: str
) -> None:
    assert tell(error) == text


def test_what_has_no_text_is_told_by_its_kind() -> None:
    assert why(EOFError()) == "it ends too early"
    assert why(MemoryError()) == "out of memory"
    assert str(storage_error("read", "x", OSError())) == "cannot read x: OSError"


def test_the_command_line_never_fails_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, line in [
        (OSError("the stream cannot seek"), "the stream cannot seek; check the path"),
        (InputError(), "InputError"),
    ]:
        monkeypatch.setattr("headgate.cli.lists.inventory", _raising(error))
        assert main(["boards"]) == 1
        assert capsys.readouterr().err.endswith(f"{line}\n")


def _raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def handlers() -> Iterator[tuple[Path, ast.ExceptHandler]]:
    """What catches an exception that is not ours and gives it a name."""
    for folder in ("headgate", "device", "profiling", "train", "compile"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())) if path != ALONE else ():
                if isinstance(node, ast.ExceptHandler) and node.name:
                    names = {part.split(".")[-1] for part in _types(node.type)}
                    if not names <= OURS:
                        yield path, node


def _types(node: ast.expr | None) -> list[str]:
    if isinstance(node, ast.Tuple):
        return [ast.unparse(one) for one in node.elts]
    return ["BaseException" if node is None else ast.unparse(node)]


def test_no_message_quotes_an_exception_that_may_be_empty() -> None:
    """``{error}`` of an OSError without a text is nothing, and ``error.strerror`` is None."""
    found = []
    for path, handler in handlers():
        inside = list(ast.walk(handler))
        # str(error).splitlines() comes with what to say if there is no line.
        split = {id(node.value) for node in inside if isinstance(node, ast.Attribute)}
        for node in inside:
            quoted = isinstance(node, ast.FormattedValue) and ast.unparse(node.value)
            text = isinstance(node, ast.Call) and id(node) not in split and ast.unparse(node)
            attribute = isinstance(node, ast.Attribute) and ast.unparse(node)
            if (
                quoted == handler.name
                or text == f"str({handler.name})"
                or attribute == f"{handler.name}.strerror"
            ):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")  # type: ignore[attr-defined]
    assert not found, "use why(error), in the agent describe(error)"
