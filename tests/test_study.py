"""Studies: profiles and their settings, data, runs of tiny encoders, notebooks on the paper's benchmark."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made import encoder, parallel_corpus
from test_table9 import SQUADSHIFTS, WIKIQA, lines, parquet, serve
from test_translate import nllb  # noqa: F401 (a fixture)

from hybridlib.companion.experiment import pretrained
from hybridlib.companion.experiment.profiles import PAPER, PROFILES, names, open_choices, resolve, value_of
from hybridlib.companion.experiment.study import Run, open_study
from hybridlib.companion.sources.embedded.corpus import build_corpus
from hybridlib.training.card import read_labels

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("de", "en", "es")


def pairs_file(path: Path, n: int = 60) -> Path:
    """Pairs of made-up words in three languages, as a user would bring them."""
    rows = []
    for i in range(n):
        texts = {
            f"{side}_{lang}": f"{lang}{side} thing{i} is here" for lang in LANGUAGES for side in ("query", "passage")
        }
        rows.append({"query_id": f"q{i}", "source": "mine", **texts})
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A tiny checkpoint and two files of pairs."""
    folder = tmp_path_factory.mktemp("files")
    encoder(parallel_corpus(languages=LANGUAGES)).save(folder / "tiny")
    pairs_file(folder / "train.jsonl.gz")
    pairs_file(folder / "dev.jsonl.gz", 20)
    return folder


@pytest.fixture
def benchmark(monkeypatch):
    """A small benchmark in the place of XQuAD-R and MLQA-R."""
    made = build_corpus(languages=("de", "el", "en"), trained=("de", "en"), extra_candidates=0)
    monkeypatch.setattr(pretrained, "load_lareqa", lambda name, **_: made.test)


def own(files: Path, **more) -> dict:
    """Parameters that train a tiny encoder on one's own files, in a moment."""
    options = {"checkpoint": str(files / "tiny"), "pairs": str(files / "train.jsonl.gz"), "trained": LANGUAGES}
    options |= {"validation": str(files / "dev.jsonl.gz"), "steps": 6, "batch_size": 8, "max_length": 16}
    return {**options, "validate_every": 2, "validation_batches": 1, "learning_rate": 1e-3, **more}


# ---- profiles and settings


def test_the_paper_is_what_it_says_and_lists_every_choice():
    assert (PAPER.training.learning_rate, PAPER.training.weight_decay, PAPER.batches.batch_size) == (3e-5, 1e-2, 100)
    assert len(PAPER.trained) == 9 and not {"el", "vi"} & set(PAPER.trained) and PAPER.zero_shot == ("el", "vi")
    assert PAPER.validation == "squadshifts" and PAPER.validation_strategy == "en-en"
    choices = open_choices("colab").set_index("choice")
    assert choices.loc["maximum length", "value"] == "128" and choices["why"].notna().all()
    runs = open_study("paper").all_runs()
    assert {run.strategy for run in runs} == {"x-x-mono", "x-y", "hybrid"} and len(runs) == 3


@pytest.mark.parametrize("profile", PROFILES)
def test_every_setting_can_be_changed_by_its_own_name(profile):
    standard = PROFILES[profile]
    assert {"alpha", "alphas", "seeds", "steps", "batch_size", "learning_rate", "trained"} <= set(names(standard))
    for name in names(standard):
        assert resolve(profile, {name: value_of(standard, name)}) == standard
    changed = resolve(profile, {"steps": 7, "temperature": 0.3, "alpha": 0.25})
    assert (changed.batches.steps, changed.training.temperature, changed.alpha) == (7, 0.3, 0.25)


@pytest.mark.parametrize(
    ("profile", "changes", "message"),
    [
        ("dmeo", {}, "profile must be one of demo, smoke"),
        ("demo", {"stpes": 3}, "no parameter 'stpes'"),
        ("demo", {"steps": "many"}, "steps must be of the kind of 1500"),
        ("demo", {"steps": 0}, "steps must be above 0"),
        ("demo", {"seeds": 3}, "seeds must be a list"),
        ("demo", {"seeds": "012"}, "seeds must be a list"),
        ("demo", {"seed": 3}, "no parameter 'seed'"),
        ("demo", {"alpha": 1.5}, r"alpha must be in \[0, 1\]"),
        ("demo", {"alphas": [0.5, 2.0]}, r"alphas must be in \[0, 1\]"),
        ("demo", {"dictionary": "full"}, "dictionary must be one of"),
        ("demo", {"layers": -1}, "layers must be 0 or more"),
        ("demo", [1], "settings must be a dict"),
        ("colab", {"layers": 2}, "no parameter 'layers'"),
        ("colab", {"benchmark": "xquad"}, "benchmark must be one of 'xquad-r', 'mlqa-r'"),
        ("colab", {"datasets": ["squad"]}, "datasets must be one of"),
        ("colab", {"precision": "int8"}, "precision must be one of"),
        ("colab", {"mixture": "mixed"}, "mixture must be one of"),
        ("colab", {"temperature": 0.0}, "temperature must be above 0"),
        ("colab", {"limit": 2.5}, "limit must be of the kind|limit must be a int"),
        ("colab", {"mask_translations": 1}, "mask_translations must be"),
        ("colab", {"encoders": "mine"}, "encoders must have"),
    ],
)
def test_wrong_settings_are_named(profile, changes, message):
    with pytest.raises(ValueError, match=message):
        resolve(profile, changes)


