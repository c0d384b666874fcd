"""The rules of the house that a program can check: notebooks, functions, files, addresses."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from run_notebooks import find_notebooks, read_notebook

from hybridlib.companion.experiment.profiles import PROFILES

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = [notebook.path for notebook in find_notebooks(ROOT / "notebooks")]
MODULES = sorted((ROOT / "hybridlib").rglob("*.py")) + sorted((ROOT / "tools").glob("*.py"))
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
OWNER = ADDRESS.removeprefix("https://github.com/").removesuffix("/hybridlib")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def committed() -> list[Path]:
    """Every file that is, or would be, in git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    return [path for path in (ROOT / name for name in done.stdout.split("\0") if name) if path.is_file()]


def texts() -> list[tuple[str, str]]:
    """Name and content of every committed text file."""
    found = []
    for path in committed():
        content = path.read_bytes()
        if b"\0" not in content:
            found.append((str(path.relative_to(ROOT)), content.decode("utf-8")))
    return found


# ---- notebooks


def load(path: Path) -> dict[str, Any]:
    """A notebook as JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(path: Path) -> list[dict[str, Any]]:
    """Its code cells."""
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    """The text of a cell, without lines that are for IPython."""
    lines = "".join(cell["source"]).splitlines()
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)


@each_notebook
def test_notebook_is_committed_stripped(path: Path) -> None:
    content = load(path)
    for cell in code_cells(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    assert "widgets" not in content["metadata"]
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert content["nbformat"] == 4


@each_notebook
def test_notebook_is_as_the_strip_tool_leaves_it(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    subprocess.run([sys.executable, ROOT / "tools" / "strip_notebooks.py", copy], check=True)


@each_notebook
def test_notebook_has_one_parameters_cell_of_literals(path: Path) -> None:
    tagged = [cell for cell in code_cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    for node in ast.parse(source(tagged[0])).body:
        assert isinstance(node, (ast.Assign, ast.AnnAssign)), f"not `name = literal`: {ast.unparse(node)}"
        ast.literal_eval(node.value)  # type: ignore[arg-type]


@each_notebook
def test_the_parameters_cell_names_what_the_notebook_obeys(path: Path) -> None:
    """At most seven names; every other setting of the profile goes through `settings`."""
    parameters = read_notebook(path).parameters
    assert parameters["profile"] == "demo" and parameters["settings"] == {}
    assert len(parameters) <= 7


@each_notebook
def test_the_number_says_what_kind_of_notebook_it_is(path: Path) -> None:
    """0x learn, 1x reproduce; 2x stand in beyond/ and run when asked for."""
    beyond = path.parent.name == "beyond"
    assert path.name[0] in ("2" if beyond else "01")
    assert read_notebook(path).core is not beyond


@each_notebook
def test_hybridlib_is_imported_before_torch(path: Path) -> None:
    """It sets how waiting threads behave, which torch's OpenMP reads once."""
    names = []
    for node in ast.walk(ast.parse("\n".join(source(cell) for cell in code_cells(path)))):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append((node.lineno, (node.module or "").partition(".")[0]))
    order = [name for _, name in sorted(names, key=lambda pair: pair[0])]
    loads_torch = [order.index(name) for name in ("torch", "transformers", "sentence_transformers") if name in order]
    assert order.index("hybridlib") < min(loads_torch, default=len(order))


@each_notebook
def test_notebook_is_short_and_thin(path: Path) -> None:
    cells = code_cells(path)
    assert 15 <= len(load(path)["cells"]) <= 30
    lines = [line for cell in cells for line in source(cell).splitlines() if line.strip() and line.strip()[0] != "#"]
    assert len(lines) <= 150
    tree = ast.parse("\n".join(source(cell) for cell in cells))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.ClassDef), f"class {node.name}"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 8, f"def {node.name} is longer than 8 lines"
    assert not re.search(r"\bsys\.path\b", "\n".join(lines))


@each_notebook
def test_notebook_starts_with_a_title_and_tells_profiles_and_costs(path: Path) -> None:
    notebook = read_notebook(path)
    assert notebook.title
    profiles = notebook.profiles or list(PROFILES)
    assert set(profiles) <= set(PROFILES)
    assert set(notebook.cost) == set(profiles) & {"smoke", "demo"}
    assert notebook.needs or {"smoke", "demo"} <= set(profiles)


