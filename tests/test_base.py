"""ParallelPairs: checks, ids to rows, groups, and a saved corpus that opens memory-mapped and whole."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from made import parallel_corpus

from hybridlib.corpora import ParallelPairs, tables
from hybridlib.corpora.tables import fingerprint
from hybridlib.sampler import BatchSampler

QUERIES = {"query_id": ["q1", "q2", "q3"], "de": ["eins?", None, "drei?"], "en": ["one?", "two?", "three?"]}
PASSAGES = {"passage_id": ["p1", "p2"], "de": ["eins", None], "en": ["one", "two"]}
PAIRS = {
    "query_id": ["q1", "q2", "q3", "q3"],
    "passage_id": ["p1", "p2", "p1", "p2"],
    "source": ["a", "b", "a", "a"],
    "negatives": [["p2"], [], ["p2"], None],
}


def build(queries: dict | None = None, passages: dict | None = None, pairs: dict | None = None) -> ParallelPairs:
    parts = (QUERIES | (queries or {}), PASSAGES | (passages or {}), PAIRS | (pairs or {}))
    return ParallelPairs.build(*map(pa.table, parts), name="small")


def test_ids_become_rows_and_pairs_are_grouped_by_source_and_languages():
    corpus = build()
    assert corpus.languages == ("de", "en") and len(corpus) == 4
    found = [(g.source, g.query_languages, g.passage_languages, g.stop - g.start) for g in corpus.groups]
    assert found == [
        ("a", ("de", "en"), ("en",), 1),
        ("a", ("de", "en"), ("de", "en"), 2),
        ("b", ("en",), ("en",), 1),
    ]
    assert sum(g.stop - g.start for g in corpus.groups) == len(corpus)
    assert [rows.tolist() for rows in corpus.positives([0, 1, 2])] == [[0], [1], [0, 1]]


def test_a_negative_without_a_text_in_the_language_is_left_out():
    corpus = build()
    row = next(i for i in range(4) if corpus.query_rows[i] == 0)
    assert corpus[row, "de", "de"] == {"query": "eins?", "passage": "eins", "negatives": []}
    assert corpus[row, "de", "en"] == {"query": "eins?", "passage": "one", "negatives": ["two"]}
    with pytest.raises(ValueError, match="'q2' has no text in 'de'"):
        corpus.query_texts([1], ["de"])


def test_a_saved_corpus_is_the_same_and_draws_the_same(tmp_path):
    corpus = parallel_corpus(negatives=True)
    corpus.save(tmp_path / "corpus")
    again = ParallelPairs.load(tmp_path / "corpus")
    assert again.fingerprint == corpus.fingerprint and again.groups == corpus.groups
    batches = [BatchSampler(c, "hybrid", batch_size=8, steps=3, seed=1).batch(2) for c in (corpus, again)]
    assert corpus.__getitems__(batches[0].keys()) == again.__getitems__(batches[1].keys())
    assert again.fingerprint != parallel_corpus(n=39, negatives=True).fingerprint
    with pytest.raises(FileNotFoundError, match="no saved corpus"):
        ParallelPairs.load(tmp_path)


def fingerprint_of(column: pa.ChunkedArray | pa.Array, name: str = "x") -> str:
    return fingerprint("made", pa.table({name: column}))


def test_a_fingerprint_depends_on_what_is_held_and_not_on_how():
    texts = ["a", None, "", "böc", "a"]
    first = fingerprint_of(pa.array(texts))
    assert first == fingerprint_of(pa.chunked_array([texts[:2], texts[2:]]))
    assert first == fingerprint_of(pa.array(["z", *texts]).slice(1))
    assert first == fingerprint_of(pa.array(texts, pa.large_string()))
    assert first == fingerprint_of(pa.array(texts).dictionary_encode())
    lists = [[1, 2], None, [], [3]]
    assert fingerprint_of(pa.array(lists)) == fingerprint_of(pa.chunked_array([lists[:1], lists[1:]]))
    assert fingerprint_of(pa.array([1, 2], pa.int32())) == fingerprint_of(pa.array([1, 2], pa.int64()))
    nothing = pa.array([None, None])
    assert fingerprint_of(nothing) == fingerprint_of(nothing.cast(pa.string()))
    table = pa.table({"a": ["x"], "b": ["y"]})
    assert fingerprint("made", table) == fingerprint("made", table.select(["b", "a"]))
    held = [["ab", "c"], ["a", "bc"], ["abc", ""], ["abc", None], [None, "abc"], ["abc"], ["c", "ab"], [1, 2], [2, 1]]
    held += [[[1], [2]], [[1, 2], []], [[1, 2], None], [[2, 1], []], [["ab", "c"], []], [["a", "bc"], []]]
    found = [fingerprint_of(pa.array(values)) for values in held] + [fingerprint_of(pa.array(["ab", "c"]), "y")]
    found += [fingerprint("made", table), fingerprint("other", table), fingerprint("made", table, table)]
    assert len(set(found)) == len(found)
    with pytest.raises(TypeError, match="bool has no fingerprint"):
        fingerprint_of(pa.array([True]))


def test_a_corpus_of_an_older_version_is_refused(tmp_path):
    build().save(tmp_path / "corpus")
    file = tmp_path / "corpus" / "corpus.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({key: about[key] for key in about if key != "repeats"}))
    with pytest.raises(ValueError, match="saved by a version before 0.2; write the corpus again"):
        ParallelPairs.load(tmp_path / "corpus")


def test_texts_under_several_ids_are_counted_per_language(tmp_path):
    texts = {"de": ["eins", "eins", None, None], "en": ["one", "two", "one", "one"]}
    queries = pa.table({"query_id": ["q1", "q2", "q3", "q4"], "en": ["one?", "two?", "three?", "one"]})
    pairs = {"query_id": ["q1", "q2", "q3", "q4"], "passage_id": ["p1", "p2", "p3", "p4"], "source": ["a"] * 4}
    corpus = ParallelPairs.build(
        queries, pa.table({"passage_id": ["p1", "p2", "p3", "p4"], **texts}), pa.table(pairs), name="small"
    )
    assert corpus.repeats == {"queries": 0, "passages": 2}, "'eins' and 'one'"
    assert corpus.repeats_in_words.startswith("small: 2 texts of passages stand under more than one id")
    assert build().repeats_in_words == ""
    corpus.save(tmp_path / "corpus")
    assert ParallelPairs.load(tmp_path / "corpus").repeats == corpus.repeats


def test_values_whose_hashes_are_equal_are_compared(monkeypatch):
    column = pa.chunked_array([["a", None, "b"], ["a", None, "c", "c"]])
    expected = [["a", "c"], []]
    found = [tables._repeated(values).sort().to_pylist() for values in (column, pa.chunked_array([["x"], ["y"]]))]
    assert found == expected
    monkeypatch.setattr(tables.pd.util, "hash_array", lambda values, **_: np.zeros(len(values), np.uint64))
    found = [tables._repeated(values).sort().to_pylist() for values in (column, pa.chunked_array([["x"], ["y"]]))]
    assert found == expected


def test_more_languages_than_bits_are_refused():
    texts = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    with pytest.raises(ValueError, match="65 languages are more than the 63"):
        build(queries={"query_id": ["q1"], **{lang: ["x"] for lang in ("de", "en", *texts)}}, pairs=first_pair())


def first_pair() -> dict:
    return {key: values[:1] for key, values in PAIRS.items()}
