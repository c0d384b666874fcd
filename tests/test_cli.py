"""python -m hybridlib as a user runs it: train on one's own pairs, evaluate, tables; and what it says to mistakes."""

from __future__ import annotations

import json
import subprocess
import sys

import ir_measures
import numpy as np
import pandas as pd
import pytest
from collections_made import beir_folder, json_lines
from huggingface_hub import ModelCard
from ir_measures import AP, R, nDCG
from made import encoder, launched, pairs_file, parallel_corpus
from sentence_transformers import SentenceTransformer

from hybridlib.__main__ import main, make_parser
from hybridlib.companion import commands
from hybridlib.companion.sources.named import named_pairs
from hybridlib.training import BatchSettings, TrainingSettings

SMALL = ["--languages", "de", "el", "en", "--quiet"]  # of the embedded corpus


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("start") / "encoder"
    encoder(parallel_corpus()).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> str:
    return str(pairs_file(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", parallel_corpus()))


@pytest.fixture(scope="module")
def evaluated(start, tmp_path_factory):
    """Folder of one evaluation of the embedded corpus in three languages with everything written."""
    folder = tmp_path_factory.mktemp("out")
    names = {"--json": "all.json", "--rows": "rows", "--trec-run": "run.gz", "--qrels": "qrels"}
    flags = [word for flag, name in names.items() for word in (flag, str(folder / name))]
    flags += [*SMALL, "--trec-depth", "20"]
    assert main(["evaluate", "--checkpoint", start, "--benchmark", "demo", *flags]) == 0
    return folder


# ---- flags


def test_flags_of_a_training_are_the_fields_of_its_settings():
    words = "--checkpoint a --pairs b c --output d --steps 7 --languages de en --seed 3 --max-grad-norm 0.5 --cached"
    words = [*words.split(), "--no-mask-translations", "--patience", "2", "--batch_size", "9"]
    train = commands.Train(**vars(make_parser(commands.Train).parse_args(words)))
    assert train.part(BatchSettings) == BatchSettings(steps=7, languages=["de", "en"], seed=3, batch_size=9)
    settings = TrainingSettings(seed=3, max_grad_norm=0.5, cached=True, mask_translations=False, patience=2)
    assert train.part(TrainingSettings) == settings
    assert train.pairs == ["b", "c"] and train.checkpoint == "a"


@pytest.mark.parametrize(
    "flags", [[], ["evaluate"], ["evaluate", "--bench", "demo"], ["train", "--alfa", "1"], ["tabels"]]
)
def test_mistakes_in_flags_exit_with_2(flags):
    with pytest.raises(SystemExit) as stop:
        main(flags)
    assert stop.value.code == 2


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_help_shows_dashes(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command.__name__.lower(), "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and command.__doc__.split()[0] in shown
    assert not [word for word in shown.split() if word.startswith("--") and "_" in word]


def test_flags_are_read_before_torch_is_loaded():
    code = "import sys\nfrom hybridlib.__main__ import main\ntry: main(['train', '--alfa'])\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "False" and "--pairs" in ran.stderr


# ---- training and evaluation


def test_train_then_evaluate_then_tables(start, pairs, tmp_path, capsys):
    out = tmp_path / "trained"
    flags = ["--checkpoint", start, "--pairs", pairs, "--steps", "20", "--batch-size", "8", "--learning-rate", "1e-3"]
    flags += ["--validation", pairs, "--validation-batches", "2", "--validate-every", "5"]
    assert main(["train", *flags, "--alpha", "0.5", "--output", str(out)]) == 0
    assert "20 steps" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["encoder", "log.parquet"]
    rows = str(tmp_path / "rows")
    flags = ["--benchmark", "demo", "--languages", "de", "en", "--quiet", "--rows", rows]
    assert main(["evaluate", "--checkpoint", str(out / "encoder"), *flags]) == 0
    labels = json.loads((tmp_path / "rows" / "labels.json").read_text())
    assert labels["strategy"] == "hybrid" and labels["alpha"] == 0.5 and labels["batch_size"] == 8
    capsys.readouterr()
    assert main(["tables", "--rows", rows, "--base", "xlm-r", "--output", str(tmp_path / "tables")]) == 0
    printed = capsys.readouterr().out
    assert "not run" in printed and "0.798" in printed  # another benchmark fills no cell of the paper's tables
    assert (tmp_path / "tables" / "table01.csv").exists()


def test_a_trained_checkpoint_has_its_card(start, pairs, tmp_path, capsys):
    folder = tmp_path / "trained" / "encoder"
    flags = ["--checkpoint", start, "--pairs", pairs, "--steps", "4", "--batch-size", "8", "--strategy", "x-y"]
    flags += ["--query-prefix", "Query: ", "--passage-prefix", "Passage: ", "--seed", "3"]
    assert main(["train", *flags, "--output", str(folder.parent)]) == 0
    card = ModelCard.load(folder / "README.md")
    assert card.data.language == ["de", "en", "fr"] and card.data.library_name == "sentence-transformers"
    for fact in ("cross-lingual (X-Y)", "| seed | 3 |", "| alpha | - |", f"| start | {start} |", "Not measured yet"):
        assert fact in card.text
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.prompts["query"] == "Query: " and model.prompts["document"] == "Passage: "
    for languages in (["de", "en", "el"], ["de", "en"]):  # the second takes the place of the first
        flags = ["--benchmark", "demo", "--languages", *languages, "--quiet", "--card", "--json", str(tmp_path / "j")]
        assert main(["evaluate", "--checkpoint", str(folder), *flags]) == 0
    card, measured = ModelCard.load(folder / "README.md"), json.loads((tmp_path / "j").read_text())
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert scores["map multi"] == measured["macro"]["multi"]["map"] and len(scores) == 4
    assert f"{measured['rank_distance']['mean']:.4f}" in card.text
    capsys.readouterr()
    assert main(["evaluate", "--checkpoint", start, "--benchmark", "demo", "--card"]) == 1
    assert "only a checkpoint trained with hybridlib" in capsys.readouterr().err


def test_json_has_every_setting(evaluated):
    found = json.loads((evaluated / "all.json").read_text())
    languages = ["de", "el", "en"]
    assert list(found["settings"]["mono"]) == list(found["settings"]["multi"]) == languages
    assert sorted(found["settings"]["cross"]) == sorted(f"{a}-{b}" for a in languages for b in languages if a != b)
    values = found["settings"]["cross"]["de-en"]
    assert {"map", "map@20", "recall@1", "recall@10", "precision@1", "ndcg@10", "mrr"} <= values.keys()
    for setting in ("mono", "cross", "multi"):
        mean = np.mean([cell["map"] for cell in found["settings"][setting].values()])
        assert found["macro"][setting]["map"] == pytest.approx(mean)
    distances = [found["rank_distance"][lang] for lang in languages]
    assert found["rank_distance"]["mean"] == pytest.approx(np.mean(distances))
    assert found["counts"]["en"]["queries"] > 100 and found["excluded"] == dict.fromkeys(found["excluded"], {})


def test_trec_eval_gets_the_same_numbers_from_run_and_judgements(evaluated):
    """The multilingual setting at depth 20; every language has equally many queries."""
    run = ir_measures.read_trec_run(str(evaluated / "run.gz"))
    qrels = ir_measures.read_trec_qrels(str(evaluated / "qrels"))
    theirs = ir_measures.calc_aggregate([AP @ 20, R @ 10, nDCG @ 10], qrels, run)
    ours = json.loads((evaluated / "all.json").read_text())["macro"]["multi"]
    for measure, name in ((AP @ 20, "map@20"), (R @ 10, "recall@10"), (nDCG @ 10, "ndcg@10")):
        assert theirs[measure] == pytest.approx(ours[name], abs=1e-6)


@pytest.mark.parametrize("setting", ["mono", "de-en"])
def test_runs_of_other_settings(start, tmp_path, setting):
    flags = ["--languages", "de", "en", "--quiet", "--trec-setting", setting, "--trec-depth", "3"]
    flags += ["--trec-run", str(tmp_path / "run")]
    assert main(["evaluate", "--checkpoint", start, "--benchmark", "demo", *flags]) == 0
    run = pd.read_csv(tmp_path / "run", sep=" ", header=None)
    a, b = (run[column].str.split(":").str[0] for column in (0, 2))
    assert (a == b).all() if setting == "mono" else ((a == "de") & (b == "en")).all()
    assert (run.groupby(0).size() == 3).all()


TRAIN = ["train", "--checkpoint", "START", "--pairs", "PAIRS", "--output", "OUT"]
MEASURE = ["evaluate", "--checkpoint", "START", "--benchmark", "demo"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*MEASURE, "--languages", "xx"], "unknown language 'xx'"),
        (["evaluate", "--checkpoint", "/nowhere/at/all", "--benchmark", "demo"], "/nowhere/at/all"),
        ([*MEASURE, "--measures", "mapp", "--quiet"], "mapp"),
        ([*MEASURE, "--trained", "zz"], "'zz'"),
        ([*MEASURE, "--trec-setting", "de"], "'de'"),
        ([*MEASURE, "--languages", "de", "en", "--quiet", "--json", "FILE/x.json"], "cannot be made"),
        ([*TRAIN, "--alpha", "2"], "alpha"),
        (["train", "--checkpoint", "START", "--pairs", "none.jsonl", "--output", "OUT"], "none.jsonl"),
        ([*TRAIN, "--batch-size", "41"], "only 40"),
        ([*TRAIN, "--batch-size", "8", "--validate-every", "0"], "validate"),
        (["tables", "--table", "99"], "99"),
        (["tables", "--rows", "OUT"], "--base"),
        (["tables", "--rows", "OUT", "--base", "labse"], "labels.json"),
        (["data", "wikiqa"], "--output is missing"),
        (["data", "wikiqa", "--output", "OUT", "--query-length", "3"], "--query-length takes two numbers"),
        (["experiment", "--profile", "smoke", "--seed", "0", "7"], "--seed 7: the profile has 0; -p seeds sets others"),
    ],
)
def test_mistakes_in_data_are_named_and_leave_nothing(flags, message, start, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path))
    (tmp_path / "file").write_text("")
    names = {"START": start, "PAIRS": pairs, "OUT": str(tmp_path / "out"), "FILE/x.json": str(tmp_path / "file" / "x")}
    assert main([names.get(flag, flag) for flag in flags]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.rglob("*.*"))


