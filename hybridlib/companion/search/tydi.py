"""TyDi QA: its gold passage task as retrieval, small enough for memory; and Mr. TyDi, retrieval from whole Wikipedias.

TyDi QA: Clark et al. 2020, arXiv 2003.05002. GoldP gives each question the paragraph with its answer; here that
paragraph is sought among all paragraphs of the file, in one language or pooled over several.
Mr. TyDi: Zhang et al. 2021, arXiv 2108.08787.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hybridlib.companion.search import records
from hybridlib.companion.search.collect import build_collection, prepared, write_collection
from hybridlib.companion.search.collection import Collection
from hybridlib.files import data_folder, fetch, parse_json, read_bytes

GOLDP, MR_TYDI, MR_TYDI_CORPUS = "google-research-datasets/tydiqa", "castorini/mr-tydi", "castorini/mr-tydi-corpus"
MR_TYDI_REVISION = "3506bca8a88cdb49d8d35e954365ca6053e4346a"
MR_TYDI_CORPUS_REVISION = "4dde1a3240a09e3b1c7579d25f7d26d275078214"
NAMES = {
    "ar": "arabic",
    "bn": "bengali",
    "en": "english",
    "fi": "finnish",
    "id": "indonesian",
    "ja": "japanese",
    "ko": "korean",
    "ru": "russian",
    "sw": "swahili",
    "te": "telugu",
    "th": "thai",
}
GOLDP_LANGUAGES = tuple(lang for lang in NAMES if lang not in ("ja", "th"))


class _Pair(NamedTuple):
    """A question and the paragraph that answers it."""

    identifier: str
    question: str
    paragraph: str


def load_goldp(languages: str | Sequence[str], *, split: str = "dev", folder: Path | None = None) -> Collection:
    """Questions of TyDi QA GoldP and the paragraphs of the same file, in one language or pooled over several.

    A paragraph that stands twice is one passage; a question asked twice is one query with all its passages (in train:
    in dev no question recurs). Ids are `<lang>:<id of the question>` and `<lang>:<number of the paragraph, 5 digits>`;
    a question whose id is another's too (only in train, where ids say little) gets `#2` and so on.
    A file is `<folder>/tydiqa-goldp/tydiqa.goldp.<lang>.<split>.json[.gz]`; else the rows of that language in
    secondary_task of google-research-datasets/tydiqa on the hub.

    Args:
        languages: one of GOLDP_LANGUAGES, or several: their passages are then one pool.
        split: "dev" or "train".

    Raises:
        ValueError: an unknown language or split, a damaged file.
        OSError: a file is neither at hand nor to be had.
    """
    wanted = [languages] if isinstance(languages, str) else list(dict.fromkeys(languages))
    unknown = [lang for lang in wanted if lang not in GOLDP_LANGUAGES]
    if unknown or not wanted or split not in ("dev", "train"):
        known = " ".join(GOLDP_LANGUAGES)
        raise ValueError(f"TyDi QA GoldP has no {split!r} of {unknown or wanted}; it has dev and train of {known}")
    queries, judgements, passages = [], {}, []
    for lang in wanted:
        path, pairs = _goldp(lang, split, folder or data_folder())
        questions: dict[str, str] = {}  # text -> id
        paragraphs: dict[str, str] = {}
        uses: Counter[str] = Counter()
        for pair in pairs:
            if pair.question not in questions:
                identifier = f"{lang}:{pair.identifier}"
                uses[identifier] += 1
                questions[pair.question] = identifier + (f"#{uses[identifier]}" if uses[identifier] > 1 else "")
            query = questions[pair.question]
            doc = paragraphs.setdefault(pair.paragraph, f"{lang}:{len(paragraphs):05}")
            judgements[query, doc] = 1
        queries += [(identifier, lang, text) for text, identifier in questions.items()]
        passages.append((str(path), [(identifier, text) for text, identifier in paragraphs.items()]))
    name = f"tydiqa-goldp-{wanted[0] if len(wanted) == 1 else 'pooled-' + '-'.join(wanted)}"
    return build_collection(
        name if split == "dev" else f"{name}-{split}",
        queries=queries,
        judgements=[(query, doc, gain) for (query, doc), gain in judgements.items()],
        passages=passages,
    )


def load_mr_tydi(
    lang: str, *, split: str = "test", folder: Path | None = None, output: Path | None = None, empty: str = "error"
) -> Collection:
    """Mr. TyDi v1.1 in full: the questions of a split, and every passage of the language's Wikipedia.

    Files: `<folder>/mr-tydi/mrtydi-v1.1-<language>/<split>.jsonl.gz` and
    `<folder>/mr-tydi-corpus/mrtydi-v1.1-<language>/corpus.jsonl.gz`, else the same paths in castorini's repositories.

    Args:
        split: "test", "dev" or "train".
        folder: local copies; default $HYBRIDLIB_DATA.
        output, empty: as in `miracl.load`.

    Raises:
        ValueError: an unknown language or split, a damaged file, a judged passage that is not in the corpus.
        OSError: a file is neither at hand nor to be had.
    """
    if lang not in NAMES or split not in ("test", "dev", "train"):
        raise ValueError(f"Mr. TyDi has no {split!r} of {lang!r}; it has test, dev and train of {' '.join(NAMES)}")
    folder, inside = folder or data_folder(), f"mrtydi-v1.1-{NAMES[lang]}"
    topics = _file(folder, "mr-tydi", f"{inside}/{split}.jsonl.gz", MR_TYDI, MR_TYDI_REVISION)
    corpus = _file(folder, "mr-tydi-corpus", f"{inside}/corpus.jsonl.gz", MR_TYDI_CORPUS, MR_TYDI_CORPUS_REVISION)
    name = f"mr-tydi-{lang}-{split}"
    write = partial(
        write_collection,
        name=name,
        queries=records.queries(topics, lang),
        judgements=_positives(topics),
        passages=[(str(corpus), records.passages(corpus, empty=empty))],
    )
    return prepared(name, [topics, corpus], {"empty": empty}, output, write)


def _positives(path: Path) -> Iterator[tuple[str, str, int]]:
    for place, row in records.rows(path):
        query_id = records.identifier(records.field(row, ("query_id",), place, (str, int)), place, "query id")
        for passage in records.field(row, ("positive_passages",), place, (list,)):
            yield query_id, records.identifier(records.field(passage, ("docid",), place), place, "docid"), 1


def _file(folder: Path | None, name: str, inside: str, repo: str, revision: str) -> Path:
    local = Path(folder) / name / inside if folder else None
    return local if local and local.is_file() else fetch(repo, inside, revision=revision)


# ---- GoldP


def _goldp(lang: str, split: str, folder: Path | None) -> tuple[Path, Iterator[_Pair]]:
    name = f"tydiqa.goldp.{lang}.{split}.json"
    local = [Path(folder) / "tydiqa-goldp" / f"{name}{ending}" for ending in ("", ".gz")] if folder else []
    path = next((path for path in local if path.is_file()), None)
    if path:
        return path, _squad_pairs(path)
    part = {"dev": "validation", "train": "train"}[split]
    path = fetch(GOLDP, f"secondary_task/{part}-00000-of-00001.parquet")
    return path, _row_pairs(path, NAMES[lang])


def _squad_pairs(path: Path) -> Iterator[_Pair]:
    document = parse_json(read_bytes(path), path)
    number = 0
    for article in records.field(document, ("data",), str(path), (list,)):
        for paragraph in records.field(article, ("paragraphs",), str(path), (list,)):
            number += 1
            place = f"{path}, paragraph {number}"
            for question in records.field(paragraph, ("qas",), place, (list,)):
                yield _pair(question, records.field(paragraph, ("context",), place), place)


def _row_pairs(path: Path, language: str) -> Iterator[_Pair]:
    for place, row in records.rows(path):
        if records.field(row, ("id",), place).startswith(f"{language}-"):
            yield _pair(row, records.field(row, ("context",), place), place)


def _pair(question: dict, context: str, place: str) -> _Pair:
    identifier = records.identifier(records.field(question, ("id",), place), place, "id")
    text = records.check_text(records.field(question, ("question",), place), place)
    return _Pair(identifier, text, records.check_text(context, place))
