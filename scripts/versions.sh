#!/bin/sh
# Run the tests on other Airflow versions than the one that is developed on, and on the oldest and newest of each dependency.
# Each gets a virtual environment of its own under .venvs, from its own lock: that Airflow under its own constraints where
# it has some at hand, hashes checked.
#
#   sh scripts/versions.sh UV                 build what is missing or out of date, run the tests on every version
#   sh scripts/versions.sh UV lock DIR [DATE] resolve the locks again; DIR holds Airflow's constraint files for
#                                             Python 3.12 as VERSION.txt, DATE bounds what they do not pin
#
# It fails where a test failed and, with status 2, where nothing failed but something was not run.
#
# In the environment: VERSIONS="2.11.2 oldest" picks some, PYTHONS="3.11 3.13" the Pythons, or PAIRS="oldest/3.11" both;
# TESTS="tests/hooks" picks the tests. By default each version is tested once.
set -eu
uv=$1
action=${2:-test}
versions=${VERSIONS:-2.11.2 3.1.8 3.2.1 3.3.1 oldest newest}
pairs=${PAIRS:-oldest/3.11 2.11.2/3.12 3.1.8/3.12 3.2.1/3.12 3.3.1/3.12 newest/3.13}
if [ -n "${VERSIONS:-}${PYTHONS:-}" ]; then
    pairs=
    for version in $versions; do
        for python in ${PYTHONS:-3.12}; do
            pairs="$pairs $version/$python"
        done
    done
fi
# What pyproject.toml names; for the oldest of them Airflow's pins would be in the way.
ours='^(aiohttp|cryptography|msgspec|pyjwt|requests|apache-airflow-providers-(http|common-compat|amazon)|boto3|hvac|fhir.resources)=='

# What only tests use: an old stand-in for S3 does not know what S3 does now.
tools='^(moto|py-partiql-parser|responses)=='
extras=
for extra in sandbox receiver s3 vault aws-kms fhir datamodels; do
    extras="$extras --extra $extra"
done
compile() {
    # shellcheck disable=SC2086
    "$uv" pip compile --quiet --no-header --no-annotate --universal --generate-hashes --upgrade \
        --python-version 3.11 $extras pyproject.toml "$@"
}

lock() {
    pins=$(mktemp)
    trap 'rm -f "$pins"' EXIT
    for version in $versions; do
        case $version in
        oldest)
            grep -viE "$ours|$tools" "$1/2.11.2.txt" >"$pins"
            compile --exclude-newer "$2" --resolution lowest-direct --constraint "$pins" \
                requirements/oldest.in -o requirements/oldest.txt
            ;;
        newest) compile --exclude-newer "$2" requirements/newest.in -o requirements/newest.txt ;;
        3.1.8) compile --exclude-newer 2026-03-31 --exclude-newer-package redox=2026-09-19 requirements/airflow-3.1.8.in -o requirements/airflow-3.1.8.txt ;;
        *)
            grep -viE "$tools" "$1/$version.txt" >"$pins"
            compile --exclude-newer "$2" --constraint "$pins" \
                "requirements/airflow-$version.in" -o "requirements/airflow-$version.txt"
            ;;
        esac
        echo "Airflow $version is locked"
    done
}

# Versions that pyenv holds need not be on PATH.
find_python() {
    for candidate in "python$1" python3 "$("$uv" python find --system --no-python-downloads "$1" 2>/dev/null)" \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/"$1".*/bin/python3; do
        if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# Airflow 2.11 ends at Python 3.12, and 3.1 at 3.13.
goes_with() {
    case "$1 $2" in
    "2.11.2 3.13" | "2.11.2 3.14" | "oldest 3.13" | "oldest 3.14" | "3.1.8 3.14") return 1 ;;
    esac
}

# prepare LOCK VENV PYTHON: does nothing when the environment stands and nothing it was built from has changed
prepare() {
    made_from=$(cat "$1" pyproject.toml | cksum)
    if [ "$(cat "$2/.made-from" 2>/dev/null)" = "$made_from" ]; then
        return
    fi
    echo "Setting up $2 with $("$3" --version) ..."
    "$uv" venv --quiet --clear --python "$3" "$2" &&
        "$uv" pip install --quiet --python "$2/bin/python" --require-hashes -r "$1" &&
        "$uv" pip install --quiet --python "$2/bin/python" --no-deps --no-build-isolation --editable . &&
        "$uv" pip check --quiet --python "$2/bin/python" &&
        echo "$made_from" >"$2/.made-from"
}

run() {
    home=$(mktemp -d)
    status=0
    export AIRFLOW_HOME="$home"
    # What an older Airflow and its pins warn about is theirs; `make test` holds every warning for an error.
    if [ -n "${TESTS:-}" ]; then
        # shellcheck disable=SC2086
        "$1/bin/python" -m pytest -m "not slow" -W ignore::DeprecationWarning $TESTS || status=$?
    else
        sh scripts/test.sh "$1/bin/python" -W ignore::DeprecationWarning || status=$?
        "$1/bin/python" -m pytest -W ignore::DeprecationWarning tests/dags/test_scheduled.py || status=$?
    fi
    rm -rf "$home"
    return "$status"
}

if [ "$action" = lock ]; then
    lock "$3" "${4:-2026-09-19}"
    exit
fi

summary=
failed=0
for pair in $pairs; do
    version=${pair%/*} wanted=${pair#*/}
    goes_with "$version" "$wanted" || continue
    python=$(find_python "$wanted")
    needs=requirements/airflow-$version.txt
    [ -f "$needs" ] || needs=requirements/$version.txt
    venv=.venvs/airflow-$version-python-$wanted
    if [ -z "$python" ]; then
        result="NOT RUN: there is no such Python on this machine"
        [ "$failed" = 1 ] || failed=2
    elif ! prepare "$needs" "$venv" "$python"; then
        result="could not be set up"
        failed=1
    elif echo "== Airflow $version, Python $wanted" && run "$venv"; then
        result="tests passed"
    else
        result="tests FAILED"
        failed=1
    fi
    summary="${summary}Airflow $version, Python $wanted: $result
"
done
printf '\n%s' "$summary"
exit "$failed"
