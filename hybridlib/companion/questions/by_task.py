"""What does the mixing ratio do on MIRACL and on the retrieval tasks of XTREME-R: curves, contrasts, best ratios.

XTREME-R (Ruder et al. 2021, arXiv 2104.07412) has three: LAReQA, here the study's benchmark in the multi setting with
mAP@20; Tatoeba, the share of sentences whose nearest is the translation; Mewsli-X with mAP@20. MIRACL has nDCG@10.
A point of the curve is named by its monolingual share: 0 is X-Y, 1 is X-X-mono, between them it is hybrid's alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hybridlib import statistics
from hybridlib.companion.questions import shared
from hybridlib.companion.report import claims, summaries
from hybridlib.companion.report.claims import NAMES
from hybridlib.companion.report.drawing import INTERVAL, SPAN, captioned, new_figure, require
from hybridlib.companion.report.figures import share_curve
from hybridlib.companion.search import sources
from hybridlib.companion.search.collection import Collection

ACCURACY = "precision@1"  # of Tatoeba: one sentence is right, and only the nearest counts
MEASURES = {"MIRACL": "ndcg@10", "LAReQA": "map@20", "Tatoeba": ACCURACY, "Mewsli-X": "map@20"}
PREFIXES = {"MIRACL": "miracl-", "Tatoeba": "tatoeba-", "Mewsli-X": "mewsli-x"}  # of the names of their collections
WORDS = claims.MEASURES | {ACCURACY: "accuracy"}  # of the tasks' measures
LACKING = (FileNotFoundError, ConnectionError, PermissionError)  # what loaders raise for what is not to be had
PAIRS = (("hybrid", "x-x-mono"), ("hybrid", "x-y"), ("x-x-mono", "x-y"))
SHARE = "monolingual_share"
BEST = ["task", "measure", SHARE, "mean", "behind", "low", "high", "seed_min", "seed_max", "among_the_best"]
CURVE = ["task", "measure", "strategy", SHARE]


@dataclass(frozen=True, eq=False)
class Task:
    """One task.

    Attributes:
        name: a key of MEASURES.
        collections: what is searched; none: the study's benchmark.
    """

    name: str
    collections: tuple[Collection, ...] = ()

    @property
    def measure(self) -> str:
        """What the task reports."""
        return MEASURES[self.name]


def tasks(
    profile: str, collections: Sequence[str] | None = None, languages: Sequence[str] | None = None
) -> tuple[list[Task], dict[str, str]]:
    """The tasks that can be had, LAReQA among them, and of the others why not.

    Args:
        collections: names of collections, each counted to its task, in the place of the tasks' own.
        languages: of MIRACL's and Tatoeba's own collections.

    Raises:
        ValueError: a collection is of none of the tasks.
    """
    for name in collections or ():
        if not name.startswith(tuple(PREFIXES.values())):
            raise ValueError(f"collections: {name} is of none of the tasks {', '.join(PREFIXES)}")
    found, lacking = [Task("LAReQA")], {}
    for task, prefix in PREFIXES.items():
        if collections is not None:
            names = [name for name in collections if name.startswith(prefix)]
        elif task == "Mewsli-X":
            names = ["mewsli-x"] if profile == "paper" else []
        else:
            names = sources.names(task.lower(), profile, languages)
        try:
            loaded = tuple(collection for name in names for collection in sources.load(name))
        except LACKING as error:
            lacking[task] = str(error)
            continue
        if loaded:
            found.append(Task(task, loaded))
        else:
            lacking[task] = "not asked for" if collections is not None else f"not in profile {profile}"
    return found, lacking


# ---- from rows of a task to its curve; rows are those of the study, one task's


def curve(rows: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The task's curve, and that of every single seed.

    Returns:
        CURVE, mean, low, high, sd, n_seeds, n_queries, the least share first; and CURVE, seed, value.
    """
    frames = []
    for make in (summaries.summary, summaries.by_seed):
        frame = make(rows, (), measures=(task.measure,))
        frame = summaries.monolingual_share(frame[frame["subset"] == "all"]).assign(task=task.name)
        frame = frame[[*CURVE, *frame.columns.drop([*CURVE, "alpha", "setting", "subset"])]]
        frames.append(frame.sort_values(SHARE, kind="stable").reset_index(drop=True))
    return frames[0], frames[1]


def contrasts(rows: dict[Task, pd.DataFrame], alpha: float) -> pd.DataFrame:
    """Compare hybrid with each end, and one end with the other; Holm's correction is over all tests of the frame.

    Args:
        rows: of each task, with the curve's runs.
        alpha: of hybrid; other mixtures are left out.

    Returns:
        task, and the columns of `shared.compare`; no line for strategies that are not there.
    """
    parts = []
    for task, part in rows.items():
        chosen = part[(part["strategy"] != "hybrid") | np.isclose(part["alpha"].astype(float), alpha)]
        parts.append(shared.compare(chosen, PAIRS, (task.measure,)).assign(task=task.name))
    return shared.family(parts)[["task", *shared.COMPARISON]].drop(columns=["setting", "subset"])


