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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from tqdm import tqdm

from hybridlib.companion.sources.flags import FLAGS, Limits, find_flags
from hybridlib.companion.sources.translator import TranslationSettings, Translator
from hybridlib.corpora.base import ParallelPairs
from hybridlib.files import make_parent, replace_file, write_json

__all__ = ["Translated", "TranslationSettings", "Translator", "judge", "translate_pairs"]

RECIPE = 1  # raised when the code comes to translate otherwise with the same settings
PAUSE = 0.5  # seconds until a shard that another process is at is looked at again
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


@dataclass(frozen=True)
class _Shard:
    """Rows of the queries or of the passages to be translated into one language, and where the result goes."""

    side: str
    lang: str
    rows: np.ndarray
    path: Path

    def source(self, pairs: ParallelPairs, source: str) -> tuple[list[str], list[str]]:
        """Ids and texts."""
        table = getattr(pairs, self.side)
        return table[_key(self.side)].take(self.rows).to_pylist(), table[source].take(self.rows).to_pylist()

    def texts(self) -> list[str]:
        """The translations."""
        return pq.read_table(self.path)["text"].to_pylist()

    def is_complete(self, ids: list[str]) -> bool:
        """Whether the file is there, whole, and of these ids."""
        if not self.path.exists():
            return False
        try:
            return pq.read_table(self.path, page_checksum_verification=True)["id"].to_pylist() == ids
        except (pa.ArrowException, OSError, KeyError):  # torn or damaged: as good as not there
            return False


