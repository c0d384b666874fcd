"""XQuAD-R and MLQA-R, the two retrieval benchmarks of LAReQA (Roy et al. 2020, arXiv 2004.05484, section 3.1).

A candidate is a sentence; relevant to a question is the sentence that holds the start of its answer, in every
language that has the question. Files are pinned by commit, size and SHA-256, and checked each time they are read.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
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


# What is read of a file: an object with keys, a list of items, or a type.
_QUESTION = {"id": str, "question": str, "answers": [{"answer_start": int}]}
_PARAGRAPH = {"context": str, "sentence_breaks": [[int]], "qas": [_QUESTION]}
_FILE = {"data": [{"paragraphs": [_PARAGRAPH]}]}


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
    chosen = _chosen(name, languages, pins)
    sentences, questions = [], []
    for lang in chosen:
        data, path = _find(name, lang, folder, *pins[lang])
        document = parse_json(data, path)
        _check(document, _FILE, str(path))
        paragraphs = [paragraph for article in document["data"] for paragraph in article["paragraphs"]]
        found = list(_questions(paragraphs, lang, path))
        if not found:
            raise ValueError(f"{path}: there is no question in it; this is no file of LAReQA")
        questions += found
        sentences += _sentences(paragraphs, lang, with_paragraph)
    return _assemble(name, chosen, sentences, pd.DataFrame(questions))


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


def _check(value: Any, expected: Any, where: str) -> None:
    """Refuse JSON that is not of the expected format; the text says where it is not."""
    kind = expected if isinstance(expected, type) else type(expected)
    if type(value) is not kind:  # and not isinstance: true and false are ints too
        raise ValueError(f"{where}: {type(value).__name__} {value!r:.20} where {kind.__name__} is expected; {_DAMAGED}")
    if kind is dict:
        for key, part in expected.items():
            if key not in value:
                raise ValueError(f"{where}: {key!r} is missing; LAReQA's own files are needed, not copies of the texts")
            _check(value[key], part, f"{where}, {key}")
    if kind is list:
        for number, item in enumerate(value):
            _check(item, expected[0], f"{where} {number}")


def _questions(paragraphs: Sequence[dict], lang: str, path: Path) -> Iterator[dict]:
    """Of each question the columns of a Benchmark's queries (but for the cluster), its paragraph and candidate_id."""
    first_seen: dict[str, int] = {}
    for number, paragraph in enumerate(paragraphs):
        where = f"{path}, paragraph {number}"
        end = 0
        for pair in paragraph["sentence_breaks"]:
            if len(pair) != 2 or not end <= pair[0] < pair[1] <= len(paragraph["context"]):
                raise ValueError(f"{where}: the sentence break {pair} is not a later part of the paragraph; {_DAMAGED}")
            end = pair[1]
        for question in paragraph["qas"]:
            identifier = question["id"]
            if identifier in first_seen:
                raise ValueError(
                    f"{where}: question {identifier} stands in paragraph {first_seen[identifier]} already; "
                    "ids must be unique in a file"
                )
            first_seen[identifier] = number
            sentence = _sentence(question["answers"], paragraph["sentence_breaks"], f"{where}, question {identifier}")
            yield {
                "query_id": f"{lang}:{identifier}",
                "lang": lang,
                "question_id": identifier,
                "text": question["question"],
                "paragraph": f"{lang}:{number:04}",
                "candidate_id": f"{lang}:{number:04}:{sentence:03}",
            }


def _sentence(answers: Sequence[dict], breaks: Sequence[Sequence[int]], where: str) -> int:
    """Number of the sentence in which the first answer starts."""
    if not answers:
        raise ValueError(f"{where}: no answer; {_DAMAGED}")
    start = answers[0]["answer_start"]
    for sentence, (first, stop) in enumerate(breaks):
        if first <= start < stop:
            return sentence
    raise ValueError(f"{where}: the answer starts at {start}, which lies in no sentence of {breaks}; {_DAMAGED}")


def _sentences(paragraphs: Sequence[dict], lang: str, with_paragraph: bool) -> Iterator[dict]:
    for number, paragraph in enumerate(paragraphs):
        context = paragraph["context"]
        for i, (start, stop) in enumerate(paragraph["sentence_breaks"]):
            text = f"{context[start:stop]} {context}" if with_paragraph else context[start:stop]
            yield {"candidate_id": f"{lang}:{number:04}:{i:03}", "lang": lang, "text": text}


def _assemble(name: str, languages: Sequence[str], sentences: list[dict], questions: pd.DataFrame) -> Benchmark:
    """The benchmark; relevant to a question is, in each language that has it, the sentence with its answer."""
    questions["cluster"] = _clusters(questions)
    questions["first"] = pd.factorize(questions["question_id"])[0]
    by_question = questions.sort_values("first", kind="stable")
    relevant = by_question[["query_id", "first"]].merge(by_question[["candidate_id", "first"]], on="first")
    return Benchmark.build(
        name,
        languages,
        _table(questions[["query_id", "lang", "question_id", "cluster", "text"]]),
        pa.Table.from_pylist(sentences),
        _table(relevant[["query_id", "candidate_id"]].assign(gain=1)),
    )


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.table({column: frame[column].tolist() for column in frame})


def _clusters(questions: pd.DataFrame) -> pd.Series:
    """Smallest question id among those that paragraphs connect with a question, directly or by other questions.

    Paragraphs of different languages share questions but, in MLQA-R, neither number nor the whole set of questions.
    """
    spread = questions["question_id"]
    while True:
        cluster = spread
        for column in ("paragraph", "question_id"):
            spread = spread.groupby(questions[column]).transform("min")
        if spread.equals(cluster):
            return cluster


_DAMAGED = "the file is damaged"
