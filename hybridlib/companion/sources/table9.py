"""The training sets of the paper's Table 9, and SQuADShifts for validation, from files that need no loading script.

What each set is read from, its layout, its licence and why its size differs from Table 9's stand in DATA.md and in
`SOURCES`. Layouts are those of the data sets' cards and file lists; this project has not downloaded the sets. A file is
looked for as `<folder>/<name>/<path in the repository>`, then fetched from the hub, pinned (`hybridlib.files`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hybridlib.companion.sources import mmarco
from hybridlib.companion.sources.filters import DEFAULT, Limits, Row, write_rows
from hybridlib.corpora.base import ParallelPairs
from hybridlib.files import data_folder, fetch, parse_json, read_bytes, read_json_lines

ROWS_AT_ONCE = 5_000  # rows of a Parquet file turned into Python objects at a time
NEGATIVES = 8  # explicit negatives kept per pair


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        name: our name of it, also the `source` of its pairs.
        paper: its name in Table 9; "": it is not in Table 9.
        repo: the hub's data set; "": there is no open, script-free source, `note` says what to do.
        files: paths in the repository.
        revision: the commit whose file list we know; None: none known, the first download pins one.
        rows: rows that the card or the file list gives; None: not known.
        licence: as the source states it.
        note: what is taken, and what a user must know.
        read: rows of the files, in their order.
    """

    name: str
    licence: str
    note: str
    paper: str = ""
    repo: str = ""
    files: tuple[str, ...] = ()
    revision: str | None = None
    rows: int | None = None
    read: Callable[[Sequence[Path]], Iterator[Row]] | None = None
    languages: tuple[str, ...] = ("en",)

    @property
    def paper_size(self) -> int | None:
        """Size per language in Table 9; None: the set is not there."""
        from hybridlib.companion.report.paper import reported

        return int(reported(9, dataset=self.paper)["value"].iloc[0]) if self.paper else None


def load(
    name: str,
    output: Path,
    *,
    languages: Iterable[str] | None = None,
    limit: int | None = None,
    limits: Limits = DEFAULT,
    folder: Path | None = None,
) -> ParallelPairs:
    """Read a data set, filter it and write it to a folder; gives the corpus memory-mapped, its counts beside it.

    Args:
        output: folder of the corpus; one that is there is replaced. `ParallelPairs.load` opens it again.
        languages: only mMARCO has more than English; default for it are Table 9's seven.
        limit: pairs to keep at most, the first ones; of mMARCO the triples to read.
        folder: local copies of the files; default $HYBRIDLIB_DATA.

    Raises:
        ValueError: unknown name or language; a file is not of its layout; nothing is left after filtering.
        OSError: a file is neither at hand nor to be had; the text says what to do.
    """
    source = find(name)
    spoken = _chosen(source, languages)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give at least 1, or leave it out")
    folder = folder or data_folder()
    if source.name == mmarco.NAME:
        paths = {file: _file(source, file, folder) for file in files_of(source, spoken)}
        return mmarco.write(output, paths, spoken, limit=limit, limits=limits, negatives=NEGATIVES)
    paths = _files(source, folder)
    corpus, _ = write_rows(output, source.read(paths), name=source.name, limits=limits, limit=limit)
    return corpus


def find(name: str) -> Source:
    """The data set of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}; choose from {', '.join(SOURCES)}")
    return SOURCES[name]


def _chosen(source: Source, languages: Iterable[str] | None) -> list[str]:
    default = mmarco.TABLE_9 if source.name == mmarco.NAME else source.languages
    wanted = list(default) if languages is None else list(dict.fromkeys(languages))
    if source.languages == ("en",) and "en" in wanted:
        return ["en"]  # the rest are languages of other sets
    unknown = [lang for lang in wanted if lang not in source.languages]
    if unknown or not wanted:
        raise ValueError(
            f"languages: {source.name} has no {unknown or 'empty list'}; it has {', '.join(source.languages)}"
        )
    return wanted


def files_of(source: Source, languages: Sequence[str]) -> tuple[str, ...]:
    """Paths in the repository of what these languages need; only mMARCO's hang on them."""
    return mmarco.files(languages) if source.name == mmarco.NAME else source.files


def _files(source: Source, folder: Path | None) -> list[Path]:
    if source.repo:
        return [_file(source, file, folder) for file in source.files]
    found = sorted(Path(folder).glob(f"{source.name}/*.json")) if folder else []
    if not found:
        place = Path(folder or "$HYBRIDLIB_DATA") / source.name
        raise FileNotFoundError(f"{place}: no *.json here. {source.note}")
    return found


