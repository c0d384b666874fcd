"""Token ids of a training corpus: a text is tokenised when a batch first has it, and its ids are kept for the next."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence

import numpy as np
import tokenizers
import torch
from transformers import PreTrainedTokenizerBase

from hybridlib.corpora.base import ParallelPairs
from hybridlib.encoder import Encoder

KEPT = 200_000  # texts whose ids are kept: about 100 MB
_ONE_AT_A_TIME = threading.Lock()  # a tokenizer cannot be used by two threads at once

Texts = Callable[[Sequence[int], Sequence[str]], list[str]]


class TokenizedPairs:
    """Token ids of the queries and passages of a corpus, as one encoder's tokenizer cuts them.

    Of a corpus with more than KEPT texts those of the latest batches are kept: tokenising a batch takes a few
    hundredths of a second, while the batch before it is computed.

    Args:
        corpus: the texts.
        encoder: its tokenizer, prefixes and maximum length.

    Raises:
        ValueError: of all methods: a text does not exist in its language, or has no tokens.
    """

    def __init__(self, corpus: ParallelPairs, encoder: Encoder):
        self.corpus, self.encoder = corpus, encoder
        self._kept: dict[tuple[str, int, str], np.ndarray] = {}

    def query_ids(self, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        """Token ids without padding, (tokens,) int32 each, of rows of `corpus.queries`, each in its language."""
        return self._ids(self.encoder.query_prefix, self.corpus.query_texts, rows, languages, "query")

    def passage_ids(self, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        """Token ids without padding, (tokens,) int32 each, of rows of `corpus.passages`, each in its language."""
        return self._ids(self.encoder.passage_prefix, self.corpus.passage_texts, rows, languages, "passage")

    def _ids(
        self, prefix: str, texts: Texts, rows: Sequence[int], languages: Sequence[str], side: str
    ) -> list[np.ndarray]:
        keys = [(side, int(row), str(lang)) for row, lang in zip(rows, languages, strict=True)]
        ids = {key: self._kept.get(key) for key in keys}
        new = [key for key, tokens in ids.items() if tokens is None]
        new_texts = texts([row for _, row, _ in new], [lang for _, _, lang in new])
        with _ONE_AT_A_TIME:
            lists = self.encoder.tokenize([prefix + text for text in new_texts])
        for key, text, tokens in zip(new, new_texts, lists, strict=True):
            if not tokens:
                raise ValueError(f"{text!r} has no tokens: leave it out or use a tokenizer with special tokens")
            ids[key] = np.array(tokens, np.int32)
        if len(self._kept) + len(new) > KEPT:
            self._kept.clear()
        self._kept |= ids
        return [ids[key] for key in keys]


def padded(
    tokens: Sequence[np.ndarray], pad: int, device: torch.device, length: int | None = None
) -> dict[str, torch.Tensor | None]:
    """input_ids and attention_mask, both (B, T) int64, T the longest or `length`; no mask where none is shorter."""
    lengths = np.array([len(row) for row in tokens])
    mask = np.arange(length or lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad, dtype=np.int64)
    ids[mask] = np.concatenate(tokens)
    attention = None if mask.all() else torch.from_numpy(mask.astype(np.int64)).to(device)
    return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": attention}


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that decides which ids a text gets, but for the maximum length."""
    about = {"version": tokenizers.__version__, "kind": type(tokenizer).__name__, "side": tokenizer.truncation_side}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        about |= {"vocabulary": tokenizer.get_vocab(), "special": tokenizer.special_tokens_map}
    else:  # truncation and padding are set anew at every call
        about |= {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
