"""python -m hybridlib as a user runs it: train on one's own pairs, evaluate, tables; and what it says to mistakes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from collections_made import beir_folder, json_lines, rank_run, read_qrels, read_run
from huggingface_hub import ModelCard
from made import encoder, parallel_corpus
from sentence_transformers import SentenceTransformer
from test_hub_checkpoints import mbart50

from hybridlib.__main__ import main
from hybridlib.encoder import Encoder
from hybridlib.metrics import measure


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "encoder"
    encoder(parallel_corpus()).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    corpus, path = parallel_corpus(), tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = []
    for i in range(40):
        line = {"query_id": f"q{i}", "passage_id": f"p{i}"}
        for lang in corpus.languages:
            line |= {
                f"query_{lang}": corpus.queries[lang][i].as_py(),
                f"passage_{lang}": corpus.passages[lang][i].as_py(),
            }
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def evaluated(start, tmp_path_factory):
    """One evaluation of the embedded corpus in three languages with everything written."""
    folder = tmp_path_factory.mktemp("out")
    names = {"--json": "all.json", "--rows": "rows", "--trec-run": "run.gz", "--qrels": "qrels"}
    flags = [word for flag, name in names.items() for word in (flag, str(folder / name))]
    flags += ["--languages", "de", "el", "en", "--trec-depth", "20", "--quiet"]
    assert main(["evaluate", "--checkpoint", start, "--benchmark", "demo", *flags]) == 0
    return folder


def test_train_then_evaluate_then_tables(start, pairs, tmp_path, capsys):
    out = tmp_path / "trained"
    flags = ["--checkpoint", start, "--pairs", pairs, "--steps", "20", "--batch-size", "8", "--learning-rate", "1e-3"]
    flags += ["--validation", pairs, "--validation-batches", "2", "--validate-every", "5"]
    assert main(["train", *flags, "--alpha", "0.5", "--output", str(out)]) == 0
    assert "20 steps" in capsys.readouterr().out
    assert not (out / "training.safetensors").exists() and (out / "log.parquet").exists()
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
    assert "cross-lingual (X-Y)" in card.text and "| seed | 3 |" in card.text and "Not measured yet" in card.text
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


def test_run_and_judgements_give_the_same_numbers(evaluated):
    """The TREC files of the multilingual setting at depth 20; every language has equally many queries."""
    _, ranking = rank_run(read_qrels(evaluated / "qrels"), read_run(evaluated / "run.gz"))
    found = json.loads((evaluated / "all.json").read_text())["macro"]["multi"]
    for name in ("map@20", "recall@10", "ndcg@10"):
        assert math.isclose(np.nanmean(measure(name, ranking)), found[name], abs_tol=1e-9)


@pytest.mark.parametrize("setting", ["mono", "de-en"])
def test_runs_of_other_settings(start, tmp_path, setting):
    run = tmp_path / "run"
    flags = [
        "--languages",
        "de",
        "en",
        "--quiet",
        "--trec-setting",
        setting,
        "--trec-depth",
        "3",
        "--trec-run",
        str(run),
    ]
    assert main(["evaluate", "--checkpoint", start, "--benchmark", "demo", *flags]) == 0
    lines = read_run(run)
    a, b = (lines[column].str.split(":").str[0] for column in ("query_id", "candidate_id"))
    assert (a == b).all() if setting == "mono" else ((a == "de") & (b == "en")).all()
    assert (lines.groupby("query_id").size() == 3).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["evaluate", "--checkpoint", "START", "--benchmark", "demo", "--languages", "xx"], "unknown language 'xx'"),
        (["evaluate", "--checkpoint", "/nowhere/at/all", "--benchmark", "demo"], "/nowhere/at/all"),
        (["evaluate", "--checkpoint", "START", "--benchmark", "demo", "--measures", "mapp", "--quiet"], "mapp"),
        (["train", "--checkpoint", "START", "--pairs", "PAIRS", "--output", "OUT", "--alpha", "2"], "alpha"),
        (["train", "--checkpoint", "START", "--pairs", "none.jsonl", "--output", "OUT"], "none.jsonl"),
        (["train", "--checkpoint", "START", "--pairs", "PAIRS", "--output", "OUT", "--batch-size", "41"], "only 40"),
        (
            [
                "train",
                "--checkpoint",
                "START",
                "--pairs",
                "PAIRS",
                "--output",
                "OUT",
                "--batch-size",
                "8",
                "--validate-every",
                "0",
            ],
            "validate",
        ),
        (["evaluate", "--checkpoint", "START", "--benchmark", "demo", "--trained", "zz"], "'zz'"),
        (["evaluate", "--checkpoint", "START", "--benchmark", "demo", "--trec-setting", "de"], "'de'"),
        (["tables", "--table", "99"], "99"),
        (["tables", "--rows", "OUT"], "--base"),
        (["tables", "--rows", "OUT", "--base", "labse"], "labels.json"),
    ],
)
def test_mistakes_in_data_are_named_and_leave_nothing(flags, message, start, pairs, tmp_path, capsys):
    names = {"START": start, "PAIRS": pairs, "OUT": str(tmp_path / "out")}
    assert main([names.get(flag, flag) for flag in flags]) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(
    "flags", [[], ["evaluate"], ["evaluate", "--bench", "demo"], ["train", "--alfa", "1"], ["tabels"]]
)
def test_mistakes_in_flags_exit_with_2(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        main(flags)
    assert stop.value.code == 2


@pytest.mark.parametrize("command", ["train", "evaluate", "tables"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and "--" in capsys.readouterr().out


def test_results_that_cannot_be_written_are_named(start, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    flags = ["--benchmark", "demo", "--languages", "de", "en", "--quiet", "--json", str(tmp_path / "file" / "x.json")]
    assert main(["evaluate", "--checkpoint", start, *flags]) == 1
    assert "cannot be made" in capsys.readouterr().err


# ---- searches


@pytest.fixture
def things(tmp_path, monkeypatch):
    """A collection in BEIR's format, "things" for HYBRIDLIB_DATA, whose last passage has no text; its texts."""
    texts = [f"entell thing{i} of 40" for i in range(12)] + [""]
    rows = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(texts)]
    asked = [{"_id": f"q{i}", "text": f"enask thing{i}"} for i in range(4)]
    judged = "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(4))
    beir_folder(tmp_path / "data" / "things", json_lines(rows), json_lines(asked), judged)
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
    with pytest.raises(SystemExit):
        main([*command, "--empty", "drop"])


