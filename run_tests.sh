#!/usr/bin/env bash
# Runs ruff and the tests, in two processes; makes .venv first where it is missing. Arguments go to pytest (and leave ruff
# out), which runs in the repository's folder. Tests on real data need HYBRIDLIB_DATA=FOLDER and are skipped without it.
set -eu
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)"
. "$ROOT/tools/venv.sh"

case "${1:-}" in
-h | --help)
    say "usage: ./run_tests.sh [PYTEST ARGUMENTS]    for example: ./run_tests.sh -k sampler -x"
    say "Without arguments: ruff check, then all tests. HYBRIDLIB_DATA=FOLDER adds the tests on real data."
    exit 0
    ;;
esac

case "${HYBRIDLIB_DATA:-/}" in
/*) ;;
*) HYBRIDLIB_DATA="$PWD/$HYBRIDLIB_DATA" && export HYBRIDLIB_DATA ;;
esac

find_python
prepare_venv
cd "$ROOT"
if [ "$#" -gt 0 ]; then
    exec "$VENV/bin/python" -m pytest "$@"
fi
lint=0
"$VENV/bin/python" -m ruff check . || lint=$?
"$VENV/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # a file's tests share what they make
exit "$lint"
