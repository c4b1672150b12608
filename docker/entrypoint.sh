#!/bin/sh
# headgate, as the owner of the folder it works in: what it writes there belongs to the caller.
# With `docker run --user`, or where root in here is the caller outside (rootless engines), it is who it is.
set -eu
owner=$(stat -c %u .)
if [ "$(id -u)" -eq 0 ] && [ "$owner" -ne 0 ]; then
  exec setpriv --reuid "$owner" --regid "$(stat -c %g .)" --clear-groups headgate "$@"
fi
exec headgate "$@"