def test_an_encoder_with_language_codes_is_told_the_collections_language(things, tmp_path):
    mbart50(tmp_path / "mbart", 0)
    command = ["search", "things", "--checkpoint", str(tmp_path / "mbart"), "--output", str(tmp_path / "found")]
    assert main([*command, "--empty", "keep", "--depth", "3", "--quiet"]) == 0
    found = read_run(tmp_path / "found" / "things-test" / "run.gz").set_index(["query_id", "candidate_id"])
    model = Encoder.load(str(tmp_path / "mbart"))
    queries, passages = (
        model.encode(texts, languages=["en"] * len(texts)).numpy()
        for texts in ([f"enask thing{i}" for i in range(4)], things)
    )
    best = -np.sort(-(queries @ passages.T), axis=1)[:, :3]
    for i, scores in enumerate(best):
        np.testing.assert_allclose(found.loc[f"q{i}"]["score"], scores, atol=1e-5)


def test_either_side_of_a_translation_has_its_own_language_code(tmp_path, monkeypatch):
    texts = [("which river", "which currency does it use"), ("Cologne", "which")]
    (tmp_path / "tatoeba-v1").mkdir()
    (tmp_path / "tatoeba-v1" / "deu-eng.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in texts))
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path))
    mbart50(tmp_path / "mbart", 0)
    command = ["search", "tatoeba-deu", "--checkpoint", str(tmp_path / "mbart"), "--output", str(tmp_path / "found")]
    assert main([*command, "--depth", "2", "--quiet"]) == 0
    model = Encoder.load(str(tmp_path / "mbart"))
    german, english = (
        model.encode([pair[side] for pair in texts], languages=[lang] * 2).numpy()
        for side, lang in enumerate(("de", "en"))
    )
    for name, queries, passages in (("deu-eng", german, english), ("eng-deu", english, german)):
        found = read_run(tmp_path / "found" / f"tatoeba-{name}" / "run.gz")
        found = found.pivot(index="query_id", columns="candidate_id", values="score")
        np.testing.assert_allclose(found, queries @ passages.T, atol=1e-5)


