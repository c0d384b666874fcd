"""Texts of evaluation sets in training data: found whatever their punctuation, counted per language, taken out."""

from __future__ import annotations

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import parallel_corpus

from hybridlib.__main__ import main
from hybridlib.companion.sources import leakage
from hybridlib.companion.sources.filters import Counts, Row, write_rows
from hybridlib.companion.sources.leakage import (
    MIRACL_LANGUAGES,
    digests,
    normalised,
    of_benchmark,
    protect,
    without_leaks,
)
from hybridlib.companion.sources.table9 import find
from hybridlib.corpora import Benchmark, ParallelPairs


@pytest.mark.parametrize(
    ("text", "compared"),
    [
        ("  Who\u00a0wrote “Faust” (Part\tI)? ", "who wrote faust part i"),
        ("Straße", "strasse"),
        ("ｆｕｌｌ ｗｉｄｔｈ １", "full width 1"),
        ("“Quoted” — text…", "quoted text"),
        ("谁写了《浮士德》？", "谁写了 浮士德"),
        ("cafe\u0301", "caf\u00e9"),
        ("कि का", "कि का"),
        ("C++", "c++"),
        ("?!", ""),
    ],
)
def test_texts_are_compared_without_form_case_and_punctuation(text, compared):
    assert normalised(text) == compared
    assert len(digests([text, compared, compared.upper()])) == bool(compared)  # punctuation alone is no leak


def test_leaks_are_counted_per_language_and_taken_out(tmp_path, monkeypatch):
    monkeypatch.setattr(leakage, "CHUNK", 3)
    corpus = parallel_corpus(10, negatives=True)
    passages = ["frtell, thing5 of 10", "entell thing5 of 10", "frtell thing6 of 10"]
    protected = {"set question": digests(["DEASK THING3!", "nobody asks this"]), "set passage": digests(passages)}
    clean, counts = without_leaks(corpus, protected, tmp_path / "clean")
    assert counts == {
        ("queries", "de", "set question"): 1,
        ("passages", "en", "set passage"): 1,
        ("passages", "fr", "set passage"): 2,
    }
    assert sorted(clean.queries["query_id"].to_pylist()) == [str(i) for i in (0, 1, 2, 4, 5, 6, 7, 8, 9)]
    assert sorted(clean.passages["passage_id"].to_pylist()) == [str(i) for i in (0, 1, 2, 3, 4, 7, 8, 9)]
    pairs = {clean.queries["query_id"][int(row)].as_py() for row in clean.query_rows}
    assert pairs == {str(i) for i in (0, 1, 2, 4, 7, 8, 9)}
    names = clean.passages["passage_id"].to_pylist()
    negatives = {
        clean.queries["query_id"][query].as_py(): [names[row] for row in some]
        for query, some in zip(clean.query_rows.tolist(), clean.pairs["negatives"].to_pylist(), strict=True)
    }
    assert negatives["4"] == [] and negatives["9"] == ["0", "1"] and negatives["7"] == ["8", "9"]
    assert without_leaks(clean, protected, tmp_path / "again") == (clean, {}) and not (tmp_path / "again").exists()


def test_nothing_left(tmp_path):
    with pytest.raises(ValueError, match="made: no pair is left of 1"):
        without_leaks(parallel_corpus(1), {"set question": digests(["deask thing0"])}, tmp_path / "clean")


