"""Test collections: queries, judgements, and passages that may be more than memory holds.

A collection in a folder is three Arrow files and collection.json; the passages are opened memory-mapped
(`corpora.collect` writes it). What a search asks of passages: `len`, `ids`, `texts`, `fingerprint`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora.fingerprint import fingerprint
from hybridlib.files import parse_json

ABOUT = "collection.json"
FORM = 2  # of what lies in a folder; raised when that changes
PARTS = ("queries", "judgements", "passages")  # each in a file <part>.arrow
NOT_THERE = -1  # row of a judged passage that the collection does not hold


@dataclass(frozen=True, eq=False)
class Passages:
    """The passages of a collection: a table of doc_id and text, in memory or memory-mapped.

    `fingerprint` is the SHA-256 of ids and texts in their order, the same on every machine.
    """

    table: pa.Table
    fingerprint: str

    def __len__(self) -> int:
        return len(self.table)

    def ids(self, start: int, stop: int) -> list[str]:
        """Ids of the rows [start, stop)."""
        return self.table["doc_id"].slice(start, stop - start).to_pylist()

    def texts(self, start: int, stop: int) -> list[str]:
        """Texts of the rows [start, stop)."""
        return self.table["text"].slice(start, stop - start).to_pylist()

    def ids_at(self, rows: np.ndarray) -> np.ndarray:
        """Ids of any rows, (N,) objects. Chunk by chunk: `take` on the whole column would first copy it."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows must lie in [0, {len(self)}), not {rows.min()} to {rows.max()}")
        found = np.empty(len(rows), dtype=object)
        order = np.argsort(rows, kind="stable")
        first, at = 0, 0
        for chunk in self.table["doc_id"].chunks:
            stop = int(np.searchsorted(rows[order], first + len(chunk)))
            places = order[at:stop]
            found[places] = chunk.take(pa.array(rows[places] - first)).to_pylist()
            first, at = first + len(chunk), stop
        return found


@dataclass(frozen=True, eq=False)
class Collection:
    """Queries, judgements, and the passages they are judged on.

    Attributes:
        name: name of the collection; its full and its sub-sampled form have different ones.
        languages: codes of the queries' languages, as they first occur.
        queries: query_id, lang, text; those with at least one judgement.
        judgements: query_id, doc_id, gain (whole number, 1 or more is relevant), row (of the passage, or NOT_THERE).
        passages: None where the collection was loaded without.
        counts: what was left out, such as {"queries without judgements": 2914}; zeros are not listed.
        passage_lang: language of the passages; None where they have several.
        own: of each query the id of the passage that is the query itself and so no find, as in BEIR's ArguAna; such a
            passage need not be there. None: the collection has none.
    """

    name: str
    languages: tuple[str, ...]
    queries: pa.Table
    judgements: pa.Table
    passages: Passages | None
    counts: dict[str, int]
    passage_lang: str | None = None
    own: tuple[str, ...] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything the collection holds."""
        about = {"passages": self.passages.fingerprint if self.passages else "", "language": self.passage_lang or ""}
        tables = (self.queries, self.judgements, pa.table({name: [value] for name, value in about.items()}))
        return fingerprint(self.name, *tables, *([pa.table({"own": self.own})] if self.own else []))

    def sizes(self) -> dict[str, int | None]:
        """Numbers of queries, of judgements, of those that are relevant, and of passages (None: loaded without)."""
        relevant = pc.sum(pc.greater(self.judgements["gain"], 0)).as_py() or 0
        passages = len(self.passages) if self.passages else None
        return {
            "queries": len(self.queries),
            "judgements": len(self.judgements),
            "relevant": relevant,
            "passages": passages,
        }

    @classmethod
    def load(cls, folder: Path) -> Collection:
        """Open a collection that `corpora.collect` wrote, its passages memory-mapped.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: a file has another size than when it was written, or all are of another version's form.
        """
        folder = Path(folder)
        if not (folder / ABOUT).exists():
            raise FileNotFoundError(f"{folder}: no collection here; write one with write_collection or a loader")
        about = parse_json((folder / ABOUT).read_bytes(), folder / ABOUT)
        if about.get("form") != FORM:
            raise ValueError(f"{folder / ABOUT}: written by another version of hybridlib; remove the folder, load anew")
        for file, size in about["bytes"].items():
            found = (folder / file).stat().st_size if (folder / file).exists() else 0
            if found != size:
                raise ValueError(
                    f"{folder / file}: {found} bytes, not the {size} written; remove the folder, load anew"
                )
        queries, judgements, passages = (mapped(folder / f"{part}.arrow") for part in PARTS)
        passages = Passages(passages, about["passages"])
        own = tuple(queries["query_id"].to_pylist()) if about["drop_own"] else None
        more = (about["counts"], about["passage_lang"], own)
        return cls(about["name"], tuple(about["languages"]), queries, judgements, passages, *more)


def mapped(path: Path) -> pa.Table:
    """The table in an Arrow file, memory-mapped."""
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowException as error:
        raise ValueError(f"{path}: torn or no Arrow file ({error}); remove the folder, load anew") from error
