"""run_all.sh's program, on made-up notebooks: flags, exit codes, records, verdicts, Ctrl-C."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hybridlib.companion import execution, runner

PARAMETERS = """
profile = "demo"
seeds = [0, 1]
alpha = 0.5
steps = 100
name = "tiny"
symmetric = False
limit = None
"""
RECORD = """
import json, os, pathlib
def write(notebook, claims=(), made=0, reused=0, **numbers):
    folder = pathlib.Path(os.environ["HYBRIDLIB_ROOT"], "runs", "records", profile)
    content = {"notebook": notebook, "profile": profile, "seconds": 1.0, "peak_mb": 1.0, "numbers": numbers,
               "runs": {"made": made, "reused": reused},
               "claims": [dict(zip(("claim", "paper", "measured", "verdict"), claim)) for claim in claims]}
    (folder / f"{notebook}.json").write_text(json.dumps(content))
"""


def write_notebook(folder: Path, name: str, *code: str, parameters: str = PARAMETERS, **own: object) -> Path:
    """A notebook with a title, a parameters cell and the given code cells; `own` is its hybridlib metadata."""
    blank = {"execution_count": None, "outputs": []}
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": [f"# Title of {name}\n", "\n", "text"]},
        {"cell_type": "code", "id": "p", "metadata": {"tags": ["parameters"]}, "source": parameters, **blank},
        *({"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": text, **blank} for i, text in enumerate(code)),
    ]
    metadata = {"hybridlib": own, "kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def call(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and everything printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = runner.main(arguments, notebooks=folder)
        except SystemExit as stop:
            code = int(str(stop.code))
    return code, out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three notebooks that are never executed: 00_first and 04_retrieval are core, 07_big is not."""
    write_notebook(tmp_path / "notebooks", "04_retrieval", core=True, cost={"demo": "about 40 s", "smoke": "5 s"})
    write_notebook(tmp_path / "notebooks", "00_first", profiles=["smoke", "demo"])
    write_notebook(tmp_path / "notebooks", "07_big", core=False, needs="a GPU")
    write_notebook(tmp_path / "notebooks", "scratch")
    return tmp_path / "notebooks"


# ---- flags


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "--nonsense"),
        (["--prof", "smoke"], "--prof"),  # no abbreviations
        (["--profile", "full"], "there are: smoke, demo"),
        (["--profile", "paper", "--only", "00"], "00_first is made for the profiles smoke, demo"),
        (["--only", "05"], "there are: 00_first, 04_retrieval, 07_big"),
        (["--only", "00", "retrival"], "--only retrival"),
        (["--figures", "--fresh"], "not allowed with"),
        (["-p", "alhpa", "0.3"], "did you mean alpha?"),
        (["-p", "zzz", "0.3"], "known: alpha, limit"),
        (["-p", "profile", "smoke"], "use --profile"),
        (["-p", "alpha", "high"], "expected float (the default is 0.5)"),
        (["-p", "alpha", "True"], "expected float"),
        (["-p", "steps", "2.5"], "expected int"),
        (["-p", "seeds", "3"], "expected list"),
        (["-p", "symmetric", "1"], "expected bool"),
        (["-p", "alpha"], "expected 2 arguments"),
    ],
)
def test_wrong_flags_exit_with_2_and_say_what_is_wrong(folder: Path, arguments: list[str], said: str) -> None:
    code, text = call([*arguments, "--check-flags"], folder)
    assert code == 2
    assert said in text


@pytest.mark.parametrize("arguments", [[], ["--only", "4", "00_first"], ["-p", "alpha", "1"], ["--all", "--fresh"]])
def test_flags_that_are_right_let_run_all_go_on(folder: Path, arguments: list[str]) -> None:
    assert call([*arguments, "--check-flags"], folder) == (runner.GO_ON, "")


def test_values_are_literals_of_the_defaults_type(folder: Path) -> None:
    pairs = {"seeds": "(3, 4)", "alpha": "1", "steps": "7", "name": "5", "symmetric": "True", "limit": "[1]"}
    values = runner.check_parameters([list(pair) for pair in pairs.items()], runner.find_notebooks(folder))
    assert values == {"seeds": (3, 4), "alpha": 1, "steps": 7, "name": "5", "symmetric": True, "limit": [1]}
    unquoted = runner.check_parameters([["limit", "ten"], ["name", "'a b'"]], runner.find_notebooks(folder))
    assert unquoted == {"limit": "ten", "name": "a b"}


