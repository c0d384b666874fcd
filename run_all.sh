#!/usr/bin/env bash
# Runs the notebooks of a profile and prints what became of each claim; makes .venv first where it is missing.
# ./run_all.sh --help lists the flags. Exit: 0 all ran, 1 a notebook failed, 2 bad flag, profile, notebook or parameter.
set -eu
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)"
. "$ROOT/tools/venv.sh"
find_python

# The runner needs only the standard library to judge its flags: mistakes, --help and --list are answered before
# anything is installed. 3 means "nothing wrong, go on".
code=0
"$PYTHON" -I "$ROOT/hybridlib/companion/runner.py" --check-flags "$@" || code=$?
if [ "$code" -ne 3 ]; then exit "$code"; fi

prepare_venv
exec "$VENV/bin/python" -P -m hybridlib.companion.runner "$@"
