"""Draw the batches of training: X-X-mono, X-Y and hybrid, and LAReQA's X-X and En-En.

A batch is a pure function of (corpus, strategy, alpha, seed, step). Every step is an independent draw, and there are no
epochs. Training can therefore resume at any step at no cost, and every process can compute the same global batch alone.

Sources: arXiv 2408.10536, section 2.2 (X-X-mono, X-Y, hybrid); arXiv 2004.05484 (X-X, En-En).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hybridlib.corpora.base import PairGroup, ParallelPairs

ALPHA = 0.5  # share of monolingual batches in hybrid, where no alpha is given
STRATEGIES = ("x-x-mono", "x-y", "hybrid", "x-x", "en-en")
WHOLE = ("x-x-mono", "en-en")  # modes whose batches are in one language
MIXTURES = ("language-first", "dataset-first")
REDRAWS = 20  # rounds of redrawing pairs whose query is already in the batch; then the pools are searched
WINDOW = 65_536  # pairs read at once where a whole pool is searched


@dataclass(frozen=True, eq=False)
class Batch:
    """A global batch of B triples.

    Attributes:
        step: number of the batch, from 0.
        mode: kind of the batch: "x-x-mono", "x-y", "x-x" or "en-en" (a hybrid batch is one of the first two).
        pair: rows of `ParallelPairs.pairs`, (B,) int64.
        query_lang, passage_lang: language codes, (B,) str.
    """

    step: int
    mode: str
    pair: np.ndarray
    query_lang: np.ndarray
    passage_lang: np.ndarray

    def __len__(self) -> int:
        return len(self.pair)

    def slice(self, process: int, processes: int) -> Batch:
        """Slice of one of several processes; the slices differ in size by at most one and make up the batch."""
        if not 0 <= process < processes:
            raise ValueError(f"process must be in [0, {processes}), not {process}")
        a, b = (len(self) * i // processes for i in (process, process + 1))
        return Batch(self.step, self.mode, self.pair[a:b], self.query_lang[a:b], self.passage_lang[a:b])

    def keys(self) -> list[tuple[int, str, str]]:
        """(pair, query language, passage language) triples, as `ParallelPairs.__getitems__` takes them."""
        return list(zip(self.pair.tolist(), self.query_lang.tolist(), self.passage_lang.tolist(), strict=True))


class Pool:
    """The pairs that one triple of a batch can take, kept as row ranges, so that no memory is needed per pair."""

    def __init__(self, ranges: Sequence[tuple[int, int]]):
        self.ranges = ranges
        self.starts = np.array([start for start, _ in ranges], dtype=np.int64)
        self.ends = np.cumsum([stop - start for start, stop in ranges], dtype=np.int64)
        self.size = int(self.ends[-1]) if len(ranges) else 0

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Rows of `ParallelPairs.pairs` at positions of this pool, in [0, size)."""
        which = np.searchsorted(self.ends, positions, side="right")
        return self.starts[which] + positions - np.r_[0, self.ends][which]

    def windows(self) -> Iterator[np.ndarray]:
        """All rows of the pool, at most WINDOW at a time."""
        for start in range(0, self.size, WINDOW):
            yield self.rows(np.arange(start, min(start + WINDOW, self.size)))


