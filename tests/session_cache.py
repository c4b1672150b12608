"""Files made once in a test session: kernels' objects, bundles, converted networks.

All of a session's processes share one folder, so that a second one waits for what the first makes
instead of making it again. Keys are hashes of everything that the content depends on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

    from headgate.device.targets import Target

FOLDER = "HEADGATE_TEST_CACHE"
"""The environment variable by which a session's processes find the folder."""
# A kernel is lowered under this name; a real one, which is shorter, then replaces it in the object.
_PLACEHOLDER = "headgate_kernel_" + "0" * 32


@contextmanager
def lowered_as_users_do() -> Iterator[None]:
    """Here the compiler lowers a network's kernels together and anew."""
    from headgate.compile.backend.lower import write_object

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("headgate.compile.build.write_object", write_object)
        yield


@contextmanager
def cache_folder() -> Iterator[None]:
    """Gives this process and those that it starts a folder, unless they have one."""
    if FOLDER in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="headgate-tests-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


def once(kind: str, key: object, make: Callable[[], bytes]) -> Path:
    """A file of what ``make`` returns, which the first process that asks for ``key`` calls."""
    path = Path(os.environ[FOLDER]) / hashlib.sha256(repr((kind, key)).encode()).hexdigest()
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            content = make()
            part = path.with_suffix(".part")
            part.write_bytes(content)
            part.rename(path)
    return path


def write_object(functions: dict[str, PrimFunc], target: Target, path: Path) -> None:
    """The compiler's ``write_object``, which lowers each kernel once in a session.

    Networks share most of their kernels: those of a gated resnet8 at two densities differ in one
    that picks channels. The object file holds the functions that the compiler's has, lowered one
    by one and put together by the linker.
    """
    from headgate.compile.backend.link import find_zig

    with tempfile.TemporaryDirectory() as made:
        objects = []
        for name, function in functions.items():
            file = Path(made) / f"{name}.o"
            file.write_bytes(_renamed(_lowered(function, target), name))
            objects.append(str(file))
        command = [str(find_zig()), "ld.lld", "-r", *objects, "-o", str(path)]
        subprocess.run(command, check=True)


def _lowered(function: PrimFunc, target: Target) -> bytes:
    from tvm_ffi import structural_hash

    from headgate.compile.backend import lower

    function = function.with_attr("global_symbol", _PLACEHOLDER)

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kernel.o"
            lower.write_object({_PLACEHOLDER: function}, target, path)
            return path.read_bytes()

    key = structural_hash(function, map_free_vars=True)
    return once("kernel", (key, target.llvm()), make).read_bytes()


def _renamed(code: bytes, name: str) -> bytes:
    assert len(name) <= len(_PLACEHOLDER) and _PLACEHOLDER.encode() in code
    return code.replace(_PLACEHOLDER.encode(), name.encode().ljust(len(_PLACEHOLDER), b"\0"))
