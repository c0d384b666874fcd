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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from hybridlib.companion.search.collection import Passages
from hybridlib.encoder import Encoder
from hybridlib.files import replace_file, write_json
from hybridlib.training.processes import all_processes
from hybridlib.training.tokens import tokenizer_hash

RECIPE = 2  # raised when the code comes to rank otherwise with the same arguments
CPU_TOKENS, GPU_TOKENS = 1024, 16384  # of a batch
QUERIES_AT_ONCE, VECTORS_AT_ONCE = 1024, 8192  # of one product of `top_k`
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
        corpus: its texts get the encoder's passage_prefix.
        queries: get its query_prefix.
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
    processes, device = all_processes(encoder.device), encoder.device
    encoding = {"batch_tokens": batch_tokens or (CPU_TOKENS if device.type == "cpu" else GPU_TOKENS), "dtype": dtype}
    about = {"corpus": corpus.fingerprint, "passages": len(corpus), "queries": _digest(list(queries)), "k": k}
    about |= {"encoder": _encoder_hash(encoder), "shard_size": shard_size, "score_dtype": str(score_dtype)}
    about |= {name: str(value) for name, value in encoding.items()} | {"torch": torch.__version__, "recipe": RECIPE}
    key = _digest(about)
    home = Path(folder) / key[:16]
    if processes.is_main_process:
        write_json(home / "search.json", about)
    shards = {start: home / f"shard-{start:09d}.npz" for start in range(0, len(corpus), shard_size)}
    mine = list(shards)[processes.process_index :: processes.num_processes]
    query_vectors = None
    for start in tqdm(mine, unit="shard", disable=not (progress and processes.is_main_process)):
        if _read_shard(shards[start], key) is None:
            if query_vectors is None:
                query_vectors = encoder.encode(list(queries), prefix=encoder.query_prefix, **encoding).to(device)
            texts = corpus.texts(start, min(start + shard_size, len(corpus)))
            scores, rows = _search_shard(encoder, query_vectors, texts, start, k, encoding, score_dtype)
            _write_shard(shards[start], key, scores, rows)
    processes.wait_for_everyone()
    merged = _empty(len(queries), k, torch.device("cpu"))
    for path in shards.values():
        shard = _read_shard(path, key)
        if shard is None:
            raise OSError(f"{path} is missing: every process must see the same folder")
        merged = _best(merged, shard, k)
    return _with_ids(*merged, corpus)


