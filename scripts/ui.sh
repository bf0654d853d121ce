#!/bin/sh
# Test the connection form in a browser: on the Airflow that is developed on, and on Airflow 2.11.2 where its
# environment has been built (scripts/versions.sh does that).
#
#   sh scripts/ui.sh VENV [PYTEST ARGUMENTS]
#
# IMAGES=docs/images in the environment takes the documentation's screenshots again.
set -eu
venv=$1
shift

if [ ! -x /usr/bin/chromium ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing Chromium ..."
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium fonts-liberation >/dev/null
    else
        echo "These tests drive /usr/bin/chromium. Install Debian's package chromium and run this again." >&2
        exit 1
    fi
fi
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/ui.txt
exec "$venv/bin/python" -m pytest tests/ui "$@"
