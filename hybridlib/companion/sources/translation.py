"""English-only pairs into other languages: translation in shards that can be killed, resumed and shared.

Questions and passages that lack a language are translated in shards of some hundred texts. A shard is one Parquet file,
written under a temporary name and renamed; its name has a hash of all that decides its content. So a killed run repeats
at most the shard it was in, and any number of processes, on one machine or on several with a common folder, share the
work by locking the shard they are at: start the same command as often as there are GPUs.

Flags are not part of a shard: they take no time, and other limits need no other translation.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from tqdm import tqdm

from hybridlib.companion.sources.flags import FLAGS, FlagLimits, find_flags
from hybridlib.companion.sources.translator import TranslationSettings, Translator
from hybridlib.corpora.base import ParallelPairs
from hybridlib.files import make_parent, replace_file, write_json

__all__ = ["TranslationSettings", "Translator", "translate_pairs"]

RECIPE = 1  # raised when the code comes to translate otherwise with the same settings
PAUSE = 0.5  # seconds until a shard that another process is at is looked at again
KEYS = {"queries": "query_id", "passages": "passage_id"}
_TEXTS = dict.fromkeys(("side", "id", "lang", "text"), pa.string())
_ROWS = pa.schema(_TEXTS | dict.fromkeys(FLAGS, pa.bool_()) | {"kept": pa.bool_()})


def translate_pairs(
    pairs: ParallelPairs,
    languages: Sequence[str],
    folder: Path,
    translator: Translator,
    *,
    source: str = "en",
    rows_per_shard: int = 512,
    settings: TranslationSettings | None = None,
    limits: FlagLimits | None = None,
    keep_flagged: bool = False,
    progress: bool = False,
) -> tuple[ParallelPairs, pd.DataFrame]:
    """Add the languages to the questions and passages that lack them; texts that are there stay as they are.

    Several processes may call this at once with the same arguments: they share the shards and return the same. The
    file system has to lock files between them (local ones do, and NFS from version 4).

    Args:
        folder: for shards/, corpus/ (a saved ParallelPairs) and translations.parquet, a row per translation: side
            ("queries" or "passages"), id of the query or passage, lang, text, each flag, and whether it was kept.
        source: language to translate from; what lacks it is not translated.
        rows_per_shard: texts of a shard; what a killed run may have to repeat.
        limits: when a translation is flagged.
        keep_flagged: put flagged texts into the corpus too, all but empty ones.

    Returns:
        The pairs with the new texts beside the old ones, memory-mapped; and a table of counts: side, lang, texts, a
        count per flag, flagged (texts with any), kept (texts that went into the corpus).

    Raises:
        ValueError: a language is unknown to the model, given twice, or the source; an argument is out of range.
        OSError: the folder cannot be written.
    """
    folder, settings, limits = Path(folder), settings or TranslationSettings(), limits or FlagLimits()
    translator.check_languages(source, *languages)
    _check(pairs, languages, source, rows_per_shard)
    how = asdict(settings)
    del how["batch_tokens"]  # decides nothing but speed
    recipe = {"model": translator.fingerprint, "source": source, "recipe": RECIPE, **how}
    shards = [
        shard
        for side in KEYS
        for lang in languages
        for shard in _shards(getattr(pairs, side), side, lang, source, recipe, folder / "shards", rows_per_shard)
    ]
    _finish(shards, partial(translator.translate, source=source, settings=settings), progress)
    recipe |= {"source corpus": pairs.fingerprint, "checkpoint": translator.folder.name, "limits": asdict(limits)}
    recipe |= {"keep_flagged": keep_flagged, "shards": _digest([shard.path.name for shard in shards])}
    with FileLock(folder / "assembly.lock"):
        if not _is_assembled(folder, recipe):
            rows = _write_rows(folder / "translations.parquet", shards, source, limits, keep_flagged)
            kept = rows.filter(rows["kept"])
            queries = _with_texts(pairs.queries.drop_columns("positives"), kept, "queries")
            tables = queries, _with_texts(pairs.passages, kept, "passages"), pa.concat_tables(pairs.streams()["pairs"])
            ParallelPairs.build(*tables, name=pairs.name).save(folder / "corpus")
            write_json(folder / "translated.json", {**recipe, "counts": _counts(rows).to_dict("records")})
    done = json.loads((folder / "translated.json").read_text(encoding="utf-8"))
    counts = pd.DataFrame(done["counts"], columns=["side", "lang", "texts", *FLAGS, "flagged", "kept"])
    return ParallelPairs.load(folder / "corpus"), counts


def _check(pairs: ParallelPairs, languages: Sequence[str], source: str, rows_per_shard: int) -> None:
    if not languages or source in languages or len(set(languages)) < len(languages):
        raise ValueError(f"languages are {' '.join(languages) or 'none'}: give some, each once, without {source!r}")
    if source not in pairs.languages:
        raise ValueError(f"{pairs.name} has no text in {source!r}: name one of its languages as the source")
    if rows_per_shard < 1:
        raise ValueError(f"rows_per_shard is {rows_per_shard}: give at least 1")


# ---- shards


@dataclass(frozen=True)
class _Shard:
    """Some queries or passages to be translated into one language, and the file for their translations."""

    side: str
    lang: str
    table: pa.Table  # id and text, to be translated
    path: Path

    def translations(self) -> list[str] | None:
        """Read the translations; None: the file is lacking, torn, damaged or of other texts."""
        try:
            table = pq.read_table(self.path, page_checksum_verification=True)
            return table["text"].to_pylist() if table["id"].equals(self.table["id"]) else None
        except (pa.ArrowException, OSError, KeyError):
            return None

    def make(self, translate: partial) -> bool:
        """Translate the texts if that is not done; False where another process is at it."""
        if self.translations() is not None:
            return True
        try:
            with FileLock(f"{self.path}.lock", timeout=0):
                if self.translations() is None:
                    for leftover in self.path.parent.glob(f".{self.path.name}.*.new"):  # of a killed process
                        leftover.unlink()
                    texts = translate(self.table["text"].to_pylist(), target=self.lang)
                    with replace_file(self.path) as new:
                        pq.write_table(pa.table({"id": self.table["id"], "text": texts}), new, write_page_checksum=True)
        except Timeout:
            return False
        return True


def _shards(
    table: pa.Table, side: str, lang: str, source: str, recipe: dict, folder: Path, size: int
) -> Iterator[_Shard]:
    """Cut the texts of a table that have the source language and lack the other into shards."""
    if source not in table.column_names:
        return
    lacking = pc.is_valid(table[source])
    if lang in table.column_names:
        lacking = pc.and_(lacking, pc.is_null(table[lang]))
    rows = np.flatnonzero(lacking.to_numpy())
    columns = table.select([KEYS[side], source]).rename_columns(["id", "text"])
    for start in range(0, len(rows), size):
        part = columns.take(rows[start : start + size])
        digest = _digest({**recipe, "lang": lang, "texts": part.to_pydict()})
        yield _Shard(side, lang, part, folder / f"{side}-{lang}-{start // size:05d}-{digest[:16]}.parquet")


def _finish(shards: Sequence[_Shard], translate: partial, progress: bool) -> None:
    """Make the shards that nobody else is at, and wait for the others."""
    left = list(shards)
    for shard in shards[:1]:
        make_parent(shard.path)
    with tqdm(total=len(left), unit="shard", disable=not progress) as bar:
        while left:
            left = [shard for shard in left if not shard.make(translate)]
            bar.update(len(shards) - len(left) - bar.n)
            time.sleep(PAUSE if left else 0)


def _digest(content: dict | list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# ---- what they become


def _is_assembled(folder: Path, recipe: dict) -> bool:
    """Whether translated.json, written last, says that this was made, and the files are there."""
    done = folder / "translated.json"
    if not (done.exists() and (folder / "corpus").is_dir() and (folder / "translations.parquet").exists()):
        return False
    content = json.loads(done.read_text(encoding="utf-8"))
    return {**content, "counts": None} == {**recipe, "counts": None}


def _write_rows(path: Path, shards: Sequence[_Shard], source: str, limits: FlagLimits, keep_flagged: bool) -> pa.Table:
    """All translations with their flags, written shard by shard and then read memory-mapped."""
    with replace_file(path) as new, pq.ParquetWriter(new, _ROWS) as writer:
        for shard in shards:
            rows = []
            for (name, original), text in zip(
                shard.table.to_pandas().itertuples(index=False), shard.translations(), strict=True
            ):
                flags = find_flags(original, text, lang=shard.lang, source_lang=source, limits=limits)
                row = {"side": shard.side, "id": name, "lang": shard.lang, "text": text}
                row |= {flag: flag in flags for flag in FLAGS}
                rows.append(row | {"kept": "empty" not in flags and (keep_flagged or not flags)})
            writer.write_table(pa.Table.from_pylist(rows, schema=_ROWS))
    return pq.read_table(path, memory_map=True)


def _counts(rows: pa.Table) -> pd.DataFrame:
    """Texts, texts with each flag, with any, and kept ones, per side and language in the order of the rows."""
    frame = rows.drop_columns(["id", "text"]).to_pandas()
    frame = frame.assign(texts=1, flagged=frame[list(FLAGS)].any(axis=1))
    return frame.groupby(["side", "lang"], sort=False).sum().reset_index()


def _with_texts(table: pa.Table, rows: pa.Table, side: str) -> pa.Table:
    """The table with the translations of a side in their places; a column per language, in alphabetical order."""
    rows = rows.filter(pc.equal(rows["side"], side))
    key = KEYS[side]
    columns = {lang: table[lang] for lang in table.column_names if lang != key}
    for lang in pc.unique(rows["lang"]).to_pylist():
        translated = rows.filter(pc.equal(rows["lang"], lang))
        places = pc.index_in(table[key], value_set=translated["id"].combine_chunks())
        texts = translated["text"].take(places)  # null where a row has no translation
        columns[lang] = pc.coalesce(columns[lang], texts) if lang in columns else texts
    return pa.table({key: table[key], **dict(sorted(columns.items()))})