def test_a_parameter_must_be_known_to_every_notebook_that_runs(folder: Path) -> None:
    write_notebook(folder, "08_other", parameters='profile = "demo"\nalpha = 0.5')
    assert call(["-p", "steps", "5", "--only", "00", "--check-flags"], folder)[0] == runner.GO_ON
    code, text = call(["-p", "steps", "5", "--check-flags"], folder)
    assert code == 2
    assert "08_other has no such parameter" in text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("alpha = 0.5", "sets no `profile`"),
        ('profile = "demo"\nsteps = 2 * alpha', "may hold only"),
        ('profile = "demo', "may hold only"),
    ],
)
def test_a_wrong_parameters_cell_is_named(folder: Path, parameters: str, said: str) -> None:
    write_notebook(folder, "05_wrong", parameters=parameters)
    code, text = call(["--check-flags"], folder)
    assert code == 2
    assert "05_wrong.ipynb" in text
    assert said in text


@pytest.mark.parametrize("content", ["{}", "not json", '{"cells": 3}', '{"cells": [{}]}', b"\xff\xfe"])
def test_a_file_that_is_no_notebook_is_named(folder: Path, content: str | bytes) -> None:
    (folder / "05_torn.ipynb").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, text = call(["--check-flags"], folder)
    assert code == 2
    assert "05_torn.ipynb" in text


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    code, text = call([], tmp_path)
    assert code == 2
    assert "no notebooks" in text


def test_only_core_notebooks_run_unless_asked_for(folder: Path) -> None:
    found = runner.find_notebooks(folder)

    def names(only: list[str] | None, everything: bool = False, profile: str = "demo") -> list[str]:
        return [notebook.name for notebook in runner.select(found, only, everything, profile)]

    assert names(None) == ["00_first", "04_retrieval"]
    assert names(None, everything=True) == ["00_first", "04_retrieval", "07_big"]
    assert names(None, everything=True, profile="paper") == ["04_retrieval", "07_big"]
    assert names(["7", "first"]) == ["00_first", "07_big"]
    assert names(["notebooks/04_retrieval.ipynb"]) == ["04_retrieval"]


def test_list_shows_what_each_notebook_costs(folder: Path) -> None:
    code, text = call(["--list"], folder)
    assert code == 0
    lines = {line.split()[0]: line for line in text.splitlines()[1:]}
    assert sorted(lines) == ["00", "04", "07"]
    assert re.fullmatch(r"04  04_retrieval +core +5 s +about 40 s +--plan +Title of 04_retrieval", lines["04"])
    assert re.fullmatch(r"00  00_first +core +not measured +not measured +- +Title of 00_first", lines["00"])
    assert re.fullmatch(
        r"07  07_big +--all +not measured +not measured +--plan +Title of 07_big \(needs a GPU\)", lines["07"]
    )


def test_a_notebook_of_no_benchmark_runs_once_for_each_checkpoint() -> None:
    chosen = [n for n in runner.find_notebooks(runner.REPOSITORY / "notebooks") if n.number in ("04", "07", "11")]
    runs = runner.variants({"profile": "paper"})
    assert [(run["checkpoint"], run["benchmark"], [n.number for n in turn])
            for run, turn in zip(runs, runner.turns(chosen, runs), strict=True)] == [
        ("xlm-r-base", "xquad-r", ["04", "07", "11"]),
        ("xlm-r-base", "mlqa-r", ["04", "11"]),
        ("labse", "xquad-r", ["04", "07", "11"]),
        ("labse", "mlqa-r", ["04", "11"]),
    ]  # fmt: skip


def test_the_paper_profile_runs_through_what_is_not_set() -> None:
    chosen = runner.variants({"profile": "paper", "checkpoint": None, "benchmark": None, "steps": 3})
    assert len(chosen) == 4 and {(v["checkpoint"], v["benchmark"]) for v in chosen} == {
        (c, b) for c in ("xlm-r-base", "labse") for b in ("xquad-r", "mlqa-r")
    }
    assert [v["benchmark"] for v in runner.variants({"profile": "paper", "checkpoint": "labse"})] == [
        "xquad-r",
        "mlqa-r",
    ]
    assert runner.variants({"profile": "demo"}) == [{"profile": "demo"}]


