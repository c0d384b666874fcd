"""Exact search over a corpus of any size: encoded and scored shard by shard, resumable, shared by processes.

A shard is a range of rows. Its k best for every query are written as one file as soon as they are known, so a killed
run repeats at most the shard it was in (of each process). Memory depends on the shard and on queries x k only. At the
end every process merges the shards' lists.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from hybridlib.companion.search.collection import Passages
from hybridlib.companion.search.topk import best_of, no_hits, top_k
from hybridlib.encoder import Encoder
from hybridlib.files import replace_file, write_json
from hybridlib.training.processes import all_processes
from hybridlib.training.tokens import tokenizer_hash

RECIPE = 2  # raised when the code comes to rank otherwise with the same arguments
CPU_TOKENS, GPU_TOKENS = 1024, 16384  # of a batch
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Hits:
    """The k best passages of each of Q queries, best first.

    Attributes:
        rows: (Q, k) int64, rows of the corpus; -1 where it has fewer than k.
        scores: (Q, k) float32; -inf there.
        ids: (Q, k) str objects, the ids of these rows, "" there.
    """

    rows: np.ndarray
    scores: np.ndarray
    ids: np.ndarray


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
    progress: bool = False,
) -> Hits:
    """Find the k passages with the largest cosine for each query; equal scores stand by id descending, as trec_eval's.

    Every score is exact; within a shard equal texts are encoded and scored once, so that they tie. Which of the
    passages that tie at the k-th place come into the list is arbitrary but the same at every call.

    Under `accelerate launch` or torchrun every process calls this with the same arguments, its encoder on its device;
    all return the same. Shards that were searched before with the same arguments are read; a damaged file is named in
    a warning and made again.

    Memory: the texts of a shard, its vectors, and about 50 bytes per query and hit.

    Args:
        corpus, queries: their texts get the encoder's passage_prefix and query_prefix.
        folder: for <key>/, the shards of these arguments; all processes must see it.
        shard_size: passages that are read, encoded and written together; what a killed run repeats.
        batch_tokens: as in `Encoder.encode`; None: 1,024 on a CPU, else 16,384.
        dtype: the encoder computes in it, as in `Encoder.encode`.
        score_dtype: scores are computed in it; in bfloat16 and float16 many tie.

    Raises:
        ValueError: an argument is out of range; the corpus has no passage; a text cannot be encoded.
        OSError: a file cannot be written; what is finished stays.
    """
    if isinstance(queries, str) or not len(queries):
        raise ValueError("queries must be a list of at least one text")
    if min(k, shard_size) < 1:
        raise ValueError(f"k is {k} and shard_size {shard_size}: give at least 1")
    if not len(corpus):
        raise ValueError("the corpus has no passages")
    tokens = batch_tokens or (CPU_TOKENS if encoder.device.type == "cpu" else GPU_TOKENS)
    encoding = {"batch_tokens": tokens, "dtype": dtype}
    settings = {"k": k, "shard_size": shard_size, "score_dtype": score_dtype, **encoding}
    about, processes = _described(corpus, encoder, queries, settings), all_processes(encoder.device)
    home = Path(folder) / (key := _digest(about))[:16]
    shards = {start: home / f"shard-{start:09d}.npz" for start in range(0, len(corpus), shard_size)}
    mine = list(shards)[processes.process_index :: processes.num_processes]
    lacking = [start for start in mine if _read_shard(shards[start], key) is None]
    if processes.is_main_process:
        write_json(home / "search.json", about)
    if lacking:
        vectors = encoder.encode(list(queries), prefix=encoder.query_prefix, **encoding).to(encoder.device)
        encode = partial(encoder.encode, prefix=encoder.passage_prefix, **encoding)
        best = partial(top_k, vectors, k=k, score_dtype=score_dtype)
    for start in tqdm(lacking, unit="shard", disable=not (progress and processes.is_main_process)):
        _write_shard(shards[start], key, *_search_shard(corpus.texts(start, start + shard_size), start, encode, best))
    processes.wait_for_everyone()
    return _with_ids(*_merged(shards.values(), key, len(queries), k), corpus)


# ---- shards


def _search_shard(texts: list[str], start: int, encode: Callable, best: Callable) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k best of the passages whose texts these are; every distinct text is encoded and scored once."""
    group, distinct = pd.factorize(np.array(texts, dtype=object), use_na_sentinel=False)
    try:
        vectors = encode(list(distinct))
    except ValueError as error:
        raise ValueError(f"passages {start} to {start + len(texts)}: {error}") from error
    scores, groups = (table.cpu() for table in best(vectors))
    if len(distinct) < len(texts):
        scores, groups = _members(scores, groups, group)
    return scores, torch.where(groups < 0, -1, groups + start)