def _file(source: Source, file: str, folder: Path | None) -> Path:
    local = Path(folder) / source.name / file if folder else None
    return local if local and local.is_file() else fetch(source.repo, file, revision=source.revision)


# ---- layouts


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, of the columns asked for.

    Raises:
        ValueError: no Parquet file, torn, or a column is lacking; the text names the file.
    """
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            lacking = [column for column in columns if column not in file.schema_arrow.names]
            if lacking:
                raise ValueError(
                    f"{path}: there is no column {lacking[0]!r} among {', '.join(file.schema_arrow.names)}; "
                    "this is another layout than the one known, see DATA.md"
                )
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(columns)):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: torn or no Parquet file ({error}); remove it and get it again") from error


def _first_of(path: Path, names: Sequence[str]) -> str:
    """The column that the file has."""
    try:
        found = pq.read_schema(path, memory_map=True).names
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: torn or no Parquet file ({error}); remove it and get it again") from error
    for name in names:
        if name in found:
            return name
    raise ValueError(f"{path}: none of the columns {', '.join(names)}, only {', '.join(found)}; see DATA.md")


def _read_pairs(paths: Sequence[Path]) -> Iterator[Row]:
    """sentence-transformers' pairs and triplets; its sets name the columns differently."""
    for path in paths:
        query = _first_of(path, ("query", "question", "title", "anchor"))
        passage = _first_of(path, ("answer", "positive", "passage"))
        negative = ["negative"] if "negative" in pq.read_schema(path, memory_map=True).names else []
        for row in _parquet(path, [query, passage, *negative]):
            others = tuple(row[name] for name in negative if row[name])
            yield Row(row[query] or "", row[passage] or "", negatives=others)


def _read_wikiqa(paths: Sequence[Path]) -> Iterator[Row]:
    for path in paths:
        for row in _parquet(path, ["question", "answer", "label"]):
            if row["label"] == 1:
                yield Row(row["question"] or "", row["answer"] or "")


def _read_duorc(paths: Sequence[Path]) -> Iterator[Row]:
    for path in paths:
        for row in _parquet(path, ["question", "plot", "answers", "no_answer"]):
            answers = () if row["no_answer"] else tuple(row["answers"] or ())
            yield Row(row["question"] or "", row["plot"] or "", answers)


def _read_newsqa(paths: Sequence[Path]) -> Iterator[Row]:
    for path in paths:
        for row in _parquet(path, ["question", "context", "answers"]):
            yield Row(row["question"] or "", row["context"] or "", tuple(row["answers"] or ()))


def _read_mfaq(paths: Sequence[Path]) -> Iterator[Row]:
    for path in paths:
        for number, page in read_json_lines(path):
            for pair in _field(page, "qa_pairs", list, f"{path}, line {number}"):
                if not isinstance(pair, dict):
                    raise ValueError(
                        f"{path}, line {number}: a pair is {type(pair).__name__}, not an object; see DATA.md"
                    )
                yield Row(str(pair.get("question") or ""), str(pair.get("answer") or ""))


def _read_squad_lines(paths: Sequence[Path]) -> Iterator[Row]:
    for path in paths:
        for number, row in read_json_lines(path):
            where = f"{path}, line {number}"
            answers = _field(_field(row, "answers", dict, where), "text", list, where)
            yield Row(_field(row, "question", str, where), _field(row, "context", str, where), tuple(map(str, answers)))


def _read_retrieved(paths: Sequence[Path]) -> Iterator[Row]:
    """DPR's format of retrieval results: the best passage with an answer, and the best ones without, as negatives."""
    for path in paths:
        results = parse_json(read_bytes(path), path)
        if not isinstance(results, list):
            raise ValueError(f"{path}: {type(results).__name__} where a list of questions is expected; see DATA.md")
        for i, result in enumerate(results):
            yield _retrieved(result, f"{path}, question {i}")


def _retrieved(result: Any, where: str) -> Row:
    right, wrong = [], []
    for passage in _field(result, "ctxs", list, where):
        text = f"{_field(passage, 'title', str, where)} {_field(passage, 'text', str, where)}"
        (right if _field(passage, "has_answer", bool, where) else wrong).append(text)
    question = _field(result, "question", str, where)
    best = (right or wrong or [""])[0]
    return Row(question, best, None if right else (), tuple(wrong[:NEGATIVES]))


