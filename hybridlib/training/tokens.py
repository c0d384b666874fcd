"""Token ids of a training corpus: every text is tokenised once, when its language is first asked for.

Those of a small table stay in memory. Those of a large one lie in files, memory-mapped, where a folder is given.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import tokenizers
import torch
from filelock import FileLock
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from hybridlib.corpora.base import ParallelPairs
from hybridlib.encoder import Encoder
from hybridlib.files import write_json

KEPT = 200_000  # rows of a table whose tokens are kept in memory
SHARD = 16_384  # texts tokenised and written at once; an interrupted file goes on after the last of them
_ONE_AT_A_TIME = threading.Lock()  # a tokenizer cannot be used by two threads at once


class TokenizedPairs:
    """Token ids of the queries and passages of a corpus, as one encoder's tokenizer cuts them.

    Args:
        corpus: the texts.
        encoder: its tokenizer, prefixes and maximum length.
        folder: holds the tokens of tables with more than KEPT rows, in files named after texts, tokenizer, prefix and
            maximum length: what fits is used again, by other processes at the same time too. Without a folder the
            texts of each batch from such a table are tokenised by themselves.

    Raises:
        ValueError: of all methods: a text does not exist in its language, or has no tokens; a file is torn.
    """

    def __init__(self, corpus: ParallelPairs, encoder: Encoder, folder: Path | None = None):
        self.corpus, self.encoder = corpus, encoder
        self.folder = None if folder is None else Path(folder)
        self._kept: dict[tuple[str, str], TokenLists] = {}

    def query_ids(self, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        """Token ids without padding, (tokens,) int32 each, of rows of `corpus.queries`, each in its language."""
        return self._ids("query", rows, languages)

    def passage_ids(self, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        """The same of rows of `corpus.passages`."""
        return self._ids("passage", rows, languages)

    def prepare(self, languages: Sequence[str] | None = None, *, progress: bool = False) -> None:
        """Tokenise all texts in these languages (None: all) now rather than when they are first asked for."""
        for side, table in (("query", self.corpus.queries), ("passage", self.corpus.passages)):
            for lang in self.corpus.languages if languages is None else languages:
                if lang in table.column_names and self._is_kept(table):
                    self._column(table, side, lang, progress)

    def _is_kept(self, table: pa.Table) -> bool:
        return self.folder is not None or len(table) <= KEPT

    def _ids(self, side: str, rows: Sequence[int], languages: Sequence[str]) -> list[np.ndarray]:
        table = self.corpus.queries if side == "query" else self.corpus.passages
        texts = self.corpus.query_texts if side == "query" else self.corpus.passage_texts
        rows, spoken = np.asarray(rows), np.asarray(languages)
        if not len(rows):
            return []
        if not self._is_kept(table):
            found = self._tokenize(side, texts(rows, spoken))
            found = [np.array(ids, np.int32) for ids in found]
        else:
            found = [np.empty(0, np.int32)] * len(rows)
            for lang in {*spoken.tolist()} & {*table.column_names}:
                lists = self._column(table, side, lang)
                for i in np.flatnonzero(spoken == lang):
                    found[i] = lists[rows[i]]
        for i, ids in enumerate(found):
            if not len(ids):
                text = texts(rows[i : i + 1], spoken[i : i + 1])[0]  # where there is none, this says so
                raise ValueError(f"{text!r} has no tokens: leave it out or use a tokenizer with special tokens")
        return found

    def _column(self, table: pa.Table, side: str, lang: str, progress: bool = False) -> TokenLists:
        if (side, lang) not in self._kept:
            if len(table) > KEPT:
                lists = self._file(table[lang], side, lang, progress)
            else:
                lists = TokenLists.of(table[lang], partial(self._tokenize, side))
            self._kept[side, lang] = lists
        return self._kept[side, lang]

    def _file(self, texts: pa.ChunkedArray, side: str, lang: str, progress: bool) -> TokenLists:
        about = {"corpus": self.corpus.fingerprint, "side": side, "lang": lang, "tokenizer": self._tokenizer_hash}
        about |= {"prefix": self._prefix(side), "max_length": self.encoder.max_length}
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        folder = self.folder / f"{side}-{lang}-{key[:16]}"
        about["dtype"] = "<u2" if max(self.encoder.tokenizer.get_vocab().values()) < 2**16 else "<i4"
        if not folder.exists():
            write_tokens(folder, texts, partial(self._tokenize, side), about, progress=progress)
        return TokenLists.open(folder)

    @cached_property
    def _tokenizer_hash(self) -> str:
        return tokenizer_hash(self.encoder.tokenizer)

    def _prefix(self, side: str) -> str:
        return self.encoder.query_prefix if side == "query" else self.encoder.passage_prefix

    def _tokenize(self, side: str, texts: list[str]) -> list[list[int]]:
        with _ONE_AT_A_TIME:
            return self.encoder.tokenize([self._prefix(side) + text for text in texts])


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


@dataclass(frozen=True, eq=False)
class TokenLists:
    """Token ids of N texts in two arrays, perhaps memory-mapped; the texts that are null have none.

    Attributes:
        ids: of all texts, one after the other.
        offsets: (N + 1,); those of text i are ids[offsets[i] : offsets[i + 1]].
    """

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, texts: pa.ChunkedArray, tokenize: Callable[[list[str]], list[list[int]]]) -> TokenLists:
        """Tokenise texts into memory."""
        ids, counts = zip((np.empty(0, "<i4"), [0]), *_shards(texts, 0, tokenize), strict=True)
        return cls(np.concatenate(ids), np.cumsum(np.concatenate(counts), dtype=np.int64))

    @classmethod
    def open(cls, folder: Path) -> TokenLists:
        """What `write_tokens` wrote; ValueError where a file has not the size noted in about.json."""
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        offsets = _mapped(folder / "offsets", "<i8", about["texts"] + 1)
        return cls(_mapped(folder / "ids", about["dtype"], about["tokens"]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.ids[self.offsets[i] : self.offsets[i + 1]].astype(np.int32)


def write_tokens(
    folder: Path,
    texts: pa.ChunkedArray,
    tokenize: Callable[[list[str]], list[list[int]]],
    about: dict,
    *,
    progress: bool = False,
) -> None:
    """Write what `TokenLists.open` opens: ids, offsets, about.json. The folder appears complete or not at all.

    Until then the work lies in .<folder>.part; who asks second waits, and goes on where an interrupted process stopped.

    Args:
        texts: null where there is none.
        tokenize: token ids of each of some texts; a fast tokenizer uses all processors by itself.
        about: goes into about.json; "dtype" is that of the ids, "<u2" or "<i4".
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(folder) + ".lock"):
        if folder.exists():
            return
        part = folder.with_name(f".{folder.name}.part")
        part.mkdir(exist_ok=True)
        with open(part / "ids", "ab") as ids, open(part / "lengths", "ab") as lengths:
            done = _cut(ids, lengths, np.dtype(about["dtype"]).itemsize)
            with tqdm(total=len(texts), initial=done, unit="text", desc=folder.name, disable=not progress) as bar:
                for tokens, counts in _shards(texts, done, tokenize):
                    _append(ids, tokens.astype(about["dtype"]))
                    _append(lengths, counts)
                    bar.update(len(counts))
        counts = np.fromfile(part / "lengths", "<i4")
        offsets = np.zeros(len(texts) + 1, "<i8")
        np.cumsum(counts, out=offsets[1:])
        offsets.tofile(part / "offsets")
        write_json(part / "about.json", {**about, "texts": len(texts), "tokens": int(offsets[-1])})
        os.rename(part, folder)
        (folder / "lengths").unlink()


