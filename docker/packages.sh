#!/bin/sh
# Installs Debian packages, named with their versions, and leaves no lists behind.
# The secret `apt` replaces the image's sources.list, `ca` is what a mirror's or proxy's certificate is checked with.
set -eu
export DEBIAN_FRONTEND=noninteractive

apt() {
  set -- -qq -o APT::Install-Recommends=false -o Dpkg::Use-Pty=0 "$@"
  [ ! -f /run/secrets/ca ] || set -- -o Acquire::https::CAInfo=/run/secrets/ca "$@"
  [ ! -f /run/secrets/apt ] ||
    set -- -o Dir::Etc::SourceList=/run/secrets/apt -o Dir::Etc::SourceParts=- "$@"
  apt-get "$@"
}

apt update
apt install -y "$@" > /dev/null
rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/ldconfig /var/log/apt /var/log/dpkg.log
