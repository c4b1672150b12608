#!/bin/sh
# `debian-base OUT.img` needs root, for the foreign files in the image; OUT.img then goes to the caller.
# Everything else is headgate, as in the other image.
set -eu
[ "${1-}" = debian-base ] || exec entrypoint "$@"
shift
debian-base "$@"
chown "$(stat -c %u:%g .)" -- "$1"
