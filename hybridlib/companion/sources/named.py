"""Pairs and benchmarks by name, as commands, scripts and notebooks give them: "demo" is the embedded corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybridlib.companion.sources.embedded.corpus import LANGUAGES, build_corpus
from hybridlib.corpora.base import Benchmark, ParallelPairs
from hybridlib.corpora.lareqa import load_lareqa
from hybridlib.corpora.own import open_pairs
from hybridlib.corpora.write import concatenate
from hybridlib.training.processes import all_processes

BENCHMARKS = ("demo", "xquad-r", "mlqa-r")


def named_pairs(names: str | Sequence[str], folder: Path | None = None, *, held_out: bool = False) -> ParallelPairs:
    """The pairs of that name, or one corpus of the pairs of several names.

    Args:
        names: each is "demo", a saved corpus (a folder) or a file of pairs (DATA.md).
        folder: where the corpus of several names is written; the processes of one launch share it.
        held_out: of "demo" the development pairs rather than the training pairs.

    Raises:
        FileNotFoundError, ValueError: as `hybridlib.corpora.own.open_pairs`.
    """
    names = [names] if isinstance(names, str) else list(names)
    if len(names) == 1:
        return _pairs(names[0], held_out)
    processes = all_processes()
    with processes.main_process_first():
        if not processes.is_main_process:
            return ParallelPairs.load(folder)
        corpora = [_pairs(name, held_out) for name in names]
        return concatenate(folder, corpora, "+".join(corpus.name for corpus in corpora))


def _pairs(name: str, held_out: bool) -> ParallelPairs:
    if name != "demo":
        return open_pairs(name)
    return build_corpus().dev_pairs if held_out else build_corpus().train


def named_benchmark(name: str, *, languages: Sequence[str] | None = None, with_paragraph: bool = False) -> Benchmark:
    """The benchmark of that name, one of BENCHMARKS.

    Args:
        languages: a part of its languages; None: all.
        with_paragraph: of XQuAD-R and MLQA-R: a candidate is the sentence followed by its paragraph.

    Raises:
        FileNotFoundError, ValueError: as `hybridlib.corpora.lareqa.load_lareqa`, or a language is unknown.
    """
    if name == "demo":
        return build_corpus(languages=tuple(languages or LANGUAGES)).test
    return load_lareqa(name, languages=languages, with_paragraph=with_paragraph)
