"""Token ids in files: the same as in memory, shared, never taken for whole when torn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import torch
from made import encoder, parallel_corpus

from hybridlib.corpora import ParallelPairs
from hybridlib.training import tokens
from hybridlib.training.tokens import TokenizedPairs, padded, tokenizer_hash

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


def test_nothing_half_written_is_taken_for_whole(tmp_path, large, monkeypatch):
    """An interrupted column leaves nothing and is written anew; files that lost their end are named."""
    model, calls = encoder(CORPUS), []
    tokenize = model.tokenize

    def interrupted(texts: list[str]) -> list[list[int]]:
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return tokenize(texts)

    monkeypatch.setattr(model, "tokenize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        TokenizedPairs(CORPUS, model, tmp_path).query_ids(ROWS, ["en"] * 4)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    expected = tokenize(CORPUS.query_texts(ROWS, ["en"] * 4))
    assert lists(TokenizedPairs(CORPUS, model, tmp_path).query_ids(ROWS, ["en"] * 4)) == expected
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for name, cut in (("ids", 3), ("ids", 4), ("offsets", 8)):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-cut])
        with pytest.raises(ValueError, match="have not the sizes that were written; delete it to tokenise again"):
            TokenizedPairs(CORPUS, model, tmp_path).query_ids(ROWS, ["en"] * 4)
        (folder / name).write_bytes(whole)


def test_who_asks_second_waits_and_uses_the_same_files(tmp_path, large):
    model, made = encoder(CORPUS), []
    model.tokenize = lambda texts, tokenize=model.tokenize: made.append(len(texts)) or tokenize(texts)

    def ids(_: int) -> list[list[int]]:
        return lists(TokenizedPairs(CORPUS, model, tmp_path).query_ids(ROWS, LANGUAGES))

    with ThreadPoolExecutor(4) as pool:
        assert len({str(rows) for rows in pool.map(ids, range(4))}) == 1
    assert sum(made) == 3 * len(CORPUS.queries), "each of three languages once"


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
