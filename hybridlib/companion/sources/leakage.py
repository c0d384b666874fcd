"""Is a question or passage of an evaluation set in the training data? Counted per language, and taken out.

Two texts are the same if they are equal after normalisation: compatible forms of characters (NFKC), case, punctuation
and spacing. A training question or passage is compared with every question, candidate sentence and paragraph of the
evaluation sets; only 8 bytes of each evaluation text are kept. Near duplicates and parts of longer passages are not
found.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.corpora.lareqa import load_lareqa
from hybridlib.corpora.write import part_of
from hybridlib.files import local_or_hub, read_bytes

SETS = ("xquad-r", "mlqa-r", "miracl")
MIRACL_LANGUAGES = tuple("ar bn de en es fa fi fr hi id ja ko ru sw te th yo zh".split())
CHUNK = 50_000  # texts compared at a time


class _Characters(dict):
    """Punctuation, separators and control characters become a space; letters, marks, numbers and symbols stay."""

    def __missing__(self, point: int) -> int:
        self[point] = 32 if unicodedata.category(chr(point))[0] in "PZC" else point
        return self[point]


_CHARACTERS = _Characters()


def normalised(text: str) -> str:
    """Write a text as it is compared: NFKC, without case and punctuation, one space between words."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_CHARACTERS).split())


def digest(text: str) -> int:
    """Hash the normalised text to 64 bits; 0 for one that has nothing but punctuation, which is no leak."""
    compared = normalised(text).encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(compared, digest_size=8).digest()) if compared else 0


@dataclass(frozen=True)
class Protected:
    """Digests of evaluation texts: "<set> question" or "<set> passage" -> 64-bit digests."""

    texts: dict[str, set[int]] = field(default_factory=dict)

    def add(self, label: str, texts: Iterable[str]) -> None:
        """Protect texts under a label."""
        self.texts.setdefault(label, set()).update(filter(None, map(digest, texts)))

    def add_benchmark(self, benchmark: Benchmark) -> None:
        """Protect the questions and candidates of a benchmark."""
        self.add(f"{benchmark.name} question", _texts(benchmark.queries["text"]))
        self.add(f"{benchmark.name} passage", _texts(benchmark.candidates["text"]))

    def labels(self, text: str | None) -> list[str]:
        """Name the sets that have the text."""
        key = digest(text) if text else 0  # which is in no set
        return [label for label, digests in self.texts.items() if key in digests]


@dataclass(frozen=True)
class Leaks:
    """What of a corpus is in evaluation sets.

    Attributes:
        queries, passages: of each row of the tables whether a text of it leaks, in any language; bool.
        counts: (part, language, label) -> texts; a text counts under every label that has it.
    """

    queries: np.ndarray
    passages: np.ndarray
    counts: Counter[tuple[str, str, str]]

    def __bool__(self) -> bool:
        return bool(self.queries.any() or self.passages.any())


def protect(names: Iterable[str]) -> Protected:
    """Read questions, candidate sentences and paragraphs of XQuAD-R and MLQA-R, and questions of MIRACL dev.

    Files in $HYBRIDLIB_DATA come first; what is not there is downloaded.

    Args:
        names: some of `SETS`. MIRACL's passages are a whole Wikipedia and are not looked at.

    Raises:
        ValueError: an unknown name, a damaged file.
        OSError: a file is neither at hand nor to be had.
    """
    protected = Protected()
    for name in names:
        if name not in SETS:
            raise ValueError(f"unknown evaluation set {name!r}; choose from {', '.join(SETS)}")
        if name == "miracl":
            protected.add("miracl question", _miracl_questions())
            continue
        benchmark = load_lareqa(name)
        protected.add_benchmark(benchmark)
        protected.add(f"{name} passage", _paragraphs(benchmark, load_lareqa(name, with_paragraph=True)))
    return protected


def find_leaks(corpus: ParallelPairs, protected: Protected) -> Leaks:
    """Compare every text of the corpus with the protected ones; each table is read once, in chunks."""
    counts: Counter[tuple[str, str, str]] = Counter()
    masks = []
    for part, table in (("queries", corpus.queries), ("passages", corpus.passages)):
        mask = np.zeros(len(table), dtype=bool)
        for lang in (column for column in corpus.languages if column in table.column_names):
            for row, text in enumerate(_texts(table[lang])):
                labels = protected.labels(text)
                mask[row] |= bool(labels)
                counts.update((part, lang, label) for label in labels)
        masks.append(mask)
    return Leaks(*masks, counts)


def without(corpus: ParallelPairs, leaks: Leaks, folder: Path) -> ParallelPairs:
    """Write the corpus without the queries and passages that leak, in all their languages.

    Raises:
        ValueError: nothing is left.
    """
    return part_of(corpus, folder, queries=~leaks.queries, passages=~leaks.passages)


def _miracl_questions() -> Iterator[str]:
    """MIRACL's dev questions: miracl-dev/topics.miracl-v1.0-<lang>-dev.tsv of $HYBRIDLIB_DATA, else from the hub."""
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
