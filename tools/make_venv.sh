#!/usr/bin/env bash
# Make $VENV with all that tests, checks and the demo need; what is there already is kept and brought up to date.
# CONSTRAINTS: a file of versions that pip must choose.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=${VENV:-.venv}

if ! command -v "$python" >/dev/null || ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian keeps these out of its python3 package.
    tools/apt_install.sh python3 python3-venv
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "tasklocks needs Python 3.10 or newer; choose one with: make PYTHON=python3.12 ..." >&2
    exit 1
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check ${CONSTRAINTS:+-c "$CONSTRAINTS"} -e '.[test,lint,demo]'
touch "$venv/.made"
