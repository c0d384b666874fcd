"""Small things that several tests make: a parallel corpus, a tokenizer, an encoder."""

from __future__ import annotations

import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hybridlib.corpora import ParallelPairs
from hybridlib.encoder import Encoder


def parallel_corpus(
    n: int = 40, languages: tuple[str, ...] = ("de", "en", "fr"), negatives: bool = False
) -> ParallelPairs:
    """Question i ("<lang>-ask thing<i>") is answered by passage i ("<lang>-tell thing<i> ...") in every language."""
    ids = [str(i) for i in range(n)]
    queries = {"query_id": ids, **{lang: [f"{lang}ask thing{i}" for i in ids] for lang in languages}}
    passages = {"passage_id": ids, **{lang: [f"{lang}tell thing{i} of {n}" for i in ids] for lang in languages}}
    pairs = {"query_id": ids, "passage_id": ids, "source": ["made"] * n}
    if negatives:
        pairs["negatives"] = [[str((i + 1) % n), str((i + 2) % n)] for i in range(n)]
    return ParallelPairs.build(pa.table(queries), pa.table(passages), pa.table(pairs), name="made")


def tokenizer(corpus: ParallelPairs) -> PreTrainedTokenizerFast:
    """A word tokenizer of the corpus."""
    texts = [
        text
        for table in (corpus.queries, corpus.passages)
        for lang in corpus.languages
        for text in table[lang].to_pylist()
    ]
    inner = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"]))
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]")


def encoder(corpus: ParallelPairs, *, layers: int = 0, seed: int = 0) -> Encoder:
    """A tiny encoder with random weights."""
    return Encoder.tiny(tokenizer(corpus), layers=layers, hidden=32, seed=seed)
