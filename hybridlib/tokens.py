"""Token ids of a training corpus: every text is tokenised once, when its language is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from hybridlib.corpora.base import ParallelPairs
from hybridlib.encoder import Encoder

KEPT = 200_000  # texts of one language whose tokens are kept; of larger tables each batch is tokenised by itself
_ONE_AT_A_TIME = threading.Lock()  # a tokenizer cannot be used by two threads at once


class TokenizedPairs:
    """Batches of token ids for the queries and passages of a corpus, as one encoder's tokenizer cuts them.

    Args:
        corpus: the texts.
        encoder: its tokenizer, prefixes and maximum length.
    """

    def __init__(self, corpus: ParallelPairs, encoder: Encoder):
        self.corpus, self.encoder = corpus, encoder
        self._kept: dict[tuple[str, str], list[np.ndarray | None]] = {}

    def query_ids(self, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        """Token ids of rows of `corpus.queries`, each in its language, as the encoder takes them, without padding."""
        return self._ids(self.corpus.queries, "query", rows, languages)

    def passage_ids(self, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        """The same of rows of `corpus.passages`."""
        return self._ids(self.corpus.passages, "passage", rows, languages)

    def _ids(self, table: pa.Table, side: str, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        rows, spoken = np.asarray(rows), np.asarray(languages)
        if len(rows) and len(table) > KEPT:
            texts = self.corpus.query_texts if side == "query" else self.corpus.passage_texts
            return self._tokenize(texts(rows, spoken), side)
        found: list[np.ndarray | None] = [None] * len(rows)
        for lang in np.unique(spoken):
            column = self._column(table, side, str(lang))
            for i in np.flatnonzero(spoken == lang):
                found[i] = column[rows[i]]
        return found

    def _column(self, table: pa.Table, side: str, lang: str) -> list[np.ndarray | None]:
        if (side, lang) not in self._kept:
            texts = table[lang].to_pylist()
            tokens = iter(self._tokenize([text for text in texts if text is not None], side))
            self._kept[side, lang] = [None if text is None else next(tokens) for text in texts]
        return self._kept[side, lang]

    def _tokenize(self, texts: list[str], side: str) -> list[np.ndarray]:
        prefix = self.encoder.query_prefix if side == "query" else self.encoder.passage_prefix
        with _ONE_AT_A_TIME:
            ids = self.encoder.tokenize([prefix + text for text in texts])
        return [np.array(tokens, dtype=np.int32) for tokens in ids]


def padded(tokens: Sequence[np.ndarray], pad: int, device: torch.device) -> dict[str, torch.Tensor | None]:
    """input_ids and attention_mask, both (B, T) int64; no mask where all are equally long."""
    lengths = np.array([len(row) for row in tokens])
    ids = np.full((len(tokens), lengths.max()), pad, dtype=np.int64)
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids[mask] = np.concatenate(tokens)
    attention = None if mask.all() else torch.from_numpy(mask.astype(np.int64)).to(device)
    return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": attention}
