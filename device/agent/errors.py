"""What the agent raises on purpose: one line each, which ``__main__`` prints before it exits."""

from __future__ import annotations

import signal


class AgentError(Exception):
    """Something failed: what, with which value, and what to do."""

    exit_code = 1


class UsageError(AgentError):
    """An option or value that the agent does not know."""

    exit_code = 2


class SensorError(AgentError):
    """Energy was asked for and cannot be measured."""

    exit_code = 3


def describe(error: Exception) -> str:
    """An exception in a few words, never none; an OSError without its number and path."""
    if isinstance(error, KeyError) and error.args:
        return f"no {error.args[0]!r}"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return text or type(error).__name__


def last_words(status: int, stderr: bytes) -> str:
    """The last line that a program wrote before it failed, or how it ended."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    if lines:
        return lines[-1]
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