def translate_pairs(
    pairs: ParallelPairs,
    languages: Sequence[str],
    folder: Path,
    translator: Translator,
    *,
    source: str = "en",
    rows_per_shard: int = 512,
    settings: TranslationSettings | None = None,
    limits: Limits | None = None,
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
    folder, settings, limits = Path(folder), settings or TranslationSettings(), limits or Limits()
    _check(pairs, languages, source, translator, rows_per_shard)
    asked = {"model": translator.fingerprint, "source": source, "recipe": RECIPE, **asdict(settings)}
    del asked["batch_tokens"]  # decides nothing but speed
    shards = list(_plan(pairs, languages, folder / "shards", asked, source, rows_per_shard))
    make_parent(folder / "shards" / "any")
    _work(shards, pairs, translator, source, settings, progress)
    with FileLock(folder / "assembly.lock"):
        made = {"source corpus": pairs.fingerprint, **asked, "limits": asdict(limits), "keep_flagged": keep_flagged}
        made |= {"checkpoint": translator.folder.name, "shards": _digest([shard.path.name for shard in shards])}
        if not _is_assembled(folder, made):
            rows = _write_rows(folder / "translations.parquet", shards, pairs, source, limits)
            counts = _counts(rows, keep_flagged)
            _assemble(pairs, rows, keep_flagged).save(folder / "corpus")
            write_json(folder / "translated.json", {**made, "counts": counts.to_dict("records")})
    done = json.loads((folder / "translated.json").read_text(encoding="utf-8"))
    counts = pd.DataFrame(done["counts"], columns=["side", "lang", "texts", *FLAGS, "flagged", "kept"])
    return Translated(ParallelPairs.load(folder / "corpus"), folder / "translations.parquet", counts)


def _check(
    pairs: ParallelPairs, languages: Sequence[str], source: str, translator: Translator, rows_per_shard: int
) -> None:
    translator.check_languages(source, *languages)
    if not languages or source in languages or len(set(languages)) < len(languages):
        raise ValueError(f"languages are {' '.join(languages) or 'none'}: give some, each once, without {source!r}")
    if source not in pairs.languages:
        raise ValueError(f"{pairs.name} has no text in {source!r}: name one of its languages as the source")
    if rows_per_shard < 1:
        raise ValueError(f"rows_per_shard is {rows_per_shard}: give at least 1")


# ---- shards


def _plan(
    pairs: ParallelPairs, languages: Sequence[str], folder: Path, asked: dict, source: str, size: int
) -> Iterator[_Shard]:
    """All shards in their order: queries before passages, the languages as given."""
    for side in ("queries", "passages"):
        for lang in languages:
            rows = _lacking(getattr(pairs, side), lang, source)
            for start in range(0, len(rows), size):
                shard = _Shard(side, lang, rows[start : start + size], folder)
                digest = _digest({**asked, "lang": lang, "texts": shard.source(pairs, source)})
                path = folder / f"{side}-{lang}-{start // size:05d}-{digest[:16]}.parquet"
                yield _Shard(side, lang, shard.rows, path)


def _lacking(table: pa.Table, lang: str, source: str) -> np.ndarray:
    """Rows that have a text in the source language and none in the other."""
    if source not in table.column_names:
        return np.empty(0, dtype=np.int64)
    wanted = pc.is_valid(table[source])
    if lang in table.column_names:
        wanted = pc.and_(wanted, pc.is_null(table[lang]))
    return np.flatnonzero(wanted.to_numpy())


def _work(
    shards: Sequence[_Shard],
    pairs: ParallelPairs,
    translator: Translator,
    source: str,
    settings: TranslationSettings,
    progress: bool,
) -> None:
    """Until every shard is complete: make those that nobody else is at, wait for the others."""
    left = list(shards)
    with tqdm(total=len(left), unit="shard", disable=not progress) as bar:
        while left:
            busy = [shard for shard in left if not _done(shard, pairs, translator, source, settings)]
            bar.update(len(left) - len(busy))
            left = busy
            time.sleep(PAUSE if left else 0)


def _done(
    shard: _Shard, pairs: ParallelPairs, translator: Translator, source: str, settings: TranslationSettings
) -> bool:
    """Make the shard if it is not there; False where another process is at it."""
    ids, texts = shard.source(pairs, source)
    if shard.is_complete(ids):
        return True
    try:
        with FileLock(f"{shard.path}.lock", timeout=0):
            if not shard.is_complete(ids):
                for leftover in shard.path.parent.glob(f".{shard.path.name}.*.new"):  # of a killed process
                    leftover.unlink()
                made = translator.translate(texts, target=shard.lang, source=source, settings=settings)
                with replace_file(shard.path) as new:
                    pq.write_table(pa.table({"id": ids, "text": made}), new, write_page_checksum=True)
    except Timeout:
        return False
    return True


# ---- what they become


def _is_assembled(folder: Path, made: dict) -> bool:
    """Whether translated.json, written last, says that this was made, and the files are there."""
    done = folder / "translated.json"
    if not (done.exists() and (folder / "corpus").is_dir() and (folder / "translations.parquet").exists()):
        return False
    found = json.loads(done.read_text(encoding="utf-8"))
    return {**found, "counts": None} == {**made, "counts": None}


def _write_rows(path: Path, shards: Sequence[_Shard], pairs: ParallelPairs, source: str, limits: Limits) -> pa.Table:
    """All translations with their flags, written shard by shard and then read memory-mapped."""
    with replace_file(path) as new, pq.ParquetWriter(new, _ROWS) as writer:
        for shard in shards:
            ids, sources = shard.source(pairs, source)
            texts = shard.texts()
            options = {"lang": shard.lang, "source_lang": source, "limits": limits}
            found = [find_flags(one, text, **options) for one, text in zip(sources, texts, strict=True)]
            columns = {flag: [flag in flags for flags in found] for flag in FLAGS}
            same = {"side": [shard.side] * len(ids), "id": ids, "lang": [shard.lang] * len(ids)}
            writer.write_table(pa.table({**same, "text": texts, **columns}, schema=_ROWS))
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


def _assemble(pairs: ParallelPairs, rows: pa.Table, keep_flagged: bool) -> ParallelPairs:
    rows = rows.filter(_kept(rows, keep_flagged))
    queries = _with_texts(pairs.queries.drop_columns("positives"), rows, "queries")
    passages = _with_texts(pairs.passages, rows, "passages")
    lists = pairs.pairs["negatives"].combine_chunks()
    ids = pairs.passages["passage_id"].combine_chunks()
    table = {
        "query_id": pairs.queries["query_id"].take(pairs.pairs["query"]),
        "passage_id": ids.take(pairs.pairs["passage"].combine_chunks()),
        "negatives": pa.ListArray.from_arrays(*_from_zero(lists, ids)),
        "source": pairs.pairs["source"].cast(pa.string()),
    }
    return ParallelPairs.build(queries, passages, pa.table(table), name=pairs.name)


def _from_zero(lists: pa.ListArray, ids: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Offsets and the ids that the lists' rows stand for."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)), ids.take(lists.flatten())


def _with_texts(table: pa.Table, rows: pa.Table, side: str) -> pa.Table:
    """The table with the translations of a side in their places; a column per language, in alphabetical order."""
    rows = rows.filter(pc.equal(rows["side"], side))
    key = _key(side)
    columns = {lang: table[lang] for lang in table.column_names if lang != key}
    for lang in pc.unique(rows["lang"]).to_pylist():
        own = rows.filter(pc.equal(rows["lang"], lang))
        places = pc.index_in(table[key], value_set=own["id"].combine_chunks())
        texts = own["text"].take(places)  # null where a row has no translation
        columns[lang] = pc.coalesce(columns[lang], texts) if lang in columns else texts
    return pa.table({key: table[key], **dict(sorted(columns.items()))})


def _key(side: str) -> str:
    return {"queries": "query_id", "passages": "passage_id"}[side]


def _digest(content: dict | list) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def judge(
    texts: Mapping[str, Sequence[str]],
    translator: Translator | None = None,
    *,
    source: str = "en",
    settings: TranslationSettings | None = None,
) -> pd.DataFrame:
    """A few texts with their flags, to be looked at.

    Args:
        texts: language -> texts, the same in every language.
        translator: None judges the texts as they are given, else its translations of those in the source language.

    Returns:
        lang, source, given, translated (None without a translator), flags (joined by spaces): a row per text and
        language other than the source's.
    """
    rows = []
    for lang in (lang for lang in texts if lang != source):
        options = {"target": lang, "source": source, "settings": settings}
        made = translator.translate(texts[source], **options) if translator else [None] * len(texts[source])
        for one, given, text in zip(texts[source], texts[lang], made, strict=True):
            found = find_flags(one, given if text is None else text, lang=lang, source_lang=source)
            rows.append((lang, one, given, text, " ".join(found)))
    return pd.DataFrame(rows, columns=["lang", "source", "given", "translated", "flags"])
