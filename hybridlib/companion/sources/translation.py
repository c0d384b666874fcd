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

__all__ = ["Translated", "TranslationSettings", "Translator", "translate_pairs"]

RECIPE = 1  # raised when the code comes to translate otherwise with the same settings
PAUSE = 0.5  # seconds until a shard that another process is at is looked at again
KEYS = {"queries": "query_id", "passages": "passage_id"}
_ROWS = pa.schema(
    [("side", pa.string()), ("id", pa.string()), ("lang", pa.string()), ("text", pa.string())]
    + [(flag, pa.bool_()) for flag in FLAGS]
)


@dataclass(frozen=True, eq=False)
class Translated:
    """What `translate_pairs` made.

    Attributes:
        corpus: the pairs with the new texts beside the old ones, memory-mapped.
        rows: Parquet file with a row per translation: side ("queries" or "passages"), id of the query or passage, lang,
            text, and a column of booleans per flag.
        counts: side, lang, texts, a count per flag, flagged (texts with any), kept (texts that went into the corpus).
    """

    corpus: ParallelPairs
    rows: Path
    counts: pd.DataFrame


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
) -> Translated:
    """Add the languages to the questions and passages that lack them; texts that are there stay as they are.

    Several processes may call this at once with the same arguments: they share the shards and return the same. The
    file system has to lock files between them (local ones do, and NFS from version 4).

    Args:
        folder: for shards/, translations.parquet and corpus/ (a saved ParallelPairs).
        source: language to translate from; what lacks it is not translated.
        rows_per_shard: texts of a shard; what a killed run may have to repeat.
        limits: when a translation is flagged.
        keep_flagged: put flagged texts into the corpus too, all but empty ones.

    Raises:
        ValueError: a language is unknown to the model, given twice, or the source; an argument is out of range.
        OSError: the folder cannot be written.
    """
    folder, settings, limits = Path(folder), settings or TranslationSettings(), limits or FlagLimits()
    translator.check_languages(source, *languages)
    if not languages or source in languages or len(set(languages)) < len(languages):
        raise ValueError(f"languages are {' '.join(languages) or 'none'}: give some, each once, without {source!r}")
    if source not in pairs.languages:
        raise ValueError(f"{pairs.name} has no text in {source!r}: name one of its languages as the source")
    if rows_per_shard < 1:
        raise ValueError(f"rows_per_shard is {rows_per_shard}: give at least 1")
    work = _Work(pairs, translator, source, settings, folder / "shards")
    shards = [shard for side in KEYS for lang in languages for shard in work.shards(side, lang, rows_per_shard)]
    work.finish(shards, progress)
    with FileLock(folder / "assembly.lock"):
        recipe = {"source corpus": pairs.fingerprint, "checkpoint": translator.folder.name, **work.recipe}
        recipe |= {"limits": asdict(limits), "keep_flagged": keep_flagged}
        recipe["shards"] = _digest([shard.path.name for shard in shards])
        if not _is_assembled(folder, recipe):
            rows = _write_rows(folder / "translations.parquet", shards, source, limits)
            counts = _counts(rows, keep_flagged)
            _assemble(pairs, rows.filter(_kept(rows, keep_flagged))).save(folder / "corpus")
            write_json(folder / "translated.json", {**recipe, "counts": counts.to_dict("records")})
    done = json.loads((folder / "translated.json").read_text(encoding="utf-8"))
    counts = pd.DataFrame(done["counts"], columns=["side", "lang", "texts", *FLAGS, "flagged", "kept"])
    return Translated(ParallelPairs.load(folder / "corpus"), folder / "translations.parquet", counts)


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
            return table["text"].to_pylist() if table["id"].equals(self.table["id"].cast(pa.string())) else None
        except (pa.ArrowException, OSError, KeyError):
            return None