class BatchSampler:
    """Draw batches of one strategy; `torch.utils.data.DataLoader(corpus, batch_sampler=...)` takes it as batch sampler.

    Args:
        corpus: the pairs to draw from.
        strategy: one of STRATEGIES. X-X-mono: query and passage of the whole batch in one language, drawn uniformly.
            X-Y: in each triple two different languages. Hybrid: X-X-mono with probability `alpha`, else X-Y.
            X-X (LAReQA's): each triple in one language, the batch mixed. En-En: English only.
        batch_size: triples in a global batch.
        steps: number of batches, the sampler's length.
        alpha: share of monolingual batches of hybrid, in [0, 1]; None means 0.5. The other strategies take no
            alpha, and their attribute `alpha` is None.
        languages: training languages; None means all languages of the corpus.
        seed: of the batches, independent of the seed of the weights; the same seed gives the same batches.
        mixture: "language-first" draws a language (or an ordered pair of languages) uniformly, then a pair of texts
            in that language, so larger data sets weigh more. "dataset-first" draws a data set in proportion to its
            size, then a language uniformly among the languages of that data set; a monolingual batch then stays within
            one data set. The paper's abstract and its section 2.2 disagree on this; language-first follows the section.
        start: first step that iteration yields (after a resume).
        process, processes: iteration yields, of each batch, the slice of this process.

    No query and no pair occurs twice in a batch.

    Raises:
        ValueError: unknown strategy, mixture or language; alpha outside [0, 1]; X-Y with one language or without a
            translated pair; fewer eligible queries than triples in a batch.
    """

    def __init__(
        self,
        corpus: ParallelPairs,
        strategy: str,
        *,
        batch_size: int,
        steps: int,
        alpha: float | None = None,
        languages: Sequence[str] | None = None,
        seed: int = 0,
        mixture: str = "language-first",
        start: int = 0,
        process: int = 0,
        processes: int = 1,
    ):
        self.corpus, self.strategy, self.batch_size, self.steps = corpus, strategy, batch_size, steps
        self.seed, self.mixture, self.start = seed, mixture, start
        self.process, self.processes = process, processes
        self.alpha = ALPHA if strategy == "hybrid" and alpha is None else alpha
        self.languages = tuple(corpus.languages if languages is None else languages)
        self._check_arguments()
        self._query = corpus.query_rows
        self._choices = {mode: self._checked_choices(mode) for mode in self.modes}

    @property
    def modes(self) -> tuple[str, ...]:
        """Kinds of batches that this strategy can draw."""
        return tuple(mode for mode, weight in _weights(self.strategy, self.alpha).items() if weight > 0)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, str, str]]]:
        for step in range(self.start, self.steps):
            yield self.batch(step).slice(self.process, self.processes).keys()

    def batch(self, step: int) -> Batch:
        """The global batch of a step; it does not depend on the batches drawn before."""
        rng = np.random.default_rng((self.seed, step))
        mode = self.strategy
        if mode == "hybrid":
            mode = "x-x-mono" if rng.random() < self.alpha else "x-y"
        choices = self._choices[mode]
        places = np.resize(choices.draw(rng, 1 if mode in WHOLE else self.batch_size), self.batch_size)
        pair = self._fill(rng, places, choices)
        return Batch(step, mode, pair, choices.query_lang[places], choices.passage_lang[places])

    def shares(self) -> pd.DataFrame:
        """Expected share of triples by mode, source, query language and passage language; the shares add up to 1."""
        weights = _weights(self.strategy, self.alpha)
        return pd.concat([self._choices[mode].shares(mode, weights[mode]) for mode in self.modes], ignore_index=True)

    def _check_arguments(self) -> None:
        """Refuse arguments that are wrong for every corpus with these languages."""
        strategy, languages, alpha = self.strategy, self.languages, self.alpha
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r}")
        if strategy != "hybrid" and alpha is not None:
            raise ValueError(f"alpha belongs to the strategy hybrid; leave it out for {strategy}")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha is a probability and must be in [0, 1], not {alpha}")
        if self.mixture not in MIXTURES:
            raise ValueError(f"mixture must be one of {', '.join(MIXTURES)}, not {self.mixture!r}")
        if self.batch_size < 1 or self.steps < 0:
            sizes = f"{self.batch_size} and {self.steps}"
            raise ValueError(f"batch_size must be at least 1 and steps at least 0, not {sizes}")
        if unknown := [lang for lang in languages if lang not in self.corpus.languages]:
            known = " ".join(self.corpus.languages)
            raise ValueError(f"{self.corpus.name} has no language {unknown[0]!r}; it has {known}")
        if not languages or len(set(languages)) < len(languages):
            raise ValueError(f"languages must name at least one language and none twice, not {languages}")
        if strategy in ("x-y", "hybrid") and len(languages) < 2:
            raise ValueError(f"{strategy} needs at least two training languages, not only {languages[0]!r}")
        if strategy == "en-en" and "en" not in languages:
            raise ValueError(f"en-en trains on English only, and 'en' is not among the languages {' '.join(languages)}")

    def _checked_choices(self, mode: str) -> Choices:
        """The choices of a mode; raise before training if a step would fail or a language be silently left out."""
        kinds = _kinds(mode, self.languages)
        choices = Choices(self.corpus.groups, kinds, by_source=self.mixture == "dataset-first")
        served = {*choices.query_lang.tolist(), *choices.passage_lang.tolist()}
        if missing := [query_lang for query_lang, _ in kinds if query_lang not in served]:
            what = "a translated pair" if mode == "x-y" else "a pair with query and passage"
            remedy = "leave the language out or add data"
            raise ValueError(f"{mode}: {self.corpus.name} has not {what} in {missing[0]!r}; {remedy}")
        if mode in WHOLE:
            for i, pool in enumerate(choices.pools):
                self._check_queries(mode, [pool], choices.name(i))
        else:
            self._check_queries(mode, choices.pools, "all languages together")
        return choices

    def _check_queries(self, mode: str, pools: Sequence[Pool], where: str) -> None:
        """Raise if the pools have too few different queries for a batch; one window mostly settles it."""
        found = np.array([], dtype=np.int64)
        for rows in Pool(sorted({span for pool in pools for span in pool.ranges})).windows():
            found = np.union1d(found, self._query[rows])
            if len(found) >= self.batch_size:
                return
        raise ValueError(_too_few(mode, where, len(found), self.batch_size))

    def _fill(self, rng: np.random.Generator, places: np.ndarray, choices: Choices) -> np.ndarray:
        """Draw a pair for each triple, (B,) rows, no query twice: of two equal queries the later one is drawn again."""
        pair = np.empty(len(places), dtype=np.int64)
        settled, rest = np.array([], dtype=np.int64), np.arange(len(places))
        for _ in range(REDRAWS):
            pair[rest] = choices.draw_pairs(rng, places[rest])
            order = np.r_[settled, rest]
            settled = np.sort(order[np.unique(self._query[pair[order]], return_index=True)[1]])
            rest = np.setdiff1d(np.arange(len(places)), settled)
            if not len(rest):
                return pair
        return self._fill_rest(rng, places, choices, pair, rest)

    def _fill_rest(
        self, rng: np.random.Generator, places: np.ndarray, choices: Choices, pair: np.ndarray, rest: np.ndarray
    ) -> np.ndarray:
        """Search the whole pool for each triple that redrawing left (batches about as large as the corpus)."""
        taken = self._query[np.delete(pair, rest)]
        for place in rest:
            windows = choices.pools[places[place]].windows()
            free = np.concatenate([rows[~np.isin(self._query[rows], taken)] for rows in windows])
            if not len(free):
                raise ValueError(_too_few("a batch", choices.name(places[place]), len(taken), self.batch_size))
            pair[place] = free[rng.integers(len(free))]
            taken = np.append(taken, self._query[pair[place]])
        return pair


