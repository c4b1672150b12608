#!/bin/sh
# `debian-base OUT.img` needs root, for the foreign files in the image; OUT.img then goes to the caller.
# Everything else is headgate, as in the other image. In mode root mmdebstrap needs no right that a container lacks:
# it goes without mounting what it may not mount.
set -eu
[ "${1-}" = debian-base ] || exec entrypoint "$@"
shift
MMDEBSTRAP_MODE=root debian-base "$@"
chown "$(stat -c %u:%g .)" -- "$1"
