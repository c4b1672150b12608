"""What the agent raises on purpose. ``__main__`` prints the message, one line, and exits."""

from __future__ import annotations


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
