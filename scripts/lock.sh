#!/bin/sh
# Resolve requirements/*.in into hashed locks that name no download address.
# Airflow publishes no constraints for what comes after a release, so the lock stops at a day on which this
# Airflow and the rest are known to work together.
set -eu
uv=$1
date=${2:-2026-09-19}
cd requirements
for name in bootstrap dev docs ui; do
    "$uv" pip compile --quiet --no-header --no-annotate --universal --generate-hashes --python-version 3.11 \
        --exclude-newer "$date" --upgrade "$name.in" -o "$name.txt"
    echo "requirements/$name.txt resolved as of $date"
done
