"""Token ids in files: the same as in memory, resumed after an interruption, never taken for whole when torn."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import torch
from made import encoder, parallel_corpus

from hybridlib.corpora import ParallelPairs
from hybridlib.training import tokens
from hybridlib.training.tokens import TokenizedPairs, TokenLists, padded, tokenizer_hash, write_tokens

CORPUS = parallel_corpus()
ROWS, LANGUAGES = [3, 0, 39, 3], ["de", "en", "fr", "en"]


@pytest.fixture
def large(monkeypatch) -> None:
    """Every table counts as a large one, and is written in several shards."""
    monkeypatch.setattr(tokens, "KEPT", 0)
    monkeypatch.setattr(tokens, "SHARD", 7)


def lists(arrays: list[np.ndarray]) -> list[list[int]]:
    assert all(ids.dtype == np.int32 and ids.ndim == 1 for ids in arrays)
    return [ids.tolist() for ids in arrays]


def test_ids_from_memory_from_files_and_of_each_batch_are_the_tokenizers(tmp_path, monkeypatch):
    model = encoder(CORPUS)
    model.query_prefix = "ask "
    queries = model.tokenize(["ask " + text for text in CORPUS.query_texts(ROWS, LANGUAGES)])
    passages = model.tokenize(CORPUS.passage_texts(ROWS, LANGUAGES))
    assert lists(TokenizedPairs(CORPUS, model).query_ids(ROWS, LANGUAGES)) == queries
    monkeypatch.setattr(tokens, "KEPT", 0)
    for pairs in (TokenizedPairs(CORPUS, model), TokenizedPairs(CORPUS, model, tmp_path)):
        assert lists(pairs.query_ids(ROWS, LANGUAGES)) == queries
        assert lists(pairs.passage_ids(ROWS, LANGUAGES)) == passages
        assert pairs.query_ids([], []) == []


def test_padding_is_masked_and_no_mask_without_it():
    rows = [np.array([5, 6, 7], np.int32), np.array([8], np.int32)]
    batch = padded(rows, 1, torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert padded(rows[:1], 1, torch.device("cpu"))["attention_mask"] is None


def test_files_are_written_once_and_used_by_the_next(tmp_path, large, monkeypatch):
    model = encoder(CORPUS)
    TokenizedPairs(CORPUS, model, tmp_path).prepare()
    found = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert [name.rsplit("-", 1)[0] for name in found] == [
        f"{side}-{lang}" for side in ("passage", "query") for lang in ("de", "en", "fr")
    ]
    expected = model.tokenize(CORPUS.query_texts(ROWS, LANGUAGES))
    monkeypatch.setattr(model, "tokenize", None)  # nothing is tokenised again
    assert lists(TokenizedPairs(CORPUS, model, tmp_path).query_ids(ROWS, LANGUAGES)) == expected


def test_another_prefix_length_tokenizer_or_corpus_has_files_of_its_own(tmp_path, large):
    first, other = encoder(CORPUS), encoder(CORPUS)
    other.query_prefix, other.max_length = "q: ", 3
    wider = encoder(parallel_corpus(60))
    assert tokenizer_hash(first.tokenizer) == tokenizer_hash(encoder(CORPUS).tokenizer)
    assert tokenizer_hash(first.tokenizer) != tokenizer_hash(wider.tokenizer)
    for pairs in (TokenizedPairs(CORPUS, first, tmp_path), TokenizedPairs(CORPUS, other, tmp_path)):
        pairs.query_ids([0], ["en"])
    TokenizedPairs(CORPUS, wider, tmp_path).query_ids([0], ["en"])
    TokenizedPairs(parallel_corpus(39), first, tmp_path).query_ids([0], ["en"])
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 4
    before = tokenizer_hash(first.tokenizer)
    first.tokenizer(["a", "b b"], padding=True, truncation=True, max_length=2)  # sets the tokenizer's own state
    assert tokenizer_hash(first.tokenizer) == before


def column(n: int = 40) -> pa.ChunkedArray:
    """n texts in two chunks, every fifth null; text i has i % 4 + 1 words."""
    texts = [None if i % 5 == 4 else " ".join(["x"] * (i % 4 + 1)) for i in range(n)]
    return pa.chunked_array([texts[:13], texts[13:]], pa.string())


def tokenize(texts: list[str]) -> list[list[int]]:
    return [[1] + [65_535] * text.count("x") for text in texts]


@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize("change", [lambda ids: ids, lambda ids: ids[:-1], lambda ids: ids + b"\1" * 9])
def test_an_interrupted_file_goes_on_where_it_stopped(tmp_path, large, stop, change):
    calls = []

    def interrupted(texts: list[str]) -> list[list[int]]:
        calls.append(len(texts))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return tokenize(texts)

    about = {"dtype": "<u2"}
    with pytest.raises(KeyboardInterrupt):
        write_tokens(tmp_path / "file", column(), interrupted, about)
    assert not (tmp_path / "file").exists()
    ids = tmp_path / ".file.part" / "ids"
    ids.write_bytes(change(ids.read_bytes()))
    write_tokens(tmp_path / "file", column(), interrupted, about)
    assert sum(calls) - calls[stop - 1] in (32, 33)  # of 40 texts 8 are null; one whose ids were cut was done again
    got = TokenLists.open(tmp_path / "file")
    assert len(got) == 40
    for i, text in enumerate(column().to_pylist()):
        assert got[i].tolist() == ([] if text is None else tokenize([text])[0])
    assert sorted(path.name for path in (tmp_path / "file").iterdir()) == ["about.json", "ids", "offsets"]


def test_several_processes_at_once_write_one_file(tmp_path, large):
    def write(_: int) -> int:
        write_tokens(tmp_path / "file", column(), tokenize, {"dtype": "<i4"})
        return int(TokenLists.open(tmp_path / "file").ids.sum())

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(write, range(4)))) == 1


def test_a_torn_file_is_named(tmp_path):
    write_tokens(tmp_path / "file", column(), tokenize, {"dtype": "<i4"})
    about = json.loads((tmp_path / "file" / "about.json").read_text())
    assert about["texts"] == 40 and about["tokens"] * 4 == (tmp_path / "file" / "ids").stat().st_size
    (tmp_path / "file" / "ids").write_bytes(b"abc")
    with pytest.raises(ValueError, match="ids: not the .* bytes that were written; delete its folder"):
        TokenLists.open(tmp_path / "file")


@pytest.mark.parametrize("kept", [0, 1000])
@pytest.mark.parametrize("in_files", [True, False])
def test_a_text_that_is_not_there_is_named(tmp_path, monkeypatch, kept, in_files):
    monkeypatch.setattr(tokens, "KEPT", kept)
    texts = {"de": ["eins", None], "en": ["one", "two"]}
    tables = pa.table({"query_id": ["a", "b"], **texts}), pa.table({"passage_id": ["a", "b"], **texts})
    pairs = pa.table({"query_id": ["a", "b"], "passage_id": ["a", "b"], "source": ["s", "s"]})
    corpus = ParallelPairs.build(*tables, pairs, name="partial")
    made = TokenizedPairs(corpus, encoder(CORPUS), tmp_path if in_files else None)
    assert len(made.query_ids([0, 1], ["de", "en"])) == 2
    with pytest.raises(ValueError, match="query_id 'b' has no text in 'de'"):
        made.query_ids([0, 1], ["en", "de"])
    with pytest.raises(ValueError, match="passage_id 'a' has no text in 'fr'"):
        made.passage_ids([0], ["fr"])


def test_a_language_that_only_one_side_has_stops_nothing():
    """Questions in fr, passages not: their column has no text at all."""
    passages = CORPUS.passages.set_column(
        CORPUS.passages.column_names.index("fr"), "fr", pa.array([None] * len(CORPUS.passages), pa.string())
    )
    pairs = CORPUS.pairs.select(["query", "passage"]).to_pydict()
    named = {"query_id": [CORPUS.queries["query_id"][row].as_py() for row in pairs["query"]]}
    named |= {"passage_id": [passages["passage_id"][row].as_py() for row in pairs["passage"]]}
    source = pa.table({**named, "source": ["made"] * len(CORPUS)})
    corpus = ParallelPairs.build(CORPUS.queries.drop_columns("positives"), passages, source, name="unequal")
    model = encoder(CORPUS)
    TokenizedPairs(corpus, model).prepare()
    assert model.tokenize([]) == [] and len(model.encode([])) == 0
    with pytest.raises(ValueError, match="has no text in 'fr'"):
        TokenizedPairs(corpus, model).passage_ids([0], ["fr"])