def test_pairs_of_several_names_are_one_corpus(pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path))
    corpus = named_pairs(pairs, "demo")
    alone = named_pairs(pairs), named_pairs("demo")
    assert len(corpus) == sum(map(len, alone)) and corpus.name == f"{alone[0].name}+{alone[1].name}"
    assert corpus.fingerprint == named_pairs(pairs, "demo").fingerprint
    assert len(named_pairs("demo", held_out=True)) < len(alone[1])


# ---- searches and experiments


@pytest.fixture
def things(tmp_path, monkeypatch) -> list[str]:
    """A collection in BEIR's format, "things" for HYBRIDLIB_DATA, whose last passage has no text; its texts."""
    texts = [f"entell thing{i} of 40" for i in range(12)] + [""]
    rows = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(texts)]
    queries = [{"_id": f"q{i}", "text": f"enask thing{i}"} for i in range(4)]
    judged = "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(4))
    beir_folder(tmp_path / "data" / "things", json_lines(rows), json_lines(queries), judged)
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))
    return texts


def test_a_passage_without_text_is_an_error_unless_it_is_kept(things, start, tmp_path, capsys):
    command = ["search", "things", "--checkpoint", start, "--output", str(tmp_path / "found"), "--quiet"]
    command += ["--passage-prefix", "thing0 "]  # this tokenizer makes no token of nothing
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "corpus.jsonl, line 13: the text is empty" in error and "keep" in error
    assert main([*command, "--empty", "keep"]) == 0
    assert capsys.readouterr().out.startswith("things-test: 13 passages")


