"""Token ids of a training corpus: every text is tokenised once, when its language is first asked for.

Those of a small table stay in memory. Those of a large one lie in files, memory-mapped, where a folder is given.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import tokenizers
import torch
from filelock import FileLock
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from hybridlib.corpora.base import ParallelPairs
from hybridlib.encoder import Encoder
from hybridlib.files import make_parent, replace_folder

KEPT = 200_000  # rows of a table whose tokens are kept in memory
SHARD = 16_384  # texts tokenised at once
_ONE_AT_A_TIME = threading.Lock()  # a tokenizer cannot be used by two threads at once


class TokenizedPairs:
    """Token ids of the queries and passages of a corpus, as one encoder's tokenizer cuts them.

    Args:
        corpus: the texts.
        encoder: its tokenizer, prefixes and maximum length.
        folder: holds the tokens of tables with more than KEPT rows, in folders named after texts, tokenizer, prefix and
            maximum length: what fits is used again, by other processes at the same time too. Without a folder the
            texts of each batch from such a table are tokenised by themselves.

    Raises:
        ValueError: of all methods: a text does not exist in its language, or has no tokens; a file is torn.
    """

    def __init__(self, corpus: ParallelPairs, encoder: Encoder, folder: Path | None = None):
        self.corpus, self.encoder = corpus, encoder
        self.folder = None if folder is None else Path(folder)
        self._tables = {"query": corpus.queries, "passage": corpus.passages}
        self._prefixes = {"query": encoder.query_prefix, "passage": encoder.passage_prefix}
        self._columns: dict[tuple[str, str], TokenLists] = {}

    def query_ids(self, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        """Token ids without padding, (tokens,) int32 each, of rows of `corpus.queries`, each in its language."""
        return self._ids("query", self.corpus.query_texts, rows, languages)

    def passage_ids(self, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        """Token ids without padding, (tokens,) int32 each, of rows of `corpus.passages`, each in its language."""
        return self._ids("passage", self.corpus.passage_texts, rows, languages)

    def prepare(self, languages: Sequence[str] | None = None, *, progress: bool = False) -> None:
        """Tokenise all texts in these languages (None: all) now rather than when they are first asked for."""
        for side, table in self._tables.items():
            for lang in self.corpus.languages if languages is None else languages:
                if lang in table.column_names and self._is_kept(side):
                    self._column(side, lang, progress)

    def _is_kept(self, side: str) -> bool:
        return self.folder is not None or len(self._tables[side]) <= KEPT

    def _ids(
        self,
        side: str,
        texts: Callable[[Sequence[int], Sequence[str]], list[str]],
        rows: Sequence[int],
        languages: Sequence[str],
    ) -> list[np.ndarray]:
        if self._is_kept(side):
            ids = [self._column(side, lang)[row] for row, lang in zip(rows, languages, strict=True)]
        else:
            ids = [np.array(tokens, np.int32) for tokens in self._tokenize(side, texts(rows, languages))]
        for i, tokens in enumerate(ids):
            if not len(tokens):
                text = texts(rows[i : i + 1], languages[i : i + 1])[0]  # a text that does not exist is named here
                raise ValueError(f"{text!r} has no tokens: leave it out or use a tokenizer with special tokens")
        return ids

    def _column(self, side: str, lang: str, progress: bool = False) -> TokenLists:
        key, table = (side, lang), self._tables[side]
        if key not in self._columns:
            texts = table[lang] if lang in table.column_names else pa.chunked_array([pa.nulls(len(table), pa.string())])
            tokenize = partial(self._tokenize, side)
            if len(table) <= KEPT:
                self._columns[key] = TokenLists.of(texts, tokenize)
            else:
                self._columns[key] = TokenLists.in_folder(self._folder_of(side, lang), texts, tokenize, progress)
        return self._columns[key]

    def _folder_of(self, side: str, lang: str) -> Path:
        about = {"corpus": self.corpus.fingerprint, "side": side, "lang": lang, "tokenizer": self._tokenizer_hash}
        about |= {"prefix": self._prefixes[side], "max_length": self.encoder.max_length}
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{side}-{lang}-{key[:16]}"

    @cached_property
    def _tokenizer_hash(self) -> str:
        return tokenizer_hash(self.encoder.tokenizer)

    def _tokenize(self, side: str, texts: list[str]) -> list[list[int]]:
        with _ONE_AT_A_TIME:
            return self.encoder.tokenize([self._prefixes[side] + text for text in texts])


@dataclass(frozen=True, eq=False)
class TokenLists:
    """Token ids of N texts in two arrays, perhaps memory-mapped; the texts that are null have none.

    Attributes:
        ids: (tokens,) int32, of all texts, one after the other.
        offsets: (N + 1,) int64; those of text i are ids[offsets[i] : offsets[i + 1]].
    """

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: pa.ChunkedArray, tokenize: Callable[[list[str]], list[list[int]]]) -> TokenLists:
        """Tokenise texts into memory."""
        ids, counts = zip((np.empty(0, np.int32), [0]), *_shards(texts, tokenize), strict=True)
        return cls(np.concatenate(ids), np.cumsum(np.concatenate(counts), dtype=np.int64))

    @classmethod
    def in_folder(
        cls, folder: Path, texts: pa.ChunkedArray, tokenize: Callable[[list[str]], list[list[int]]], progress: bool
    ) -> TokenLists:
        """Map the token ids that lie in a folder; tokenise the texts into it where it is not there.

        The folder appears complete or not at all; who asks second waits for it.

        Raises:
            ValueError: a file has another size than was written.
        """
        make_parent(folder)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                with replace_folder(folder) as new, open(new / "ids", "wb") as file:
                    counts = [[0]]
                    with tqdm(total=len(texts), unit="text", desc=folder.name, disable=not progress) as bar:
                        for ids, lengths in _shards(texts, tokenize):
                            ids.tofile(file)
                            counts.append(lengths)
                            bar.update(len(lengths))
                    np.cumsum(np.concatenate(counts), dtype=np.int64).tofile(new / "offsets")
        lists = cls(_mapped(folder / "ids", np.int32), _mapped(folder / "offsets", np.int64))
        if len(lists.offsets) != len(texts) + 1 or lists.offsets[-1] != len(lists.ids):  # torn
            raise ValueError(f"{folder}: its files have not the sizes that were written; delete it to tokenise again")
        return lists

    def __getitem__(self, i: int) -> np.ndarray:
        return self.ids[self.offsets[i] : self.offsets[i + 1]]


def _shards(
    texts: pa.ChunkedArray, tokenize: Callable[[list[str]], list[list[int]]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Token ids of SHARD texts at a time, and how many each text has."""
    for start in range(0, len(texts), SHARD):
        part = texts.slice(start, SHARD)
        lists = tokenize(part.drop_null().to_pylist())
        counts = np.zeros(len(part), np.int64)
        counts[part.is_valid().to_numpy()] = [len(tokens) for tokens in lists]
        yield np.fromiter(chain.from_iterable(lists), np.int32, int(counts.sum())), counts


def _mapped(path: Path, dtype: type) -> np.ndarray:
    """The whole numbers in a file; its size is checked by who knows how many there should be."""
    size = path.stat().st_size // np.dtype(dtype).itemsize
    return np.asarray(np.memmap(path, dtype, mode="r", shape=size)) if size else np.empty(0, dtype)


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
