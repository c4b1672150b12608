"""The command line: one file per verb, each a thin layer over a Python function."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from rich.markup import escape

from headgate.errors import HeadgateError, StorageError, missing_package, why


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, by default the process's, to its exit code; errors become one line."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        # One more, while the first was being turned into an exit code.
        _end_undisturbed(arguments)
        return _report("interrupted", 130)


def _run(arguments: Sequence[str] | None) -> int:
    from headgate.cli.app import app

    settings = {"debug": bool(os.environ.get("HEADGATE_DEBUG"))}
    command = typer.main.get_command(app)
    _keep_brackets(command)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name may hold bytes that are no text, and a terminal lack a character.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command.main(
            args=None if arguments is None else list(arguments),
            prog_name="headgate",
            standalone_mode=False,
            obj=settings,
        )
        sys.stdout.flush()
        # Typer has turned an interrupt into this code.
        if code == 130:
            _end_undisturbed(arguments)
        return _report("interrupted" if code == 130 else "", code if isinstance(code, int) else 0)
    except typer.TyperException as error:
        return _report(error.format_message(), error.exit_code)
    except typer.Abort:
        _end_undisturbed(arguments)
        return _report("stopped", 130)
    except BrokenPipeError:
        # The reader of our output has left, as with `headgate ... | head`.
        _discard_output()
        return 1
    except (HeadgateError, OSError, ModuleNotFoundError, MemoryError) as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("headgate"):
            raise
        if settings["debug"]:
            traceback.print_exc()
        if isinstance(error, OSError) and error.filename is None:
            _discard_output()
        known = _as_headgate_error(error)
        return _report(why(known), known.exit_code)


def _end_undisturbed(arguments: Sequence[str] | None) -> None:
    """An interrupt while the interrupted process ends has nothing left to stop."""
    ignored = arguments is not None
    while not ignored:
        with contextlib.suppress(KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            ignored = True


def _keep_brackets(command: Any) -> None:
    """Typer reads help as Rich's markup; ours is plain text."""
    for one in (command, *command.params):
        one.help = escape(getattr(one, "help", None) or "")
    for inner in getattr(command, "commands", {}).values():
        _keep_brackets(inner)


def _discard_output() -> None:
    """What is buffered for a standard output that fails must not fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _as_headgate_error(error: Exception) -> HeadgateError:
    if isinstance(error, HeadgateError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return missing_package("this command", error)
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        advice = "free some space and repeat" if error.errno == errno.ENOSPC else "check the path"
        return StorageError(f"reading or writing{where} failed: {why(error)}; {advice}")
    return HeadgateError("out of memory; close other programs, or use a smaller batch or network")


def _report(message: str, code: int) -> int:
    # One line whatever the message holds, so that scripts can rely on it. It is empty when the
    # help text has been printed instead.
    if message:
        print("headgate: error:", " ".join(message.split()), file=sys.stderr)
    return code
