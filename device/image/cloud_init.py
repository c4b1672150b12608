"""Customising by cloud-init's NoCloud files: Raspberry Pi OS since Trixie, and Ubuntu.

They are written by ``json.dumps``: nothing in a name or key can change their structure.
"""

from __future__ import annotations

import json
import re
from typing import Any

from headgate.device.image.settings import Settings

META_DATA, USER_DATA, NETWORK_CONFIG = "meta-data", "user-data", "network-config"
# On the boot partition a failure can be read on a laptop too.
SETUP = """\
for place in /boot/firmware /boot; do
  [ -e $place/headgate/setup.sh ] || continue
  log=$place/headgate/firstrun.log
  if (: >> $log) 2>/dev/null; then exec >> $log 2>&1; fi
  echo "cloud-init: setup.sh started"
  sync
  sh $place/headgate/setup.sh "$1"
  code=$?
  echo "cloud-init: setup.sh ended with exit status $code"
  sync
  exit $code
done
echo "no headgate/setup.sh on the boot partition" >&2
exit 1
"""
# The right to become root without a password that an image gives its first user; cloud-init takes
# none away from an account that exists.
NO_SUDO = "rm -f /etc/sudoers.d/010_*-nopasswd /etc/sudoers.d/90-cloud-init-users"
# Raspberry Pi OS asks on the screen for its first user, and waits; here nobody may be watching.
# Each may fail where there is no such wizard, and the others still run.
_NO_WIZARD = [
    ["systemctl", "disable", "--now", "--no-block", "userconfig.service"],
    ["systemctl", "mask", "userconfig.service"],
    # The wizard was in its place.
    ["systemctl", "enable", "getty@tty1.service"],
]


def files(settings: Settings, instance: str) -> dict[str, str]:
    """Names and contents; ``instance`` has to differ between images that differ."""
    found = {
        META_DATA: _yaml({"instance-id": instance, "local-hostname": settings.hostname}),
        USER_DATA: "#cloud-config\n" + _yaml(_user_data(settings)),
    }
    if settings.wifi:
        found[NETWORK_CONFIG] = _yaml(_network(settings))
    return found


def cmdline(instance: str) -> str:
    return f"ds=nocloud;i={instance}"


def _user_data(settings: Settings) -> dict[str, Any]:
    commands = [
        # Raspberry Pi OS ships sshd switched off, and cloud-init only configures it.
        ["systemctl", "enable", "--now", "ssh"],
        *([] if settings.sudo else [["sh", "-c", NO_SUDO]]),
        ["sh", "-c", SETUP, "setup", settings.user],
        ["systemctl", "daemon-reload"],
        ["systemctl", "start", "headgate.socket"],
        # Not waited for: it runs after everything else, cloud-init included.
        ["systemctl", "start", "--no-block", "headgate-publish.service"],
    ]
    return {
        "hostname": settings.hostname,
        "manage_etc_hosts": True,
        # The singular keeps the groups of the system's first user; its right to become root
        # without a password would be kept too, if this did not say otherwise.
        "user": {
            "name": settings.user,
            "shell": "/bin/bash",
            "lock_passwd": True,
            "sudo": "ALL=(ALL) NOPASSWD:ALL" if settings.sudo else None,
            "ssh_authorized_keys": list(settings.ssh_keys),
        },
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_deletekeys": True,
        "rpi": {"interfaces": {"i2c": True}},
        "bootcmd": _NO_WIZARD,
        "runcmd": commands,
    }


def _network(settings: Settings) -> dict[str, Any]:
    assert settings.wifi is not None
    wifi = settings.wifi
    # A 64-digit key is taken as it is, a password would be hashed again.
    access = {"password": wifi.psk} if wifi.psk else {"auth": {"key-management": "none"}}
    return {
        "network": {
            "version": 2,
            "ethernets": {"eth0": {"dhcp4": True, "dhcp6": True, "optional": True}},
            "wifis": {
                "wlan0": {
                    "dhcp4": True,
                    "optional": True,
                    "regulatory-domain": wifi.country,
                    "access-points": {wifi.ssid: access},
                }
            },
        }
    }


def _yaml(value: Any) -> str:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    # What is not ASCII is always within a string there. JSON would write characters beyond the
    # BMP as two surrogates, which YAML does not join.
    return re.sub(r"[^\n -~]", _escaped, text) + "\n"


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
