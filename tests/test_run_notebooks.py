"""run_all.sh's program, on made-up notebooks: flags, parameters, exit codes, records, verdicts, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import run_notebooks
from run_notebooks import Outcome

PARAMETERS = 'profile = "demo"\nseeds = [0, 1]\nalpha = 0.5\nsteps = 100\nname = "tiny"\nfast = False\nsettings = {}\n'
RECORD = """
import json, os, pathlib
def write(notebook, claims=(), made=0, reused=0, **numbers):
    folder = pathlib.Path(os.environ["HYBRIDLIB_ROOT"], "runs", "records", profile)
    content = {"notebook": notebook, "profile": profile, "seconds": 1.0, "peak_mb": 412, "numbers": numbers,
               "runs": {"made": made, "reused": reused},
               "claims": [dict(zip(("claim", "paper", "measured", "verdict"), claim)) for claim in claims]}
    (folder / f"{notebook}.json").write_text(json.dumps(content))
"""


def write_notebook(folder: Path, name: str, *code: str, parameters: str = PARAMETERS, **about: object) -> Path:
    """A notebook with a title, a parameters cell and the given code cells; `about` is its hybridlib metadata."""
    blank = {"execution_count": None, "outputs": []}
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": [f"# Title of {name}\n", "\n", "text"]},
        {"cell_type": "code", "id": "p", "metadata": {"tags": ["parameters"]}, "source": parameters, **blank},
        *({"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": text, **blank} for i, text in enumerate(code)),
    ]
    about = {"cost": {"demo": "about 40 s", "smoke": "5 s"}} | about
    metadata = {"hybridlib": about, "kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    path = folder / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    return path


def start(root: Path, notebooks: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """run_all.sh's program at work, in the folder `root`."""
    command = [sys.executable, "-P", run_notebooks.__file__, *arguments]
    variables = {**os.environ, "HYBRIDLIB_ROOT": str(root), "HYBRIDLIB_NOTEBOOKS": str(notebooks), **environment}
    return subprocess.Popen(
        command,
        cwd=notebooks,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell hands on "ignored"
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code and everything printed."""
    text, _ = process.communicate(timeout=240)
    return process.returncode, text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Notebooks that are never executed: two are core, one is not, one is made for paper alone."""
    notebooks = tmp_path / "notebooks"
    write_notebook(notebooks, "11_retrieval")
    write_notebook(notebooks, "00_tour", profiles=["smoke", "demo"])
    write_notebook(notebooks, "beyond/20_resources", cost={})
    write_notebook(notebooks, "13_miracl", profiles=["paper"], needs="MIRACL's passages")
    write_notebook(notebooks, "scratch")
    monkeypatch.setenv("HYBRIDLIB_NOTEBOOKS", str(notebooks))
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path))
    return notebooks


