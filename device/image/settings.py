"""What makes an image the user's own, checked before anything is written.

Every value here ends up in a shell script, in YAML or in a configuration file of the board: what
could mean something else there is refused, and the rest is quoted where it is used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from headgate.errors import UsageError

_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
# Accounts that Debian or this image has for something else.
_TAKEN_USERS = {"root", "headgate", "nobody", "daemon", "bin", "sys", "sync", "mail", "www-data"}
_KEY_TYPES = ("ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")
_COUNTRY = re.compile(r"[A-Z]{2}")
_HEX_KEY = re.compile(r"[0-9A-Fa-f]{64}")


@dataclass(frozen=True)
class Wifi:
    """A wireless network: its name as UTF-8, its 256-bit key in hexadecimal or None if it is open,
    and the country whose rules for radio apply.
    """

    ssid: str
    psk: str | None
    country: str

    @classmethod
    def from_password(cls, ssid: str, password: str | None, country: str) -> Wifi:
        """The network, with the key that WPA derives from the password.

        That way the password itself is not on the card.

        Raises:
            UsageError: the name, password or country cannot be one.
        """
        octets = ssid.encode()
        if not 1 <= len(octets) <= 32 or "\0" in ssid:
            raise UsageError(f"--wifi {ssid!r}: a network's name has 1 to 32 bytes")
        if _COUNTRY.fullmatch(country) is None:
            raise UsageError(
                f"--wifi-country {country!r}: two capital letters are needed, such as GB"
            )
        if password is None:
            return cls(ssid, None, country)
        if _HEX_KEY.fullmatch(password):
            return cls(ssid, password.lower(), country)
        if not 8 <= len(password) <= 63 or not password.isascii() or not password.isprintable():
            raise UsageError("a Wi-Fi password has 8 to 63 printable ASCII characters")
        key = hashlib.pbkdf2_hmac("sha1", password.encode(), octets, 4096, 32)
        return cls(ssid, key.hex(), country)


@dataclass(frozen=True)
class Settings:
    """The board's name, who may log in, and how it reaches the network.

    Raises:
        UsageError: a value cannot be what it is meant to be.
    """

    hostname: str
    ssh_keys: tuple[str, ...]
    user: str = "pi"
    sudo: bool = False
    """Whether the user may become root, without a password since there is none."""
    wifi: Wifi | None = None

    def __post_init__(self) -> None:
        if _HOSTNAME.fullmatch(self.hostname) is None:
            raise UsageError(
                f"--hostname {self.hostname!r}: 1 to 63 letters, digits and hyphens are needed, "
                "with no hyphen at an end"
            )
        if _USER.fullmatch(self.user) is None or self.user in _TAKEN_USERS:
            raise UsageError(
                f"--user {self.user!r}: up to 31 small letters, digits, '-' and '_' are needed, "
                "and a name that the system does not use"
            )
        if not self.ssh_keys:
            raise UsageError("no public key was given: nobody could log in")
        for key in self.ssh_keys:
            _check_key(key)


def read_keys(text: str, source: str) -> tuple[str, ...]:
    """The public keys of a file such as id_ed25519.pub or authorized_keys.

    Raises:
        UsageError: it holds none, or a private key.
    """
    if "PRIVATE KEY" in text:
        raise UsageError(f"{source} is a private key, which must not leave this machine; give .pub")
    lines = (line.strip() for line in text.splitlines())
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise UsageError(f"{source} holds no public key; make one: ssh-keygen -t ed25519")
    for key in keys:
        _check_key(key, source)
    return keys


def _check_key(key: str, source: str = "--ssh-key") -> None:
    kind, _, rest = key.partition(" ")
    body = rest.partition(" ")[0]
    try:
        inner = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        inner = b""
    # The body begins with its own type, preceded by its length.
    if (
        not kind.startswith(_KEY_TYPES)
        or inner[4 : 4 + len(kind)] != kind.encode()
        or not key.isprintable()
    ):
        raise UsageError(f"{source}: {key[:40]!r} is no public key of OpenSSH")
