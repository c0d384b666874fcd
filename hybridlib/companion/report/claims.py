"""The paper's claims, each as a quantity that can be measured and a verdict that follows from it by rule.

A verdict is about the direction of a difference between two strategies: "holds" if its 95 % interval and the
difference of every single seed lie on the claimed side of 0, "does not hold" if all of them lie on the other side, else
"undecided"; "not run" where nothing was measured. A number of the embedded corpus is never compared with the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hybridlib.companion.report import paper
from hybridlib.companion.sources.embedded.corpus import EmbeddedCorpus
from hybridlib.corpora import Benchmark

NAMES = {"x-x-mono": "X-X-mono", "x-y": "X-Y", "hybrid": "hybrid", "x-x": "X-X", "en-en": "En-En"}
CHECKPOINTS = {"xlm-r": "XLM-R", "labse": "LaBSE"}
TABLES = {("xquad-r", "xlm-r"): 3, ("xquad-r", "labse"): 5, ("xquad-r", "rank_distance"): 7}
TABLES |= {("mlqa-r", "xlm-r"): 4, ("mlqa-r", "labse"): 6, ("mlqa-r", "rank_distance"): 8}
VERDICTS = ("holds", "does not hold", "undecided", "not run")
COLUMNS = ["claim", "paper", "same_benchmark", "measured", "verdict"]


@dataclass(frozen=True)
class Claim:
    """Strategy `a` has more of a measure (less, for rank distance) than `b`, in a setting and a subset of languages."""

    text: str
    setting: str
    b: str
    a: str = "hybrid"
    measure: str = "map"
    subset: str = "all"

    @property
    def sign(self) -> int:
        """+1 where the claimed difference a - b is positive."""
        return -1 if self.measure == "rank_distance" else 1

    def paper_numbers(self, benchmark: str = "xquad-r", checkpoint: str | None = None) -> str:
        """The paper's two numbers on a benchmark, of one checkpoint (None: both), as printed in tables 3 to 8."""
        parts = []
        for base in CHECKPOINTS if checkpoint is None else (checkpoint,):
            table = TABLES[benchmark, "rank_distance" if self.measure == "rank_distance" else base]
            a, b = (self._printed(table, base, strategy) for strategy in (self.a, self.b))
            parts.append(f"{CHECKPOINTS[base]} {a} / {b}")
        return ", ".join(parts)

    def _printed(self, table: int, checkpoint: str, strategy: str) -> str:
        languages = ["el", "vi"] if self.subset == "zero-shot" else ["mean"]
        cells = paper.reported(
            table,
            checkpoint=checkpoint,
            strategy=strategy,
            setting=self.setting,
            measure=self.measure,
            language=languages,
        )
        if len(cells) == 1:
            return cells["printed"].iloc[0]
        return f"{cells['value'].mean():.4f}"

    def judge(self, low: float, high: float, seed_min: float, seed_max: float) -> str:
        """One of VERDICTS for the interval of a measured difference a - b and its range over seeds."""
        if not (low <= high and seed_min <= seed_max):
            raise ValueError(f"{self.text}: needs low <= high and seed_min <= seed_max")
        if min(low, seed_min) > 0:
            return "holds" if self.sign > 0 else "does not hold"
        if max(high, seed_max) < 0:
            return "holds" if self.sign < 0 else "does not hold"
        return "undecided"


CLAIMS = (
    Claim("Hybrid is better than X-Y in monolingual retrieval", "mono", "x-y"),
    Claim("Hybrid is better than X-X-mono in monolingual retrieval", "mono", "x-x-mono"),
    Claim("Hybrid is better than X-X-mono in cross-lingual retrieval", "cross", "x-x-mono"),
    Claim("Hybrid is better than X-Y in cross-lingual retrieval", "cross", "x-y"),
    Claim("Hybrid is better than X-X-mono in multilingual retrieval", "multi", "x-x-mono"),
    Claim("Hybrid is better than X-Y in multilingual retrieval (the paper: best or comparable)", "multi", "x-y"),
    Claim("Hybrid has less language bias than X-X-mono", "multi", "x-x-mono", measure="rank_distance"),
    Claim(
        "Hybrid has less language bias than X-Y (the paper: about the same)", "multi", "x-y", measure="rank_distance"
    ),
    Claim(
        "Zero-shot languages gain too, cross-lingual (paper: queries in el, vi; demo: either side)",
        "cross",
        "x-x-mono",
        subset="zero-shot",
    ),
    Claim("Zero-shot languages gain too, multilingual (queries in el, vi)", "multi", "x-x-mono", subset="zero-shot"),
)