def test_none_keeps_the_profile_and_whole_numbers_do_for_shares():
    assert resolve("demo", {"steps": None, "seeds": [4], "learning_rate": 1}).seeds == (4,)
    assert resolve("demo", {"alphas": [0, 1]}).alphas == (0.0, 1.0)


def test_hybrids_alpha_is_a_setting_and_the_ends_of_the_curve_are_the_pure_strategies(tmp_path):
    study = open_study("demo", {"alpha": 0.3, "seeds": [1]}, root=tmp_path)
    assert study.runs() == [Run("x-x-mono", 1), Run("hybrid", 1, 0.3), Run("x-y", 1)]
    assert study.sampler(study.runs()[1]).alpha == 0.3
    assert [study.curve(alpha)[0].strategy for alpha in (0, 0.5, 1)] == ["x-y", "hybrid", "x-x-mono"]


def test_outputs_of_a_changed_profile_do_not_overwrite_the_committed_ones(tmp_path):
    standard, custom = (open_study("demo", {"steps": steps}, root=tmp_path) for steps in (None, 7))
    assert standard.outputs("figures") == tmp_path / "figures" / "demo"
    assert custom.outputs("figures") == tmp_path / "runs" / "figures" / "demo-custom"
    assert open_study("smoke", root=tmp_path).outputs("results") == tmp_path / "runs" / "results" / "smoke"
    paper = open_study("paper", {"checkpoint": "labse", "benchmark": "mlqa-r"}, root=tmp_path)
    assert paper.outputs("results") == tmp_path / "runs" / "results" / "paper-labse-mlqa-r"
    assert paper.described.paper_encoder == "labse" and paper.settings.held_out == "xquad-r"
    assert open_study("paper", {"steps": 7}, root=tmp_path).described.label == "paper-xlm-r-base-xquad-r-custom"
    assert open_study("colab", root=tmp_path).described.paper_encoder is None


# ---- data


def test_sets_are_fetched_filtered_translated_and_mixed_and_one_that_cannot_be_had_is_left_out(
    hub, tmp_path, request, files, capsys
):
    rows = [{**WIKIQA[0], "question": f"how big is thing {i}", "answer": f"Thing {i} is big."} for i in range(30)]
    serve(hub, "wikiqa", [parquet(rows[:10]), parquet(rows[10:20]), parquet(rows[20:])])
    serve(hub, "mr-tydi", [parquet([{"anchor": "Who is he?", "positive": "He is Bo.", "negative": "She is Li."}])])
    serve(hub, "squadshifts", [lines([{**SQUADSHIFTS[0], "question": f"What is tall {i}?"}]) for i in range(12)])
    options = {"datasets": ["wikiqa", "mr-tydi", "duorc"], "trained": ["de", "en"], "leakage": [], "limit": 25}
    options |= {"checkpoint": str(files / "tiny"), "translator": str(request.getfixturevalue("nllb"))}
    study = open_study("paper", options, root=tmp_path / "root")
    corpus = study.texts.train
    said = capsys.readouterr().out
    assert "duorc: left out." in said and "wikiqa: 25 pairs in en; Table 9 has 1,469" in said
    assert corpus.languages == ("de", "en") and len(corpus) == 26
    sizes = {(g.source, g.query_languages) for g in corpus.groups}
    assert ("mr-tydi", ("en",)) in sizes, "English only, as in the paper"
    assert any(source == "wikiqa" and "de" in languages for source, languages in sizes)
    assert len(study.texts.dev_pairs) == 12
    asked = len(hub.requests)
    again = open_study("paper", options, root=tmp_path / "root")
    assert again.texts.train.fingerprint == corpus.fingerprint
    assert hub.requests[asked:] == [], "what is there is not fetched again"
    assert "duorc: left out." in capsys.readouterr().out


def test_no_set_at_all_is_an_error(hub, tmp_path):
    study = open_study("paper", {"datasets": ["duorc", "entity-questions"], "leakage": []}, root=tmp_path)
    with pytest.raises(ValueError, match="none of the data sets can be had"):
        _ = study.texts.train