def miracl(folder, questions: dict[str, str]):
    """MIRACL's topics in every language, half of them gzipped."""
    (folder / "miracl-dev").mkdir(parents=True)
    for i, lang in enumerate(MIRACL_LANGUAGES):
        content = f"1#0\t{questions.get(lang, f'question in {lang}')}\n".encode()
        path = folder / "miracl-dev" / f"topics.miracl-v1.0-{lang}-dev.tsv"
        if i % 2:
            path.with_suffix(".tsv.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    return folder


def test_miracl_from_a_folder_and_from_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_DATA", str(miracl(tmp_path / "data", {"en": "is it so?"})))
    protected = protect(["miracl"])
    assert digests(["Is it so"]) < protected["miracl question"] and len(protected["miracl question"]) == 18
    files = {
        f"miracl-v1.0-{lang}/topics/topics.miracl-v1.0-{lang}-dev.tsv": f"7\tfrage {lang}\n".encode()
        for lang in MIRACL_LANGUAGES
    }
    hub.add("dataset", "miracl/miracl", files)
    monkeypatch.delenv("HYBRIDLIB_DATA")
    assert digests(["Frage de?"]) < protect(["miracl"])["miracl question"]


def test_a_damaged_topics_file_and_an_unknown_set(tmp_path, monkeypatch):
    folder = miracl(tmp_path, {})
    monkeypatch.setenv("HYBRIDLIB_DATA", str(folder))
    (folder / "miracl-dev" / "topics.miracl-v1.0-ar-dev.tsv").write_text("no tab\n")
    with pytest.raises(ValueError, match="topics.miracl-v1.0-ar-dev.tsv, line 1: no tab"):
        protect(["miracl"])
    with pytest.raises(ValueError, match="unknown evaluation set 'squad'; choose from xquad-r"):
        protect(["squad"])


def test_xquad_r_is_protected_with_its_paragraphs(data_folder):
    if not (data_folder / "xquad-r").is_dir():
        pytest.skip("no xquad-r in HYBRIDLIB_DATA")
    protected = protect(["xquad-r"])
    questions, passages = protected["xquad-r question"], protected["xquad-r passage"]
    assert digests(["how many POINTS did the panthers' defense surrender"]) < questions
    assert 12_000 < len(questions) <= 13_090
    assert 15_000 < len(passages) <= 13_014 + 11 * 240
    path = data_folder / "xquad-r" / "en.json"
    raw = path.read_bytes() if path.exists() else gzip.decompress(path.with_suffix(".json.gz").read_bytes())
    for article in json.loads(raw)["data"]:
        for paragraph in article["paragraphs"]:
            assert digests([paragraph["context"], *paragraph["sentences"]]) <= passages
            assert digests(question["question"] for question in paragraph["qas"]) <= questions


def test_the_command_counts_and_takes_out(tmp_path, monkeypatch, capsys, hub):
    monkeypatch.setenv("HYBRIDLIB_DATA", str(miracl(tmp_path / "data", {"en": "Where did it rain?"})))
    buffer, source = io.BytesIO(), find("newsqa")
    records = [
        {"context": "(CNN) -- It rained in Rome.", "question": question, "answers": ["Rome"]}
        for question in ("where did it RAIN", "Which city was wet?")
    ]
    pq.write_table(pa.Table.from_pylist(records), buffer)
    hub.add("dataset", source.repo, {source.files[0]: buffer.getvalue()}, source.revision)
    assert main(["data", "newsqa", "--output", str(tmp_path / "out"), "--check-leakage", "miracl"]) == 0
    printed = capsys.readouterr().out
    assert "newsqa: 1 pairs in en" in printed
    assert "taken out: 1 queries in en = miracl question" in printed
    corpus = ParallelPairs.load(tmp_path / "out" / "newsqa")
    assert corpus.queries["en"].to_pylist() == ["Which city was wet?"]
    counts = Counts.load(tmp_path / "out" / "newsqa")
    assert (counts.kept, counts.leaks) == (2, {"queries in en = miracl question": 1})


def test_rows_and_benchmark_together(tmp_path):
    queries = {"query_id": ["en:1"], "lang": ["en"], "question_id": ["1"], "cluster": ["1"], "text": ["Who is it?"]}
    candidates = {"candidate_id": ["en:1"], "lang": ["en"], "text": ["It is she."]}
    relevant = {"query_id": ["en:1"], "candidate_id": ["en:1"], "gain": [1]}
    benchmark = Benchmark.build("made", ["en"], *map(pa.table, (queries, candidates, relevant)))
    made = [Row("WHO IS IT", "some passage"), Row("some question", "it is -- she!!"), Row("clean", "clean too")]
    corpus = write_rows(tmp_path / "made", made, name="made")
    _, counts = without_leaks(corpus, of_benchmark(benchmark), tmp_path / "clean")
    assert sum(counts.values()) == 2