def _members(scores: torch.Tensor, groups: torch.Tensor, group: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace hits (Q, k) among groups by hits among their members; `group` is that of each member."""
    members = np.split(np.argsort(group, kind="stable"), np.bincount(group).cumsum()[:-1])
    member_scores, rows = no_hits(*groups.shape, groups.device)
    for query, (line, hits) in enumerate(zip(scores.numpy(), groups.numpy(), strict=True)):
        parts = [members[hit] for hit in hits if hit >= 0]
        places = slice(min(sum(map(len, parts)), groups.shape[1]))
        rows[query, places] = torch.from_numpy(np.concatenate(parts)[places])
        repeated = np.repeat(line[: len(parts)], [len(part) for part in parts])
        member_scores[query, places] = torch.from_numpy(repeated[places])
    return member_scores, rows


def _write_shard(path: Path, key: str, scores: torch.Tensor, rows: torch.Tensor) -> None:
    try:
        with replace_file(path) as new, new.open("wb") as file:
            np.savez(file, key=np.array(key), scores=scores.numpy(), rows=rows.numpy())
    except OSError as error:
        advice = "make room or choose another folder and start again: what is finished stays"
        raise OSError(error.errno, f"{path}: not written ({error.strerror or error}); {advice}") from error


def _read_shard(path: Path, key: str) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Scores and rows of a shard; None where the file is lacking or, with a warning, damaged.

    Reading compares each table with the checksum that the zip format keeps beside it.
    """
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            if str(file["key"]) == key:
                return torch.from_numpy(file["scores"]), torch.from_numpy(file["rows"])
        error = "it belongs to another search"
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, RuntimeError) as damage:
        error = f"cut off or damaged ({damage})"
    logger.warning("%s: %s; these passages are searched again", path, error)
    return None


def _merged(paths: Iterable[Path], key: str, queries: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the shards and keep the k best of all."""
    merged = no_hits(queries, k, torch.device("cpu"))
    for path in paths:
        shard = _read_shard(path, key)
        if shard is None:
            raise OSError(f"{path} is missing: every process must see the same folder")
        merged = best_of([merged, shard], k)
    return merged


def _with_ids(scores: torch.Tensor, rows: torch.Tensor, corpus: Passages) -> Hits:
    """Order the hits by score, then by id, both descending (as Python compares texts)."""
    known, place = np.unique(rows.numpy(), return_inverse=True)
    ids, place = corpus.ids_at(known), place.reshape(rows.shape)
    rank = np.argsort(np.argsort(ids))
    order = np.lexsort((-rank[place], -scores.numpy()), axis=1)
    place = np.take_along_axis(place, order, axis=1)
    return Hits(known[place], np.take_along_axis(scores.numpy(), order, axis=1), ids[place])


# ---- what decides a result


def _described(corpus: Passages, encoder: Encoder, queries: Sequence[str], settings: dict) -> dict:
    """All that decides the shards; of the encoder what decides a text's vector."""
    weights = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    vectors = {name: getattr(encoder, name) for name in ("pooling", "query_prefix", "passage_prefix", "max_length")}
    vectors |= {"weights": weights.hexdigest(), "tokenizer": tokenizer_hash(encoder.tokenizer)}
    vectors |= {"dense": str(encoder.dense), "config": {**encoder.backbone.config.to_dict(), "_name_or_path": None}}
    about = {"corpus": corpus.fingerprint, "passages": len(corpus), "queries": _digest(list(queries))}
    about |= {"encoder": _digest(vectors), "torch": torch.__version__, "recipe": RECIPE}
    return about | {name: str(value) for name, value in settings.items()}


def _digest(content: dict | list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
