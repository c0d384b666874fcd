"""The training sets of the paper's Table 9, and SQuADShifts for validation: read, filtered, cleared, written.

Where each set comes from, its layout, licence and size stand in companion/data/table9.toml. A file is looked for as
$HYBRIDLIB_DATA/<name>/<path in the repository>, then fetched from the hub, pinned (`hybridlib.files`). No loading
script is run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from hybridlib.companion.sources import mmarco
from hybridlib.companion.sources.filters import DEFAULT, Counts, Row, TextLimits, write_rows
from hybridlib.companion.sources.leakage import Protected, find_leaks, without
from hybridlib.corpora.base import ParallelPairs
from hybridlib.files import cache_folder, data_folder, local_or_hub, parse_json, read_bytes, read_json_lines

ROWS_AT_ONCE = 5_000  # rows of a Parquet file held as Python objects
NEGATIVES = 8  # explicit negatives kept per pair


@dataclass(frozen=True)
class Source:
    """Where a data set comes from; companion/data/table9.toml says what each field means.

    Attributes:
        name: our name of it, also the `source` of its pairs.
        languages: the languages it has -> their names in its files.
        default_languages: languages that are taken where none are asked for; empty means all.
    """

    name: str
    licence: str
    note: str
    paper: str = ""
    paper_size: int | None = None
    repo: str = ""
    files: Sequence[str] = ()
    files_by_language: Sequence[str] = ()
    revision: str | None = None
    rows: int | None = None
    layout: str = ""
    doubt: str = ""
    languages: Mapping[str, str] = field(default_factory=lambda: {"en": "english"})
    default_languages: Sequence[str] = ()

    def chosen(self, languages: Iterable[str] | None) -> list[str]:
        """Give the languages to read: those asked for, of which an English set takes English alone.

        Raises:
            ValueError: none, or one that the set does not have.
        """
        default = self.default_languages or self.languages
        wanted = list(dict.fromkeys(default if languages is None else languages))
        if list(self.languages) == ["en"] and "en" in wanted:
            return ["en"]  # the rest are languages of other sets
        unknown = [lang for lang in wanted if lang not in self.languages]
        if unknown or not wanted:
            raise ValueError(
                f"languages: {self.name} has no {unknown or 'empty list'}; it has {', '.join(self.languages)}"
            )
        return wanted

    def path(self, file: str) -> Path:
        """Find a file of the repository, in $HYBRIDLIB_DATA or on the hub."""
        return local_or_hub(f"{self.name}/{file}", self.repo, file, revision=self.revision)

    def paths_in(self, lang: str) -> list[Path]:
        """Find the files of one language."""
        return [self.path(file.format(language=self.languages[lang])) for file in self.files_by_language]

    def paths(self) -> list[Path]:
        """Find the files of all languages.

        Raises:
            OSError: a file is neither at hand nor to be had; the text says what to do.
        """
        if self.repo:
            return [self.path(file) for file in self.files]
        folder = Path(data_folder() or "$HYBRIDLIB_DATA") / self.name
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise FileNotFoundError(f"{folder}: no *.json here. {self.note}")
        return paths


_TOML = files("hybridlib.companion") / "data" / "table9.toml"
SOURCES = {name: Source(name, **entry) for name, entry in tomllib.loads(_TOML.read_text(encoding="utf-8")).items()}


def find(name: str) -> Source:
    """Look a data set up by its name.

    Raises:
        ValueError: there is none.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}; choose from {', '.join(SOURCES)}")
    return SOURCES[name]


