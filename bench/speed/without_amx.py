"""``python -m bench.speed.without_amx COMMAND ...``: runs a command that gets no matrix unit.

ARM boards have none, and neither have most x86 CPUs; LiteRT and ONNX Runtime use that of a server
where there is one. Linux lends AMX's tiles to a process that asks for them
(``arch_prctl(ARCH_REQ_XCOMP_PERM)``). A seccomp filter, which children inherit, refuses that; the
libraries then take their AVX-512 kernels. Nothing else changes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Sequence

from headgate.errors import UsageError, why

_ARCH_PRCTL = 158  # number of the system call on x86-64
_REQUEST, _TILE_DATA = 0x1023, 18
_X86_64 = 0xC000003E
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # the latter with EPERM

# Rows of code, jump if true, jump if false, operand. A call's number, architecture and first
# argument lie at 0, 4 and 16.
_RULES = (
    (_LOAD, 0, 0, 4),
    (_EQUAL, 0, 5, _X86_64),
    (_LOAD, 0, 0, 0),
    (_EQUAL, 0, 3, _ARCH_PRCTL),
    (_LOAD, 0, 0, 16),
    (_EQUAL, 0, 1, _REQUEST),
    (_RETURN, 0, 0, _REFUSE),
    (_RETURN, 0, 0, _ALLOW),
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("rules", ctypes.c_char_p))


def refuse_amx() -> None:
    """Refuses AMX to this process and all that it starts, for good.

    Raises:
        UsageError: a system other than Linux on x86-64, or one that allows no filter.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise UsageError("AMX can be refused on Linux on x86-64 only; run the command as it is")
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(_RULES), b"".join(struct.pack("HBBI", *rule) for rule in _RULES))
    for call in (
        (_NO_NEW_PRIVILEGES, 1, 0, 0, 0),
        (_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*call):
            raise UsageError(f"AMX cannot be refused here: {os.strerror(ctypes.get_errno())}")


def amx_is_refused() -> bool:
    """Whether :func:`refuse_amx` was called, here or by what started this process.

    Asks for AMX, which this process has from then on if it gets it.
    """
    if os.uname().machine != "x86_64":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) != 0
    return refused and ctypes.get_errno() == errno.EPERM


def main(command: Sequence[str]) -> None:
    """Becomes ``command``."""
    if not command:
        raise UsageError("name a command: python -m bench.speed.without_amx make bench ONLY=int8")
    refuse_amx()
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {why(error)}") from error


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UsageError as error:
        sys.exit(f"error: {error}")
