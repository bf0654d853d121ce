#!/bin/sh
# Resolve requirements/*.in into hashed locks that name no download address.
# Airflow publishes no constraints for what comes after a release, so the lock stops at a day on which this
# Airflow and the rest are known to work together. The peers of `make bench` may be younger: a later day.
set -eu
uv=$1
date=${2:-2026-09-19}
peers_date=${2:-2026-11-23}
cd requirements

resolve() {
    "$uv" pip compile --quiet --no-header --no-annotate --universal --generate-hashes --python-version 3.11 \
        --exclude-newer "$2" --upgrade "$1.in" -o "$1.txt" --constraint "${3:-/dev/null}"
    echo "requirements/$1.txt resolved as of $2"
}

for name in bootstrap dev docs ui signers types fleet fleet-test release; do
    resolve "$name" "$date"
done
# On the jsonpath-ng that dev.txt happens to hold, a peer would cost twice what it costs its own users.
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
sed -n 's/ \\$//; /^[A-Za-z0-9].*==/p' dev.txt | grep -v '^jsonpath-ng==' >"$pins"
resolve bench "$peers_date" "$pins"
