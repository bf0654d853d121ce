#!/bin/sh
# Run the tests in two processes, one for each core of a small machine: they share nothing but the checkout.
#
#   sh scripts/test.sh PYTHON [OPTION OF PYTEST ...]
set -u
python=$1
shift
aside="operators security client storage receiver inbox token_cache hooks links plugin"

paths=
ignored="--ignore tests/fleet --ignore tests/ui"  # they need environments of their own
for name in $aside; do
    paths="$paths tests/$name"
    ignored="$ignored --ignore tests/$name"
done
log=$(mktemp)
other=
trap 'kill $other 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

"$python" -m pytest -m "not slow" -p no:cacheprovider "$@" $paths >"$log" 2>&1 &
other=$!
status=0
"$python" -m pytest -m "not slow" "$@" $ignored || status=$?
wait "$other" || status=$?
other=
cat "$log"
exit "$status"
