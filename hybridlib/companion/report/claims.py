"""The paper's claims, each as a quantity that can be measured and a verdict that follows from it by rule.

A verdict is about the direction of a difference between two strategies; `verdict` is the one rule for all of them. A
number of the embedded corpus is never compared with the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hybridlib.companion.report.paper import reported
from hybridlib.corpora.base import Benchmark

NAMES = {"x-x-mono": "X-X-mono", "x-y": "X-Y", "hybrid": "hybrid", "x-x": "X-X", "en-en": "En-En"}
CHECKPOINTS = {"xlm-r": "XLM-R", "labse": "LaBSE"}
MEASURES = {
    "map": "mAP",
    "map@20": "mAP@20",
    "recall@1": "R@1",
    "recall@10": "R@10",
    "recall@100": "R@100",
    "mrr@10": "MRR@10",
    "precision@1": "P@1",
    "precision@10": "P@10",
    "ndcg@10": "nDCG@10",
    "mrr": "MRR",
    "rank_distance": "rank distance",
}
TABLES = {("xquad-r", "xlm-r"): 3, ("xquad-r", "labse"): 5, ("xquad-r", "rank_distance"): 7}
TABLES |= {("mlqa-r", "xlm-r"): 4, ("mlqa-r", "labse"): 6, ("mlqa-r", "rank_distance"): 8}
VERDICTS = ("holds", "does not hold", "undecided", "not run")
NUMBERS = ["difference", "low", "high", "seed_min", "seed_max"]
COLUMNS = ["claim", "paper", "same_benchmark", "measured", "verdict"]


def verdict(low: float, high: float, seed_min: float, seed_max: float, sign: int) -> str:
    """Judge a claim about a difference: "holds", "does not hold" or "undecided".

    It holds if the 95 % interval and the difference of every single seed lie on the claimed side of 0, does not hold if
    all of them lie on the other side, and is undecided else.

    Args:
        low, high: the interval of the measured difference.
        seed_min, seed_max: its range over single seeds.
        sign: 1 where the claimed difference is positive, -1 where it is negative.

    Raises:
        ValueError: a number is NaN, or low or seed_min lies above its other end.
    """
    if not (low <= high and seed_min <= seed_max):
        raise ValueError(f"a verdict needs low <= high and seed_min <= seed_max, not {low, high, seed_min, seed_max}")
    if min(low, seed_min) > 0:
        return "holds" if sign > 0 else "does not hold"
    if max(high, seed_max) < 0:
        return "holds" if sign < 0 else "does not hold"
    return "undecided"


def line(
    claim: str,
    comparison: pd.DataFrame,
    *,
    what: str,
    sign: int = 1,
    decimals: int = 3,
    paper: str = "",
    same_benchmark: bool = False,
    needs: str = "",
) -> dict[str, str]:
    """Judge a claim by the one line of a comparison that it is about, as a line of a table with COLUMNS.

    Args:
        comparison: difference, low, high, seed_min and seed_max, in one line; without a line nothing was run.
        what: the difference in words, such as "mAP hybrid - X-Y".
        sign: as in `verdict`.
        decimals: of the numbers shown.
        paper: what the paper says about it.
        same_benchmark: whether it was measured on the paper's benchmark.
        needs: what is lacking where nothing was run.

    Raises:
        ValueError: the comparison has several lines.
    """
    words = dict.fromkeys(COLUMNS, "") | {"claim": claim, "paper": paper}
    if comparison.empty:
        return words | {"verdict": f"not run: needs {needs}" if needs else "not run"}
    if len(comparison) > 1:
        raise ValueError(f"{claim!r} is judged by one difference, not by {len(comparison)}")
    gap, low, high, *seeds = comparison[NUMBERS].iloc[0].astype(float)
    numbers = f"{what} {gap:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]"
    column = "same_benchmark" if same_benchmark else "measured"
    return words | {column: numbers, "verdict": verdict(low, high, *seeds, sign)}


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
        cell = {"setting": self.setting, "measure": self.measure, "strategy": strategy, "checkpoint": checkpoint}
        languages = ["el", "vi"] if self.subset == "zero-shot" else ["mean"]
        cells = reported(table, **cell, language=languages)
        if len(cells) == 1:
            return cells["printed"].iloc[0]
        return f"{cells['value'].mean():.4f}"


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
        comparison: from `summaries.compare`.
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
        keys = {name: getattr(claim, name) for name in ("setting", "measure", "subset", "a", "b")}
        about = comparison[(comparison[list(keys)].astype(str) == list(keys.values())).all(axis=1)]
        lines.append(
            line(
                claim.text,
                about if run else about[:0],
                what=f"{MEASURES[claim.measure]} {NAMES[claim.a]} - {NAMES[claim.b]}",
                sign=claim.sign,
                decimals=0 if claim.measure == "rank_distance" else 3,
                paper=claim.paper_numbers(benchmark or "xquad-r", checkpoint),
                same_benchmark=benchmark is not None,
            )
        )
    return pd.DataFrame(lines, columns=COLUMNS)


def facts(
    subjects: tuple[int, int] | None, xquad_r: Benchmark | None, mlqa_r: Benchmark | None, *, run: bool
) -> pd.DataFrame:
    """What is said about the data: counted where the data are at hand, else "not run".

    Args:
        subjects: the test subjects that a training question or passage is about, and all test subjects; None where
            other data are trained on.
        xquad_r, mlqa_r: the paper's benchmarks; None where the files are not at hand.
    """
    separate, judged = "", "not run"
    if subjects is not None:
        shared, total = subjects
        separate = f"{shared} of {total} test subjects have a question or passage in training"
        judged = "does not hold" if shared else "holds"
    lines = [("Training and evaluation data are separate", "stated", "", separate, judged)]
    for name, benchmark, n in (("XQuAD-R", xquad_r, 11), ("MLQA-R", mlqa_r, 7)):
        claim = f"{name} has {n} parallel languages: {n} monolingual and {n * (n - 1)} cross-lingual settings"
        counted, judged = "", "not run"
        if benchmark is not None:
            mono, cross = count_settings(benchmark)
            counted = f"{len(benchmark.languages)} languages, {mono} + {cross} settings"
            judged = "holds" if (len(benchmark.languages), mono, cross) == (n, n, n * (n - 1)) else "does not hold"
        lines.append((claim, "stated", counted, "", judged))
    frame = pd.DataFrame(lines, columns=COLUMNS)
    return frame if run else frame.assign(same_benchmark="", measured="", verdict="not run")


def count_settings(benchmark: Benchmark) -> tuple[int, int]:
    """Monolingual and cross-lingual settings with at least one relevant candidate."""
    judged = benchmark.relevant.to_pandas()[["query_id", "candidate_id"]]
    pairs = judged.apply(lambda ids: ids.str.split(":").str[0]).drop_duplicates()
    mono = int((pairs["query_id"] == pairs["candidate_id"]).sum())
    return mono, len(pairs) - mono


def to_readme(claims: pd.DataFrame) -> str:
    """The claims as README's table (Markdown); agreement is only about the direction."""
    words = {"holds": "yes", "does not hold": "no"}
    head = "claim | the paper (a / b) | same benchmark, reproduced | demo, its own corpus | does the direction agree?"
    lines = [f"| {head} |", "|---|---|---|---|---|"]
    for row in claims.itertuples():
        agrees = words.get(row.verdict, row.verdict)
        lines.append(f"| {row.claim} | {row.paper} | {row.same_benchmark} | {row.measured} | {agrees} |")
    return "\n".join(lines)