# ---- runs


def test_encoders_trained_elsewhere_take_the_place_of_training(files, tmp_path, benchmark):
    elsewhere = open_study("colab", own(files), root=tmp_path / "first")
    for strategy in ("hybrid", "x-y"):
        run = Run(strategy, 0, 0.5 if strategy == "hybrid" else None)
        shutil.copytree(elsewhere.train(run), tmp_path / f"mine-{strategy}-0")
    template = str(tmp_path / "mine-{strategy}-{seed}")
    study = open_study("colab", own(files, encoders=template), root=tmp_path / "second")
    rows = study.rows([run])
    assert rows["map"].tolist() == elsewhere.rows([run])["map"].tolist() and study.store.made == 1
    with pytest.raises(FileNotFoundError, match="mine-x-x-mono-0"):
        study.rows([Run("x-x-mono", 0)])


def test_strategies_are_trained_measured_labelled_and_used_again(files, tmp_path, benchmark):
    study = open_study("colab", own(files), root=tmp_path)
    rows = study.rows(study.runs())
    assert set(rows["strategy"]) == {"x-x-mono", "hybrid", "x-y"} and set(rows["profile"]) == {"colab"}
    assert study.store.made == 6
    folder = study.train(Run("hybrid", 0, 0.5)) / "encoder"
    labels = read_labels(folder)
    assert labels["strategy"] == "hybrid" and labels["alpha"] == 0.5 and labels["pairs"] == "train"
    assert "hybrid" in (folder / "README.md").read_text()
    start = study.start_rows()
    assert not start["map"].equals(rows[rows["strategy"] == "hybrid"]["map"])
    log = study.log(study.runs())
    assert log["validation_loss"].notna().sum() == 9
    again = open_study("colab", own(files), root=tmp_path)
    assert again.rows(again.runs()).equals(rows) and again.store.made == 0
    assert again.described.paper_encoder is None, "a tiny encoder is in none of the paper's tables"
    longer = open_study("colab", own(files, steps=7), root=tmp_path)
    assert longer.train(Run("x-y", 0)).name != again.train(Run("x-y", 0)).name


def test_two_processes_make_a_run_together_that_one_process_uses_again(files, tmp_path):
    script = tmp_path / "together.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom hybridlib.companion.experiment.study import Run, open_study\n"
        f"options = {own(files)!r}\n"
        f"study = open_study('colab', options, root=Path({str(tmp_path)!r}))\n"
        "folders = [study.train(Run(s, 0)).name for s in ('x-y', 'x-x-mono', 'x-y')]\n"
        "from hybridlib.training.processes import all_processes\n"
        "said = f'{folders[0]} {study.store.made} {study.store.reused}'\n"
        f"Path({str(tmp_path)!r}, f'said-{{all_processes().process_index}}').write_text(said)\n"
        "all_processes().destroy_process_group()\n"
    )
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "--num_machines", "1"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    study = open_study("colab", own(files), root=tmp_path)
    name = study.train(Run("x-y", 0)).name
    assert [(tmp_path / f"said-{process}").read_text() for process in (0, 1)] == [f"{name} 2 0"] * 2
    assert study.store.reused == 1 and (study.train(Run("x-y", 0)) / "encoder" / "README.md").exists()


# ---- notebooks


def test_the_notebooks_run_on_xquad_r_with_files_of_ones_own(files, tmp_path, data_folder):
    changes = own(files, languages=["de", "en"], dev_benchmark="xquad-r", trained=["de", "en"], alpha=0.25)
    flags = [
        part
        for name, value in changes.items()
        for part in ("-p", name, value if isinstance(value, str) else repr(value))
    ]
    command = [sys.executable, ROOT / "tools" / "run_notebooks.py", "--profile", "colab", *flags]
    command += ["--only", "01", "03", "06", "11", "12", "14"]
    environment = {**os.environ, "HYBRIDLIB_ROOT": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    place = tmp_path / "runs" / "records" / "colab-tiny-xquad-r"
    records = {path.stem: json.loads(path.read_text()) for path in place.glob("*.json")}
    assert len(records) == 6
    judged = {claim["claim"]: claim["verdict"] for claim in records["14_claims"]["claims"]}
    assert "not run" not in {v for c, v in judged.items() if c.startswith("Hybrid")}
    assert list((tmp_path / "runs" / "figures" / "colab-tiny-xquad-r-custom").glob("*.png"))
    assert list((tmp_path / "runs").glob("hybrid-0.25-seed0-*/done.json")), "every notebook that trains obeys alpha"
    assert len(list((tmp_path / "runs").glob("hybrid-0.5-seed0-*/done.json"))) == 1, "for the curve over alpha"