@dataclass(frozen=True)
class _Work:
    """The translation of some pairs by several processes at once."""

    pairs: ParallelPairs
    translator: Translator
    source: str
    settings: TranslationSettings
    folder: Path

    @property
    def recipe(self) -> dict:
        """What decides a translation, beside text and language."""
        settings = asdict(self.settings)
        del settings["batch_tokens"]  # decides nothing but speed
        return {"model": self.translator.fingerprint, "source": self.source, "recipe": RECIPE, **settings}

    def shards(self, side: str, lang: str, size: int) -> Iterator[_Shard]:
        """Cut the texts that have the source language and lack the other into shards."""
        table, recipe = getattr(self.pairs, side), self.recipe
        if self.source not in table.column_names:
            return
        lacking = pc.is_valid(table[self.source])
        if lang in table.column_names:
            lacking = pc.and_(lacking, pc.is_null(table[lang]))
        rows = np.flatnonzero(lacking.to_numpy())
        columns = table.select([KEYS[side], self.source]).rename_columns(["id", "text"])
        for start in range(0, len(rows), size):
            part = columns.take(rows[start : start + size])
            digest = _digest({**recipe, "lang": lang, "texts": part.to_pydict()})
            yield _Shard(side, lang, part, self.folder / f"{side}-{lang}-{start // size:05d}-{digest[:16]}.parquet")

    def finish(self, shards: Sequence[_Shard], progress: bool) -> None:
        """Make the shards that nobody else is at, and wait for the others."""
        make_parent(self.folder / "any")
        left = list(shards)
        with tqdm(total=len(left), unit="shard", disable=not progress) as bar:
            while left:
                busy = [shard for shard in left if not self._done(shard)]
                bar.update(len(left) - len(busy))
                left = busy
                time.sleep(PAUSE if left else 0)

    def _done(self, shard: _Shard) -> bool:
        """Make the shard if it is not there; False where another process is at it."""
        if shard.translations() is not None:
            return True
        try:
            with FileLock(f"{shard.path}.lock", timeout=0):
                if shard.translations() is None:
                    for leftover in shard.path.parent.glob(f".{shard.path.name}.*.new"):  # of a killed process
                        leftover.unlink()
                    options = {"target": shard.lang, "source": self.source, "settings": self.settings}
                    texts = self.translator.translate(shard.table["text"].to_pylist(), **options)
                    with replace_file(shard.path) as new:
                        table = pa.table({"id": shard.table["id"], "text": texts})
                        pq.write_table(table, new, write_page_checksum=True)
        except Timeout:
            return False
        return True


# ---- what they become


def _is_assembled(folder: Path, recipe: dict) -> bool:
    """Whether translated.json, written last, says that this was made, and the files are there."""
    done = folder / "translated.json"
    if not (done.exists() and (folder / "corpus").is_dir() and (folder / "translations.parquet").exists()):
        return False
    content = json.loads(done.read_text(encoding="utf-8"))
    return {**content, "counts": None} == {**recipe, "counts": None}


def _write_rows(path: Path, shards: Sequence[_Shard], source: str, limits: FlagLimits) -> pa.Table:
    """All translations with their flags, written shard by shard and then read memory-mapped."""
    with replace_file(path) as new, pq.ParquetWriter(new, _ROWS) as writer:
        for shard in shards:
            originals, texts = shard.table["text"].to_pylist(), shard.translations()
            options = {"lang": shard.lang, "source_lang": source, "limits": limits}
            raised = [find_flags(original, text, **options) for original, text in zip(originals, texts, strict=True)]
            columns = {flag: [flag in flags for flags in raised] for flag in FLAGS}
            where = {"side": [shard.side] * len(texts), "id": shard.table["id"], "lang": [shard.lang] * len(texts)}
            writer.write_table(pa.table({**where, "text": texts, **columns}, schema=_ROWS))
    return pq.read_table(path, memory_map=True)


def _kept(rows: pa.Table, keep_flagged: bool) -> pa.ChunkedArray:
    kept = pc.invert(rows["empty"])
    for flag in () if keep_flagged else FLAGS:
        kept = pc.and_(kept, pc.invert(rows[flag]))
    return kept


def _counts(rows: pa.Table, keep_flagged: bool) -> pd.DataFrame:
    """Texts, texts with each flag, with any, and kept ones, per side and language in the order of the rows."""
    frame = rows.select(["side", "lang", *FLAGS]).to_pandas()
    frame["flagged"] = frame[list(FLAGS)].any(axis=1)
    frame["kept"] = _kept(rows, keep_flagged).to_numpy()
    groups = frame.groupby(["side", "lang"], sort=False)
    return groups.sum().assign(texts=groups.size()).reset_index().convert_dtypes()


def _assemble(pairs: ParallelPairs, rows: pa.Table) -> ParallelPairs:
    """The pairs with the translations in these rows."""
    queries = _with_texts(pairs.queries.drop_columns("positives"), rows, "queries")
    passages = _with_texts(pairs.passages, rows, "passages")
    passage_ids = pairs.passages["passage_id"].combine_chunks()
    lists = pairs.pairs["negatives"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    table = {
        "query_id": pairs.queries["query_id"].take(pairs.pairs["query"]),
        "passage_id": passage_ids.take(pairs.pairs["passage"].combine_chunks()),
        "negatives": pa.ListArray.from_arrays(offsets, passage_ids.take(lists.flatten())),
        "source": pairs.pairs["source"].cast(pa.string()),
    }
    return ParallelPairs.build(queries, passages, pa.table(table), name=pairs.name)


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


def _digest(content: dict | list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
