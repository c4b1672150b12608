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
    """An exception in a few words; an OSError without its number and path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
