"""What does the mixing ratio do on MIRACL and on the retrieval tasks of XTREME-R: curves, contrasts, best ratios.

XTREME-R (Ruder et al. 2021, arXiv 2104.07412) has three: LAReQA, here the study's benchmark in the multi setting with
mAP@20; Tatoeba, the share of sentences whose nearest is the translation; Mewsli-X with mAP@20. MIRACL has nDCG@10.
A point of the curve is named by its monolingual share: 0 is X-Y, 1 is X-X-mono, between them it is hybrid's alpha.
A task is named by a key of MEASURES.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hybridlib import statistics
from hybridlib.companion.experiment.study import Study
from hybridlib.companion.questions import shared
from hybridlib.companion.report import claims, summaries
from hybridlib.companion.report.claims import NAMES
from hybridlib.companion.report.drawing import INTERVAL, SPAN, captioned, new_figure, require
from hybridlib.companion.report.figures import share_curve
from hybridlib.companion.search import sources
from hybridlib.companion.search.collection import Collection

LAREQA = "LAReQA"
MEASURES = {"MIRACL": "ndcg@10", LAREQA: "map@20", "Tatoeba": "precision@1", "Mewsli-X": "map@20"}
PREFIXES = {"MIRACL": "miracl-", "Tatoeba": "tatoeba-", "Mewsli-X": "mewsli-x"}  # of the names of their collections
WORDS = claims.MEASURES | {"precision@1": "accuracy"}  # of Tatoeba: one sentence is right
LACKING = (FileNotFoundError, ConnectionError, PermissionError)  # what loaders raise for what is not to be had
PAIRS = (("hybrid", "x-x-mono"), ("hybrid", "x-y"), ("x-x-mono", "x-y"))
SHARE = "monolingual_share"
BEST = ["task", "measure", SHARE, "mean", "behind", "low", "high", "seed_min", "seed_max", "among_the_best"]
CURVE = ["task", "measure", "strategy", SHARE]


def tasks(
    profile: str, collections: Sequence[str] | None = None, languages: Sequence[str] | None = None
) -> tuple[dict[str, list[Collection]], dict[str, str]]:
    """The tasks that can be had with their collections (LAReQA has none), and of the others why not.

    Args:
        collections: names of collections, each counted to its task, in the place of the tasks' own.
        languages: of MIRACL's and Tatoeba's own collections.

    Raises:
        ValueError: a collection is of none of the tasks.
    """
    why = "not asked for"
    if collections is None:
        collections, why = [] if profile != "paper" else ["mewsli-x"], f"not in profile {profile}"
        collections += [name for task in ("miracl", "tatoeba") for name in sources.names(task, profile, languages)]
    for name in collections:
        if not name.startswith(tuple(PREFIXES.values())):
            raise ValueError(f"collections: {name} is of none of the tasks {', '.join(PREFIXES)}")
    loaded, lacking = {LAREQA: []}, {}
    for task, prefix in PREFIXES.items():
        try:
            parts = [part for name in collections if name.startswith(prefix) for part in sources.load(name)]
        except LACKING as error:
            lacking[task] = str(error)
            continue
        (loaded if parts else lacking)[task] = parts or why
    return loaded, lacking


def rows_of(study: Study, task: str, collections: Sequence[Collection], split: str = "test") -> pd.DataFrame:
    """Rows of all runs of the curve in a task, with SHARE and, as value, what the task reports.

    Args:
        split: of the study's benchmark, where there are no collections.
    """
    runs, measure = study.all_runs(), MEASURES[task]
    if collections:
        rows = study.search_rows(runs, collections, measures=[measure])
    else:
        rows = study.rows(runs, split)
        rows = rows[rows["setting"] == "multi"]
    return summaries.monolingual_share(rows.rename(columns={measure: "value"}))


def curve(rows: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The curve of each task, and those of every single seed; of task -> `rows_of`.

    Returns:
        task, measure, strategy, SHARE, mean, low, high, sd, n_seeds, n_queries; and task, strategy, SHARE, seed, value.
    """
    means = summaries.monolingual_share(shared.means(rows, "task", ["value"])).sort_values(["task", SHARE])
    means = means.assign(measure=means["task"].map(MEASURES))
    keys = ["strategy", SHARE, "seed"]
    seeds = [
        statistics.macro_means(part, ["value"], by=keys).reset_index().assign(task=task) for task, part in rows.items()
    ]
    return means[[*CURVE, *SPAN, "sd", "n_seeds", "n_queries"]].reset_index(drop=True), pd.concat(seeds)


def contrasts(rows: Mapping[str, pd.DataFrame], alpha: float) -> pd.DataFrame:
    """Compare hybrid of this alpha with each end, and one end with the other, in each task: `shared.compare`."""
    ends_and_alpha = [0.0, float(alpha), 1.0]
    chosen = {task: part[np.isclose(part[[SHARE]], ends_and_alpha).any(axis=1)] for task, part in rows.items()}
    frame = shared.compare(chosen, "task", PAIRS, ["value"])
    return frame.assign(measure=frame["task"].map(MEASURES))


