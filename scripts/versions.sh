#!/bin/sh
# Run the tests on other Airflow versions than the one that is developed on. Each version gets a virtual
# environment of its own under .venvs, from its own lock: that Airflow under its own constraints, hashes checked.
#
#   sh scripts/versions.sh UV                 build what is missing or out of date, run the tests on every version
#   sh scripts/versions.sh UV lock DIR [DATE] resolve the locks again; DIR holds Airflow's constraint files for
#                                             Python 3.12 as VERSION.txt, DATE bounds what they do not pin
#
# VERSIONS="2.11.2 3.2.1" in the environment picks some of them.
set -eu
uv=$1
action=${2:-test}
versions=${VERSIONS:-2.11.2 3.2.1 3.3.1}

lock() {
    for version in $versions; do
        "$uv" pip compile --quiet --no-header --no-annotate --universal --generate-hashes --upgrade \
            --python-version 3.11 --exclude-newer "$2" --constraint "$1/$version.txt" \
            --extra sandbox pyproject.toml "requirements/airflow-$version.in" -o "requirements/airflow-$version.txt"
        echo "requirements/airflow-$version.txt resolved under Airflow's constraints"
    done
}

# Airflow 2.11 ends at Python 3.12, and the constraints are made for it. Versions that pyenv holds need not be on PATH.
find_python() {
    for wanted in 3.12 3.11; do
        for candidate in "python$wanted" python3 "$("$uv" python find --system --no-python-downloads "$wanted" 2>/dev/null)" \
            "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/"$wanted".*/bin/python3; do
            if "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$wanted')" 2>/dev/null; then
                echo "$candidate"
                return
            fi
        done
    done
    echo "No Python 3.12 or 3.11 found. Install one, or put it on PATH, and run this again." >&2
    exit 1
}

# prepare VERSION VENV: does nothing when the environment stands and nothing it was built from has changed
prepare() {
    needs="requirements/airflow-$1.txt"
    made_from=$(cat "$needs" pyproject.toml | cksum)
    if [ "$(cat "$2/.made-from" 2>/dev/null)" = "$made_from" ]; then
        return
    fi
    echo "Setting up $2 with $("$python" --version) ..."
    "$uv" venv --quiet --clear --python "$python" "$2" &&
        "$uv" pip install --quiet --python "$2/bin/python" --require-hashes -r "$needs" &&
        "$uv" pip install --quiet --python "$2/bin/python" --no-deps --no-build-isolation --editable . &&
        "$uv" pip check --quiet --python "$2/bin/python" &&
        echo "$made_from" >"$2/.made-from"
}

run() {
    home=$(mktemp -d)
    status=0
    # What an older Airflow and its pins warn about is theirs; `make test` holds every warning for an error.
    AIRFLOW_HOME=$home "$1/bin/python" -m pytest -m "not slow" -W ignore::DeprecationWarning || status=$?
    rm -rf "$home"
    return "$status"
}

if [ "$action" = lock ]; then
    lock "$3" "${4:-2026-09-19}"
    exit
fi

python=$(find_python)
summary=
failed=0
for version in $versions; do
    venv=".venvs/airflow-$version"
    if ! prepare "$version" "$venv"; then
        result="could not be set up"
        failed=1
    else
        echo "== Airflow $version, $("$venv/bin/python" --version)"
        if run "$venv"; then
            result="tests passed"
        else
            result="tests FAILED"
            failed=1
        fi
    fi
    summary="${summary}Airflow $version: $result
"
done
printf '\n%s' "$summary"
exit "$failed"
