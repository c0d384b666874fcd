"""XQuAD-R and MLQA-R, the two retrieval benchmarks of LAReQA (Roy et al. 2020, arXiv 2004.05484, section 3.1).

A candidate is a sentence; relevant to a question is the sentence that holds the start of its answer, in every
language that has the question. Files are pinned by commit, size and SHA-256, and checked each time they are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from hybridlib.corpora.base import Benchmark
from hybridlib.files import cache_folder, check_content, data_folder, download, parse_json, read_bytes, replace_file

URL = "https://raw.githubusercontent.com/google-research-datasets/lareqa"

COMMITS = {
    "xquad-r": "9bc8c7fb6dd8d01d72a05a93c2cb96882b0d299c",
    "mlqa-r": "354d67d1cd066854cdfbf5ad0e6105528976141d",
}

# Bytes and SHA-256 of <name>/<lang>.json at the commits above, uncompressed.
CHECKSUMS: dict[str, dict[str, tuple[int, str]]] = {
    "xquad-r": {
        "ar": (2234875, "c52922d3b8ac1ae03ed5ac38647ad59870dca3dda2beefe18ecdc30729acb69d"),
        "de": (732156, "16fb0f4bf4916154b585a20c24c66074591c9718a1affe764ff4697572328949"),
        "el": (2810127, "163fd43ee785a30eb534ae2061e9eaa766a7ee4e8ffce5e4b422480c150f64b6"),
        "en": (628651, "7b0954f39297c27a31fef610f0883337dd2907fa8699151dc922afdd0fa12ffe"),
        "es": (746335, "f8e836b2d91009c4363e04315f7ede363eedbbb49c67dda60de6c4aa782f58de"),
        "hi": (2408404, "ea45ba8ae4513d1533b222bebdc02a90bc319c055d3aeea68584a053d2e92872"),
        "ru": (2764904, "7f4dff853538b9a5fcc28c070b8bb983a5c5d190ac747b8e005a1ada9cab18f1"),
        "th": (2618544, "c3a041864c3a9fb0b4dd91cfdf99cf36b411b3e704c58a303c97bc6dc786cfe4"),
        "tr": (827827, "f3e8c13002bbce154a4578f535f7533cb70f3da08840e6b62735935baec7bd94"),
        "vi": (1132303, "e35926bf5cc6fc6ecbdfca49467aabeb454f08d152d7818143a906bd31dde995"),
        "zh": (959291, "80c2cde7b9c2fb134c303cbb52f2ba396ead9eb0014aec43993543d2ba9e93ed"),
    },
    "mlqa-r": {
        "ar": (3329081, "2132fbc03208535c0fe01f2e2c5121d06f9c2aa799af93b0a719dbc105bdf137"),
        "de": (887185, "ce9454dc5aa6f2d85c23cd6e49cb367fbb7c4c6e62d7f71e355c6b5dae4d0886"),
        "en": (2251129, "fedd9a5cc0848dda80caf84aa36f482adaae230526a3f6e9e86926a93ef3b1e4"),
        "es": (819818, "70ecba276b8c96a692b120693a595d076ce94ad21d4b28311538a9fcbfe0f9d7"),
        "hi": (3179023, "4dd0fb3c06f737a5481d705bc1dcac7876712a5815c9265908fbb3a0696cb654"),
        "vi": (1807239, "9d3baff6ba03e6793b25594217265ea59a136b9733833dca8a9582a84a78ff85"),
        "zh": (1360698, "57f01d2fff50cf3392805635b01445339f225ad5bf28ba8443b12f8dbd1e69dc"),
    },
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
    files = {}
    for lang in _chosen(name, languages, pins):
        data, where = _find(name, lang, folder or data_folder(), *pins[lang])
        files[lang] = _parse(parse_json(data, where), where)
    return _assemble(name, files, with_paragraph)


def load_if_at_hand(name: str) -> Benchmark | None:
    """The benchmark if all its files lie in $HYBRIDLIB_DATA or in the cache, else None; downloads nothing."""
    folders = [folder for folder in (data_folder(), cache_folder()) if folder]
    for lang in CHECKSUMS[name]:
        if not any((folder / name / f"{lang}.json{ending}").exists() for folder in folders for ending in ("", ".gz")):
            return None
    return load_lareqa(name)


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
    cached = cache_folder() / name / f"{lang}.json"
    local = [Path(folder) / name / f"{lang}.json{suffix}" for suffix in ("", ".gz")] if folder else []
    for path in [*local, cached]:
        if path.exists():
            data = read_bytes(path)
            check_content(data, size=size, sha256=sha256, where=path)
            return data, path
    url = f"{os.environ.get('HYBRIDLIB_LAREQA_URL') or URL}/{COMMITS[name]}/{name}/{lang}.json"
    try:
        data = download(url, size=size, sha256=sha256)
    except ConnectionError as error:
        place = f"in {folder}" if folder else "at hand (HYBRIDLIB_DATA is not set)"
        raise FileNotFoundError(
            f"{name}/{lang}.json[.gz] is not {place}, not in the cache {cached.parent}, and could not be downloaded: "
            f"{error}. Set HYBRIDLIB_DATA to a folder that holds {name}/{lang}.json[.gz], or allow the download"
        ) from error
    with replace_file(cached) as new:
        new.write_bytes(data)
    return data, cached


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
