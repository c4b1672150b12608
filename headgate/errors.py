"""Every error headgate raises on purpose, one tree; any other is a bug of ours.

A message is one line: what failed, with which value, and what to do.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable


class HeadgateError(Exception):
    """Root of the tree; the command line prints it and exits with ``exit_code``."""

    exit_code = 1


class UsageError(HeadgateError):
    """A name, option or value that headgate does not know."""

    exit_code = 2


class RecipeError(UsageError):
    """A training recipe that cannot be used: unknown key, wrong type, contradiction."""


class InputError(HeadgateError):
    """An array or image with the wrong shape, type or content."""


class MissingFile(HeadgateError):
    """A file that was asked for is not there."""


class StorageError(HeadgateError):
    """Reading or writing failed: a full disk, no permission."""


class DataError(HeadgateError):
    """A data set that is absent, incomplete or altered."""


class TrainingError(HeadgateError):
    """Training cannot go on, for example a loss that is no longer finite."""


class ModelError(HeadgateError):
    """A network or checkpoint that does not fit what was asked of it."""


class CompileError(HeadgateError):
    """A network cannot be turned into code."""


class UnsupportedOperator(CompileError):
    """An operator that cannot be lowered; names it, its module path and what is supported."""


class WrongResult(CompileError):
    """What was compiled does not compute what PyTorch does; names the first layer that differs."""


class BundleError(HeadgateError):
    """A bundle that is truncated, altered, of another schema or for another target."""


class DeviceError(HeadgateError):
    """A device, emulator or program on it failed."""


class ToolMissing(HeadgateError):
    """A program or package that is not installed; the message has the command that brings it."""


def suggest(wrong: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or the list of what is known, to append to an error message."""
    known = sorted(known)
    close = difflib.get_close_matches(wrong, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known)}."


# Exceptions whose text is often empty, or says something else than what happened.
_WORDS: dict[type[BaseException], str] = {
    EOFError: "it ends too early",
    MemoryError: "out of memory",
    TimeoutError: "it takes too long",
}


def why(error: BaseException) -> str:
    """What somebody else's exception says, in one line that is never empty.

    Of an OSError that is its reason, without number and path.
    """
    if isinstance(error, KeyError) and error.args:
        return f"no {error.args[0]!r}"
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    known = (words for kind, words in _WORDS.items() if isinstance(error, kind))
    return text or next(known, type(error).__name__)


def first_line(error: BaseException) -> str:
    """The first line of what somebody else's exception says, or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# package as imported: the extra that brings it
_EXTRAS = {
    "accelerate": "compile",
    "tensorboard": "compile",
    "torch": "compile",
    "tvm": "compile",
    "tvm_ffi": "compile",
    "ziglang": "compile",
    "ai_edge_litert": "tflite",
    "tensorflow": "tflite",
    "ncnn": "peers",
    "onnx": "peers",
    "onnxruntime": "peers",
    "onnxscript": "peers",
    "pnnx": "peers",
    "pyocd": "pyocd",
}


def missing_package(what: str, error: ModuleNotFoundError) -> ToolMissing:
    """The error to raise when ``what`` was asked for and a package it needs is not installed."""
    package = (error.name or "?").partition(".")[0]
    extra = _EXTRAS.get(package)
    command = f"pip install 'headgate[{extra}]'" if extra else f"pip install {package}"
    return ToolMissing(f"{what} needs the package {package!r}, which is not installed: {command}")


def not_installed(modules: Iterable[str], purpose: str, extra: str) -> str | None:
    """None where all modules could be imported, else one line that says how to get the others.

    ``purpose`` is what needs them, such as ``"run LiteRT"``, ``extra`` is headgate's.
    """
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return (
        f"{', '.join(absent)} is not installed, needed to {purpose}; "
        f"pip install 'headgate[{extra}]'"
    )