def test_a_query_that_is_in_the_corpus_is_no_find_in_beirs_arguana(start, tmp_path, monkeypatch, capsys):
    """Argument i answers argument i + 1: what is nearest to it is itself, then, if that is left out, another."""
    rows = [{"_id": f"a{i}", "title": "", "text": f"entell thing{i} of 40"} for i in range(6)]
    judged = "query-id\tcorpus-id\tscore\n" + "".join(f"a{i}\ta{(i + 1) % 6}\t1\n" for i in range(6))
    asked = [{"_id": row["_id"], "text": row["text"]} for row in rows]
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))
    runs = {}
    for name in ("arguana", "arguments"):
        beir_folder(tmp_path / "data" / name, json_lines(rows), json_lines(asked), judged)
        command = ["search", name, "--checkpoint", start, "--output", str(tmp_path / "found"), "--depth", "3"]
        assert main([*command, "--quiet"]) == 0
        runs[name] = read_run(tmp_path / "found" / f"{name}-test" / "run.gz").groupby("query_id")["candidate_id"]
    for query, found in runs["arguments"]:
        assert found.iloc[0] == query, "no other text is as near"
        without = runs["arguana"].get_group(query).tolist()
        assert without[:2] == found.tolist()[1:] and len(without) == 3 and query not in without


def test_the_experiment_makes_the_searches_of_its_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path))
    parameters = {"languages": "['de', 'en']", "steps": "2", "dictionary_steps": "2", "extra_candidates": "0"}
    command = ["experiment", "--profile", "smoke", "--strategy", "x-y"]
    command += [word for name, value in parameters.items() for word in ("-p", name, value)]
    assert main([*command, "--seed", "0", "7"]) == 1
    assert "--seed 7: the profile has 0; -p seeds sets others" in capsys.readouterr().err
    assert main([*command, "--search", "embedded-xx"]) == 1
    assert "embedded-xx: no such collection" in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("x-y*")), "collections are looked for before any training"
    assert main([*command, "--search", "embedded-de", "tatoeba"]) == 0
    said = [line.partition(" searched in ")[0] for line in capsys.readouterr().out.splitlines() if "searched" in line]
    names = ["embedded-de", "embedded-sentences-de-en", "embedded-sentences-en-de"]
    assert said == [f"x-y-seed0: {name}" for name in names]
    assert all(list((tmp_path / "runs").glob(f"search-{name}-x-y-seed0-*/done.json")) for name in names)


def test_two_processes_make_the_experiment_on_the_embedded_corpus(tmp_path):
    """Other runs than the three strategies too; one process then finds them complete."""
    launch = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "hybridlib"]
    command = ["experiment", "--profile", "smoke", "--strategy", "en-en"]
    for name, value in {"languages": "['de', 'en']", "steps": "2", "dictionary_steps": "2"}.items():
        command += ["-p", name, value]
    environment = {**os.environ, "HYBRIDLIB_ROOT": str(tmp_path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    together = [sys.executable, "-m", "accelerate.commands.launch", *launch, *command]
    said = []
    for words in (together, [sys.executable, "-m", "hybridlib", *command]):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1] and said[0].startswith("en-en-seed0: ")
    assert len(list((tmp_path / "runs").glob("en-en-seed0-*/done.json"))) == 1


def test_two_processes_make_the_searches_together(things, start, pairs, data_folder, tmp_path):
    (tmp_path / "data" / "xquad-r").symlink_to(data_folder / "xquad-r")
    (tmp_path / "data" / "things" / "corpus.jsonl").write_bytes(
        json_lines([{"_id": f"d{i}", "text": things[i]} for i in range(12)])
    )
    parameters = {"checkpoint": start, "pairs": pairs, "validation": "none", "steps": 2, "batch_size": 8}
    parameters |= {"trained": ["de", "en"], "languages": ["de", "en"], "max_length": 16}
    flags = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "--num_machines", "1"]
    flags += [
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "-m",
        "hybridlib",
        "experiment",
        "--profile",
        "colab",
    ]
    flags += [word for name, value in parameters.items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "accelerate.commands.launch", *flags, "--strategy", "x-y", "--search", "things"]
    environment = {**os.environ, "HYBRIDLIB_ROOT": str(tmp_path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("x-y-seed0: things-test searched in") == 1, "the main process says it"
    (folder,) = (tmp_path / "runs").glob("search-things-test-x-y-seed0-*/")
    assert len(read_run(folder / "run.gz")) == 4 * 12
