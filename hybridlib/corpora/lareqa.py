"""XQuAD-R and MLQA-R, the two retrieval benchmarks of LAReQA (Roy et al. 2020, arXiv 2004.05484, section 3.1).

A candidate is a sentence; relevant to a question is the sentence that holds the start of its answer, in every
language that has the question. Files are pinned by commit, size and SHA-256, and checked each time they are read.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from hybridlib.corpora.base import Benchmark
from hybridlib.files import (
    cache_folder,
    check_content,
    data_folder,
    download,
    local_file,
    parse_json,
    read_bytes,
    replace_file,
)

_DATA = tomllib.loads((files("hybridlib") / "data" / "lareqa.toml").read_text(encoding="utf-8"))
URL = _DATA.pop("url")
COMMITS: dict[str, str] = {name: pins["commit"] for name, pins in _DATA.items()}
# Of each benchmark's <lang>.json at its commit: language -> (bytes, SHA-256), uncompressed.
CHECKSUMS: dict[str, dict[str, tuple[int, str]]] = {
    name: {lang: (size, sha256) for lang, (size, sha256) in pins["files"].items()} for name, pins in _DATA.items()
}


@dataclass(frozen=True)
class _Paragraph:
    """A paragraph of one file: its place in the file, its sentences, and per question id (text, sentence)."""

    number: int
    context: str
    sentences: tuple[str, ...]
    questions: dict[str, tuple[str, int]]


def load_lareqa(
    name: str,
    *,
    languages: Iterable[str] | None = None,
    with_paragraph: bool = False,
    folder: Path | None = None,
    checksums: Mapping[str, tuple[int, str]] | None = None,
) -> Benchmark:
    """Read "xquad-r" (11 languages) or "mlqa-r" (7) as a Benchmark.

    A file is looked for as `<folder>/<name>/<lang>.json[.gz]`, then in the download cache, then at the public source
    (`$HYBRIDLIB_LAREQA_URL` names another server with the same paths).

    Ids are `<lang>:<question id>` and `<lang>:<paragraph>:<sentence>`, both numbered from 0 in the order of the file.
    The cluster of a question are the paragraphs that hold it in the languages loaded, and the other questions of
    those; it is named by the smallest question id in it. In XQuAD-R that is the paragraph.

    Args:
        languages: some of the benchmark's languages; default all. Judgements are those among these languages.
        with_paragraph: a candidate is the sentence, a space and its whole paragraph: LAReQA's encoders see both.
        folder: default $HYBRIDLIB_DATA.
        checksums: language -> (bytes, sha256) for files other than the pinned ones.

    Raises:
        FileNotFoundError: a file is neither at hand nor to be had.
        ValueError: unknown name or language, a torn, changed or invalid file, an answer that lies in no sentence.
    """
    if name not in COMMITS:
        raise ValueError(f"unknown benchmark {name!r}; LAReQA has {', '.join(COMMITS)}")
    pins = CHECKSUMS[name] if checksums is None else checksums
    paragraphs = {}
    for lang in _chosen(name, languages, pins):
        data, path = _find(name, lang, folder, *pins[lang])
        paragraphs[lang] = _parse(parse_json(data, path), path)
    return _assemble(name, paragraphs, with_paragraph)


def load_if_at_hand(name: str) -> Benchmark | None:
    """The benchmark if all its files lie in $HYBRIDLIB_DATA or in the cache, else None; downloads nothing."""
    paths = [f"{name}/{lang}.json" for lang in CHECKSUMS[name]]
    at_hand = all(local_file(path) or local_file(path, cache_folder()) for path in paths)
    return load_lareqa(name) if at_hand else None


def _chosen(name: str, languages: Iterable[str] | None, known: Iterable[str]) -> list[str]:
    """The languages asked for, in the benchmark's own order."""
    wanted = list(known) if languages is None else list(languages)
    unknown = [lang for lang in wanted if lang not in known]
    if unknown:
        raise ValueError(f"languages: {name} has no {unknown[0]!r}; it has {', '.join(known)}")
    if not wanted:
        raise ValueError(f"languages: empty; name at least one of {', '.join(known)}")
    return [lang for lang in known if lang in wanted]


def _find(name: str, lang: str, folder: Path | None, size: int, sha256: str) -> tuple[bytes, Path]:
    """Checked, uncompressed content of one file and where it came from; a download goes to the cache."""
    relative = f"{name}/{lang}.json"
    path = local_file(relative, folder) or local_file(relative, cache_folder())
    if path:
        data = read_bytes(path)
        check_content(data, size=size, sha256=sha256, where=path)
        return data, path
    url = f"{os.environ.get('HYBRIDLIB_LAREQA_URL') or URL}/{COMMITS[name]}/{relative}"
    try:
        data = download(url, size=size, sha256=sha256)
    except ConnectionError as error:
        folder = folder or data_folder()
        place = f"in {folder}" if folder else "at hand (HYBRIDLIB_DATA is not set)"
        raise FileNotFoundError(
            f"{relative}[.gz] is not {place}, not in the cache {cache_folder()}, and could not be downloaded: "
            f"{error}. Set HYBRIDLIB_DATA to a folder that holds {relative}[.gz], or allow the download"
        ) from error
    path = cache_folder() / relative
    with replace_file(path) as new:
        new.write_bytes(data)
    return data, path


