"""Runs on disk: complete or made, never half; one maker at a time; clear words where nothing can be written."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from hybridlib.companion.experiment import embedded_study
from hybridlib.companion.experiment.runs import MissingRun, RunStore, default_root, is_complete
from hybridlib.files import replace_file, replace_folder, write_json

ROOMS = ("loss.py",)


def write(folder: Path) -> None:
    (folder / "result.txt").write_text("42")


def test_a_run_is_made_once_and_then_reused(tmp_path):
    store = RunStore(tmp_path / "runs")
    folder = store.load_or_make("a", {"x": 1}, ROOMS, write)
    assert (folder / "result.txt").read_text() == "42" and is_complete(folder)
    again = RunStore(tmp_path / "runs")
    assert again.load_or_make("a", {"x": 1}, ROOMS, pytest.fail) == folder
    assert (store.made, store.reused, again.made, again.reused) == (1, 0, 0, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parameters"]["x"] == 1 and {"commit", "device", "path"} <= manifest.keys()


def test_other_parameters_or_other_sources_are_another_run(tmp_path, monkeypatch):
    store = RunStore(tmp_path)
    names = {store.load_or_make("a", {"x": x}, rooms, write).name for x in (1, 2) for rooms in (ROOMS, ("metrics.py",))}
    monkeypatch.setattr("hybridlib.companion.experiment.runs.torch.__version__", "0.0")
    names.add(store.load_or_make("a", {"x": 1}, ROOMS, write).name)
    assert len(names) == 5


@pytest.mark.parametrize("harm", ["cut", "gone", "more"])
def test_a_damaged_run_is_made_again(tmp_path, harm):
    folder = RunStore(tmp_path).load_or_make("a", {}, ROOMS, write)
    {
        "cut": lambda: (folder / "result.txt").write_text("4"),
        "gone": lambda: (folder / "result.txt").unlink(),
        "more": lambda: (folder / "other.txt").write_text(""),
    }[harm]()
    assert not is_complete(folder)
    store = RunStore(tmp_path)
    store.load_or_make("a", {}, ROOMS, write)
    assert store.made == 1 and (folder / "result.txt").read_text() == "42"


def test_an_interrupted_run_is_not_complete_and_keeps_what_it_had(tmp_path):
    def interrupted(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunStore(tmp_path).load_or_make("a", {}, ROOMS, interrupted)
    seen = []
    folder = RunStore(tmp_path).load_or_make("a", {}, ROOMS, lambda f: seen.extend(f.iterdir()))
    assert [path.name for path in seen] == ["half.txt"] and is_complete(folder)


def test_only_existing_and_fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_ONLY_EXISTING", "1")
    with pytest.raises(MissingRun, match="a-.*does not exist"):
        RunStore(tmp_path).load_or_make("a", {}, ROOMS, write)
    monkeypatch.delenv("HYBRIDLIB_ONLY_EXISTING")
    RunStore(tmp_path).load_or_make("a", {}, ROOMS, write)
    monkeypatch.setenv("HYBRIDLIB_FRESH", str(time.time() + 1))
    store = RunStore(tmp_path)
    store.load_or_make("a", {}, ROOMS, write)
    assert store.made == 1


def slow(folder: Path) -> None:
    time.sleep(0.5)
    with (folder / "count.txt").open("a") as file:
        file.write("x")


def ask(folder: Path) -> None:
    RunStore(folder).load_or_make("a", {}, ROOMS, slow)


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
        RunStore(tmp_path / "runs").load_or_make("a", {}, ROOMS, write)
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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"profile": "dmeo"}, "profile must be one of demo, smoke"),
        ({"stpes": 3}, "no parameter 'stpes'"),
        ({"steps": "many"}, "steps must be of the kind of 1500"),
        ({"steps": 0}, "steps must be above 0"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"seeds": "012"}, "seeds must be a list"),
        ({"alphas": [0.5, 2.0]}, r"alphas must be in \[0, 1\]"),
        ({"dictionary": "full"}, "dictionary must be one of"),
        ({"layers": -1}, "layers must be 0 or more"),
    ],
)
def test_wrong_parameters_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        embedded_study.resolve(**{"profile": "demo"} | overrides)


def test_none_keeps_the_profile_and_whole_numbers_do_for_shares():
    assert embedded_study.resolve("demo", steps=None, seeds=[4], learning_rate=1).seeds == (4,)
    assert embedded_study.resolve("demo", alphas=[0, 1]).alphas == (0.0, 1.0)


def test_outputs_of_a_changed_demo_do_not_overwrite_the_committed_ones(tmp_path):
    standard, custom = (embedded_study.study("demo", root=tmp_path, steps=steps) for steps in (None, 7))
    smoke = embedded_study.study("smoke", root=tmp_path)
    assert standard.outputs("figures") == tmp_path / "figures" / "demo"
    assert custom.outputs("figures") == tmp_path / "runs" / "figures" / "demo-custom"
    assert smoke.outputs("results") == tmp_path / "runs" / "results" / "smoke"


def test_the_ends_of_the_curve_are_the_pure_strategies():
    kinds = [embedded_study.Run.of_alpha(alpha, 0).strategy for alpha in (0, 0.5, 1)]
    assert kinds == ["x-y", "hybrid", "x-x-mono"]
