"""The paper's claims: each is about a measurable quantity, from which a verdict follows by a rule.

A verdict is about the direction of a difference between two strategies; `verdict` is the one rule for all of them. A
number of the embedded corpus is never compared with the paper's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

from hybridlib.companion.report import paper
from hybridlib.corpora.base import Benchmark

WORDS = tomllib.loads((files("hybridlib.companion") / "data" / "words.toml").read_text(encoding="utf-8"))
NAMES = {strategy: look["label"] for strategy, look in WORDS["strategies"].items()}
CHECKPOINTS, MEASURES = WORDS["checkpoints"], WORDS["measures"]
VERDICTS = ("holds", "does not hold", "undecided", "not run")
COLUMNS = ["claim", "paper", "same_benchmark", "measured", "verdict"]


def verdict(low: float, high: float, seed_min: float, seed_max: float, sign: int) -> str:
    """Judge a claim about a difference: "holds", "does not hold" or "undecided".

    The claim holds if the 95 % interval (low, high) and the difference of every single seed (seed_min to seed_max) lie
    on the claimed side of 0, does not hold if all of them lie on the other side, and is undecided otherwise. sign: 1 if
    the claimed difference is positive, -1 if it is negative. ValueError for NaN, or ends in the wrong order.
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
    """Judge a claim by the line of a comparison that it is about; return a row of a table with COLUMNS.

    Args:
        comparison: a frame of one line with difference, low, high, seed_min and seed_max; no line means: not run.
        what: the difference in words, such as "mAP hybrid - X-Y".
        paper: what the paper says about the claim.
        same_benchmark: whether the difference was measured on the paper's benchmark.
        needs: what is missing if the claim was not run.

    Raises:
        ValueError: the comparison has several lines.
    """
    words = dict.fromkeys(COLUMNS, "") | {"claim": claim, "paper": paper}
    if comparison.empty:
        return words | {"verdict": f"not run: needs {needs}" if needs else "not run"}
    if len(comparison) > 1:
        raise ValueError(f"{claim!r} is judged by one difference, not by {len(comparison)}")
    gap, low, high, *seeds = comparison[["difference", "low", "high", "seed_min", "seed_max"]].iloc[0].astype(float)
    numbers = f"{what} {gap:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]"
    column = "same_benchmark" if same_benchmark else "measured"
    return words | {column: numbers, "verdict": verdict(low, high, *seeds, sign)}


@dataclass(frozen=True)
class Claim:
    """A claim that strategy `a` is higher in a measure than `b` (lower in rank distance), in a setting and a subset."""

    text: str
    setting: str
    measure: str
    subset: str
    a: str
    b: str

    @property
    def sign(self) -> int:
        """+1 if the claimed difference a - b is positive, else -1."""
        return -1 if self.measure == "rank_distance" else 1

    def paper_numbers(self, benchmark: str = "xquad-r", checkpoint: str | None = None) -> str:
        """The paper's numbers for `a` and `b` on a benchmark, of one checkpoint (None: both), from Tables 3 to 8."""
        cells = paper.reported(benchmark=benchmark, setting=self.setting, measure=self.measure)
        languages = ["el", "vi"] if self.subset == "zero-shot" else ["mean"]
        cells = cells[cells["table"].between(3, 8) & cells["language"].isin(languages)]
        parts = []
        for base in CHECKPOINTS if checkpoint is None else (checkpoint,):
            own = cells[cells["checkpoint"] == base].set_index("strategy")
            a, b = (_mean_as_printed(own.loc[[strategy]]) for strategy in (self.a, self.b))
            parts.append(f"{CHECKPOINTS[base]} {a} / {b}")
        return ", ".join(parts)


def _mean_as_printed(cells: pd.DataFrame) -> str:
    """A single cell as printed; the mean of several cells."""
    return cells["printed"].iloc[0] if len(cells) == 1 else f"{cells['value'].mean():.4f}"


CLAIMS = tuple(Claim(**row) for row in paper.read("claims.csv").to_dict("records"))


def judge(
    comparison: pd.DataFrame,
    *,
    run: bool,
    measures: Sequence[str] = ("map", "rank_distance"),
    benchmark: str | None = None,
    checkpoint: str | None = None,
) -> pd.DataFrame:
    """Judge the paper's claims by a comparison of strategies.

    Args:
        comparison: a frame from `summaries.compare`.
        run: False in a profile that only tests the code: every verdict is then "not run", and no number is shown.
        measures: measures whose claims are judged; other claims are left out.
        benchmark: the paper's benchmark on which the comparison was made; None: another benchmark.
        checkpoint: "xlm-r" or "labse" if the comparison is of that checkpoint, whose numbers in the paper are
            then shown alone.

    Returns:
        A frame with COLUMNS; a number on the paper's benchmark is in same_benchmark, another in measured.
    """
    lines = []
    for claim in CLAIMS:
        if claim.measure not in measures:
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
    """Judge the paper's claims about the data by counting, where the data are at hand; else the verdict is "not run".

    subjects: number of test subjects with a training question or passage, and number of all test subjects; None for
    other training data. xquad_r, mlqa_r: the paper's benchmarks; None where the files are not at hand.
    """
    shared, total = subjects or (0, 0)
    line = {"claim": "Training and evaluation data are separate", "paper": "stated", "same_benchmark": ""}
    line["measured"] = f"{shared} of {total} test subjects have a question or passage in training" if subjects else ""
    lines = [line | {"verdict": ("does not hold" if shared else "holds") if subjects else "not run"}]
    for name, benchmark, n in (("XQuAD-R", xquad_r, 11), ("MLQA-R", mlqa_r, 7)):
        claim = f"{name} has {n} parallel languages: {n} monolingual and {n * (n - 1)} cross-lingual settings"
        line = {"claim": claim, "paper": "stated", "same_benchmark": "", "measured": "", "verdict": "not run"}
        if benchmark is not None:
            mono, cross = _count_settings(benchmark)
            line["same_benchmark"] = f"{len(benchmark.languages)} languages, {mono} + {cross} settings"
            agrees = (len(benchmark.languages), mono, cross) == (n, n, n * (n - 1))
            line["verdict"] = "holds" if agrees else "does not hold"
        lines.append(line)
    frame = pd.DataFrame(lines, columns=COLUMNS)
    return frame if run else frame.assign(same_benchmark="", measured="", verdict="not run")


def _count_settings(benchmark: Benchmark) -> tuple[int, int]:
    """Count the monolingual and cross-lingual settings that have a relevant candidate."""
    judged = benchmark.relevant.to_pandas()[["query_id", "candidate_id"]]
    pairs = judged.apply(lambda ids: ids.str.split(":").str[0]).drop_duplicates()
    mono = int((pairs["query_id"] == pairs["candidate_id"]).sum())
    return mono, len(pairs) - mono


def to_readme(claims: pd.DataFrame) -> str:
    """Write the claims as README's table (Markdown); its last column is only about the direction."""
    head = "claim | the paper (a / b) | same benchmark, reproduced | demo, its own corpus | does the direction agree?"
    shown = claims[COLUMNS].replace({"verdict": {"holds": "yes", "does not hold": "no"}})
    lines = [f"| {' | '.join(row)} |" for row in shown.itertuples(index=False)]
    return "\n".join([f"| {head} |", "|---|---|---|---|---|", *lines])
