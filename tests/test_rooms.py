"""Who imports whom, read from the sources: one way only, no circle, and a library that stands alone.

Every import counts, those for type checkers and inside functions too. CONTRIBUTING.md draws the same picture.
"""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hybridlib"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# From the ground up: a room may import from those above it in this list, and not from those beside it.
FLOORS = (
    ("files", "loss", "metrics", "statistics"),
    ("encoder",),
    ("corpora",),
    ("sampler", "evaluation"),
    ("training",),
    ("companion.sources",),
    ("companion.search",),
    ("companion.experiment",),
    ("companion.report",),
    ("companion.questions",),
    ("companion.commands",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    """`hybridlib.training.loop`; a package goes by its folder's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str) -> set[str]:
    """Full names of what a file imports; of `from x import y`, x.y where that is a file of ours and else x."""
    names = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names}
    return names


IMPORTS = {module: imported(module) for module in FILES}
# The face of the package, `hybridlib` itself, imports by name and late; whoever imports it wants its version.
ARROWS = {module: {name for name in names if name in FILES} - {"hybridlib"} for module, names in IMPORTS.items()}


def room(module: str) -> str | None:
    """The room of a file: `training`, `companion.report`; None for the doors, hybridlib and hybridlib.companion."""
    parts = module.split(".")[1:]
    if parts[:1] == ["companion"]:
        return ".".join(parts[:2]) if len(parts) > 1 else None
    return parts[0] if parts else None


def is_library(module: str) -> bool:
    """Whether a file belongs to what `pip install hybridlib` brings to life without its extras."""
    return room(module) not in (None, "__main__") and not module.startswith("hybridlib.companion")


def test_every_file_stands_in_a_room_that_is_drawn() -> None:
    assert {room(module) for module in FILES} - {None} == set(FLOOR)


def test_no_import_runs_back_up() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, names in ARROWS.items()
        for name in sorted(names)
        if room(module) != room(name) and None not in (room(module), room(name))
        if FLOOR[room(name)] >= FLOOR[room(module)]
    ]
    assert wrong == []


def test_no_circle_of_files() -> None:
    try:
        graphlib.TopologicalSorter(ARROWS).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_library_imports_nothing_of_the_companion_and_of_notebooks() -> None:
    packages = {Requirement(text).name.lower() for text in PROJECT["optional-dependencies"]["companion"]}
    for module in filter(is_library, FILES):
        top = {name.partition(".")[0] for name in IMPORTS[module]}
        assert not top & (packages | {"IPython", "nbformat", "nbclient"}), module
        assert not [name for name in IMPORTS[module] if name.startswith("hybridlib.companion")], module


def test_what_a_room_imports_is_declared() -> None:
    """In the dependencies, for the companion also in its extra: no package is there by the grace of a third one."""
    texts = {True: PROJECT["dependencies"], False: PROJECT["optional-dependencies"]["companion"]}
    named = {key: {Requirement(text).name.replace("-", "_").lower() for text in texts[key]} for key in texts}
    for module, names in IMPORTS.items():
        allowed = named[True] | (set() if is_library(module) else named[False]) | {"hybridlib"}
        foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
        assert foreign <= allowed, f"{module}: pyproject.toml does not name {foreign - allowed}"


def test_nothing_imports_the_questions() -> None:
    askers = {module for module, names in ARROWS.items() if any(room(name) == "companion.questions" for name in names)}
    assert {room(module) for module in askers} <= {"companion.questions"}


def test_the_library_is_imported_without_the_companions_packages() -> None:
    """In a process that has none of them, but those that accelerate, transformers and sentence-transformers bring."""
    blocked = {Requirement(text).name.lower() for text in PROJECT["optional-dependencies"]["companion"]}
    script = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({sorted(blocked - {"psutil", "regex", "scipy"})}))
for name in {sorted(filter(is_library, FILES))}:
    importlib.import_module(name)
print([name for name in sys.modules if name.startswith("hybridlib.companion")])
"""
    assert in_a_new_process(script) == "[]\n"


# ---- the face of the package


def in_a_new_process(script: str, **environment: str) -> str:
    """What a script prints, started without the OMP_WAIT_POLICY that conftest.py sets."""
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | environment
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_importing_hybridlib_imports_nothing_else() -> None:
    found = "[name for name in sys.modules if name.startswith(('hybridlib.', 'torch', 'numpy'))]"
    script = f"import hybridlib, sys; print({found})"
    assert in_a_new_process(script) == "[]\n"


def test_the_names_of_the_face_mean_one_thing_in_any_order() -> None:
    import hybridlib

    offered = set(hybridlib.__all__) - {"__version__"}
    assert offered <= set(dir(hybridlib)) and 8 <= len(offered) <= 12
    assert not offered & {name.split(".")[1] for name in FILES if name.count(".")}, "a name is also a module's"
    modules = sorted(module for module in filter(is_library, FILES) if module.count(".") == 1)
    by_name = f"from hybridlib import {', '.join(sorted(offered))}\nfirst = dict(vars())"
    by_module = f"import {', '.join(modules)}"
    check = f"import hybridlib\nprint([getattr(hybridlib, name).__qualname__ for name in {sorted(offered)}])"
    told = [in_a_new_process("\n".join(order)) for order in ((by_name, by_module, check), (by_module, by_name, check))]
    assert told[0] == told[1] and "BatchSampler" in told[0]
    with pytest.raises(AttributeError, match="no attribute 'Sampler'"):
        hybridlib.Sampler  # noqa: B018


@pytest.mark.parametrize(("value", "spins"), [("PASSIVE", "0"), ("ACTIVE", "30000000000")])
def test_threads_wait_without_spinning_unless_the_user_wants_it(value: str, spins: str) -> None:
    """Torch's OpenMP reads the policy once; GNU's then tells how often a waiting thread looks before it sleeps."""
    given = {} if value == "PASSIVE" else {"OMP_WAIT_POLICY": value}
    script = "import hybridlib, os, torch; print(os.environ['OMP_WAIT_POLICY'])"
    text = in_a_new_process(script, OMP_DISPLAY_ENV="verbose", **given)
    assert text.splitlines()[-1] == value
    assert "GOMP_SPINCOUNT" not in text or f"GOMP_SPINCOUNT = '{spins}'" in text