def judge(
    comparison: pd.DataFrame,
    *,
    run: bool,
    measures: Sequence[str] = ("map", "rank_distance"),
    subsets: Sequence[str] = ("all", "zero-shot"),
    benchmark: str | None = None,
    checkpoint: str | None = None,
) -> pd.DataFrame:
    """The claims that a comparison speaks of, judged by it.

    Args:
        comparison: from `results.compare`.
        run: False in a profile that only tests the code: every verdict is then "not run" and nothing is shown.
        measures, subsets: claims about others are left out.
        benchmark: of the paper on which the comparison was made; None: another one.
        checkpoint: "xlm-r" or "labse" if it is of that one: then the paper's numbers are of it alone.

    Returns:
        claim, paper, same_benchmark (what was measured on the paper's benchmark), measured (elsewhere), verdict.
    """
    lines = []
    for claim in CLAIMS:
        if claim.measure not in measures or claim.subset not in subsets:
            continue
        found = comparison[
            (comparison["setting"] == claim.setting)
            & (comparison["measure"] == claim.measure)
            & (comparison["subset"] == claim.subset)
            & (comparison["a"] == claim.a)
            & (comparison["b"] == claim.b)
        ]
        if run and len(found) == 1:
            row = found.iloc[0]
            verdict = claim.judge(*row[["low", "high", "seed_min", "seed_max"]])
            measured = _measured(claim, row)
        else:
            verdict, measured = "not run", ""
        printed = claim.paper_numbers(benchmark or "xquad-r", checkpoint)
        places = ("", measured) if benchmark is None else (measured, "")
        lines.append((claim.text, printed, *places, verdict))
    return pd.DataFrame(lines, columns=COLUMNS)


def facts(
    corpus: EmbeddedCorpus | None, xquad_r: Benchmark | None, mlqa_r: Benchmark | None, *, run: bool
) -> pd.DataFrame:
    """What is said about the data: counted where the data are at hand, else "not run".

    Args:
        corpus: the embedded corpus; None where other data are trained on.
        xquad_r, mlqa_r: the paper's benchmarks; None where the files are not at hand.
    """
    separate, verdict = "", "not run"
    if corpus is not None:
        shared, subjects = _shared_subjects(corpus)
        separate = f"{shared} of {subjects} test subjects have a question or passage in training"
        verdict = "does not hold" if shared else "holds"
    lines = [("Training and evaluation data are separate", "stated", "", separate, verdict)]
    for name, benchmark, n in (("XQuAD-R", xquad_r, 11), ("MLQA-R", mlqa_r, 7)):
        claim = f"{name} has {n} parallel languages: {n} monolingual and {n * (n - 1)} cross-lingual settings"
        counted, verdict = "", "not run"
        if benchmark is not None:
            mono, cross = count_settings(benchmark)
            counted = f"{len(benchmark.languages)} languages, {mono} + {cross} settings"
            verdict = "holds" if (len(benchmark.languages), mono, cross) == (n, n, n * (n - 1)) else "does not hold"
        lines.append((claim, "stated", counted, "", verdict))
    frame = pd.DataFrame(lines, columns=COLUMNS)
    return frame if run else frame.assign(same_benchmark="", measured="", verdict="not run")


def count_settings(benchmark: Benchmark) -> tuple[int, int]:
    """Monolingual and cross-lingual settings with at least one relevant candidate."""
    judged = benchmark.relevant.to_pandas()[["query_id", "candidate_id"]]
    languages = judged.apply(lambda ids: ids.str.split(":").str[0]).drop_duplicates()
    pairs = list(languages.itertuples(index=False))
    mono = sum(a == b for a, b in pairs)
    return mono, len(pairs) - mono


def to_readme(claims: pd.DataFrame) -> str:
    """The claims as README's table (Markdown); agreement is only about the direction."""
    words = {"holds": "yes", "does not hold": "no", "undecided": "undecided", "not run": "not run"}
    head = (
        "claim",
        "the paper (a / b)",
        "same benchmark, reproduced",
        "demo, its own corpus",
        "does the direction agree?",
    )
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|"]
    for row in claims.itertuples():
        lines.append(f"| {row.claim} | {row.paper} | {row.same_benchmark} | {row.measured} | {words[row.verdict]} |")
    return "\n".join(lines)


def _measured(claim: Claim, row: pd.Series) -> str:
    places = 0 if claim.measure == "rank_distance" else 3
    what = "rank distance" if claim.measure == "rank_distance" else "mAP"
    low, high = f"{row['low']:+.{places}f}", f"{row['high']:+.{places}f}"
    return f"{what} {NAMES[claim.a]} - {NAMES[claim.b]} {row['difference']:+.{places}f} [{low}, {high}]"


def _shared_subjects(corpus: EmbeddedCorpus) -> tuple[int, int]:
    """Test subjects that a training question or passage is about, and test subjects in all."""
    subject = corpus.facts.set_index("fact_id")["subject_id"]
    training = set(subject[corpus.train.passages["passage_id"].to_pylist()])
    test = set(corpus.test.queries["cluster"].to_pylist())
    return len(training & test), len(test)
