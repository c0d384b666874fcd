"""The embedded benchmark as test collections, in the forms of MIRACL, TyDi QA and Tatoeba.

Names: embedded-<lang>, questions and passages of one language, as MIRACL has them; embedded-pooled-<lang>-<lang>, one
pool of several languages' passages, a question's own language alone being relevant, as in TyDi QA pooled;
embedded-sentences-<lang>, a passage sought by its translation, into English and back, as in Tatoeba.
"""

from __future__ import annotations

from collections.abc import Iterable

from hybridlib.companion.search.collect import build_collection
from hybridlib.companion.search.collection import Collection
from hybridlib.corpora.base import Benchmark

PREFIX, POOLED, SENTENCES = "embedded-", "embedded-pooled-", "embedded-sentences-"


def collections(benchmark: Benchmark, name: str) -> list[Collection]:
    """The collection of that name; of the sentences two, there and back.

    Raises:
        ValueError: no such form, or a language that the benchmark does not have.
    """
    if name.startswith(SENTENCES):
        (lang,) = _known(benchmark, name, [name.removeprefix(SENTENCES)])
        (english,) = _known(benchmark, name, ["en"])
        return [_sentences(benchmark, *pair) for pair in ((lang, english), (english, lang))]
    if name.startswith(POOLED):
        return [_questions(benchmark, name, _known(benchmark, name, name.removeprefix(POOLED).split("-")))]
    return [_questions(benchmark, name, _known(benchmark, name, [name.removeprefix(PREFIX)]))]


def _known(benchmark: Benchmark, name: str, languages: list[str]) -> list[str]:
    for lang in languages:
        if lang not in benchmark.languages:
            forms = f"{PREFIX}<lang>, {POOLED}<lang>-<lang> and {SENTENCES}<lang>"
            raise ValueError(f"{name}: no such collection; there are {forms} of {' '.join(benchmark.languages)}")
    return languages


def _questions(benchmark: Benchmark, name: str, languages: list[str]) -> Collection:
    queries = _rows(benchmark.queries, ("query_id", "lang", "text"), languages)
    passages = _rows(benchmark.candidates, ("candidate_id", "lang", "text"), languages)
    asked = {query_id for query_id, *_ in queries}
    relevant = zip(*(benchmark.relevant[c].to_pylist() for c in ("query_id", "candidate_id", "gain")), strict=True)
    judgements = [(q, c, gain) for q, c, gain in relevant if q in asked and _language(q) == _language(c)]
    return build_collection(
        name, queries=queries, judgements=judgements, passages=[(name, [(id, text) for id, _, text in passages])]
    )


def _sentences(benchmark: Benchmark, asked: str, answered: str) -> Collection:
    """The passages that a question has, sought by their translations; ids without their language agree."""
    columns = ("candidate_id", "lang", "text")
    stated = {c.partition(":")[2] for c in benchmark.relevant["candidate_id"].to_pylist()}
    sides = [
        [row for row in _rows(benchmark.candidates, columns, [lang]) if row[0].partition(":")[2] in stated]
        for lang in (asked, answered)
    ]
    name = f"{SENTENCES}{asked}-{answered}"
    judgements = [(q, f"{answered}:{q.partition(':')[2]}", 1) for q, *_ in sides[0]]
    passages = [(name, [(id, text) for id, _, text in sides[1]])]
    return build_collection(name, queries=sides[0], judgements=judgements, passages=passages, passage_lang=answered)


def _rows(table, columns: Iterable[str], languages: list[str]) -> list[tuple]:
    rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
    return [row for row in rows if row[1] in languages]


def _language(identifier: str) -> str:
    return identifier.partition(":")[0]
