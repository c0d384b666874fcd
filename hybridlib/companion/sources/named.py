"""Pairs and benchmarks by name, as commands, scripts and notebooks give them: "demo" is the embedded corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybridlib.companion.sources.embedded.corpus import LANGUAGES, build_corpus
from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.corpora.lareqa import load_lareqa
from hybridlib.corpora.own import open_pairs


def named_pairs(*names: str | Path, held_out: bool = False) -> ParallelPairs:
    """The pairs of these names, together where there are several.

    Args:
        names: each is "demo", a saved corpus (a folder) or a file of pairs (DATA.md).
        held_out: of "demo" the development pairs rather than the training pairs.

    Raises:
        FileNotFoundError, ValueError: as `hybridlib.corpora.own.open_pairs`.
    """
    return open_pairs(*(_embedded(held_out) if name == "demo" else name for name in names))


def _embedded(held_out: bool) -> ParallelPairs:
    return build_corpus().dev_pairs if held_out else build_corpus().train


def named_benchmark(name: str, *, languages: Sequence[str] | None = None, with_paragraph: bool = False) -> Benchmark:
    """The benchmark "demo", "xquad-r" or "mlqa-r".

    Args:
        languages: a part of its languages; None: all.
        with_paragraph: of XQuAD-R and MLQA-R: a candidate is the sentence followed by its paragraph.

    Raises:
        FileNotFoundError, ValueError: as `hybridlib.corpora.lareqa.load_lareqa`, or a language is unknown.
    """
    if name == "demo":
        return build_corpus(languages=tuple(languages or LANGUAGES)).test
    return load_lareqa(name, languages=languages, with_paragraph=with_paragraph)
