"""What the services of a board run, as one file (:data:`FILE_NAME`) there.

    on_board.pyz measure AGENT BUNDLE REPORT    as the user headgate: the first boot's report
    on_board.pyz publish REPORT FOLDER          as root without capabilities: to the boot partition
    on_board.pyz answer FOLDER                  float32 samples on standard input, outputs back

Python 3.9 or newer, standard library only, and of headgate what a runner is asked.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..protocol import RUNNER, WEIGHTS, Request

FILE_NAME = "on_board.pyz"
_MOST_REPORT_BYTES = 64 * 1024 * 1024
_MOST_INPUT_BYTES = 256 * 1024 * 1024


class _Stopped(Exception):
    """Somebody sent SIGTERM."""


def measure(agent: str, bundle: str, report: str) -> int:
    """Write the agent's report, with energy if the board has a sensor.

    What the agent says goes to ``REPORT.txt`` as it comes, so that a failure can be read, too.
    """
    command = [sys.executable, "-u", agent, "profile", bundle, "-o", report, "--energy-if-any"]
    started_s = time.monotonic()
    with open(report + ".txt", "wb", buffering=0) as file:

        def say(data: bytes) -> None:
            file.write(data)
            with suppress(OSError):
                os.write(sys.stdout.fileno(), data)

        say(b"headgate: measuring\n")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            before = signal.signal(signal.SIGTERM, _stop)
            try:
                assert process.stdout is not None
                while data := os.read(process.stdout.fileno(), 65536):
                    say(data)
                code = process.wait()
            except _Stopped:
                process.terminate()
                say(
                    b"headgate: stopped after %.0f s: out of time, out of memory, or the board was "
                    b"switched off; journalctl -u headgate-report says which\n"
                    % (time.monotonic() - started_s)
                )
                return 1
            finally:
                signal.signal(signal.SIGTERM, before)
        if code < 0:
            say(b"headgate: signal %d ended the agent; 9 is often too little memory\n" % -code)
        return code if code >= 0 else 1


def _stop(number: int, frame: Any) -> None:
    raise _Stopped


def publish(report: str, folder: str) -> int:
    """Copy the report, and what was said, to where any laptop can read them.

    The files come from an unprivileged user: links are not followed.
    """
    for name in (report + ".txt", report):
        try:
            data = _read_plain(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            print(f"headgate: {error}", file=sys.stderr)
            continue
        _write_whole(os.path.join(folder, os.path.basename(name)), data)
    return 0 if os.path.exists(os.path.join(folder, os.path.basename(report))) else 1


def _read_plain(name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_REPORT_BYTES:
            raise OSError(f"{name} is not an ordinary file of a report's size")
        return file.read(_MOST_REPORT_BYTES)


def _write_whole(name: str, data: bytes) -> None:
    """FAT has no journal: the name appears when the data is on the card.

    A name that has just been given has no data yet, on the card, until the file is synchronised
    once more; a laptop may well be the next to read it.
    """
    temporary = name + ".new"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        os.replace(temporary, name)
        _synchronise(os.path.dirname(name))
        os.fsync(file.fileno())


def _synchronise(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def answer(folder: str) -> int:
    """Run the network on what comes in until its end, and send the outputs back."""
    samples = sys.stdin.buffer.read(_MOST_INPUT_BYTES + 1)
    if len(samples) > _MOST_INPUT_BYTES:
        print(f"more than {_MOST_INPUT_BYTES} bytes of input", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        request, beside = Request(), os.path.join(scratch, "")
        (given,), (found,) = request.given, request.found
        Path(scratch, given).write_bytes(samples)
        runner, weights = (os.path.join(folder, member) for member in (RUNNER, WEIGHTS))
        done = subprocess.run(request.command(runner, weights, beside, beside))
        if done.returncode == 0:
            sys.stdout.buffer.write(Path(scratch, found).read_bytes())
        return done.returncode


def main(arguments: list[str] | None = None) -> int:
    verbs: dict[str, Callable[..., int]] = {
        "measure": measure,
        "publish": publish,
        "answer": answer,
    }
    verb, *words = sys.argv[1:] if arguments is None else arguments
    try:
        return verbs[verb](*words)
    except OSError as error:
        print(f"headgate: {error}", file=sys.stderr)
        return 1
