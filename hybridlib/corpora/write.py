"""Corpora larger than memory, written into folders that `ParallelPairs.load` opens memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.tables import PARTS, write_files


def write_pairs(
    folder: Path,
    *,
    name: str,
    queries: Iterable[pa.Table],
    passages: Iterable[pa.Table],
    pairs: Iterable[pa.Table],
) -> ParallelPairs:
    """Write a corpus piece by piece and open it: `ParallelPairs.build` and `save` for more than memory holds.

    The streams are read once, in the order queries, passages, pairs. Each gives tables with the columns that `build`
    takes, of any number of rows; texts are null where a table lacks a language that another one has. The corpus is the
    same, fingerprint included, however the streams are cut. The folder appears complete or not at all and takes the
    place of an older one. While it is written, working files of about 80 bytes a pair (one negative each) and the
    texts of the queries lie beside it.

    Args:
        folder: where the corpus will lie.
        name: name of the corpus.
        queries: query_id and a string column per language.
        passages: passage_id and a string column per language.
        pairs: query_id, passage_id, source, and optionally negatives (lists of passage_ids).

    Raises:
        ValueError: an id is null, occurs twice or is unknown, a text is empty, a column is no language or lacking,
            there is no query, no passage or no pair, there are over two billion pairs or negatives, or the folder holds
            something else than a corpus.
        TypeError: a stream gives something else than tables.
    """
    write_files(folder, name=name, queries=queries, passages=passages, pairs=pairs)
    return ParallelPairs.load(folder)


def concatenate(folder: Path, corpora: Sequence[ParallelPairs], name: str) -> ParallelPairs:
    """Write several corpora into one, in their order, and open it. Memory and folder as for `write_pairs`.

    Ids become "<name of their corpus>/<id>"; sources stay as they are.

    Raises:
        ValueError: there is no corpus, or two have the same name, or the folder holds something else.
    """
    names = [corpus.name for corpus in corpora]
    double = sorted({corpus for corpus in names if names.count(corpus) > 1})
    if double or not corpora:
        culprit = f"two corpora are named {double[0]!r}" if double else "there is no corpus"
        raise ValueError(f"corpora: {culprit}; give corpora with different names")
    streams = [corpus.streams(prefix=f"{corpus.name}/") for corpus in corpora]
    parts = {part: chain(*[stream[part] for stream in streams]) for part in PARTS}
    return write_pairs(folder, name=name, **parts)


def part_of(corpus: ParallelPairs, folder: Path, *, queries: np.ndarray, passages: np.ndarray) -> ParallelPairs:
    """Write the pairs whose query and passage stay; what goes is taken out of the lists of negatives too.

    Args:
        queries, passages: of each row of the tables whether it stays, bool.

    Raises:
        ValueError: no pair stays.
    """
    if not np.any(queries[corpus.query_rows] & passages[corpus.passage_rows]):
        raise ValueError(f"{corpus.name}: no pair is left of {len(corpus)}")
    return write_pairs(folder, name=corpus.name, **corpus.streams(queries=queries, passages=passages))
