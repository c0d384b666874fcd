"""Token ids of a training corpus: every text is tokenised once, when its language is first asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from hybridlib.corpora.base import ParallelPairs
from hybridlib.encoder import Encoder

KEPT = 200_000  # texts of one language whose tokens are kept; of larger tables each batch is tokenised by itself


class TokenizedPairs:
    """Batches of token ids for the queries and passages of a corpus, as one encoder's tokenizer cuts them.

    Args:
        corpus: the texts.
        encoder: its tokenizer, prefixes and maximum length.
    """

    def __init__(self, corpus: ParallelPairs, encoder: Encoder):
        self.corpus, self.encoder = corpus, encoder
        self._kept: dict[tuple[str, str], list[np.ndarray | None]] = {}

    def queries(self, rows: Sequence[int], languages: Sequence[str]) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask, both (B, T) int64, of rows of `corpus.queries`, each in its language."""
        return self._collated(self.corpus.queries, "query", rows, languages)

    def passages(self, rows: Sequence[int], languages: Sequence[str]) -> dict[str, torch.Tensor]:
        """The same of rows of `corpus.passages`."""
        return self._collated(self.corpus.passages, "passage", rows, languages)

    def _collated(
        self, table: pa.Table, side: str, rows: Sequence[int], languages: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        rows, spoken = np.asarray(rows), np.asarray(languages)
        if len(table) > KEPT:
            texts = self.corpus.query_texts if side == "query" else self.corpus.passage_texts
            return self._padded(self._tokenize(texts(rows, spoken), side))
        found: list[np.ndarray | None] = [None] * len(rows)
        for lang in np.unique(spoken):
            column = self._column(table, side, str(lang))
            for i in np.flatnonzero(spoken == lang):
                found[i] = column[rows[i]]
        return self._padded(found)

    def _column(self, table: pa.Table, side: str, lang: str) -> list[np.ndarray | None]:
        if (side, lang) not in self._kept:
            texts = table[lang].to_pylist()
            tokens = iter(self._tokenize([text for text in texts if text is not None], side))
            self._kept[side, lang] = [None if text is None else next(tokens) for text in texts]
        return self._kept[side, lang]

    def _tokenize(self, texts: list[str], side: str) -> list[np.ndarray]:
        prefix = self.encoder.query_prefix if side == "query" else self.encoder.passage_prefix
        return [np.array(ids, dtype=np.int32) for ids in self.encoder.tokenize([prefix + text for text in texts])]

    def _padded(self, tokens: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        ids = np.full((len(tokens), max(map(len, tokens))), self.encoder.tokenizer.pad_token_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(tokens):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        device = self.encoder.device
        return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
