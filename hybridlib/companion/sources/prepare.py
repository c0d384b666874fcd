"""`python -m hybridlib data`: data sets read, filtered, checked for leaks and written, a folder each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hybridlib.companion.sources.filters import DEFAULT, Counts, Limits
from hybridlib.companion.sources.leakage import Protected, find_leaks, without
from hybridlib.companion.sources.table9 import SOURCES, find, load


@dataclass(frozen=True)
class Prepared:
    """What became of a data set; `problem` says why it was left out, else it is empty."""

    name: str
    problem: str = ""
    pairs: int = 0
    counts: Counts | None = None
    languages: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """What to print: a line about the data set, then what else was counted."""
        if self.problem:
            yield f"{self.name}: left out. {self.problem}"
            return
        size = find(self.name).paper_size
        yield (
            f"{self.name}: {self.pairs:,} pairs in {' '.join(self.languages)}; Table 9 has "
            f"{f'{size:,}' if size else 'none'}; read {self.counts.read:,}, dropped {_listed(self.counts.dropped)}"
        )
        if self.counts.more:
            yield f"  besides: {_listed(self.counts.more)}"
        if self.counts.leaks is not None:
            yield f"  also in evaluation sets, taken out: {_listed(self.counts.leaks)}"


def prepare(
    names: Iterable[str],
    output: Path,
    *,
    languages: Iterable[str] | None = None,
    limit: int | None = None,
    limits: Limits = DEFAULT,
    protected: Protected | None = None,
) -> Iterator[Prepared]:
    """Write each data set to `<output>/<name>`; one that cannot be had is left out, the others go on.

    Raises:
        ValueError: a name is unknown; the texts of a file are not of its layout.
    """
    for source in [find(name) for name in names]:
        folder = Path(output) / source.name
        try:
            corpus = load(source.name, folder, languages=languages, limit=limit, limits=limits)
        except OSError as error:
            yield Prepared(source.name, str(error))
            continue
        counts = Counts.load(folder)
        if protected is not None:
            leaks = find_leaks(corpus, protected)
            counts.leaks = {f"{part} in {lang} = {label}": n for (part, lang, label), n in sorted(leaks.counts.items())}
            corpus = without(corpus, leaks, folder) if leaks else corpus
            counts.save(folder)  # beside the corpus, which may be a new one
        yield Prepared(source.name, "", len(corpus), counts, corpus.languages)


def describe() -> Iterator[str]:
    """A line for each data set: name, Table 9's size, the source's rows, where it is from, licence."""
    for source in SOURCES.values():
        size, rows = (f"{n:,}" if n else "-" for n in (source.paper_size, source.rows))
        yield f"{source.name}: Table 9 {size}, source {rows}; {source.repo or 'no open source'}; {source.licence}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in counts.items() if n) or "none"
