#!/bin/sh
# The first boot, as root, once: setup.sh LOGIN_USER
# Puts the bundle, the agent and the services in place, below their own unprivileged user.
set -eu
here=$(dirname "$(readlink -f "$0")")
login=$1

getent passwd headgate >/dev/null ||
  useradd --system --user-group --home-dir /var/lib/headgate --shell /usr/sbin/nologin headgate
# Sensors: the Raspberry Pi's power chip (video), INA modules (i2c), meters on a serial port (dialout).
for group in video i2c dialout; do
  ! getent group "$group" >/dev/null || usermod -aG "$group" headgate
done
# cloud-init leaves the shell of an account that exists, and an image's first user may have none.
usermod -aG headgate -s /bin/bash "$login"

install -d -m 755 /opt/headgate
install -m 644 "$here/bundle.hgb" "$here/headgate-agent.pyz" "$here/on_board.pyz" /opt/headgate/
# Not over an older one: what the bundle no longer has would stay.
rm -rf /opt/headgate/network
python3 -m zipfile -e /opt/headgate/bundle.hgb /opt/headgate/network
chmod 755 /opt/headgate/network/code/runner

for unit in headgate-report.service headgate-publish.service headgate.socket headgate@.service; do
  sed "s|@FOLDER@|$here|g" "$here/$unit" > "/etc/systemd/system/$unit"
done
# The units are started by whoever called: now by cloud-init, at the next boot after firstrun.sh.
systemctl --quiet enable headgate-publish.service headgate.socket