def test_no_notebook_has_a_twin_source_file() -> None:
    assert [
        path.name for path in (ROOT / "notebooks").rglob("*") if path.suffix in (".py", ".md", ".Rmd", ".qmd")
    ] == []


def test_the_strip_tool_keeps_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {"tags": ["parameters"], "execution": {"x": 1}},
        "source": ["x = 1"],
        "execution_count": 3,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["é"]}],
    }
    note = {"cell_type": "markdown", "id": "b", "metadata": {"editable": False}, "source": ["# é"]}
    metadata = {"widgets": {}, "kernelspec": {"name": "other"}, "hybridlib": {"core": False}}
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [cell, note], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    command = [sys.executable, ROOT / "tools" / "strip_notebooks.py", path]
    assert [subprocess.run(command).returncode for _ in range(2)] == [1, 0]
    stripped = load(path)
    assert stripped["cells"][0] == {
        **{"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": ["x = 1"]},
        **{"execution_count": None, "outputs": []},
    }
    assert stripped["cells"][1] == {"cell_type": "markdown", "id": "b", "metadata": {}, "source": ["# é"]}
    assert stripped["metadata"]["hybridlib"] == {"core": False}
    assert stripped["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in stripped["metadata"]
    assert list(tmp_path.iterdir()) == [path]


# ---- the package


@each_module
def test_functions_are_under_60_lines(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{path.name}: {node.name} has {length} lines"


@each_module
def test_everything_public_has_a_docstring(path: Path) -> None:
    def check(node: ast.Module | ast.ClassDef, name: str) -> None:
        assert ast.get_docstring(node), f"{name} has no docstring"
        for child in node.body:
            public = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and child.name[0] != "_"
            if public and isinstance(child, ast.ClassDef):
                check(child, f"{name}.{child.name}")
            elif public:
                assert ast.get_docstring(child), f"{name}.{child.name} has no docstring"

    check(ast.parse(path.read_text(encoding="utf-8")), path.stem)


# ---- files


def test_no_file_over_500_kb_is_in_git() -> None:
    large = {str(path.relative_to(ROOT)): path.stat().st_size for path in committed() if path.stat().st_size > 500_000}
    assert large == {}


def test_the_aggregates_in_git_stay_under_1_mb() -> None:
    files = list((ROOT / "results" / "demo").glob("*.csv"))
    assert sum(path.stat().st_size for path in files) < 1_000_000


def test_no_path_of_a_machine_is_in_any_file() -> None:
    # In pieces, so that this file passes its own test.
    folders = "|".join(("work", "root", "home/[a-z]", "Users/[A-Za-z]", "tmp", "opt", "mnt/[a-z]"))
    pattern = re.compile(rf"(?<![\w.~*}}])/(?:{folders})/")
    found = {f"{name}: {hit.group()}" for name, text in texts() for hit in pattern.finditer(text)}
    assert found == set()


def test_no_address_of_a_package_index_is_in_any_file() -> None:
    hosts = ("pypi" + ".org", "python" + "hosted", "download" + ".pytorch", "anaconda" + ".org", "index" + "-url")
    found = {(name, host) for name, text in texts() for host in hosts if host in text.lower()}
    assert found == set()


def test_the_public_address_is_the_one_of_pyproject() -> None:
    """Badges, Colab and Binder links, install commands and the citation all name pyproject's [project.urls]."""
    assert ADDRESS == f"https://github.com/{OWNER}/hybridlib"
    sites = r"github\.com|githubusercontent\.com|research\.google\.com/github|mybinder\.org/v2/gh|nbviewer\.org/github"
    pattern = re.compile(rf"(?:{sites})[/:]([\w.-]+)/hybridlib\b")
    named = {(name, hit.group(1)) for name, text in texts() for hit in pattern.finditer(text)}
    assert ("pyproject.toml", OWNER) in named
    assert {(name, owner) for name, owner in named if owner != OWNER} == set()


@each_notebook
def test_the_colab_cell_installs_from_the_public_address(path: Path) -> None:
    cells = ["".join(cell["source"]) for cell in code_cells(path)]
    installing = [text for text in cells if re.search(r"pip[\"', ]+install", text)]
    assert len(installing) == 1
    assert f"hybridlib[companion] @ git+{ADDRESS}" in installing[0].replace("{address}", ADDRESS)
    assert "except ModuleNotFoundError" in installing[0]  # only where hybridlib is missing
    assert not re.search(r"-U\b|--upgrade", installing[0])


def test_ruff_finds_nothing() -> None:
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
