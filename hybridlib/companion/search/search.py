"""Exact search over a corpus of any size: read, encoded and scored shard by shard, resumable, spread over processes.

A shard is a range of rows. Its k best for every query are written as one file as soon as they are known, so a killed
run repeats at most the shard it was in (of each process). Memory depends on the shard and on queries x k only. At the
end the main process merges the shards' lists.

What is guaranteed. A text's vector may differ in its last bits with what else is in its batch, and a score with the
shape of its product. So shards, batches and products form a grid that the corpus, shard_size, batch_tokens and tile
decide, never the number of processes or threads: one process or many, killed or not, give the same lists to the bit on
machines of the same kind. Within a shard equal vectors are scored once, so that equal texts tie exactly and stand by
their ids; equal texts in different shards may come out a last bit apart.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from tqdm import tqdm

from hybridlib.companion.search.hitfile import read_hits, write_hits
from hybridlib.companion.search.topk import Hits, default_tile, merge, top_k, top_k_distinct
from hybridlib.encoder import Encoder
from hybridlib.files import write_json
from hybridlib.training.processes import all_processes
from hybridlib.training.tokens import tokenizer_hash

__all__ = ["Hits", "Passages", "search", "top_k"]

RECIPE = 1  # raised when the code comes to rank otherwise with the same arguments
CPU_TOKENS, GPU_TOKENS = 1024, 16384  # of a batch
logger = logging.getLogger(__name__)


class Passages(Protocol):
    """A corpus that is read in ranges of rows and never held whole. Ids are unique; rows and texts never change.

    Attributes:
        fingerprint: names the content: another content must have another one.
    """

    fingerprint: str

    def __len__(self) -> int: ...

    def ids(self, start: int, stop: int) -> list[str]:
        """Ids of the rows from start up to, without, stop."""
        ...

    def texts(self, start: int, stop: int) -> list[str]:
        """Their texts."""
        ...


def search(
    corpus: Passages,
    encoder: Encoder,
    queries: Sequence[str],
    k: int,
    folder: str | Path,
    *,
    shard_size: int = 65_536,
    batch_tokens: int | None = None,
    dtype: torch.dtype | None = None,
    score_dtype: torch.dtype = torch.float32,
    tile: tuple[int, int] | None = None,
    progress: bool = False,
) -> Hits:
    """The k passages with the largest cosine for each query, with their ids; ties as trec_eval's, by id descending.

    Under `accelerate launch` or torchrun every process calls this with the same arguments, its encoder on its device;
    all return the same. What was searched before with the same arguments is loaded: then, and for finished shards, the
    ids are read again and compared, so that a corpus that changed under its old fingerprint is noticed (in its ids and
    its length; texts are not read again).

    Memory: the texts of a shard, about three times its vectors, and about 50 bytes per query and hit.

    Args:
        corpus: its texts get the encoder's passage_prefix.
        queries: get its query_prefix.
        folder: for <key>/, the results of these arguments; all processes must see it. Its shard files may be deleted
            when hits.safetensors is there.
        shard_size: passages that are read, encoded and written together; what a killed run repeats.
        batch_tokens: as in `Encoder.encode`; None: 1,024 on a CPU, else 16,384.
        dtype: the encoder computes in it, as in `Encoder.encode`.
        score_dtype, tile: as in `top_k`.

    Raises:
        ValueError: an argument is out of range; the corpus gives other than it should, has an id twice, or has
            changed under its fingerprint; a text cannot be encoded.
        OSError: a file cannot be written; what is finished stays.
    """
    if isinstance(queries, str) or not len(queries):
        raise ValueError("queries must be a list of at least one text")
    if min(k, shard_size) < 1:
        raise ValueError(f"k is {k} and shard_size {shard_size}: give at least 1")
    on_cpu = encoder.device.type == "cpu"
    encoding = {"batch_tokens": batch_tokens or (CPU_TOKENS if on_cpu else GPU_TOKENS), "dtype": dtype}
    scoring = {"score_dtype": score_dtype, "tile": tile or default_tile(encoder.device)}
    work = _Work(corpus, encoder, list(queries), k, Path(folder), shard_size, encoding, scoring)
    return work.run(all_processes(encoder.device), progress)


@dataclass(frozen=True)
class _Shard:
    """Rows from start up to, without, stop."""

    start: int
    stop: int
    path: Path

    def __str__(self) -> str:
        return f"passages {self.start} to {self.stop}"


@dataclass(frozen=True, eq=False)
class _Work:
    """One search: its arguments, its shards, its files."""

    corpus: Passages
    encoder: Encoder
    queries: list[str]
    k: int
    folder: Path
    shard_size: int
    encoding: dict
    scoring: dict

    @cached_property
    def about(self) -> dict:
        """All that decides the result, as JSON takes it."""
        options = {name: str(value) for name, value in (self.encoding | self.scoring).items()}
        about = {"corpus": self.corpus.fingerprint, "encoder": _encoder_hash(self.encoder), "k": self.k}
        about |= {"queries": _digest(self.queries), "shard_size": self.shard_size, **options}
        return about | {"torch": torch.__version__, "recipe": RECIPE}

    @cached_property
    def key(self) -> str:
        return _digest(self.about)

    @cached_property
    def home(self) -> Path:
        """Where the files of this search lie."""
        return self.folder / self.key[:16]

    @cached_property
    def shards(self) -> list[_Shard]:
        n = len(self.corpus)
        bounds = [(start, min(start + self.shard_size, n)) for start in range(0, n, self.shard_size)]
        return [_Shard(*bound, self.home / f"shard-{bound[0]:09d}-{bound[1]:09d}.safetensors") for bound in bounds]

    def run(self, processes: PartialState, progress: bool) -> Hits:
        """This process's share of the shards, then the result of all."""
        self.describe(processes.is_main_process)
        merged = self.merged()
        own = self.shards[processes.process_index :: processes.num_processes]
        for shard in tqdm(own, unit="shard", disable=not (progress and processes.is_main_process)):
            if merged is not None:
                self.check_ids(shard, merged[1])
            elif not self.is_finished(shard):
                self.finish(shard)
        processes.wait_for_everyone()
        if merged is None and processes.is_main_process:
            self.merge()
        processes.wait_for_everyone()
        merged = merged or self.merged()
        if merged is None:
            raise OSError(f"{self.home} lacks what the main process wrote: every process must see the same folder")
        return merged[0]

    def describe(self, write: bool) -> None:
        """Write search.json for whoever finds the folder; refuse a corpus of another length than it says."""
        path, n = self.home / "search.json", len(self.corpus)
        if not n:
            raise ValueError("the corpus has no passages")
        known = json.loads(path.read_text(encoding="utf-8"))["passages"] if path.exists() else n
        if known != n:
            raise ValueError(f"{path}: the corpus had {known} passages and now has {n}; {self._changed()}")
        if write and not path.exists():
            write_json(path, {**self.about, "passages": n, "queries_asked": len(self.queries)})

    def is_finished(self, shard: _Shard) -> bool:
        """Whether its file is there and whole. To make a damaged one again costs one shard: no reason to end a run."""
        if not shard.path.exists():
            return False
        try:
            self.check_ids(shard, {str(shard): self._read(shard.path)[1]["ids"]})
        except _Damaged as error:
            logger.warning("%s; these passages are searched again", error)
            return False
        return True

    def check_ids(self, shard: _Shard, checksums: dict[str, str]) -> None:
        """Refuse a corpus whose ids are not those that were searched."""
        if checksums[str(shard)] != _digest(self._ids(shard)):
            raise ValueError(f"{shard.path}: the ids of {shard} are other ones now; {self._changed()}")

    def finish(self, shard: _Shard) -> None:
        """Search one shard and write its file."""
        queries = self._query_vectors  # first: a query that cannot be encoded ends the search before any passage
        ids, texts = self._ids(shard), self.corpus.texts(shard.start, shard.stop)
        if len(texts) != len(ids):
            raise ValueError(
                f"{shard}: the corpus gives {len(ids)} ids but {len(texts)} texts; fetch or write it again"
            )
        order = sorted(range(len(ids)), key=ids.__getitem__, reverse=True)
        double = [ids[a] for a, b in zip(order, order[1:], strict=False) if ids[a] == ids[b]]
        if double:
            raise ValueError(f"{shard}: the id {double[0]!r} occurs more than once; ids must be unique")
        try:
            vectors = self._encode([texts[i] for i in order], self.encoder.passage_prefix)
        except ValueError as error:
            raise ValueError(f"{shard}: {error}") from error
        hits = top_k_distinct(queries, vectors, self.k, **self.scoring)
        order, names = np.array([*order, -1]), np.array([*(ids[i] for i in order), ""], dtype=object)
        rows = np.where(hits.rows < 0, -1, order[hits.rows] + shard.start)
        about = {"key": self.key, "ids": _digest(ids), "device": str(self.encoder.device)}
        write_hits(shard.path, Hits(rows, hits.scores, names[hits.rows]), about)

    def merge(self) -> None:
        """Write the k best of all shards."""
        hits, checksums = None, {}
        for shard in self.shards:
            if not shard.path.exists():
                raise OSError(f"{shard.path} is missing: every process must see the same folder")
            part, about = self._read(shard.path)
            checksums[str(shard)] = about["ids"]
            hits = part if hits is None else merge(hits, part)
        _check_unique(hits)
        write_hits(self.home / "hits.safetensors", hits, {"key": self.key, "ids": json.dumps(checksums)})

    def merged(self) -> tuple[Hits, dict[str, str]] | None:
        """What `merge` wrote, and a checksum of the ids of each shard; None where it is not there."""
        path = self.home / "hits.safetensors"
        if not path.exists():
            return None
        try:
            hits, about = self._read(path)
        except _Damaged as error:
            logger.warning("%s; the shards are merged again", error)
            return None
        return hits, json.loads(about["ids"])

    def _read(self, path: Path) -> tuple[Hits, dict[str, str]]:
        try:
            hits, about = read_hits(path)
        except ValueError as error:
            raise _Damaged(str(error)) from error
        if about.get("key") != self.key:
            raise _Damaged(f"{path}: belongs to another search")
        return hits, about

    def _ids(self, shard: _Shard) -> list[str]:
        ids = self.corpus.ids(shard.start, shard.stop)
        if len(ids) != shard.stop - shard.start or not all(isinstance(name, str) for name in ids):
            raise ValueError(
                f"{shard}: the corpus gives {len(ids)} ids there, or not only texts; fetch or write it again"
            )
        return list(ids)

    @cached_property
    def _query_vectors(self) -> torch.Tensor:
        vectors = self._encode(self.queries, self.encoder.query_prefix)
        return vectors.to(self.encoder.device)

    def _encode(self, texts: list[str], prefix: str) -> torch.Tensor:
        return self.encoder.encode(texts, prefix=prefix, **self.encoding)

    def _changed(self) -> str:
        return (
            f"it changed but its fingerprint, {self.corpus.fingerprint}, did not: "
            f"give it another one, or delete {self.home} to search again"
        )


class _Damaged(ValueError):
    """A file that is not what was written."""


def _check_unique(hits: Hits) -> None:
    """Refuse two rows with one id; shards are checked one by one, here those that meet among the hits."""
    rows, first = np.unique(hits.rows, return_index=True)
    ids = pd.Series(hits.ids.reshape(-1)[first])
    double = ids[ids.duplicated()]
    if len(double):
        raise ValueError(f"the corpus has the id {double.iloc[0]!r} more than once; ids must be unique")


def _encoder_hash(encoder: Encoder) -> str:
    """SHA-256 of all that decides a text's vector."""
    weights = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    about = {name: getattr(encoder, name) for name in ("pooling", "query_prefix", "passage_prefix", "max_length")}
    config = {**encoder.backbone.config.to_dict(), "_name_or_path": None}
    parts = {
        "weights": weights.hexdigest(),
        "tokenizer": tokenizer_hash(encoder.tokenizer),
        "dense": str(encoder.dense),
    }
    return _digest({**about, **parts, "config": config})


def _digest(content: dict | list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