def load(
    name: str,
    output: Path,
    *,
    languages: Iterable[str] | None = None,
    limit: int | None = None,
    limits: TextLimits = DEFAULT,
) -> ParallelPairs:
    """Read a data set, filter it and write it to a folder; gives the corpus memory-mapped, its counts beside it.

    Args:
        output: folder of the corpus; one that is there is replaced. `ParallelPairs.load` opens it again.
        languages: only mMARCO has more than English; default for it are Table 9's seven.
        limit: pairs to keep at most, the first ones; of mMARCO the triples to read.

    Raises:
        ValueError: unknown name or language; a file is not of its layout; nothing is left after filtering.
        OSError: a file is neither at hand nor to be had; the text says what to do.
    """
    source = find(name)
    languages = source.chosen(languages)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give at least 1, or leave it out")
    paths = source.paths()
    if not source.files_by_language:
        rows = (row for path in paths for row in _rows(path, source.layout))
        corpus, _ = write_rows(output, rows, name=name, limits=limits, limit=limit)
        return corpus
    texts = {lang: source.paths_in(lang) for lang in languages}
    return mmarco.write(output, *paths, texts, limit=limit, limits=limits, negatives=NEGATIVES)


# ---- layouts


def _rows(path: Path, layout: str) -> Iterator[Row]:
    for place, record in _records(path):
        try:
            yield from LAYOUTS[layout](record)
        except _OtherLayout as error:
            raise ValueError(f"{path}, {place}: {error}; this is another layout than the one in DATA.md") from error


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Read the records of a Parquet, JSON Lines or JSON file, each with the place where it stands.

    JSON Lines are not read by `datasets`, which refuses a whole file for one half of a surrogate pair, and the web's
    pages have some: the filters take such a row out and count it.

    Raises:
        ValueError: torn, or no such file; the text names it.
    """
    if path.suffix == ".parquet":
        yield from _parquet_records(path)
    elif path.suffix == ".json":
        results = parse_json(read_bytes(path), path)
        if not isinstance(results, list):
            raise ValueError(f"{path}: {type(results).__name__} where a list of questions is expected; see DATA.md")
        yield from ((f"question {i}", result) for i, result in enumerate(results))
    else:
        yield from ((f"line {number}", record) for number, record in read_json_lines(path))


def _parquet_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    from datasets import load_dataset  # takes half a second

    options = {"split": "train", "streaming": True, "cache_dir": str(cache_folder() / "datasets")}
    number = 0
    try:
        for batch in load_dataset("parquet", data_files=str(path), **options).iter(ROWS_AT_ONCE):
            for values in zip(*batch.values(), strict=True):
                number += 1
                yield f"row {number}", dict(zip(batch, values, strict=True))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: torn or no Parquet file ({error}); remove it and get it again") from error


class _OtherLayout(ValueError):
    """A record lacks what its layout has."""


def _field(record: Any, kind: type, *names: str) -> Any:
    """Give the first of these fields that a record has; of a text that is null "", of a list ()."""
    present = next((name for name in names if isinstance(record, dict) and name in record), None)
    value = None if present is None else record[present]
    if present is None or not isinstance(value, kind | None):
        shown = ", ".join(map(str, record)) if isinstance(record, dict) else f"a record that is {type(record).__name__}"
        raise _OtherLayout(f"no {' or '.join(map(repr, names))} that is {kind.__name__} among {shown}")
    return kind() if value is None else value


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(map(str, values))


def _pairs(record: Any) -> Iterator[Row]:
    """sentence-transformers' pairs and triplets; its sets name the columns differently."""
    query = _field(record, str, "query", "question", "title", "anchor")
    passage = _field(record, str, "answer", "positive", "passage")
    negative = _field(record, str, "negative") if "negative" in record else ""
    yield Row(query, passage, negatives=(negative,) if negative else ())


def _labelled(record: Any) -> Iterator[Row]:
    if _field(record, int, "label") == 1:
        yield Row(_field(record, str, "question"), _field(record, str, "answer"))


def _duorc(record: Any) -> Iterator[Row]:
    answers = () if _field(record, bool, "no_answer") else _texts(_field(record, list, "answers"))
    yield Row(_field(record, str, "question"), _field(record, str, "plot"), answers)


def _answers(record: Any) -> Iterator[Row]:
    answers = _texts(_field(record, list, "answers"))
    yield Row(_field(record, str, "question"), _field(record, str, "context"), answers)


