"""Every notebook, alone, in the smoke profile; and what a second run does.

From an empty runs/ folder each; but 07 to 12, whose encoders are the same, share one, to spare minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("[0-9]*.ipynb"))


def run(root: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-P", "-m", "hybridlib.companion.runner", "--profile", "smoke", *flags]
    environment = {**os.environ, "HYBRIDLIB_ROOT": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("wider")


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_alone(name, tmp_path, shared):
    root = shared if "07" <= name[:2] <= "12" else tmp_path
    done = run(root, "--only", name)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((root / "runs" / "records" / "smoke" / f"{name}.json").read_text())
    assert record["profile"] == "smoke" and record["peak_mb"] > 0 and record["numbers"]
    assert {claim["verdict"].partition(":")[0] for claim in record["claims"]} <= {"not run"}
    assert sorted(path.name for path in root.iterdir()) == ["runs"], "smoke writes no figure and no result"
    assert not list((root / "runs").rglob("*.png"))


def test_a_second_run_reuses_and_figures_needs_what_exists(tmp_path):
    missing = run(tmp_path, "--only", "05", "--figures")
    assert missing.returncode == 0 and "missing" in missing.stdout and "does not exist yet" in missing.stdout
    first = run(tmp_path, "--only", "05")
    assert "(reused 0 runs, made 7)" in first.stdout, first.stdout + first.stderr
    second = run(tmp_path, "--only", "05", "--figures")
    assert second.returncode == 0 and "(reused 7 runs, made 0)" in second.stdout, second.stdout


def test_a_notebook_runs_from_another_folder_as_jupyter_does(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path / "root"))
    notebook = nbformat.read(FOLDER / "02_batches.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('profile = "demo"', 'profile = "smoke"')
    (tmp_path / "elsewhere").mkdir()
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path / "elsewhere")}}).execute()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_wrong_value_fails_with_its_name(tmp_path):
    done = run(tmp_path, "--only", "02", "-p", "alphas", "[0.5, 3]")
    assert done.returncode == 2
    assert "alphas must be in [0, 1]" in done.stdout + done.stderr
