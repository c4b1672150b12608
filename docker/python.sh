#!/bin/sh
# Installs into the virtual environment /opt/headgate, in two steps so that the first is kept between builds:
#   python.sh requirements [EXTRA]    what headgate, and this extra of it, need
#   python.sh headgate                headgate from /project
# Wheels in /wheels are used alone if there are any. Else the secret `pip` is pip's configuration (an index, a proxy),
# and `ca` is what certificates are checked with.
set -eu
export PIP_CONSTRAINT=/project/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_QUIET=1
[ ! -f /run/secrets/ca ] || export PIP_CERT=/run/secrets/ca
[ ! -f /run/secrets/pip ] || export PIP_CONFIG_FILE=/run/secrets/pip
for wheel in /wheels/*.whl; do
  [ ! -f "$wheel" ] || export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
done

pip() {
  /usr/local/pip/bin/python -m pip --python /opt/headgate/bin/python "$@"
}

case $1 in
  requirements)
    # Of the environment that is kept, pip is no part.
    python3 -m venv /usr/local/pip
    python3 -m venv --without-pip /opt/headgate
    python3 - "${2-}" > /project/requirements.txt <<'END'
import sys, tomllib
project = tomllib.load(open("/project/pyproject.toml", "rb"))["project"]
extra = sys.argv[1]
print(*project["dependencies"], *(project["optional-dependencies"][extra] if extra else []), sep="\n")
END
    pip install -r /project/requirements.txt
    ;;
  headgate)
    # With --no-deps a requirement that the first step has missed would go unnoticed.
    pip install --no-deps /project
    PATH=/opt/headgate/bin:$PATH headgate targets > /dev/null
    ;;
esac
