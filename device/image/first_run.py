"""Customising by firstrun.sh, which systemd runs once: Raspberry Pi OS up to Bookworm.

It needs nothing but systemd, so the images of docker/image/ are customised the same way.
"""

from __future__ import annotations

import shlex

from headgate.device.image.settings import Settings, Wifi

SCRIPT = "firstrun.sh"
# Where the boot partition is mounted: since Bookworm, and before. systemd runs what it finds; the
# hyphen lets it go on, to the reboot, whatever becomes of it.
_PLACES = ("/boot/firmware", "/boot")
CMDLINE = " ".join(
    [
        *(f"systemd.run=-{place}/{SCRIPT}" for place in _PLACES),
        "systemd.run_success_action=reboot",
        "systemd.unit=kernel-command-line.target",
    ]
)

ATTEMPTS = 3
HEAD = f"""\
#!/bin/sh
# Written by headgate. Runs once, as root, before anything else; then the board starts again.
# After a failure or a power cut it runs again at the next start, {ATTEMPTS} times at most.
set -u
boot=$(dirname "$(readlink -f "$0")")
attempts=$boot/headgate/firstrun.attempts
log=$boot/headgate/firstrun.log
# Tried first: a shell whose exec fails ends there.
if (: >> "$log") 2>/dev/null; then exec >> "$log" 2>&1; fi

clean_up() {{
  # In this order: a command line that names a script which is gone would restart for ever.
  sed -i 's| systemd\\.[a-z_]*=[^ ]*||g' "$boot/cmdline.txt"
  sync
  # A Wi-Fi key may be in here, and anybody with the card could read it.
  rm -f "$boot/firstrun.sh" "$attempts"
  sync
  # A card that cannot be written: better off than restarting for ever.
  ! grep -q ' systemd\\.run=' "$boot/cmdline.txt" || systemctl --force poweroff
}}

ended() {{
  code=$?
  set +e
  echo "firstrun.sh: attempt $attempt ended with exit status $code"
  if [ $code -eq 0 ] || [ "$attempt" -ge {ATTEMPTS} ]; then clean_up; fi
  sync
}}

# What helps, and is no reason to do without the rest.
optional() {{
  ! command -v "$1" >/dev/null || "$@" || echo "firstrun.sh: warning: '$*' failed"
}}

# One byte for each attempt: whatever a power cut leaves of them, it is not more than were made.
before=$(cat "$attempts" 2>/dev/null | wc -c)
attempt=$((before + 1))
if [ "$attempt" -gt {ATTEMPTS} ] || ! printf x >> "$attempts"; then
  echo "firstrun.sh: given up after $before attempts"
  clean_up
  exit 1
fi
echo "firstrun.sh: attempt $attempt started"
sync
trap ended EXIT
set -e
"""

_ACCOUNT = """\
if [ -x /usr/lib/userconf-pi/userconf ]; then
  # Renames the first user of Raspberry Pi OS. The asterisk is no password's hash.
  /usr/lib/userconf-pi/userconf "$login" '*'
elif ! getent passwd "$login" >/dev/null; then
  useradd --create-home --shell /bin/bash "$login"
fi
usermod -p '*' "$login"
for group in video i2c gpio spi dialout netdev; do
  ! getent group "$group" >/dev/null || usermod -aG "$group" "$login"
done
rm -f /etc/sudoers.d/010_*-nopasswd
home=$(getent passwd "$login" | cut -d: -f6)
install -d -m 700 -o "$login" -g "$login" "$home/.ssh"
install -m 600 -o "$login" -g "$login" /dev/null "$home/.ssh/authorized_keys"
"""

_SSH = """\
install -d -m 755 /etc/ssh/sshd_config.d
cat > /etc/ssh/sshd_config.d/10-headgate.conf <<'END'
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
END
# Made here and nowhere else: a host key that came with an image would be known to others.
rm -f /etc/ssh/ssh_host_*
ssh-keygen -A
systemctl enable ssh
systemctl disable regenerate_ssh_host_keys 2>/dev/null || true
"""

# For power monitors on the pins.
_I2C = "optional raspi-config nonint do_i2c 0"


def script(settings: Settings) -> str:
    quoted = shlex.quote
    lines = [
        HEAD,
        f"login={quoted(settings.user)}",
        f"hostname={quoted(settings.hostname)}",
        'echo "$hostname" > /etc/hostname',
        "sed -i '/^127\\.0\\.1\\.1/d' /etc/hosts",
        'printf "127.0.1.1\\t%s\\n" "$hostname" >> /etc/hosts',
        _ACCOUNT,
        *(
            f"printf '%s\\n' {quoted(key)} >> \"$home/.ssh/authorized_keys\""
            for key in settings.ssh_keys
        ),
        _SSH,
    ]
    if settings.sudo:
        rule = quoted(f"{settings.user} ALL=(ALL) NOPASSWD:ALL")
        lines += [f"(umask 337; printf '%s\\n' {rule} > /etc/sudoers.d/010_headgate)"]
    if settings.wifi:
        lines += _wifi(settings.wifi)
    lines += ['sh "$boot/headgate/setup.sh" "$login"', _I2C]
    if settings.wifi:
        lines += [
            f"optional raspi-config nonint do_wifi_country {settings.wifi.country}",
            "optional rfkill unblock wifi",
        ]
    lines += [""]
    return "\n".join(lines)


def _wifi(wifi: Wifi) -> list[str]:
    """NetworkManager where it is installed (Bookworm), else wpa_supplicant."""
    octets = wifi.ssid.encode()
    secret = f"psk={wifi.psk}" if wifi.psk else "key_mgmt=NONE"
    security = f"\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={wifi.psk}\n" if wifi.psk else ""
    # As numbers and in hexadecimal, no byte of a name can mean anything.
    connection = (
        "[connection]\nid=headgate\ntype=wifi\n\n[wifi]\nmode=infrastructure\n"
        f"ssid={''.join(f'{octet};' for octet in octets)}\n{security}\n"
        "[ipv4]\nmethod=auto\n\n[ipv6]\nmethod=auto\n"
    )
    network = f"country={wifi.country}\nnetwork={{\n\tssid={octets.hex()}\n\t{secret}\n}}\n"
    return [
        "if [ -d /etc/NetworkManager/system-connections ]; then",
        "  file=/etc/NetworkManager/system-connections/headgate.nmconnection",
        f"  (umask 077; printf '%s' {shlex.quote(connection)} > \"$file\")",
        "else",
        "  install -d -m 755 /etc/wpa_supplicant",
        "  for file in wpa_supplicant.conf wpa_supplicant-wlan0.conf; do",
        f"    (umask 077; printf '%s' {shlex.quote(network)} > \"/etc/wpa_supplicant/$file\")",
        "  done",
        "  [ ! -e /lib/systemd/system/systemd-networkd.service ] ||",
        "    optional systemctl enable wpa_supplicant@wlan0.service",
        "fi",
    ]