def top_k(
    queries: torch.Tensor, vectors: torch.Tensor, k: int, *, score_dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k vectors with the largest dot products with each query, block by block.

    On a CPU `torch.topk` of every block would take longer than the products. So once k scores are known, only those
    above the k-th are looked at.

    Args:
        queries: (Q, D), on the device that computes.
        vectors: (V, D), on any device; memory-mapped ones are read once.
        score_dtype: scores are computed in it.

    Returns:
        scores (Q, k) float32, falling, -inf where there are fewer than k vectors; rows (Q, k) int64, -1 there. Equal
        scores are in any order.

    Raises:
        ValueError: a vector is not finite.
    """
    parts = _finite(queries.to(score_dtype), "queries").split(QUERIES_AT_ONCE)
    best = [_empty(len(part), k, queries.device) for part in parts]
    for start in range(0, len(vectors), VECTORS_AT_ONCE):
        block = vectors[start : start + VECTORS_AT_ONCE].to(queries.device, score_dtype)
        _finite(block, f"vectors {start} to {start + len(block)}")
        for i, part in enumerate(parts):
            scores = (part @ block.T).float()
            cut = best[i][0].amin(dim=1, keepdim=True)
            if scores.device.type == "cpu" and cut.isfinite().all():
                scores, columns = _above(scores, cut)
            else:
                scores, columns = scores.topk(min(k, scores.shape[1]), sorted=False)
            best[i] = _best(best[i], (scores, columns + start), k)
    scores, rows = (torch.cat(column) for column in zip(*best, strict=True))
    scores, places = scores.sort(dim=1, descending=True)
    return scores, rows.gather(1, places)


def _above(scores: torch.Tensor, cut: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gather the scores (Q, n) above the cut (Q, 1), and their columns, at the left of tables as wide as needed."""
    places = np.flatnonzero(scores.numpy() > cut.numpy())  # in a third of the time that torch takes
    query, column = np.divmod(places, scores.shape[1])
    counts = np.bincount(query, minlength=len(scores))
    place = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    above = torch.full((len(scores), int(counts.max())), -torch.inf)
    columns = torch.full(above.shape, -1)
    above.numpy()[query, place], columns.numpy()[query, place] = scores.numpy().reshape(-1)[places], column
    return above, columns


def _best(
    first: tuple[torch.Tensor, torch.Tensor], second: tuple[torch.Tensor, torch.Tensor], k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the k best, in any order, of two lists of scores (Q, any) and rows."""
    scores, rows = (torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))
    scores, places = scores.topk(k, sorted=False)  # to sort them each time would take longest
    return scores, rows.gather(1, places)


def _empty(queries: int, k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((queries, k), -torch.inf, device=device), torch.full((queries, k), -1, device=device)


def _finite(vectors: torch.Tensor, what: str) -> torch.Tensor:
    if not torch.isfinite(vectors).all():
        raise ValueError(f"{what}: a vector is not finite in {vectors.dtype}; encode again or score in float32")
    return vectors


# ---- shards


def _search_shard(
    encoder: Encoder,
    queries: torch.Tensor,
    texts: list[str],
    start: int,
    k: int,
    encoding: dict,
    score_dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k best of the passages whose texts these are; every distinct text is encoded and scored once."""
    group, distinct = pd.factorize(np.array(texts, dtype=object), use_na_sentinel=False)
    try:
        vectors = encoder.encode(list(distinct), prefix=encoder.passage_prefix, **encoding)
    except ValueError as error:
        raise ValueError(f"passages {start} to {start + len(texts)}: {error}") from error
    scores, groups = (table.cpu() for table in top_k(queries, vectors, k, score_dtype=score_dtype))
    if len(distinct) < len(texts):
        scores, groups = _members(scores, groups, group)
    return scores, torch.where(groups < 0, -1, groups + start)


def _members(scores: torch.Tensor, groups: torch.Tensor, group: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace hits (Q, k) among groups by hits among their members; `group` is that of each member."""
    k = groups.shape[1]
    sizes = torch.from_numpy(np.bincount(group))
    starts = sizes.cumsum(0) - sizes
    members = torch.from_numpy(np.argsort(group, kind="stable"))
    member_scores, rows = _empty(*groups.shape, groups.device)
    for query, (line, hits) in enumerate(zip(scores, groups, strict=True)):
        hits = hits[hits >= 0]
        count = sizes[hits].clamp(max=k)
        within = torch.arange(int(count.sum())) - (count.cumsum(0) - count).repeat_interleave(count)
        found = members[starts[hits].repeat_interleave(count) + within][:k]
        rows[query, : len(found)] = found
        member_scores[query, : len(found)] = line[: len(hits)].repeat_interleave(count)[:k]
    return member_scores, rows


def _write_shard(path: Path, key: str, scores: torch.Tensor, rows: torch.Tensor) -> None:
    try:
        with replace_file(path) as new, new.open("wb") as file:
            np.savez(file, key=np.array(key), scores=scores.numpy(), rows=rows.numpy())
    except OSError as error:
        reason = f"{path}: not written ({error.strerror or error}); make room or choose another folder and start again"
        raise OSError(error.errno, f"{reason}: what is finished stays") from error


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


def _with_ids(scores: torch.Tensor, rows: torch.Tensor, corpus: Passages) -> Hits:
    """Order the hits by score, then by id, both descending (as Python compares texts)."""
    known, place = np.unique(rows.numpy(), return_inverse=True)
    ids = np.array(["", *corpus.ids_at(known[known >= 0])], dtype=object)[int(known[0] >= 0) :]
    place = place.reshape(rows.shape)
    rank = np.empty(len(ids), dtype=np.int64)
    rank[np.argsort(ids)] = np.arange(len(ids))
    order = np.lexsort((-rank[place], -scores.numpy()), axis=1)
    place = np.take_along_axis(place, order, axis=1)
    return Hits(known[place], np.take_along_axis(scores.numpy(), order, axis=1), ids[place])


# ---- what decides a result


def _encoder_hash(encoder: Encoder) -> str:
    """SHA-256 of all that decides a text's vector."""
    weights = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    about = {name: getattr(encoder, name) for name in ("pooling", "query_prefix", "passage_prefix", "max_length")}
    about |= {"weights": weights.hexdigest(), "tokenizer": tokenizer_hash(encoder.tokenizer)}
    config = {**encoder.backbone.config.to_dict(), "_name_or_path": None}
    return _digest({**about, "dense": str(encoder.dense), "config": config})


def _digest(content: dict | list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