def test_two_processes_make_the_experiment_on_the_embedded_corpus(tmp_path):
    """Other runs than the three strategies too; one process then finds them complete."""
    command = ["experiment", "--profile", "smoke", "--strategy", "en-en"]
    for name, value in {"languages": "['de', 'en']", "steps": "2", "dictionary_steps": "2"}.items():
        command += ["-p", name, value]
    said = [launched(processes, command, HYBRIDLIB_ROOT=str(tmp_path)) for processes in (2, 1)]
    assert said[0] == said[1] and said[0].startswith("en-en-seed0: ")
    assert len(list((tmp_path / "runs").glob("en-en-seed0-*/done.json"))) == 1


def test_two_processes_make_the_searches_together(things, start, pairs, data_folder, tmp_path):
    (tmp_path / "data" / "xquad-r").symlink_to(data_folder / "xquad-r")
    whole = json_lines([{"_id": f"d{i}", "text": things[i]} for i in range(12)])
    (tmp_path / "data" / "things" / "corpus.jsonl").write_bytes(whole)
    parameters = {"checkpoint": start, "pairs": pairs, "validation": "none", "steps": 2, "batch_size": 8}
    parameters |= {"trained": ["de", "en"], "languages": ["de", "en"], "max_length": 16}
    command = ["experiment", "--profile", "colab", "--strategy", "x-y", "--search", "things"]
    command += [word for name, value in parameters.items() for word in ("-p", name, str(value))]
    said = launched(2, command, HYBRIDLIB_ROOT=str(tmp_path))
    assert said.count("x-y-seed0: things-test searched in") == 1, "the main process says it"
    (folder,) = (tmp_path / "runs").glob("search-things-test-x-y-seed0-*/")
    assert len(pd.read_csv(folder / "run.gz", sep=" ", header=None)) == 4 * 12
