"""Every notebook that is made for the smoke profile, alone, from an empty runs/ folder; and what a second run does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import run_notebooks
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = run_notebooks.find_notebooks(FOLDER)
SMOKE = [notebook.name for notebook in NOTEBOOKS if not notebook.profiles or "smoke" in notebook.profiles]


def run(root: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-P", run_notebooks.__file__, "--profile", "smoke", *flags]
    environment = {**os.environ, "HYBRIDLIB_ROOT": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", SMOKE)
def test_a_notebook_runs_alone(name, tmp_path):
    done = run(tmp_path, "--only", name)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "runs" / "records" / "smoke" / f"{name}.json").read_text())
    assert record["profile"] == "smoke" and record["peak_mb"] > 0
    assert {claim["verdict"].partition(":")[0] for claim in record["claims"]} <= {"not run"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"], "smoke writes no figure and no result"
    assert not list((tmp_path / "runs").rglob("*.png"))


def test_a_second_run_reuses_and_figures_needs_what_exists(tmp_path):
    missing = run(tmp_path, "--only", "12", "--figures")
    assert missing.returncode == 0 and "missing" in missing.stdout and "does not exist yet" in missing.stdout
    first = run(tmp_path, "--only", "12")
    assert "(reused 0 runs, made 7)" in first.stdout, first.stdout + first.stderr
    second = run(tmp_path, "--only", "12", "--figures")
    # what is measured needs no encoder again
    assert second.returncode == 0 and "(reused 3 runs, made 0)" in second.stdout, second.stdout


def test_what_a_profile_lacks_is_said_in_a_line(tmp_path):
    done = run(tmp_path, "--only", "00", "13")
    assert done.returncode == 2 and "not in the profile smoke: 13_miracl (" in done.stderr


def test_a_notebook_runs_from_another_folder_as_jupyter_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path / "root"))
    notebook = nbformat.read(FOLDER / "01_batches_by_hand.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('profile = "demo"', 'profile = "smoke"')
    (tmp_path / "elsewhere").mkdir()
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path / "elsewhere")}}).execute()
    assert not list((tmp_path / "elsewhere").iterdir())