def test_flags_are_judged_with_the_standard_library_alone(folder: Path) -> None:
    command = [sys.executable, "-I", "-S", runner.__file__, "--check-flags"]  # -S: no site-packages
    done = subprocess.run(command, env={"HYBRIDLIB_NOTEBOOKS": str(folder)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (runner.GO_ON, "")


# ---- running


@dataclass(frozen=True)
class Run:
    """A finished run of several notebooks."""

    code: int
    text: str
    root: Path
    began: float

    def record(self, name: str) -> dict[str, Any]:
        """The record of one notebook."""
        return json.loads((self.root / "runs" / "records" / "demo" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run of notebooks that end in all ways, in a folder of an awkward name, beside a foreign `python3` kernel."""
    base = tmp_path_factory.mktemp("run") / "a {folder}, named oddly"
    root, folder = base / "root", base / "notebooks"
    kernel = base / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["no-such-program"], "display_name": "other", "language": "python"}))
    old = root / "runs" / "records" / "demo" / "01_bad.json"
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps({"claims": [{"claim": "stale", "paper": "", "measured": "", "verdict": "holds"}]}))

    claims = '[("hybrid is best", "yes", "early", "undecided"), ("less bias", "yes", "110 against 1972", "holds")]'
    seen = "seen=[profile, seeds, alpha, os.getcwd(), os.environ.get('HYBRIDLIB_ONLY_EXISTING')]"
    more = "python=__import__('sys').executable, fresh=float(os.environ['HYBRIDLIB_FRESH'])"
    write_notebook(folder, "00_good", RECORD, f"write('00_good', {claims}, 1, 3, {seen}, {more})")
    write_notebook(folder, "01_bad", "x = 1", "x / 0")
    write_notebook(folder, "02_dies", "import os; os._exit(3)")
    later = '[("hybrid is best", "yes", "late", "does not hold")]'
    write_notebook(folder, "03_later", RECORD, f"write('03_later', {later}, 0, 1)")
    write_notebook(folder, "04_silent", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRIDLIB_ROOT", str(root))
        patch.setenv("JUPYTER_PATH", str(base / "jupyter"))
        patch.setenv("HYBRIDLIB_ONLY_EXISTING", "1")
        importlib.import_module("hybridlib.companion.experiment.embedded_study")  # torch sets variables of its own
        before, began = dict(os.environ), time.time()
        code, text = call(["--fresh", "-p", "alpha", "0.25", "-p", "seeds", "[7]"], folder)
        assert dict(os.environ) == before
    return Run(code, text, root, began)


def test_a_failed_notebook_does_not_stop_the_others(finished: Run) -> None:
    assert finished.code == 1
    assert "profile demo: 3 ran, 2 failed;" in finished.text
    assert finished.record("03_later")["notebook"] == "03_later"


def test_a_failure_names_notebook_cell_and_executed_copy(finished: Run) -> None:
    copy = finished.root / "runs" / "executed" / "demo" / "01_bad.ipynb"
    # In [1] is the parameters cell, In [2] the one papermill puts behind it.
    said = f"failed: 01_bad: cell In [4]: ZeroDivisionError: division by zero\n    executed copy: {copy}\n"
    assert said in finished.text
    cells = [cell for cell in json.loads(copy.read_text())["cells"] if cell.get("execution_count") == 4]
    assert [cell["source"] for cell in cells] == [["x / 0"]]
    assert cells[0]["outputs"][-1]["ename"] == "ZeroDivisionError"


def test_a_kernel_that_dies_is_a_failed_notebook(finished: Run) -> None:
    assert re.search(r"failed: 02_dies: cell 4 of 4: DeadKernelError", finished.text)


def test_progress_lines_tell_time_and_reuse(finished: Run) -> None:
    assert re.search(r"^\[1/5\] 00_good \.\.\. \d+\.\d s \(reused 3 runs, made 1\)$", finished.text, re.M)
    assert re.search(r"^\[2/5\] 01_bad \.\.\. FAILED after \d+\.\d s: cell In \[4\]", finished.text, re.M)
    assert re.search(r"^\[4/5\] 03_later \.\.\. \d+\.\d s \(reused 1 run, made 0\)$", finished.text, re.M)
    assert re.search(r"^\[5/5\] 04_silent \.\.\. \d+\.\d s \(wrote no record\)$", finished.text, re.M)


def test_parameters_environment_and_python_reach_the_kernel(finished: Run) -> None:
    numbers = finished.record("00_good")["numbers"]
    assert numbers["seen"] == ["demo", [7], 0.25, os.getcwd(), None]
    assert numbers["python"] == sys.executable
    assert finished.began <= numbers["fresh"] <= time.time()  # what is older is made anew


def test_the_verdict_table_takes_the_later_word_and_no_stale_record(finished: Run) -> None:
    assert re.search(r"^hybrid is best +late +does not hold$", finished.text, re.M)
    assert re.search(r"^less bias +110 against 1972 +holds$", finished.text, re.M)
    assert "early" not in finished.text
    assert "stale" not in finished.text
    assert not (finished.root / "runs" / "records" / "demo" / "01_bad.json").exists()


def test_only_whole_copies_are_left_and_the_end_says_where(finished: Run) -> None:
    folder = finished.root / "runs" / "executed" / "demo"
    assert sorted(path.stem for path in folder.iterdir()) == ["00_good", "01_bad", "02_dies", "03_later", "04_silent"]
    assert f"    {folder}\n" in finished.text


def test_figures_reports_missing_runs_and_exits_with_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path))
    raises = "raise MissingRun('hybrid, seed 2: no run')"
    asks = f"import os\nif os.environ.get('HYBRIDLIB_ONLY_EXISTING') == '1':\n    {raises}"
    write_notebook(tmp_path / "notebooks", "00_asks", "class MissingRun(Exception): pass", asks)
    code, text = call(["--figures"], tmp_path / "notebooks")
    assert code == 0
    assert "[1/1] 00_asks ... missing: hybrid, seed 2: no run" in text
    assert "1 missing" in text
    code, text = call([], tmp_path / "notebooks")
    assert (code, "profile demo: 1 ran; " in text) == (0, True)


def test_a_root_that_cannot_be_written_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path / "file"))
    code, text = call([], folder)
    assert code == 1
    assert f"{tmp_path / 'file'} writable or name another folder in HYBRIDLIB_ROOT" in text


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_kernel_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    pid = tmp_path / "pid"
    tell = f"import os, pathlib; pathlib.Path({str(pid) + '.part'!r}).write_text(str(os.getpid()))"
    rename = f"os.replace({str(pid) + '.part'!r}, {str(pid)!r})"
    write_notebook(tmp_path / "notebooks", "00_slow", f"{tell}\n{rename}\nimport time\ntime.sleep(120)")
    command = [sys.executable, "-m", "hybridlib.companion.runner", "--fresh", "--only", "00", "-p", "name", "a b"]
    environment = {**os.environ, "HYBRIDLIB_ROOT": str(tmp_path), "HYBRIDLIB_NOTEBOOKS": str(tmp_path / "notebooks")}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell hands on "ignored"
    )
    try:
        deadline = time.monotonic() + 90
        while not pid.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        kernel = int(pid.read_text())
        process.send_signal(number)
        text, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "to go on:\n    ./run_all.sh --only 00 -p name 'a b'\n" in text
    assert "Traceback" not in text
    while _alive(kernel) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(kernel)
    assert list((tmp_path / "runs" / "executed" / "demo").iterdir()) == []


# ---- the table


@pytest.mark.parametrize("width", [60, 80, 133])
def test_the_verdict_table_keeps_every_word_within_the_width(width: int) -> None:
    words = [f"word{i}" for i in range(60)]
    claims = [
        {"claim": " ".join(words[:40]), "measured": " ".join(words[40:]), "verdict": "undecided"},
        {"claim": "short", "measured": None, "verdict": "not run"},
    ]
    text = execution.verdict_table(claims, width)
    assert max(map(len, text.splitlines())) <= width
    assert set(words) <= set(text.split())
    assert text.splitlines()[-1].split() == ["short", "-", "not", "run"]


def test_a_claim_stands_once_where_it_first_appeared() -> None:
    def outcome(*claims: tuple[str, str]) -> execution.Outcome:
        return execution.Outcome("x", "ran", 1.0, record={"claims": [{"claim": c, "verdict": v} for c, v in claims]})

    merged = execution.merge_claims([outcome(("a", "holds"), ("b", "not run")), outcome(), outcome(("a", "undecided"))])
    assert [(claim["claim"], claim["verdict"]) for claim in merged] == [("a", "undecided"), ("b", "not run")]
