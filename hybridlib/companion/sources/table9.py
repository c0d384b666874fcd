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
import pyarrow.parquet as pq

from hybridlib.companion.sources import mmarco
from hybridlib.companion.sources.filters import DEFAULT, Counts, Row, TextLimits, write_rows
from hybridlib.companion.sources.leakage import Protected, without_leaks
from hybridlib.corpora.base import ParallelPairs
from hybridlib.files import data_folder, local_or_hub, parse_json, read_bytes, read_json_lines

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

    def paths(self, files: Iterable[str]) -> list[Path]:
        """Find files of the repository, in $HYBRIDLIB_DATA or on the hub.

        Raises:
            OSError: a file is neither at hand nor to be had; the text says what to do.
        """
        if self.repo:
            return [local_or_hub(f"{self.name}/{file}", self.repo, file, revision=self.revision) for file in files]
        folder = Path(data_folder() or "$HYBRIDLIB_DATA") / self.name
        if paths := sorted(folder.glob("*.json")):
            return paths
        raise FileNotFoundError(f"{folder}: no *.json here. {self.note}")


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
    protected: Protected | None = None,
) -> ParallelPairs:
    """Read a data set, filter it and write it to a folder; gives the corpus memory-mapped, its counts beside it.

    Args:
        output: folder of the corpus; one that is there is replaced. `ParallelPairs.load` opens it again.
        languages: only mMARCO has more than English; default for it are Table 9's seven.
        limit: pairs to keep at most, the first ones; of mMARCO the triples to read.
        protected: evaluation texts; a question or passage that is one of them is taken out.

    Raises:
        ValueError: unknown name or language; a file is not of its layout; nothing is left after filtering.
        OSError: a file is neither at hand nor to be had; the text says what to do.
    """
    source = find(name)
    languages = source.chosen(languages)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give at least 1, or leave it out")
    paths = source.paths(source.files)
    if source.files_by_language:
        names = {lang: source.languages[lang] for lang in languages}
        texts = {
            lang: source.paths(file.format(language=name) for file in source.files_by_language)
            for lang, name in names.items()
        }
        corpus = mmarco.write(output, *paths, texts, limit=limit, limits=limits, negatives=NEGATIVES)
    else:
        rows = (row for path in paths for row in _rows(path, source.layout))
        corpus = write_rows(output, rows, name=name, limits=limits, limit=limit)
    if protected is not None:
        counts = Counts.load(output)
        corpus, leaks = without_leaks(corpus, protected, output)
        counts.leaks = {f"{part} in {lang} = {label}": n for (part, lang, label), n in sorted(leaks.items())}
        counts.save(output)  # beside the corpus, which may be a new one
    return corpus


def describe() -> Iterator[str]:
    """Describe each data set in a line: name, Table 9's size, the source's rows, where it is from, licence."""
    for source in SOURCES.values():
        size, rows = (f"{n:,}" if n else "-" for n in (source.paper_size, source.rows))
        yield f"{source.name}: Table 9 {size}, source {rows}; {source.repo or 'no open source'}; {source.licence}"


def report(name: str, folder: Path) -> str:
    """Say what `load` wrote: a line about the data set, then what else was counted."""
    corpus, counts, size = ParallelPairs.load(folder), Counts.load(folder), find(name).paper_size
    lines = [
        f"{name}: {len(corpus):,} pairs in {' '.join(corpus.languages)}; Table 9 has "
        f"{f'{size:,}' if size else 'none'}; read {counts.read:,}, dropped {_listed(counts.dropped)}"
    ]
    if any(counts.more.values()):
        lines.append(f"  besides: {_listed(counts.more)}")
    if counts.leaks is not None:
        lines.append(f"  also in evaluation sets, taken out: {_listed(counts.leaks)}")
    return "\n".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items() if n) or "none"


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
        try:
            batches = pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE)
            records = (record for batch in batches for record in batch.to_pylist())
            yield from ((f"row {number}", record) for number, record in enumerate(records, 1))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: torn or no Parquet file ({error}); remove it and get it again") from error
    elif path.suffix == ".json":
        results = parse_json(read_bytes(path), path)
        if not isinstance(results, list):
            raise ValueError(f"{path}: {type(results).__name__} where a list of questions is expected; see DATA.md")
        yield from ((f"question {i}", result) for i, result in enumerate(results))
    else:
        yield from ((f"line {number}", record) for number, record in read_json_lines(path))


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


def _pairs(record: Any) -> Iterator[Row]:
    """sentence-transformers' pairs and triplets; its sets name the columns differently."""
    query = _field(record, str, "query", "question", "title", "anchor")
    passage = _field(record, str, "answer", "positive", "passage")
    negative = _field(record, str, "negative") if "negative" in record else ""
    yield Row(query, passage, negatives=(negative,) if negative else ())


def _labelled(record: Any) -> Iterator[Row]:
    if _field(record, int, "label") == 1:
        yield Row(_field(record, str, "question"), _field(record, str, "answer"))


def _answers(record: Any) -> Iterator[Row]:
    """Questions on a text with short answers: a list, SQuAD's list in an object, or DuoRC's beside a mark for none."""
    nested = isinstance(record, dict) and isinstance(record.get("answers"), dict)
    answers = _field(record["answers"], list, "text") if nested else _field(record, list, "answers")
    if "plot" in record and _field(record, bool, "no_answer"):
        answers = []
    yield Row(_field(record, str, "question"), _field(record, str, "context", "plot"), tuple(map(str, answers)))


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
    "answers": _answers,
    "pages": _pages,
    "retrieved": _retrieved,
}
