# Sourced by run_all.sh and run_tests.sh, which set ROOT. find_python sets PYTHON, prepare_venv makes $ROOT/.venv ready.
# Plain sh throughout: macOS ships bash 3.2 and BSD tools.

VENV="$ROOT/.venv"
STAMP="$VENV/hybridlib-ready"          # holds what was installed: written last, removed first
UNFINISHED="$VENV/hybridlib-unfinished" # holds the process that installs: written first, removed last

export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# HYBRIDLIB_PYTHON overrides the search; ensurepip is what Debian's bare python3 lacks for making a venv.
find_python() {
    for candidate in ${HYBRIDLIB_PYTHON:+"$HYBRIDLIB_PYTHON"} \
        python3.11 python3.12 python3.13 python3.14 python3 python; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            PYTHON="$candidate"
            return 0
        fi
        if [ "$candidate" = "${HYBRIDLIB_PYTHON:-}" ]; then
            fail "HYBRIDLIB_PYTHON=$candidate is no Python >= 3.11 with venv and ensurepip"
        fi
    done
    fail "no Python >= 3.11 with venv found (tried python3.11 to python3.14, python3, python)." \
        "Install one (Debian and Ubuntu: also python3-venv) or name it: HYBRIDLIB_PYTHON=/path/to/python3 $0"
}

# What should be installed, as one line: changes with the pins, the package's settings, Python and the folder.
wanted() {
    "$VENV/bin/python" -I -c '
import hashlib, importlib.util, pathlib, sys
root = pathlib.Path(sys.argv[1])
if any(importlib.util.find_spec(name) is None for name in ("torch", "papermill", "hybridlib")) and "check" in sys.argv:
    sys.exit("packages are missing")
files = [(root / name).read_text("utf-8") for name in ("requirements.lock", "pyproject.toml")]
parts = [sys.version, str(root), *files]
print(hashlib.sha256("\0".join(parts).encode()).hexdigest())' "$ROOT" "$@"
}

venv_is_ready() {
    [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(wanted check 2>/dev/null)" ]
}

# A .venv without a working Python and pip, or one whose installation was cut short, is made anew.
venv_is_sound() {
    [ ! -e "$UNFINISHED" ] && "$VENV/bin/python" -I -m pip --version >/dev/null 2>&1 &&
        "$VENV/bin/python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))'
}

make_venv() {
    if [ -e "$VENV" ]; then say "set-up: .venv is not complete, making it again"; else say "set-up: making .venv"; fi
    rm -rf "$VENV"
    mkdir "$VENV"
    echo "$$" > "$UNFINISHED"
    "$PYTHON" -m venv "$VENV" || fail "$PYTHON could not make $VENV (its message stands above)"
}

pip_install() {
    "$VENV/bin/python" -I -m pip install "$@" ||
        fail "pip could not install (its message stands above). Run $0 again when that is solved; downloads are kept."
}

prepare_venv() {
    if venv_is_ready; then return 0; fi
    if [ -e "$UNFINISHED" ] && kill -0 "$(cat "$UNFINISHED")" 2>/dev/null; then
        fail "another set-up of $VENV is running (process $(cat "$UNFINISHED")); wait for its end"
    fi
    venv_is_sound || make_venv
    echo "$$" > "$UNFINISHED"
    rm -f "$STAMP"
    say "set-up: installing the versions of requirements.lock, torch first"
    pip_install -c "$ROOT/requirements.lock" "$(grep "^torch==" "$ROOT/requirements.lock")"
    pip_install -r "$ROOT/requirements.lock"
    pip_install --no-deps --no-build-isolation -e "$ROOT"
    wanted > "$STAMP.part"
    mv "$STAMP.part" "$STAMP"
    rm -f "$UNFINISHED"
    say "set-up: done"
}