def _parse(document: Any, path: Path) -> list[_Paragraph]:
    """Paragraphs of one file, numbered in its order over all articles."""
    paragraphs: list[_Paragraph] = []
    first_seen: dict[str, int] = {}
    for article in _field(document, "data", list, str(path)):
        for raw in _field(article, "paragraphs", list, str(path)):
            number = len(paragraphs)
            paragraph = _parse_paragraph(raw, number, f"{path}, paragraph {number}")
            for question in paragraph.questions:
                if first_seen.setdefault(question, number) != number:
                    raise ValueError(_double(f"{path}, paragraph {number}", question, first_seen[question]))
            paragraphs.append(paragraph)
    if not first_seen:
        raise ValueError(f"{path}: there is no question in it; this is no file of LAReQA")
    return paragraphs


def _parse_paragraph(raw: Any, number: int, where: str) -> _Paragraph:
    context = _field(raw, "context", str, where)
    breaks = _field(raw, "sentence_breaks", list, where)
    end = 0
    for pair in breaks:
        # type() and not isinstance: true and false are ints too
        ordered = type(pair) is list and [type(x) for x in pair] == [int, int] and end <= pair[0] < pair[1]
        if not ordered or pair[1] > len(context):
            raise ValueError(f"{where}: the sentence break {pair} is not a later part of the paragraph; {_DAMAGED}")
        end = pair[1]
    questions: dict[str, tuple[str, int]] = {}
    for raw_question in _field(raw, "qas", list, where):
        identifier = _field(raw_question, "id", str, where)
        if identifier in questions:
            raise ValueError(_double(where, identifier, number))
        text = _field(raw_question, "question", str, f"{where}, question {identifier}")
        questions[identifier] = (text, _answer(raw_question, breaks, f"{where}, question {identifier}"))
    return _Paragraph(number, context, tuple(context[start:stop] for start, stop in breaks), questions)


def _answer(raw_question: Any, breaks: Sequence[Sequence[int]], where: str) -> int:
    """Number of the sentence in which the first answer starts."""
    answers = _field(raw_question, "answers", list, where)
    if not answers:
        raise ValueError(f"{where}: no answer; {_DAMAGED}")
    start = _field(answers[0], "answer_start", int, where)
    for i, (first, stop) in enumerate(breaks):
        if first <= start < stop:
            return i
    raise ValueError(f"{where}: the answer starts at {start}, which lies in no sentence of {breaks}; {_DAMAGED}")


def _field(mapping: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(mapping, dict):
        raise ValueError(f"{where}: {type(mapping).__name__} where an object with {key!r} is expected; {_DAMAGED}")
    if key not in mapping:
        raise ValueError(f"{where}: {key!r} is missing; LAReQA's own files are needed, not other copies of the texts")
    if type(mapping[key]) is not kind:
        raise ValueError(f"{where}: {key!r} is {type(mapping[key]).__name__}, not {kind.__name__}; {_DAMAGED}")
    return mapping[key]


def _assemble(name: str, files: Mapping[str, Sequence[_Paragraph]], with_paragraph: bool) -> Benchmark:
    """Tables of all languages; `files` is language -> paragraphs."""
    clusters = _clusters(paragraph.questions for paragraphs in files.values() for paragraph in paragraphs)
    queries, candidates = [], []
    answers: dict[str, list[tuple[str, str]]] = {}  # question id -> (query id, candidate id) in each language
    for lang, paragraphs in files.items():
        for paragraph in paragraphs:
            ids = [f"{lang}:{paragraph.number:04}:{i:03}" for i in range(len(paragraph.sentences))]
            extra = f" {paragraph.context}" if with_paragraph else ""
            candidates += [
                (identifier, lang, text + extra) for identifier, text in zip(ids, paragraph.sentences, strict=True)
            ]
            for question, (text, sentence) in paragraph.questions.items():
                queries.append((f"{lang}:{question}", lang, question, clusters[question], text))
                answers.setdefault(question, []).append((f"{lang}:{question}", ids[sentence]))
    relevant = [(query, candidate, 1) for same in answers.values() for query, _ in same for _, candidate in same]
    return Benchmark.build(
        name,
        list(files),
        _table(queries, ("query_id", "lang", "question_id", "cluster", "text")),
        _table(candidates, ("candidate_id", "lang", "text")),
        _table(relevant, ("query_id", "candidate_id", "gain")),
    )


def _table(rows: Sequence[tuple], names: Sequence[str]) -> pa.Table:
    return pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=list(names))


def _clusters(paragraphs: Iterable[Iterable[str]]) -> dict[str, str]:
    """Smallest question id of the connected component of each question; a paragraph connects its questions.

    Paragraphs of different languages share questions but, in MLQA-R, neither number nor the whole set of questions.
    """
    parent: dict[str, str] = {}

    def root(question: str) -> str:
        while parent[question] != question:
            parent[question] = question = parent[parent[question]]
        return question

    for questions in paragraphs:
        first = None
        for question in questions:
            parent.setdefault(question, question)
            first = first or question
            low, high = sorted((root(first), root(question)))
            parent[high] = low
    return {question: root(question) for question in parent}


_DAMAGED = "the file is damaged"


def _double(where: str, question: str, first: int) -> str:
    return f"{where}: question {question} stands in paragraph {first} already; ids must be unique in a file"
