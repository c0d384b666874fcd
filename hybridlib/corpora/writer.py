"""Training corpora written from streams of tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from hybridlib.corpora.base import ParallelPairs


def write_pairs(
    folder: Path, *, name: str, queries: Iterator[pa.Table], passages: Iterator[pa.Table], pairs: Iterator[pa.Table]
) -> ParallelPairs:
    """Write a corpus from streams of tables with the columns of `ParallelPairs.build`; gives it memory-mapped.

    Raises:
        ValueError: as `ParallelPairs.build`; or a stream has no table.
    """
    tables = []
    for part, stream in (("queries", queries), ("passages", passages), ("pairs", pairs)):
        chunks = list(stream)
        if not chunks:
            raise ValueError(f"{name}: the stream of {part} has no table; give at least one")
        tables.append(pa.concat_tables(chunks, promote_options="default"))
    ParallelPairs.build(*tables, name=name).save(Path(folder))
    return ParallelPairs.load(Path(folder))