@pytest.fixture
def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls the program with flags that must be refused with exit code 2 before anything runs; what it says."""

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            run_notebooks.main(arguments)
        assert stop.value.code == 2 and not (folder.parent / "runs").exists()
        return capsys.readouterr().err

    return call


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "--nonsense"),
        (["--prof", "smoke"], "--prof"),  # no abbreviations
        (["--only", "05"], "there are: 00_tour, 11_retrieval, 13_miracl, 20_resources"),
        (["--only", "00", "retrival"], "--only retrival: no such notebook; did you mean 11_retrieval?"),
        (["--only", "13"], "not in the profile demo: 13_miracl (MIRACL's passages)"),
        (["--figures", "--fresh"], "not allowed with"),
        (["-p", "profile", "smoke"], "use --profile"),
        (["-p", "alpha", "high"], "expected float (the default is 0.5)"),
        (["-p", "alpha", "True"], "expected float"),
        (["-p", "steps", "2.5"], "expected int"),
        (["-p", "seeds", "3"], "expected list"),
        (["-p", "fast", "1"], "expected bool"),
        (["-p", "settings", "3"], "expected dict"),
        (["-p", "alpha"], "expected 2 arguments"),
    ],
)
def test_wrong_flags_are_refused(refusal: Callable[..., str], arguments: list[str], said: str) -> None:
    assert said in refusal(*arguments)


@pytest.mark.parametrize(
    ("profile", "settings", "said"),
    [
        ("smok", {}, "--profile smok: no such profile; did you mean smoke?"),
        ("demo", {"learning_rat": 0.1}, "-p learning_rat: neither the notebooks nor the profile demo have it; did you"),
        ("demo", {"learning_rate": "much"}, "-p learning_rate must be of the kind of 0.0003, not 'much'"),
        ("demo", {"alphas": [0.5, 3]}, "-p alphas must be in [0, 1], not 3"),
        ("colab", {"benchmark": "squad"}, "-p benchmark must be one of 'xquad-r', 'mlqa-r', not 'squad'"),
    ],
)
def test_the_package_judges_profile_and_settings(profile: str, settings: dict, said: str) -> None:
    with pytest.raises(ValueError) as error:
        run_notebooks.judge(profile, {}, settings)
    assert said in str(error.value)


def test_parameters_of_notebooks_are_judged_where_they_are_settings_too(refusal: Callable[..., str]) -> None:
    assert run_notebooks.judge("smoke", {"form": "full", "steps": 3}, {"layers": 1}) == "smoke"
    assert "error: -p steps must be above 0, not 0" in refusal("-p", "steps", "0", "-p", "name", "anything")


def test_a_notebook_without_settings_must_know_the_parameter(folder: Path, refusal: Callable[..., str]) -> None:
    write_notebook(folder, "08_other", parameters='profile = "demo"\nalpha = 0.5')
    assert "-p alpah: 08_other has no such parameter; did you mean alpha?" in refusal("-p", "alpah", "0.1")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ("alpha = 0.5", "sets no `profile`"),
        ('profile = "demo"\nsteps = 2 * alpha', "may hold only"),
        ('profile = "demo', "may hold only"),
    ],
)
def test_a_wrong_parameters_cell_is_named(
    folder: Path, refusal: Callable[..., str], parameters: str, said: str
) -> None:
    write_notebook(folder, "05_wrong", parameters=parameters)
    assert re.search(rf"05_wrong\.ipynb: .*{said}", refusal())


@pytest.mark.parametrize("content", [b"{}", b"not json", b'{"cells": 3}', b'{"cells": [{}]}', b"\xff\xfe"])
def test_a_file_that_is_no_notebook_is_named(folder: Path, refusal: Callable[..., str], content: bytes) -> None:
    (folder / "05_torn.ipynb").write_bytes(content)
    assert "05_torn.ipynb cannot be read" in refusal()


def test_an_empty_folder_is_an_error(tmp_path: Path, refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDLIB_NOTEBOOKS", str(tmp_path))
    assert f"no notebooks (NN_name.ipynb) in {tmp_path}" in refusal()


# ---- what is chosen


def test_only_core_notebooks_run_unless_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebooks = run_notebooks.find_notebooks(folder)

    def names(*only: str, beyond: bool = False, profile: str = "demo") -> list[str]:
        chosen = run_notebooks.select(notebooks, only, beyond)
        return [notebook.name for notebook in run_notebooks.made_for(profile, chosen, only)]

    assert names() == ["00_tour", "11_retrieval"]
    assert capsys.readouterr().out == "not in the profile demo: 13_miracl (MIRACL's passages)\n"
    assert names(beyond=True) == ["00_tour", "11_retrieval", "20_resources"]
    assert names(beyond=True, profile="paper") == ["11_retrieval", "13_miracl", "20_resources"]
    assert names("20", "tour") == ["00_tour", "20_resources"]
    assert names("notebooks/11_retrieval.ipynb") == ["11_retrieval"]


def test_list_shows_what_each_notebook_costs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_notebooks.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [re.split("  +", line) for line in lines] == [
        ["00_tour", "core", "about 40 s", "5 s", "smoke, demo", "Title of 00_tour"],
        ["11_retrieval", "core", "about 40 s", "5 s", "every profile", "Title of 11_retrieval"],
        ["13_miracl", "core", "about 40 s", "5 s", "paper", "Title of 13_miracl (needs MIRACL's passages)"],
        ["20_resources", "--all", "-", "-", "every profile", "Title of beyond/20_resources"],
    ]


def test_values_are_literals_of_the_defaults_type(folder: Path) -> None:
    notebook = run_notebooks.read_notebook(folder / "11_retrieval.ipynb")
    given = {"seeds": "(3, 4)", "alpha": "1", "steps": "7", "name": "5", "fast": "True"}
    assert notebook.split(given) == ({"seeds": (3, 4), "alpha": 1, "steps": 7, "name": "5", "fast": True}, {})
    given = {"name": "'a b'", "dropout": "0.1", "checkpoint": "xlm-r-base", "settings": "{'limit': 9}"}
    further = {"dropout": 0.1, "checkpoint": "xlm-r-base", "limit": 9}
    assert notebook.split(given) == ({"name": "a b"}, further)


def test_the_paper_profile_runs_through_what_is_not_given() -> None:
    pairs = [(run["checkpoint"], run["benchmark"]) for run in run_notebooks.variants("paper", {"steps": "3"})]
    assert pairs == [("xlm-r-base", "xquad-r"), ("xlm-r-base", "mlqa-r"), ("labse", "xquad-r"), ("labse", "mlqa-r")]
    labse = run_notebooks.variants("paper", {"checkpoint": "labse"})
    assert [run["benchmark"] for run in labse] == ["xquad-r", "mlqa-r"]
    assert run_notebooks.variants("demo", {}) == [{}]


def test_a_notebook_of_no_benchmark_runs_once_for_each_checkpoint(folder: Path) -> None:
    write_notebook(folder, "13_miracl", varies=["checkpoint"])
    chosen = run_notebooks.select(run_notebooks.find_notebooks(folder), ["11", "13"], False)
    turns = run_notebooks.turns(chosen, run_notebooks.variants("paper", {}))
    assert [[notebook.name[:2] for notebook in turn] for turn in turns] == [["11", "13"], ["11"], ["11", "13"], ["11"]]


# ---- running


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
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
    seen = "seen=[profile, seeds, alpha, settings, os.getcwd(), os.environ['OMP_WAIT_POLICY']]"
    more = "python=__import__('sys').executable, fresh=float(os.environ['HYBRIDLIB_FRESH'])"
    write_notebook(folder, "00_good", RECORD, f"write('00_good', {claims}, 1, 3, {seen}, {more})")
    write_notebook(folder, "01_bad", "x = 1", "x / 0")
    write_notebook(folder, "02_dies", "import os; os._exit(3)")
    later = '[("hybrid is best", "yes", "late", "does not hold")]'
    write_notebook(folder, "03_later", RECORD, f"write('03_later', {later}, 0, 1)")
    write_notebook(folder, "04_silent", "1")
    flags = ["--fresh", "-p", "alpha", "0.25", "-p", "seeds", "[7]", "-p", "hidden", "64"]
    environment = {"JUPYTER_PATH": str(base / "jupyter"), "HYBRIDLIB_ONLY_EXISTING": "1"}
    return *finish(start(root, folder, *flags, **environment)), root


def test_a_failed_notebook_does_not_stop_the_others(finished: tuple[int, str, Path]) -> None:
    code, text, _ = finished
    assert code == 1
    assert "profile demo: 3 ran, 2 failed;" in text


def test_a_failure_names_notebook_cell_and_executed_copy(finished: tuple[int, str, Path]) -> None:
    _, text, root = finished
    copy = root / "runs" / "executed" / "demo" / "01_bad.ipynb"
    # In [1] is the parameters cell, In [2] the one papermill puts behind it.
    assert f"failed: 01_bad: cell In [4]: ZeroDivisionError: division by zero\n    executed copy: {copy}\n" in text
    cells = [cell for cell in json.loads(copy.read_text())["cells"] if cell.get("execution_count") == 4]
    assert [(cell["source"], cell["outputs"][-1]["ename"]) for cell in cells] == [(["x / 0"], "ZeroDivisionError")]
    assert re.search(r"failed: 02_dies: cell 4 of 4: DeadKernelError", text)


def test_progress_lines_tell_time_memory_and_reuse(finished: tuple[int, str, Path]) -> None:
    _, text, _ = finished
    assert re.search(r"^\[1/5\] 00_good \.\.\. \d+\.\d s, 412 MB \(reused 3 runs, made 1\)$", text, re.M)
    assert re.search(r"^\[2/5\] 01_bad \.\.\. FAILED after \d+\.\d s: cell In \[4\]", text, re.M)
    assert re.search(r"^\[4/5\] 03_later \.\.\. \d+\.\d s, 412 MB \(reused 1 run, made 0\)$", text, re.M)
    assert re.search(r"^\[5/5\] 04_silent \.\.\. \d+\.\d s \(wrote no record\)$", text, re.M)


def test_parameters_environment_and_python_reach_the_kernel(finished: tuple[int, str, Path]) -> None:
    _, _, root = finished
    numbers = json.loads((root / "runs" / "records" / "demo" / "00_good.json").read_text())["numbers"]
    assert numbers["seen"] == ["demo", [7], 0.25, {"hidden": 64}, str(root.parent / "notebooks"), "PASSIVE"]
    assert numbers["python"] == sys.executable
    assert time.time() - 300 < numbers["fresh"] <= time.time()  # what is older is made anew


def test_the_verdict_table_takes_the_later_word_and_no_stale_record(finished: tuple[int, str, Path]) -> None:
    _, text, root = finished
    assert re.search(r"^\| hybrid is best +\| late +\| does not hold \|$", text, re.M)
    assert re.search(r"^\| less bias +\| 110 against 1972 +\| holds +\|$", text, re.M)
    assert "early" not in text and "stale" not in text
    assert not (root / "runs" / "records" / "demo" / "01_bad.json").exists()


def test_only_whole_copies_are_left_and_the_end_says_where(finished: tuple[int, str, Path]) -> None:
    _, text, root = finished
    copies = root / "runs" / "executed" / "demo"
    assert sorted(path.stem for path in copies.iterdir()) == ["00_good", "01_bad", "02_dies", "03_later", "04_silent"]
    assert f"    {copies}\n" in text


def test_figures_reports_missing_runs_and_exits_with_0(tmp_path: Path) -> None:
    raises = "raise MissingRun('hybrid, seed 2: no run')"
    asks = f"import os\nif os.environ.get('HYBRIDLIB_ONLY_EXISTING') == '1':\n    {raises}"
    write_notebook(tmp_path / "notebooks", "00_asks", "class MissingRun(Exception): pass", asks)
    code, text = finish(start(tmp_path, tmp_path / "notebooks", "--figures"))
    assert code == 0 and "1 missing" in text
    assert "[1/1] 00_asks ... missing: hybrid, seed 2: no run" in text
    code, text = finish(start(tmp_path, tmp_path / "notebooks"))
    assert code == 0 and "profile demo: 1 ran; " in text


def test_a_root_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, text = finish(start(tmp_path / "file", folder))
    assert code == 1
    assert f"{tmp_path / 'file'} writable or name another folder in HYBRIDLIB_ROOT" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_kernel_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    pid = tmp_path / "pid"
    tell = f"import os, pathlib; pathlib.Path({str(pid) + '.part'!r}).write_text(str(os.getpid()))"
    rename = f"os.replace({str(pid) + '.part'!r}, {str(pid)!r})"
    write_notebook(tmp_path / "notebooks", "00_slow", f"{tell}\n{rename}\nimport time\ntime.sleep(120)")
    process = start(tmp_path, tmp_path / "notebooks", "--fresh", "--only", "00", "-p", "name", "a b")
    try:
        deadline = time.monotonic() + 120
        while not pid.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        kernel = int(pid.read_text())
        process.send_signal(number)
        code, text = finish(process)
    finally:
        process.kill()
    assert code == 130
    assert "to go on:\n    ./run_all.sh --only 00 -p name 'a b'\n" in text and "Traceback" not in text
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(kernel, 0)
            time.sleep(0.05)
    assert list((tmp_path / "runs" / "executed" / "demo").iterdir()) == []


# ---- the table


@pytest.mark.parametrize("width", [60, 80, 133])
def test_the_verdict_table_keeps_every_word_within_the_width(width: int) -> None:
    words = [f"word{i}" for i in range(60)]
    claims = [
        {"claim": " ".join(words[:40]), "measured": " ".join(words[40:]), "verdict": "undecided"},
        {"claim": "short", "measured": None, "verdict": "not run"},
    ]
    text = run_notebooks.verdict_table(claims, width)
    assert max(map(len, text.splitlines())) <= width
    assert set(words) <= set(text.split())
    assert text.splitlines()[-2].split() == ["|", "short", "|", "-", "|", "not", "run", "|"]


def test_a_claim_stands_once_where_it_first_appeared() -> None:
    def outcome(*claims: tuple[str, str]) -> Outcome:
        return Outcome("x", "ran", 1.0, record={"claims": [{"claim": c, "verdict": v} for c, v in claims]})

    outcomes = [outcome(("a", "holds"), ("b", "not run")), outcome(), outcome(("a", "undecided"))]
    merged = run_notebooks.merge_claims(outcomes)
    assert [(claim["claim"], claim["verdict"]) for claim in merged] == [("a", "undecided"), ("b", "not run")]
