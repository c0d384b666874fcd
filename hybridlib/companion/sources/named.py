"""Pairs and benchmarks by name, as commands, scripts and notebooks give them: "demo" is the embedded corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from hybridlib.companion.sources.embedded.corpus import LANGUAGES, build_corpus
from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.corpora.lareqa import load_lareqa
from hybridlib.corpora.own import open_pairs
from hybridlib.files import cache_folder, make_parent


def named_pairs(*names: str | Path, held_out: bool = False) -> ParallelPairs:
    """The pairs of these names, together where there are several.

    Args:
        names: each is "demo", a saved corpus (a folder) or a file of pairs (DATA.md).
        held_out: of "demo" the development pairs rather than the training pairs.

    Raises:
        FileNotFoundError, ValueError: as `hybridlib.corpora.own.open_pairs`.
    """
    if "demo" not in names:
        return open_pairs(*names)
    corpus = build_corpus()
    pairs = corpus.dev_pairs if held_out else corpus.train
    if names == ("demo",):
        return pairs
    folder = cache_folder() / "pairs" / f"embedded-{pairs.fingerprint[:16]}"
    make_parent(folder)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            pairs.save(folder)
    return open_pairs(*(folder if name == "demo" else name for name in names))


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
