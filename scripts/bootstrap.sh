#!/bin/sh
# Make a virtual environment from nothing but python3 >= 3.11 and the package index: pip installs the pinned
# uv, uv installs the rest; every file is checked against the hashes in requirements/.
set -eu
venv=$1

newest_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "No Python 3.11 to 3.14 found on PATH. Install one and run this again." >&2
    exit 1
}

python=$(newest_python)
echo "Setting up $venv with $("$python" --version) ..."
"$python" -m venv --clear "$venv" || {
    echo "$python cannot make virtual environments (on Debian and Ubuntu the package python3-venv is missing)." >&2
    exit 1
}
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/dev.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
