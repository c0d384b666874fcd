#!/usr/bin/env bash
# Runs the notebooks of a profile and prints what became of each claim; makes .venv first where it is missing.
# ./run_all.sh --help lists the flags. Exit: 0 all ran, 1 a notebook failed, 2 bad flag, profile, notebook or parameter,
# 130 stopped by Ctrl-C.
set -eu
ROOT="$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)"
. "$ROOT/tools/venv.sh"
find_python
prepare_venv
exec "$VENV/bin/python" -P "$ROOT/tools/run_notebooks.py" "$@"