def best(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far each share is behind its task's best one, on these very queries; of task -> `rows_of`.

    The best is the one with the largest mean. Another one is among the best unless the 95 % interval of its difference
    and the difference of every seed lie below 0. The best is picked from what it is measured on, so these are no
    numbers for a choice of alpha: they say which alphas the task tells apart.

    Returns:
        a row per share, BEST: behind (share minus best, 0 or less), low, high, seed_min and seed_max of it (NaN of the
        best itself).
    """
    lines = []
    for task, of_task in rows.items():
        points = dict(list(of_task.groupby(SHARE)))
        sums = {share: statistics.cluster_sums(part, "value") for share, part in points.items()}
        means = {share: statistics.macro_mean(of_share) for share, of_share in sums.items()}
        seeds = {share: summaries.seed_means(part, "value") for share, part in points.items()}
        top = max(means, key=means.get)
        for share, mean in means.items():
            behind = [0.0, np.nan, np.nan, np.nan, np.nan, True]
            if share != top:
                interval = statistics.bootstrap_interval(statistics.difference(sums[share], sums[top]))
                gaps = seeds[share] - seeds[top]
                behind = [*interval, gaps.min(), gaps.max(), not (interval.high < 0 and gaps.max() < 0)]
            lines.append((task, MEASURES[task], share, mean, *behind))
    return pd.DataFrame(lines, columns=BEST)


def apart(best: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of tasks that have no share in common among their best ones; from rows of `best`."""
    sets = {task: set(part[SHARE][part["among_the_best"]]) for task, part in best.groupby("task", sort=False)}
    names = list(sets)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if not sets[a] & sets[b]]


def judge(tests: pd.DataFrame, best: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Judge the claims, `claims.COLUMNS`: two of each task by `claims.verdict`, and one about all of them.

    Of a task: X-X-mono is better than X-Y; the mixture is better than both, which does not hold if it is worse than one
    of them. Of all: the best ratio differs, which holds if two tasks have none in common, else is undecided, since a
    common one is no proof.

    Args:
        tests: of `contrasts`, at this alpha. best: of `best`, of all tasks.
    """
    lines = []
    for task in best["task"].unique():
        of_task = tests[tests["task"] == task]
        ends, mixed = of_task[of_task["a"] == "x-x-mono"], _decisive(of_task[of_task["a"] == "hybrid"])
        mixture = f"{task}: the mixture (alpha {alpha:g}) is better than X-X-mono and X-Y"
        for claim, row in ((f"{task}: X-X-mono is better than X-Y", ends), (mixture, mixed)):
            what = "".join(f"{WORDS[MEASURES[task]]} {NAMES[a]} - {NAMES[b]}" for a, b in row[["a", "b"]].to_numpy())
            lines.append(claims.line(claim, row, what=what, needs=shared.MISSING))
    pairs = apart(best)
    said = "; ".join(f"{a} and {b} have no best ratio in common" for a, b in pairs)
    line = dict.fromkeys(claims.COLUMNS, "") | {"claim": "The best mixing ratio differs between the tasks"}
    if best["task"].nunique() < 2:
        line["verdict"] = "not run: needs several tasks"
    else:
        line["measured"] = said or "any two tasks have a best ratio in common"
        line["verdict"] = "holds" if pairs else "undecided"
    return pd.DataFrame([*lines, line])


def _decisive(mixed: pd.DataFrame) -> pd.DataFrame:
    """Of the mixture's differences from both ends the line that decides; none where an end was not run."""
    if len(mixed) < 2:
        return mixed[:0]
    lowest, highest = mixed[["low", "seed_min"]].min(axis=1), mixed[["high", "seed_max"]].max(axis=1)
    return mixed.loc[[highest.idxmin() if highest.min() < 0 else lowest.idxmin()]]


@captioned(
    f"Marker: macro mean over languages. {INTERVAL} Dots: single seeds. Ring: the best alpha on these very queries and "
    "those that are not told apart from it (95 % paired interval and all seeds). Each panel has its own scale."
)
def ratio_by_task(means: pd.DataFrame, seeds: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Draw a task's measure against the monolingual share, a panel per task with a scale of its own.

    Args:
        means, seeds: of `curve`, of all tasks.
        best: of `best`: task, monolingual_share, among_the_best.
    """
    require(means, "means", [*CURVE, *SPAN])
    require(seeds, "seeds", ["task", "strategy", SHARE, "value"])
    require(best, "best", ["task", SHARE, "among_the_best"])
    names = means["task"].unique()
    columns = 2 if len(names) in (2, 4) else min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = new_figure(rows, columns, 0.4 + 2.3 * rows, sharex=True)
    ring = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": "0.1", "markeredgewidth": 1}
    for ax, task in zip(axes.flat, names, strict=False):
        points, dots, shares = (frame[frame["task"] == task] for frame in (means, seeds, best))
        share_curve(ax, points, dots)
        ringed = points[points[SHARE].isin(shares[SHARE][shares["among_the_best"].astype(bool)])]
        ax.plot(ringed[SHARE], ringed["mean"], "o", label="_best", zorder=4, **ring)
        ax.set_title(f"{task}: {WORDS[points['measure'].iloc[0]]}")
        ax.set_xlim(-0.12, 1.16)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("alpha, the monolingual share")
    return figure