def _squad(record: Any) -> Iterator[Row]:
    answers = _texts(_field(_field(record, dict, "answers"), list, "text"))
    yield Row(_field(record, str, "question"), _field(record, str, "context"), answers)


def _pages(record: Any) -> Iterator[Row]:
    for pair in _field(record, list, "qa_pairs"):
        if not isinstance(pair, dict):
            raise _OtherLayout(f"a pair is {type(pair).__name__}, not an object")
        yield Row(str(pair.get("question") or ""), str(pair.get("answer") or ""))


def _retrieved(record: Any) -> Iterator[Row]:
    """DPR's format of retrieval results: the best passage with an answer, and the best ones without, as negatives."""
    right, wrong = [], []
    for passage in _field(record, list, "ctxs"):
        text = f"{_field(passage, str, 'title')} {_field(passage, str, 'text')}"
        (right if _field(passage, bool, "has_answer") else wrong).append(text)
    best = (right or wrong or [""])[0]
    yield Row(_field(record, str, "question"), best, None if right else (), tuple(wrong[:NEGATIVES]))


LAYOUTS = {
    "pairs": _pairs,
    "labelled": _labelled,
    "duorc": _duorc,
    "answers": _answers,
    "squad": _squad,
    "pages": _pages,
    "retrieved": _retrieved,
}


# ---- several data sets, a folder each


@dataclass(frozen=True)
class Prepared:
    """What became of a data set; `problem` says why it was left out, else it is empty."""

    name: str
    problem: str = ""
    pairs: int = 0
    counts: Counts | None = None
    languages: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Say it: a line about the data set, then what else was counted."""
        if self.problem:
            yield f"{self.name}: left out. {self.problem}"
            return
        size = find(self.name).paper_size
        yield (
            f"{self.name}: {self.pairs:,} pairs in {' '.join(self.languages)}; Table 9 has "
            f"{f'{size:,}' if size else 'none'}; read {self.counts.read:,}, dropped {_listed(self.counts.dropped)}"
        )
        if self.counts.more:
            yield f"  besides: {_listed(self.counts.more)}"
        if self.counts.leaks is not None:
            yield f"  also in evaluation sets, taken out: {_listed(self.counts.leaks)}"


def prepare(
    names: Iterable[str],
    output: Path,
    *,
    languages: Iterable[str] | None = None,
    limit: int | None = None,
    limits: TextLimits = DEFAULT,
    protected: Protected | None = None,
) -> Iterator[Prepared]:
    """Write each data set to `<output>/<name>`; one that cannot be had is left out, the others go on.

    Args:
        languages, limit, limits: as for `load`.
        protected: evaluation texts; a question or passage that is one of them is taken out.

    Raises:
        ValueError: a name is unknown; the texts of a file are not of its layout.
    """
    for source in [find(name) for name in names]:
        folder = Path(output) / source.name
        try:
            corpus = load(source.name, folder, languages=languages, limit=limit, limits=limits)
        except OSError as error:
            yield Prepared(source.name, str(error))
            continue
        counts = Counts.load(folder)
        if protected is not None:
            leaks = find_leaks(corpus, protected)
            counts.leaks = {f"{part} in {lang} = {label}": n for (part, lang, label), n in sorted(leaks.counts.items())}
            corpus = without(corpus, leaks, folder) if leaks else corpus
            counts.save(folder)  # beside the corpus, which may be a new one
        yield Prepared(source.name, "", len(corpus), counts, corpus.languages)


def describe() -> Iterator[str]:
    """Describe each data set in a line: name, Table 9's size, the source's rows, where it is from, licence."""
    for source in SOURCES.values():
        size, rows = (f"{n:,}" if n else "-" for n in (source.paper_size, source.rows))
        yield f"{source.name}: Table 9 {size}, source {rows}; {source.repo or 'no open source'}; {source.licence}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items() if n) or "none"