class Choices:
    """The kinds of triples that a mode draws: languages (and data set), probability, and the pairs that fit."""

    def __init__(self, all_groups: Sequence[PairGroup], kinds: Sequence[tuple[str, str]], *, by_source: bool):
        found: dict[tuple[str, str, str], list[PairGroup]] = {}
        for group in all_groups:
            for query_lang, passage_lang in kinds:
                if query_lang in group.query_languages and passage_lang in group.passage_languages:
                    key = (group.source if by_source else "", query_lang, passage_lang)
                    found.setdefault(key, []).append(group)
        self.groups = list(found.values())
        self.pools = [Pool([(group.start, group.stop) for group in groups]) for groups in self.groups]
        self.source = np.array([source for source, _, _ in found])
        self.query_lang = np.array([query_lang for _, query_lang, _ in found])
        self.passage_lang = np.array([passage_lang for _, _, passage_lang in found])
        self.probability = self._probabilities()

    def _probabilities(self) -> np.ndarray:
        """Probability of each kind.

        A data set has a probability in proportion to its number of pairs; its kinds share it equally. Without
        `by_source` all pairs are one data set.
        """
        probability = np.zeros(len(self.pools))
        for source in np.unique(self.source):
            kinds = np.flatnonzero(self.source == source)
            rows = {(group.start, group.stop) for i in kinds for group in self.groups[i]}
            probability[kinds] = sum(stop - start for start, stop in rows) / len(kinds)
        return probability / probability.sum() if len(probability) else probability

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draw n kinds of triples: (n,) indices into `pools`."""
        ends = np.cumsum(self.probability)
        return np.minimum(np.searchsorted(ends, rng.random(n), side="right"), len(ends) - 1)

    def draw_pairs(self, rng: np.random.Generator, places: np.ndarray) -> np.ndarray:
        """Draw a pair uniformly from the pool of each kind in `places`; queries may repeat."""
        sizes = np.array([pool.size for pool in self.pools])[places]
        positions = np.minimum((rng.random(len(places)) * sizes).astype(np.int64), sizes - 1)
        pair = np.empty(len(places), dtype=np.int64)
        for kind in np.unique(places):
            same = places == kind
            pair[same] = self.pools[kind].rows(positions[same])
        return pair

    def name(self, i: int) -> str:
        """Name of the kind `i` in messages."""
        languages = repr(str(self.query_lang[i]))
        if self.query_lang[i] != self.passage_lang[i]:
            languages += f" to {str(self.passage_lang[i])!r}"
        return f"{languages} of {self.source[i]}" if self.source[i] else languages

    def shares(self, mode: str, weight: float) -> pd.DataFrame:
        """Expected share of triples of a mode by source, query_lang and passage_lang; the shares add up to `weight`."""
        rows = []
        for i, groups in enumerate(self.groups):
            for group in groups:
                share = weight * self.probability[i] * (group.stop - group.start) / self.pools[i].size
                rows.append((mode, group.source, str(self.query_lang[i]), str(self.passage_lang[i]), share))
        keys = ["mode", "source", "query_lang", "passage_lang"]
        return pd.DataFrame(rows, columns=[*keys, "share"]).groupby(keys, as_index=False)["share"].sum()


def expected_shares(
    groups: Sequence[PairGroup],
    strategy: str,
    languages: Sequence[str],
    *,
    alpha: float | None = None,
    mixture: str = MIXTURES[0],
) -> pd.DataFrame:
    """Compute `BatchSampler.shares` for a corpus of which only the sizes of its groups are known.

    A language for which a strategy has no pairs is left out; `BatchSampler` would refuse it. `alpha` None means 0.5.
    """
    by_source = mixture == "dataset-first"
    parts = [
        Choices(groups, _kinds(mode, languages), by_source=by_source).shares(mode, weight)
        for mode, weight in _weights(strategy, ALPHA if alpha is None else alpha).items()
    ]
    return pd.concat(parts, ignore_index=True)


def _weights(strategy: str, alpha: float | None) -> dict[str, float]:
    """Probability of each mode that a batch of the strategy can have."""
    return {"x-x-mono": alpha, "x-y": 1 - alpha} if strategy == "hybrid" else {strategy: 1.0}


def _kinds(mode: str, languages: Sequence[str]) -> list[tuple[str, str]]:
    """The combinations (query language, passage language) that a mode draws."""
    if mode == "x-y":
        return [(a, b) for a in languages for b in languages if a != b]
    return [(lang, lang) for lang in (("en",) if mode == "en-en" else languages)]


def _too_few(mode: str, where: str, n_queries: int, batch_size: int) -> str:
    return (
        f"{mode}: only {n_queries} different queries can fill a batch in {where}, which has {batch_size} places; "
        "use a smaller batch_size or add data"
    )