def best(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """How far each share is behind the task's best one, on these very queries.

    The best is the one with the largest mean. Another one is among the best unless the 95 % interval of its difference
    and the difference of every seed lie below 0. The best is picked from what it is measured on, so these are no
    numbers for a choice of alpha: they say which alphas the task tells apart.

    Returns:
        a row per share, BEST: behind (share minus best, 0 or less), low, high, seed_min and seed_max of it (NaN of the
        best itself).
    """
    points = {share: part for share, part in summaries.monolingual_share(rows).groupby(SHARE)}
    sums = {share: statistics.cluster_sums(part, task.measure) for share, part in points.items()}
    seeds = {share: statistics.macro_means(part, [task.measure], by=["seed"]) for share, part in points.items()}
    means = {share: statistics.macro_mean(found) for share, found in sums.items()}
    top = max(means, key=means.get)
    lines = []
    for share, mean in means.items():
        line = {"task": task.name, "measure": task.measure, SHARE: share, "mean": mean, "among_the_best": True}
        behind = dict.fromkeys(("low", "high", "seed_min", "seed_max"), np.nan) | {"behind": 0.0}
        if share != top:
            interval = statistics.bootstrap_interval(statistics.difference(sums[share], sums[top]))
            gaps = (seeds[share] - seeds[top])[task.measure]
            behind = {"behind": interval.mean, "low": interval.low, "high": interval.high}
            behind |= {"seed_min": gaps.min(), "seed_max": gaps.max()}
            line["among_the_best"] = not (interval.high < 0 and gaps.max() < 0)
        lines.append(line | behind)
    return pd.DataFrame(lines, columns=BEST)


def apart(best: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of tasks that have no share in common among their best ones; from rows of `best`."""
    sets = {task: set(part[SHARE][part["among_the_best"]]) for task, part in best.groupby("task", sort=False)}
    names = list(sets)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if not sets[a] & sets[b]]


def judge(tests: pd.DataFrame, best: pd.DataFrame, tasks: Sequence[Task], alpha: float) -> pd.DataFrame:
    """Judge the claims, `claims.COLUMNS`: two of each task by `claims.verdict`, and one about all of them.

    Of a task: X-X-mono is better than X-Y; the mixture is better than both, which does not hold if it is worse than one
    of them. Of all: the best ratio differs, which holds if two tasks have none in common, else is undecided, since a
    common one is no proof.

    Args:
        tests: of `contrasts`, at this alpha. best: of `best`, of all tasks.
    """
    lines = []
    for task in tasks:
        own = tests[tests["task"] == task.name]
        ends, mixed = own[own["a"] == "x-x-mono"], _decisive(own[own["a"] == "hybrid"])
        measure, options = WORDS[task.measure], {"needs": shared.MISSING}
        what = f"{measure} X-X-mono - X-Y"
        lines.append(claims.line(f"{task.name}: X-X-mono is better than X-Y", ends, what=what, **options))
        what = f"{measure} hybrid - {''.join(NAMES[b] for b in mixed['b'])}"
        claim = f"{task.name}: the mixture (alpha {alpha:g}) is better than X-X-mono and X-Y"
        lines.append(claims.line(claim, mixed, what=what, **options))
    pairs = apart(best)
    said = "; ".join(f"{a} and {b} have no best ratio in common" for a, b in pairs)
    line = dict.fromkeys(claims.COLUMNS, "") | {"claim": "The best mixing ratio differs between the tasks"}
    line |= {"measured": said or "any two tasks have a best ratio in common"}
    line["verdict"] = "holds" if pairs else "undecided"
    if best["task"].nunique() < 2:
        line |= {"measured": "", "verdict": "not run: needs several tasks"}
    return pd.DataFrame([*lines, line])


def _decisive(mixed: pd.DataFrame) -> pd.DataFrame:
    """Of the mixture's differences from both ends the line that decides; none where an end was not run."""
    if len(mixed) < 2:
        return mixed[:0]
    lowest, highest = mixed[["low", "seed_min"]].min(axis=1), mixed[["high", "seed_max"]].max(axis=1)
    return mixed.loc[[highest.idxmin() if highest.min() < 0 else lowest.idxmin()]]


# ---- figure


@captioned(
    f"Marker: macro mean over languages. {INTERVAL} Dots: single seeds. Ring: the best alpha on these very queries and "
    "those that are not told apart from it (95 % paired interval and all seeds). Each panel has its own scale."
)
def ratio_by_task(means: pd.DataFrame, seeds: pd.DataFrame, best: pd.DataFrame) -> Figure:
    """Draw a task's measure against the monolingual share, a panel per task with a scale of its own.

    Bars are the intervals of `means` (95 %, cluster bootstrap), small dots the single seeds, rings the shares that the
    task does not tell apart from its best.

    Args:
        means, seeds: of `curve`, of all tasks.
        best: of `best`: task, monolingual_share, among_the_best.
    """
    require(means, "means", [*CURVE, *SPAN])
    require(seeds, "seeds", [*CURVE, "value"])
    require(best, "best", ["task", SHARE, "among_the_best"])
    names = list(dict.fromkeys(means["task"]))
    columns = 2 if len(names) in (2, 4) else min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = new_figure(rows, columns, 0.4 + 2.3 * rows, sharex=True)
    for ax, task in zip(axes.flat, names, strict=False):
        points, dots, good = (frame[frame["task"] == task] for frame in (means, seeds, best))
        share_curve(ax, points, dots)
        ringed = points[points[SHARE].isin(good[SHARE][good["among_the_best"].astype(bool)])]
        style = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": "0.1", "markeredgewidth": 1}
        ax.plot(ringed[SHARE], ringed["mean"], "o", label="_best", zorder=4, **style)
        ax.set_title(f"{task}: {WORDS[points['measure'].iloc[0]]}")
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlim(-0.12, 1.16)
        ax.set_xlabel("alpha, the monolingual share")
    return figure
