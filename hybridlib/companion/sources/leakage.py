"""Is a question or passage of an evaluation set in the training data? Counted per language, and taken out.

Two texts are the same if they are equal after normalisation: compatible forms of characters (NFKC), case, punctuation
and spacing. A training question or passage is compared with every question, candidate sentence and paragraph of the
evaluation sets; only 8 bytes of each evaluation text are kept. Near duplicates and parts of longer passages are not
found.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from hybridlib.companion.sources import filters
from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.corpora.lareqa import load_lareqa
from hybridlib.corpora.write import part_of
from hybridlib.files import local_or_hub, read_bytes

SETS = ("xquad-r", "mlqa-r", "miracl")
MIRACL_LANGUAGES = tuple("ar bn de en es fa fi fr hi id ja ko ru sw te th yo zh".split())
CHUNK = 50_000  # texts compared at a time

Protected = dict[str, set[int]]  # "<set> question" or "<set> passage" -> digests of its texts


class _Characters(dict):
    """Punctuation, separators and control characters become a space; letters, marks, numbers and symbols stay."""

    def __missing__(self, point: int) -> int:
        self[point] = 32 if unicodedata.category(chr(point))[0] in "PZC" else point
        return self[point]


_CHARACTERS = _Characters()


def normalised(text: str) -> str:
    """Write a text as it is compared: NFKC, without case and punctuation, one space between words."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_CHARACTERS).split())


def digests(texts: Iterable[str]) -> set[int]:
    """64 bits of each normalised text, but those with nothing but punctuation, which are no leak."""
    return {filters.digest(compared) for compared in map(normalised, texts) if compared}


def protect(names: Iterable[str]) -> Protected:
    """Read questions, candidate sentences and paragraphs of XQuAD-R and MLQA-R, and questions of MIRACL dev.

    Files in $HYBRIDLIB_DATA come first; what is not there is downloaded.

    Args:
        names: some of `SETS`. MIRACL's passages are a whole Wikipedia and are not looked at.

    Raises:
        ValueError: an unknown name, a damaged file.
        OSError: a file is neither at hand nor to be had.
    """
    protected: Protected = {}
    for name in names:
        if name not in SETS:
            raise ValueError(f"unknown evaluation set {name!r}; choose from {', '.join(SETS)}")
        if name == "miracl":
            protected["miracl question"] = digests(_miracl_questions())
            continue
        benchmark = load_lareqa(name)
        protected |= of_benchmark(benchmark)
        protected[f"{name} passage"] |= digests(_paragraphs(benchmark, load_lareqa(name, with_paragraph=True)))
    return protected


def of_benchmark(benchmark: Benchmark) -> Protected:
    """Digests of the questions and candidates of a benchmark."""
    texts = {"question": benchmark.queries["text"], "passage": benchmark.candidates["text"]}
    return {f"{benchmark.name} {kind}": digests(_texts(column)) for kind, column in texts.items()}


def without_leaks(
    corpus: ParallelPairs, protected: Protected, folder: Path
) -> tuple[ParallelPairs, Counter[tuple[str, str, str]]]:
    """Take the queries and passages that leak in any language out of a corpus, in all their languages.

    Args:
        folder: where the rest is written; where nothing leaks, nothing is, and the corpus given comes back.

    Returns:
        The corpus; (part, language, label) -> texts, a text counted under every label that has it.

    Raises:
        ValueError: no pair is left.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    stays = {}
    for part, table in (("queries", corpus.queries), ("passages", corpus.passages)):
        stays[part] = np.ones(len(table), dtype=bool)
        for lang in (column for column in corpus.languages if column in table.column_names):
            for row, text in enumerate(_texts(table[lang])):
                keys = digests([text] if text else [])
                labels = [label for label, texts in protected.items() if keys & texts]
                stays[part][row] &= not labels
                counts.update((part, lang, label) for label in labels)
    return (part_of(corpus, folder, **stays) if counts else corpus), counts


def _miracl_questions() -> Iterator[str]:
    """Read MIRACL's dev questions: $HYBRIDLIB_DATA/miracl-dev/topics.miracl-v1.0-<lang>-dev.tsv, else from the hub."""
    for lang in MIRACL_LANGUAGES:
        name = f"topics.miracl-v1.0-{lang}-dev.tsv"
        path = local_or_hub(f"miracl-dev/{name}", "miracl/miracl", f"miracl-v1.0-{lang}/topics/{name}")
        for number, line in enumerate(read_bytes(path).decode("utf-8").rstrip("\n").split("\n"), 1):
            _, tab, question = line.partition("\t")
            if not tab:
                raise ValueError(f"{path}, line {number}: no tab between id and question; get the file again")
            yield question


def _texts(column: pa.ChunkedArray) -> Iterator[str | None]:
    for start in range(0, len(column), CHUNK):
        yield from column.slice(start, CHUNK).to_pylist()


def _paragraphs(sentences: Benchmark, whole: Benchmark) -> Iterator[str]:
    """The paragraphs, from candidates with and without them: a candidate with its paragraph is both and a space."""
    for short, long in zip(_texts(sentences.candidates["text"]), _texts(whole.candidates["text"]), strict=True):
        yield long[len(short) + 1 :]
