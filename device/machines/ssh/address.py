"""Where a board is: what ``ssh`` takes as a destination, checked before it gets near a program."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass

from headgate.errors import UsageError

# Neither may begin with a dash, which ssh would take for an option.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
_PORTS = range(1, 1 << 16)
_SSH_PORT = 22


@dataclass(frozen=True)
class Address:
    """A destination; what is None is left to the user's ssh configuration."""

    host: str
    user: str | None = None
    port: int | None = None

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise UsageError(f"host {self.host!r} is no name or address of a board")
        if self.user is not None and not _USER.fullmatch(self.user):
            raise UsageError(f"user {self.user!r} is no name of a user")
        if self.port is not None and self.port not in _PORTS:
            raise UsageError(f"port {self.port} is not in 1 to {_PORTS[-1]}")

    @classmethod
    def parse(cls, text: str) -> Address:
        """``HOST``, ``USER@HOST``, ``USER@HOST:PORT`` or, for IPv6, ``USER@[HOST]:PORT``."""
        user, at, rest = text.rpartition("@")
        bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d+))?", rest)
        plain = re.fullmatch(r"([^:]*):(\d+)", rest)
        match = bracketed or plain
        host, port = (match[1], match[2]) if match else (rest, None)
        try:
            return cls(host, user if at else None, int(port) if port else None)
        except UsageError as error:
            raise UsageError(f"{text!r}: {error}; write USER@HOST or USER@HOST:PORT") from error

    @property
    def place(self) -> tuple[str, int]:
        """Host and port, which two addresses of one board share, whoever logs in.

        Without a port that is 22, although ssh's configuration may say another.
        """
        host = self.host.lower().removesuffix(".")
        with contextlib.suppress(ValueError):
            host = str(ipaddress.ip_address(host))
        return host, self.port or _SSH_PORT

    @property
    def destination(self) -> str:
        """What ssh is given; the port is an option of its own."""
        return self.host if self.user is None else f"{self.user}@{self.host}"

    def __str__(self) -> str:
        if self.port is None:
            return self.destination
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host if self.user is None else f'{self.user}@{host}'}:{self.port}"
