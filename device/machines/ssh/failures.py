"""What ssh and the board's shell say when something fails, in one line that says what to do."""

from __future__ import annotations

import re
import shlex

from headgate.device.machines.ssh.address import Address
from headgate.errors import DeviceError, HeadgateError, StorageError

# ssh's own failures have this exit status, whatever the command's would have been.
SSH_FAILED = 255

_FULL = ("No space left on device", "Disk quota exceeded", "write error: No space")


def connection_error(name: str, address: Address, stderr: str, lost: bool) -> DeviceError:
    """Why there is no connection; ``lost``: there was one before."""
    target = str(address) if address.port is None else f"-p {address.port} {address.destination}"
    last = _last_line(stderr)
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in stderr:
        return _changed_key(name, address, stderr, target)
    if "Host key verification failed" in stderr:
        return DeviceError(
            f"ssh does not know the host key of {name} yet: connect once with ssh {target} and "
            "compare the fingerprint with the board's"
        )
    if "Permission denied" in stderr or "Too many authentication failures" in stderr:
        return DeviceError(
            f"{name} accepts none of your keys ({last}): ssh-copy-id {target}, or name the key "
            "in ~/.ssh/config; if it has a passphrase, ssh-add it first"
        )
    if "Could not resolve hostname" in stderr:
        return DeviceError(
            f"cannot find {name}: no host {address.host!r}; check the name, or give its address"
        )
    if lost:
        return DeviceError(
            f"{name} dropped off ({last or 'the connection closed'}); nothing on it was replaced. "
            "Repeat the command when it is back: what arrived is kept"
        )
    return DeviceError(
        f"cannot reach {name} ({last or 'the connection closed'}); is it switched on and on the "
        f"network? Try: ssh {target}"
    )


# What ssh looked up, which is the name that an alias stands for, or that of a jump host.
_CHANGED = re.compile(r"^Host key for (\S+) has changed", re.MULTILINE)
_OFFENDING = re.compile(r"^Offending .*key.* in (.+):\d+\s*$", re.MULTILINE)


def _changed_key(name: str, address: Address, stderr: str, target: str) -> DeviceError:
    changed, offending = _CHANGED.search(stderr), _OFFENDING.search(stderr)
    host = address.host if address.port is None else f"[{address.host}]:{address.port}"
    host = changed[1] if changed else host
    file = f"-f {shlex.quote(offending[1])} " if offending else ""
    return DeviceError(
        f"the host key of {name} ({host}) is not the one that ssh knows: it was set up anew, or it "
        f"is another machine. If you know why: ssh-keygen {file}-R {shlex.quote(host)}, then ssh "
        f"{target} once"
    )


def command_error(name: str, action: str, status: int, stderr: str) -> HeadgateError:
    """Why a command failed on the board: a full disk is told apart from the rest."""
    last = _last_line(stderr)
    if any(words in stderr for words in _FULL):
        return StorageError(
            f"cannot {action} on {name}: no space left on its disk; free some and repeat. "
            "What was there before is as it was"
        )
    if "Read-only file system" in stderr:
        return StorageError(f"cannot {action} on {name}: its disk is read-only ({last})")
    if "Permission denied" in stderr:
        return StorageError(f"cannot {action} on {name}: no permission ({last})")
    return DeviceError(f"cannot {action} on {name}: {last or f'exit status {status}'}")


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else ""
