"""What makes an image the user's own, checked before anything is written.

What could mean something else in a shell script, in YAML or in a configuration file of the board is
refused, and the rest is quoted where it is used.
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
# Users and groups that Debian, Raspberry Pi OS or this image have for something else; a new user
# gets a group of its own name too.
_ACCOUNTS = """
adm audio avahi avahi-autoipd backup bin bluetooth cdrom colord crontab daemon dhcpcd dialout
dip disk dnsmasq docker fax floppy games gdm geoclue gnats gpio headgate i2c input irc kmem kvm
landscape lightdm list lp lpadmin lxd mail man messagebus netdev news nm-openvpn nobody nogroup
ntp openvpn operator plugdev polkitd pollinate proxy pulse pulse-access render root
rpi-first-boot-wizard rtkit sambashare saned sasl scanner sgx shadow spi src ssh sshd ssl-cert
staff statd sudo sync sys syslog tape tcpdump tss tty usbmux users utmp uucp uuidd video vnc
voice wheel www-data
"""
_TAKEN_USERS = frozenset(_ACCOUNTS.split())
# Debian gives its own accounts such names.
_TAKEN_PREFIXES = ("_", "systemd-")
_KEY_TYPES = ("ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-")
# ISO 3166-1 alpha-2. Nothing on the board takes another one: the radio would stay off.
_ISO_3166 = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS
BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE
EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM
HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC
LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA
NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW
SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO
TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
_COUNTRIES = frozenset(_ISO_3166.split())
_OTHERWISE = {"UK": "GB", "EN": "GB", "EL": "GR"}
_HEX_KEY = re.compile(r"[0-9A-Fa-f]{64}")


@dataclass(frozen=True)
class Wifi:
    """A wireless network, and the country whose rules for radio apply.

    ``psk`` is its 256-bit key in hexadecimal, None if it is open.
    """

    ssid: str
    psk: str | None
    country: str

    @classmethod
    def from_password(cls, ssid: str, password: str | None, country: str) -> Wifi:
        """The network, with the key that WPA derives: the password is not on the card."""
        try:
            octets = ssid.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"--wifi {ssid!r}: a name that is not UTF-8 is not supported"
            ) from error
        if not 1 <= len(octets) <= 32 or "\0" in ssid:
            raise UsageError(f"--wifi {ssid!r}: a network's name has 1 to 32 bytes")
        _check_country(country)
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
    """The board's name, who may log in, and how it reaches the network; a UsageError if wrong."""

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
        if _USER.fullmatch(self.user) is None:
            raise UsageError(
                f"--user {self.user!r}: up to 31 small letters, digits, '-' and '_' are needed"
            )
        if self.user in _TAKEN_USERS or self.user.startswith(_TAKEN_PREFIXES):
            raise UsageError(
                f"--user {self.user!r} is a user or group of the system; choose another name"
            )
        if not self.ssh_keys:
            raise UsageError("no public key was given: nobody could log in")
        for key in self.ssh_keys:
            _check_key(key)


def _check_country(country: str) -> None:
    if country in _COUNTRIES:
        return
    capital = country.upper()
    meant = _OTHERWISE.get(capital, capital)
    hint = f"did you mean {meant}?" if meant in _COUNTRIES else "such as GB or DE"
    raise UsageError(
        f"--wifi-country {country!r}: the two capital letters of ISO 3166 are needed; {hint}"
    )


def read_keys(text: str, source: str) -> tuple[str, ...]:
    """The public keys of a file such as id_ed25519.pub; a UsageError if it has none."""
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
