#!/bin/sh
# Build a release of the last commit and look it over; nothing is uploaded.
#
#   sh scripts/release.sh VENV    writes dist/*.tar.gz, dist/*.whl, dist/SHA256SUMS, and what scripts/sbom.sh writes
#
# Built twice, once of them from a copy elsewhere: who builds the same commit with the same lock gets the same bytes.
set -eu
venv=$1
uv="$venv/bin/uv"
tools=.venvs/release/bin

if [ -n "$(git status --porcelain)" ]; then
    echo "There are changes that are not committed. A release is made of a commit: commit or stash them." >&2
    exit 1
fi
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 130' INT TERM

build() {
    "$uv" build --quiet --no-build-isolation --python "$venv/bin/python" "$@"
}

same() {
    cmp "$1" "$2" || {
        echo "$(basename "$1") came out differently the second time. Nothing is released that cannot be built again." >&2
        exit 1
    }
}

sh scripts/sbom.sh "$venv"
build --sdist --out-dir dist .
git archive HEAD | tar -x -C "$copy"
build --out-dir "$copy/dist" "$copy"  # the sdist, and the wheel from it
for built in "$copy"/dist/*.tar.gz "$copy"/dist/*.whl; do
    same "dist/$(basename "$built")" "$built"
done
echo "built twice, and the same"

"$tools/twine" check --strict dist/*.tar.gz dist/*.whl
"$tools/check-wheel-contents" dist/*.whl

# as users install it, at the versions of the lock
fresh="$copy/venv"
"$uv" venv --quiet --python "$venv/bin/python" "$fresh"
"$uv" pip install --quiet --python "$fresh/bin/python" --require-hashes -r dist/runtime.txt
"$uv" pip install --quiet --python "$fresh/bin/python" --no-deps dist/*.whl
"$uv" pip check --quiet --python "$fresh/bin/python"
AIRFLOW_HOME="$copy/airflow" "$fresh/bin/airflow" providers get airflow-provider-redox -o plain
echo "installs, and Airflow takes it for a provider"

(cd dist && sha256sum ./*.tar.gz ./*.whl runtime.txt sbom.cdx.json >SHA256SUMS)
echo "dist/ has the release"