def _shards(
    texts: pa.ChunkedArray, start: int, tokenize: Callable[[list[str]], list[list[int]]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens of SHARD texts at a time, and how many each text has."""
    for first in range(start, len(texts), SHARD):
        part = texts.slice(first, SHARD)
        found = tokenize(part.drop_null().to_pylist())
        counts = np.zeros(len(part), "<i4")
        counts[part.is_valid().to_numpy()] = [len(tokens) for tokens in found]
        yield np.fromiter(chain.from_iterable(found), "<i4", int(counts.sum())), counts


def _cut(ids: BinaryIO, lengths: BinaryIO, itemsize: int) -> int:
    """Number of texts whose tokens are all there; whatever an interrupted process wrote beyond them is cut off."""
    counts = np.fromfile(lengths.name, "<i4")
    ends = np.r_[0, np.cumsum(counts, dtype=np.int64)]
    done = int(np.searchsorted(ends, os.path.getsize(ids.name) // itemsize, side="right")) - 1
    ids.truncate(int(ends[done]) * itemsize)
    lengths.truncate(done * counts.itemsize)
    return done


def _append(file: BinaryIO, values: np.ndarray) -> None:
    """Write and bring to the disk: lengths are never there before their ids."""
    file.write(values.tobytes())
    file.flush()
    os.fsync(file.fileno())


def _mapped(path: Path, dtype: str, size: int) -> np.ndarray:
    expected = size * np.dtype(dtype).itemsize
    if path.stat().st_size != expected:
        raise ValueError(f"{path}: not the {expected} bytes that were written; delete its folder to tokenise again")
    return np.asarray(np.memmap(path, dtype, mode="r")) if size else np.empty(0, dtype)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that decides which ids a text gets, but for the maximum length."""
    about = {"version": tokenizers.__version__, "kind": type(tokenizer).__name__, "side": tokenizer.truncation_side}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        about |= {"vocabulary": tokenizer.get_vocab(), "special": tokenizer.special_tokens_map}
    else:  # truncation and padding are set anew at every call
        about |= {**json.loads(backend.to_str()), "truncation": None, "padding": None}
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()