def _field(mapping: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(mapping, dict) or not isinstance(mapping.get(key), kind):
        raise ValueError(f"{where}: no {key!r} that is {kind.__name__}; this is another layout than the one in DATA.md")
    return mapping[key]


# ---- the sources

_ALL = (
    Source(
        name="wikiqa",
        paper="WikiQA",
        repo="microsoft/wiki_qa",
        files=tuple(f"data/{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")),
        rows=29_258,
        licence="other (the card), see its licensing information",
        note="All three splits, the sentences labelled as answers; not every question has one.",
        read=_read_wikiqa,
    ),
    Source(
        name="mr-tydi",
        paper="Mr. Tydi",
        repo="sentence-transformers/mr-tydi",
        files=("en-triplet/train-00000-of-00001.parquet",),
        revision="b186f0663076e9e08d5480fac0e835df4aeec1ff",
        rows=3_547,
        licence="the card names none; Mr. TyDi itself is Apache-2.0",
        note="English, one negative for each question.",
        read=_read_pairs,
    ),
    Source(
        name="duorc",
        paper="DuoRC",
        repo="ibm-research/duorc",
        files=("SelfRC/train-00000-of-00001.parquet",),
        rows=60_721,
        licence="MIT",
        note="SelfRC, where the question was asked of the same plot; a passage is a whole plot.",
        read=_read_duorc,
    ),
    Source(
        name="newsqa",
        paper="NewsQA",
        repo="lucadiliello/newsqa",
        files=("data/train-00000-of-00001-ec54fbe500fc3b5c.parquet",),
        revision="728e52920b8e4ffcfaad93fa47556f26a1d82546",
        rows=74_160,
        licence="the card names none; the terms of NewsQA and of its articles apply",
        note="The train part of MRQA 2019's NewsQA; a passage is a whole article.",
        read=_read_newsqa,
    ),
    Source(
        name="natural-questions",
        paper="Google NQ",
        repo="sentence-transformers/natural-questions",
        files=("pair/train-00000-of-00001.parquet",),
        revision="f9e894e1081e206e577b4eaa9ee6de2b06ae6f17",
        rows=100_231,
        licence="the card names none; Natural Questions is CC BY-SA 3.0",
        note="Question and passage with the page's title in front.",
        read=_read_pairs,
    ),
    Source(
        name="yahoo-answers",
        paper="Yahoo QA",
        repo="sentence-transformers/yahoo-answers",
        files=tuple(f"title-answer-pair/train-0000{i}-of-00002.parquet" for i in range(2)),
        revision="93b3605c508cf93e3666c9d3e34640b5fe62b507",
        licence="the card names none; Yahoo's own terms apply",
        note="Title of a question and its answer, about 1.2 million pairs.",
        read=_read_pairs,
    ),
    Source(
        name="entity-questions",
        paper="EntityQuestions",
        licence="MIT (a copy on the hub says so of the original)",
        note=(
            "EntityQuestions has questions and short answers, no passages, and no open, script-free source with "
            "passages is known to us. Get dataset.zip as github.com/princeton-nlp/EntityQuestions says, retrieve "
            "passages for dataset/train/P*.train.json with that repository's bm25/bm25_retriever.py (--n_docs 20), and "
            "put what it writes into the folder entity-questions of $HYBRIDLIB_DATA"
        ),
        read=_read_retrieved,
    ),
    Source(
        name="mfaq",
        paper="MFAQ",
        repo="clips/mfaq",
        files=("data/en/train.jsonl",),
        revision="72248e10c1bbe5e3c3710e5e969a41947ca43937",
        rows=3_719_484,
        licence="CC0-1.0",
        note="English pages with their questions and answers, the train part; the JSON Lines file, not the script.",
        read=_read_mfaq,
    ),
    Source(
        name=mmarco.NAME,
        paper="mMARCO",
        repo=mmarco.REPO,
        files=mmarco.files(mmarco.TABLE_9),
        revision=mmarco.REVISION,
        licence="Apache-2.0 (the card); MS MARCO's own terms apply to the texts",
        note="Google's translations (version 2) and the triples of ids; 32 GB for Table 9's seven languages.",
        languages=tuple(mmarco.LANGUAGES),
    ),
    Source(
        name="squadshifts",
        repo="lmqg/qa_squadshifts",
        files=tuple(
            f"data/{domain}.{split}.jsonl"
            for domain in ("new_wiki", "nyt", "reddit", "amazon")
            for split in ("train", "validation", "test")
        ),
        revision="2e763d12d545c6395bb9661b0602466a31006daf",
        rows=37_691,
        licence="CC BY 4.0",
        note="All four domains, whole: the splits are that copy's own. For validation; a passage is a paragraph.",
        read=_read_squad_lines,
    ),
)
SOURCES = {source.name: source for source in _ALL}
