"""Token ids of batches are the tokenizer's, whatever is kept of earlier ones; a text that is not there is named."""

from __future__ import annotations

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


@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_ids_are_the_tokenizers_and_texts_are_tokenised_once_while_they_are_kept(monkeypatch, kept):
    monkeypatch.setattr(tokens, "KEPT", kept)
    model, tokenised = encoder(CORPUS), []
    model.query_prefix = "ask "
    queries = model.tokenize(["ask " + text for text in CORPUS.query_texts(ROWS, LANGUAGES)])
    passages = model.tokenize(CORPUS.passage_texts(ROWS, LANGUAGES))
    model.tokenize = lambda texts, tokenize=model.tokenize: tokenised.extend(texts) or tokenize(texts)
    pairs = TokenizedPairs(CORPUS, model)
    for _ in range(3):
        for ids, expected in ((pairs.query_ids, queries), (pairs.passage_ids, passages)):
            arrays = ids(ROWS + ROWS[:1], LANGUAGES + LANGUAGES[:1])
            assert all(array.dtype == np.int32 for array in arrays)
            assert [array.tolist() for array in arrays] == expected + expected[:1]
    assert pairs.query_ids([], []) == []
    assert len(tokenised) == (8 if kept == 1000 else 24)


def test_padding_is_masked_and_no_mask_without_it():
    rows = [np.array([5, 6, 7], np.int32), np.array([8], np.int32)]
    batch = padded(rows, 1, torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert padded(rows[:1], 1, torch.device("cpu"))["attention_mask"] is None


def test_a_tokenizers_hash_follows_its_vocabulary_and_not_its_last_call():
    first, other = encoder(CORPUS).tokenizer, encoder(parallel_corpus(60)).tokenizer
    before = tokenizer_hash(first)
    assert before == tokenizer_hash(encoder(CORPUS).tokenizer) != tokenizer_hash(other)
    first(["a", "b b"], padding=True, truncation=True, max_length=2)  # sets the tokenizer's own state
    assert tokenizer_hash(first) == before


def test_a_text_that_is_not_there_or_has_no_tokens_is_named():
    texts = {"de": ["eins", None], "en": ["one", "two"]}
    tables = pa.table({"query_id": ["a", "b"], **texts}), pa.table({"passage_id": ["a", "b"], **texts})
    pairs = pa.table({"query_id": ["a", "b"], "passage_id": ["a", "b"], "source": ["s", "s"]})
    corpus, model = ParallelPairs.build(*tables, pairs, name="partial"), encoder(CORPUS)
    made = TokenizedPairs(corpus, model)
    assert len(made.query_ids([0, 1], ["de", "en"])) == 2
    with pytest.raises(ValueError, match="query_id 'b' has no text in 'de'"):
        made.query_ids([0, 1], ["en", "de"])
    with pytest.raises(ValueError, match="passage_id 'a' has no text in 'fr'"):
        made.passage_ids([0], ["fr"])
    model.tokenize = lambda texts: [[] for _ in texts]
    with pytest.raises(ValueError, match="'two' has no tokens: leave it out"):
        made.passage_ids([1], ["en"])
