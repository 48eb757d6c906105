#!/usr/bin/env bash
# Install the built wheel into an empty virtual environment and run every example there, as a new user would.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${VENV:-.venv}/bin/python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check dist/*.whl
[ -s "$scratch"/venv/lib/python*/site-packages/tasklocks/web/static/index.html ] || { echo "the wheel lacks the page" >&2; exit 1; }
cp -r examples "$scratch/examples"
mkdir "$scratch/work"

count=0
for example in "$scratch"/examples/*.py; do
    [ -e "$example" ] || break
    name=$(basename "$example")
    echo "== $name"
    # From a directory without the source tree, so that the installed package is what runs.
    (cd "$scratch/work" && env -u PYTHONPATH -u TASKLOCKS_URL timeout 120 "$scratch/venv/bin/python" "$example" </dev/null) || {
        echo "example $name failed" >&2
        exit 1
    }
    count=$((count + 1))
done

if [ "$count" = 0 ]; then
    echo "there is no example in examples/" >&2
    exit 1
fi
echo "$count examples ran with the installed wheel"
