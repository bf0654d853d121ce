#!/bin/sh
# Run docker-compose.yaml without Docker, and the tests of the fleet against it: PostgreSQL, Redis and Caddy are Debian's, each
# service has a file system and all have a network of their own, as containers have, which is why this wants root.
#
#   sh scripts/fleet.sh UV [PYTEST ARGUMENTS]
#
# FLEET_TASKS=200 in the environment makes the run smaller.
set -eu
uv=$1
shift
venv=.venvs/fleet

if [ "$(id -u)" != 0 ] || [ "$(uname)" != Linux ]; then
    echo "The fleet gives its services file systems and a network of their own: run this as root on Linux, for example in a container." >&2
    exit 1
fi
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || ! command -v redis-server >/dev/null || ! command -v ip >/dev/null || ! command -v caddy >/dev/null || ! command -v wget >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "The fleet needs PostgreSQL's server, redis-server, ip of iproute2, caddy and wget. Install them and run this again." >&2
        exit 1
    fi
    echo "Installing PostgreSQL, Redis and Caddy ..."
    apt-get update -qq
    # Debian starts what it installs; this asks it not to, for the time of the installation.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends postgresql redis-server iproute2 caddy wget >/dev/null
fi
made_from=$(cat requirements/fleet.txt requirements/fleet-test.txt pyproject.toml | cksum)
if [ "$(cat "$venv/.made-from" 2>/dev/null)" != "$made_from" ]; then
    echo "Setting up $venv ..."
    "$uv" venv --quiet --clear --python "$(dirname "$uv")/python" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/fleet.txt -r requirements/fleet-test.txt
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
    echo "$made_from" >"$venv/.made-from"
fi
exec unshare --net --mount --propagation private sh -euc 'ip link set lo up; exec "$@"' sh \
    "$venv/bin/python" -m pytest -p no:cacheprovider tests/fleet "$@"
