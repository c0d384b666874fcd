"""Runs on disk: complete or made, never half; one maker at a time; clear words where nothing can be written."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest

from hybridlib.companion.experiment import runs
from hybridlib.companion.experiment.runs import MissingRun, RunStore, default_root, import_closure, is_complete
from hybridlib.files import replace_file, replace_folder, write_json

LOSS = "hybridlib.loss"
CODES = ("hybridlib.companion.sources.table9", "hybridlib.evaluation")


def write(folder: Path) -> None:
    (folder / "result.txt").write_text("42")


def test_a_run_is_made_once_and_then_reused(tmp_path):
    store = RunStore(tmp_path / "runs")
    folder = store.load_or_make("a", {"x": 1}, write, code=LOSS)

    assert (folder / "result.txt").read_text() == "42" and is_complete(folder)
    again = RunStore(tmp_path / "runs")
    assert again.load_or_make("a", {"x": 1}, pytest.fail, code=LOSS) == folder
    assert (store.made, store.reused, again.made, again.reused) == (1, 0, 0, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parameters"]["x"] == 1 and {"commit", "device", "path"} <= manifest.keys()


def test_other_parameters_or_other_sources_are_another_run(tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    codes = (LOSS, "hybridlib.metrics")
    names = {store.load_or_make("a", {"x": x}, write, code=code).name for x in (1, 2) for code in codes}
    monkeypatch.setattr("hybridlib.companion.experiment.runs.torch.__version__", "0.0")
    names.add(store.load_or_make("a", {"x": 1}, write, code=LOSS).name)
    assert len(names) == 5


def test_a_change_in_any_file_that_the_code_imports_is_another_run(tmp_path, monkeypatch):
    package = tmp_path / "hybridlib"
    shutil.copytree(runs.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(runs, "PACKAGE", package)
    import_closure.cache_clear()
    before = {code: RunStore(tmp_path).path("a", {}, code).name for code in CODES}
    with (package / "corpora" / "lareqa.py").open("a") as file:  # decides what counts as a leak
        file.write("\n# changed\n")
    after = {code: RunStore(tmp_path).path("a", {}, code).name for code in CODES}
    import_closure.cache_clear()
    assert before[CODES[0]] != after[CODES[0]] and before[CODES[1]] == after[CODES[1]]


def test_the_closure_holds_what_is_imported_inside_functions_too():
    names = {path.stem for path in import_closure("hybridlib.training.loop")}
    assert {"loop", "gradients", "loss", "sampler", "encoder", "base", "files", "settings"} <= names
    assert not {"metrics", "evaluation", "study"} & names
    with pytest.raises(ValueError, match="no module"):
        import_closure("hybridlib.nothing")


OTHER_KINDS = ("[]", "null", "{}", '{"finished": 1, "files": []}', '{"finished": "x", "files": {}}', "{")


@pytest.mark.parametrize("done", OTHER_KINDS)
def test_a_record_of_another_kind_is_as_good_as_none(tmp_path, done):
    folder = RunStore(tmp_path).load_or_make("a", {}, write, code=LOSS)
    (folder / "done.json").write_text(done)
    assert not is_complete(folder)


@pytest.mark.parametrize("harm", ["cut", "gone", "more"])
def test_a_damaged_run_is_made_again(tmp_path, harm):
    folder = RunStore(tmp_path).load_or_make("a", {}, write, code=LOSS)

    {
        "cut": lambda: (folder / "result.txt").write_text("4"),
        "gone": lambda: (folder / "result.txt").unlink(),
        "more": lambda: (folder / "other.txt").write_text(""),
    }[harm]()
    assert not is_complete(folder)
    store = RunStore(tmp_path)
    store.load_or_make("a", {}, write, code=LOSS)

    assert store.made == 1 and (folder / "result.txt").read_text() == "42"


def test_an_interrupted_run_is_not_complete_and_keeps_what_it_had(tmp_path):
    def interrupted(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunStore(tmp_path).load_or_make("a", {}, interrupted, code=LOSS)

    seen = []
    folder = RunStore(tmp_path).load_or_make("a", {}, lambda f: seen.extend(f.iterdir()), code=LOSS)

    assert [path.name for path in seen] == ["half.txt"] and is_complete(folder)


def test_only_existing_and_fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_ONLY_EXISTING", "1")
    with pytest.raises(MissingRun, match="a-.*does not exist"):
        RunStore(tmp_path).load_or_make("a", {}, write, code=LOSS)

    monkeypatch.delenv("HYBRIDLIB_ONLY_EXISTING")
    RunStore(tmp_path).load_or_make("a", {}, write, code=LOSS)

    monkeypatch.setenv("HYBRIDLIB_FRESH", str(time.time() + 1))
    store = RunStore(tmp_path)
    store.load_or_make("a", {}, write, code=LOSS)

    assert store.made == 1


def slow(folder: Path) -> None:
    time.sleep(0.5)
    with (folder / "count.txt").open("a") as file:
        file.write("x")


def ask(folder: Path) -> None:
    RunStore(folder).load_or_make("a", {}, slow, code=LOSS)


def test_who_asks_second_waits(tmp_path):
    context = multiprocessing.get_context("spawn")
    askers = [context.Process(target=ask, args=(tmp_path,)) for _ in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(120)
    assert [asker.exitcode for asker in askers] == [0, 0]
    (count,) = tmp_path.glob("a-*/count.txt")
    assert count.read_text() == "x"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")  # fails for the administrator too
    with pytest.raises(OSError, match="runs: cannot write results here.*HYBRIDLIB_ROOT"):
        RunStore(tmp_path / "runs").load_or_make("a", {}, write, code=LOSS)

    with pytest.raises(OSError, match="cannot be made"):
        write_json(tmp_path / "runs" / "deep" / "x.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_replacing_leaves_the_old_one_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "f.txt").write_text("old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f.txt").write_text("old")
    for replace, name in ((replace_file, "f.txt"), (replace_folder, "d")):
        with pytest.raises(RuntimeError), replace(tmp_path / name) as new:
            (new / "f.txt" if new.is_dir() else new).write_text("half")
            raise RuntimeError
    assert (tmp_path / "f.txt").read_text() == (tmp_path / "d" / "f.txt").read_text() == "old"
    with replace_folder(tmp_path / "d") as new:
        (new / "g.txt").write_text("new")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["g.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f.txt"]


def test_root(tmp_path, monkeypatch):
    monkeypatch.delenv("HYBRIDLIB_ROOT", raising=False)
    assert (default_root() / "pyproject.toml").exists()
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path))
    assert default_root() == tmp_path.resolve()
