#!/bin/sh
# Measure this provider beside its peers, in an environment of their own: they bring a hundred packages that nothing else needs.
#
#   sh scripts/bench.sh VENV [CLIENT ...]
set -eu
dev=$1
uv=$dev/bin/uv
venv=.venvs/bench
shift

if [ ! -e "$venv/.ready" ] || [ requirements/bench.txt -nt "$venv/.ready" ]; then
    echo "Setting up $venv ..."
    "$uv" venv --quiet --clear --python "$dev/bin/python" "$venv"
    "$uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/bench.txt
    "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
    touch "$venv/.ready"
fi
"$venv/bin/python" -m benchmarks.run "$@"
[ $# -eq 0 ] || exit 0  # only a whole run is kept
"$venv/bin/python" -m benchmarks.latency --into benchmarks/RESULTS.md
# What waiting for delivery costs is measured against the sandbox, which needs what the tests need.
exec "$dev/bin/python" -m benchmarks.polls --into benchmarks/RESULTS.md
