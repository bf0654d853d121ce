#!/bin/sh
# What a release is made of: the wheel, its dependencies as the lock has them, with hashes, and a CycloneDX bill of materials.
#
#   sh scripts/sbom.sh VENV    writes dist/*.whl, dist/runtime.txt and dist/sbom.cdx.json
set -eu
venv=$1
uv="$venv/bin/uv"

rm -rf dist && mkdir dist
"$uv" build --quiet --wheel --no-build-isolation --python "$venv/bin/python" --out-dir dist .
# the versions of dev.txt, of what the package needs and of nothing else
sed -n 's/ \\$//; /^[A-Za-z0-9].*==/p' requirements/dev.txt >dist/pins.txt
"$uv" pip compile --quiet --no-header --no-annotate --generate-hashes --python-version 3.11 --constraint dist/pins.txt \
    pyproject.toml -o dist/runtime.txt
rm dist/pins.txt
"$uv" venv --quiet --clear --python "$venv/bin/python" .venvs/release
"$uv" pip install --quiet --python .venvs/release/bin/python --require-hashes -r requirements/release.txt
.venvs/release/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type library --spec-version 1.6 \
    --output-reproducible --output-format JSON --output-file dist/sbom.cdx.json dist/runtime.txt
echo "dist/ has the wheel, runtime.txt and sbom.cdx.json"
