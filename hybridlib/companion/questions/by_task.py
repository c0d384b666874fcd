"""What the mixing ratio does on MIRACL and on the retrieval tasks of XTREME-R: tasks, curves, contrasts, best ratios.

XTREME-R (Ruder et al. 2021, arXiv 2104.07412) has three: LAReQA, here the study's benchmark in the multi setting with
mAP@20; Tatoeba, the share of sentences whose nearest is the translation; Mewsli-X with mAP@20. MIRACL has nDCG@10.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hybridlib import statistics
from hybridlib.companion.experiment.study import Run, Study
from hybridlib.companion.questions import shared
from hybridlib.companion.report import summaries
from hybridlib.companion.report.claims import NAMES
from hybridlib.companion.search.collection import Collection

ACCURACY = "precision@1"  # what Tatoeba reports: one sentence is right, and only the nearest counts
MEASURES = {"MIRACL": "ndcg@10", "LAReQA": "map@20", "Tatoeba": ACCURACY, "Mewsli-X": "map@20"}
OTHER = "other collections"  # those that are of none of them, with MIRACL's measure
PREFIXES = {"miracl-": "MIRACL", "tatoeba-": "Tatoeba", "embedded-sentences-": "Tatoeba", "embedded-": "MIRACL"}
PREFIXES |= {"mewsli-x": "Mewsli-X"}
WORDS = {"ndcg@10": "nDCG@10", "map@20": "mAP@20", ACCURACY: "accuracy"}
STAND_IN = ("ar", "fr", "ru", "sw")  # languages that stand in for Tatoeba's, a few to spare minutes
LACKING = (FileNotFoundError, ConnectionError, PermissionError)  # what loaders raise for what is not to be had
PAIRS = (("hybrid", "x-x-mono"), ("hybrid", "x-y"), ("x-x-mono", "x-y"))
BEST = ["task", "measure", "alpha", "mean", "behind", "low", "high", "seed_min", "seed_max", "among_the_best"]


@dataclass(frozen=True, eq=False)
class Task:
    """One task.

    Attributes:
        name: a key of MEASURES, or OTHER.
        collections: what is searched; none: the study's benchmark.
    """

    name: str
    collections: tuple[Collection, ...] = ()

    @property
    def measure(self) -> str:
        """What the task reports."""
        return MEASURES.get(self.name, shared.NDCG)

    def rows(self, study: Study, runs: Iterable[Run], split: str = "test") -> pd.DataFrame:
        """Rows of the runs with the task's measure, as `results` takes them.

        Args:
            split: of the benchmark, "dev" or "test"; collections have one only.
        """
        if not self.collections:
            rows = study.rows(runs, split)
            return rows[rows["setting"] == "multi"]
        return cut_at_20(study.search_rows(runs, self.collections))


def cut_at_20(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of searches with map@20 beside map, right where one passage is relevant: AP is then 1 / its rank."""
    return rows.assign(**{"map@20": rows["map"].where(rows["map"] > 1 / 20.5, 0.0)})


def tasks(
    study: Study,
    names: Sequence[str] | None = None,
    collections: Sequence[str] | None = None,
    languages: Sequence[str] | None = None,
) -> tuple[list[Task], dict[str, str]]:
    """The tasks that can be had, and of the others why not.

    Args:
        names: of MEASURES (or OTHER), in order; None: all of them, and OTHER if `collections` has some.
        collections: names of collections, each counted to its task, that take the place of the tasks' own.
        languages: of MIRACL's and Tatoeba's own collections.

    Raises:
        ValueError: no such task, or none can be had.
    """
    known = (*MEASURES, OTHER)
    if wrong := [name for name in names or () if name not in known]:
        raise ValueError(f"tasks must be of {', '.join(map(repr, known))}, not {wrong[0]!r}")
    found, lacking = [], {}
    for name in names or known:
        try:
            wanted = _names(study, name, collections, languages)
            there = tuple(one for wanted_name in wanted or () for one in study.collections(wanted_name))
        except LACKING as error:
            lacking[name] = str(error)
            continue
        if wanted is None or there:
            found.append(Task(name, there))
        elif name != OTHER:
            lacking[name] = "not asked for" if collections else f"not in profile {study.settings.profile}"
    if not found:
        raise ValueError(f"no task is left; {'; '.join(f'{name}: {why}' for name, why in lacking.items())}")
    return found, lacking


def _names(
    study: Study, task: str, collections: Sequence[str] | None, languages: Sequence[str] | None
) -> list[str] | None:
    """Names of a task's collections; None: it is measured on the benchmark."""
    if task == "LAReQA":
        return None
    if collections is not None:
        return [name for name in collections if _task_of(name) == task]
    if task == "Mewsli-X":
        return ["mewsli-x"] if study.settings.profile == "paper" else []
    if task == "Tatoeba" and study.stand_in:
        languages = languages or STAND_IN
    return shared.names(study, task.lower(), languages) if task != OTHER else []


def _task_of(collection: str) -> str:
    return next((task for prefix, task in PREFIXES.items() if collection.startswith(prefix)), OTHER)


def summary(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """`summaries.summary` of a task: task, strategy, alpha, measure, mean, low, high, sd, n_seeds, n_queries."""
    found = summaries.summary(rows, (), measures=(task.measure,))
    found = found[found["subset"] == "all"].drop(columns=["setting", "subset"])
    found.insert(0, "task", task.name)
    return found.sort_values("alpha").reset_index(drop=True)


def by_seed(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """`summaries.by_seed` of a task: task, strategy, alpha, measure, seed, value."""
    found = summaries.by_seed(rows, (), measures=(task.measure,))
    found = found[found["subset"] == "all"].drop(columns=["setting", "subset"])
    found.insert(0, "task", task.name)
    return found.reset_index(drop=True)


def contrasts(rows: dict[Task, pd.DataFrame], mixture: float = 0.5) -> pd.DataFrame:
    """The mixture against each end, and one end against the other; Holm's correction over all tests of the frame.

    Args:
        rows: of each task, with the curve's runs.
        mixture: the alpha of hybrid; the others are left out.

    Returns:
        task, and the columns of `summaries.compare`; no line for strategies that are not there.
    """
    frames = []
    for task, own in rows.items():
        chosen = own[(own["strategy"] != "hybrid") | np.isclose(own["alpha"].astype(float), mixture)]
        found = shared.compare(chosen, PAIRS, (task.measure,))
        found.insert(0, "task", task.name)
        frames.append(found.drop(columns=["setting", "subset"], errors="ignore"))
    filled = [frame for frame in frames if len(frame)]
    together = pd.concat(filled or frames[:1], ignore_index=True)
    return together.assign(p_holm=statistics.holm(together["p"])) if filled else together


def best(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """How far each alpha is behind the task's best one, on these very queries.

    The best is the one with the largest mean. Another one is among the best unless the 95 % interval of its difference
    and the difference of every seed lie below 0. The best is picked from what it is measured on, so these are no
    numbers for a choice of alpha: they say which alphas the task tells apart.

    Returns:
        a row per alpha, BEST: behind (alpha minus best, 0 or less), low, high, seed_min and seed_max of it.
    """
    named = rows[rows["alpha"].notna()]
    named = named.assign(strategy=named["alpha"].astype(float).map("{:g}".format))
    means = summaries.by_seed(named, (), measures=(task.measure,))
    means = means[means["subset"] == "all"].groupby("strategy", observed=True)["value"].mean()
    means = means[sorted(means.index, key=float)]
    top = means.idxmax()
    pairs = [(alpha, top) for alpha in means.index if alpha != top]
    found = summaries.compare(named, (), pairs=pairs, measures=(task.measure,)).set_index("a").reindex(means.index)
    found = found.rename(columns={"difference": "behind"}).assign(task=task.name, measure=task.measure, mean=means)
    found["alpha"] = [float(alpha) for alpha in means.index]
    found["among_the_best"] = ~((found["high"] < 0) & (found["seed_max"] < 0))  # of the best itself both are NaN
    found["behind"] = found["behind"].fillna(0.0)
    return found.reset_index(drop=True)[BEST]


def apart(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of tasks that have no alpha in common among their best; from rows of `best`."""
    sets = {task: set(part["alpha"][part["among_the_best"]]) for task, part in frame.groupby("task", sort=False)}
    names = list(sets)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if not sets[a] & sets[b]]


def answers(
    tests: pd.DataFrame, found: pd.DataFrame, study: Study, tasks: Sequence[Task], mixture: float = 0.5
) -> pd.DataFrame:
    """The answers by rule, a line each (`shared.answer`).

    For each task: is X-X-mono, all batches monolingual, better than X-Y; is the mixture better than both: "yes" if it
    is better than each, "no" if it is worse than one. And whether the best alphas differ: "yes" if two tasks have none
    in common, else "undecided", since a common one is no proof.

    Args:
        tests: of `contrasts`. found: of `best`, of all tasks. mixture: what was tested.
    """
    lines, options = [], {"needs": "MIRACL and XTREME-R", "study": study, "yes": 1}
    for task in tasks:
        own = tests[tests["task"] == task.name]
        ends, mixed = own[own["a"] == "x-x-mono"], _decisive(own[own["a"] == "hybrid"])
        other = "".join(NAMES[b] for b in mixed["b"])
        measure = WORDS.get(task.measure, task.measure)
        question = f"{task.name}: is X-X-mono (alpha 1) better than X-Y (alpha 0)?"
        lines.append(shared.answer(question, ends, what=f"{measure} X-X-mono - X-Y", **options))
        question = f"{task.name}: is the mixture (alpha {mixture:g}) better than both?"
        lines.append(shared.answer(question, mixed, what=f"{measure} hybrid - {other}", **options))
    question = "Does the best mixing ratio differ between the tasks?"
    line = shared.answer(question, tests[:0], what="", **options)
    if not study.stand_in and found["task"].nunique() > 1:
        pairs = apart(found)
        said = "; ".join(f"{a} and {b} have no best alpha in common" for a, b in pairs)
        line["measured"] = said or "any two tasks have a best alpha in common"
        line["verdict"] = "yes" if pairs else "undecided"
    return pd.DataFrame([*lines, line])


def _decisive(mixed: pd.DataFrame) -> pd.DataFrame:
    """Of the mixture's differences from both ends the line that decides; none where an end was not run."""
    if len(mixed) < 2:
        return mixed[:0]
    lowest, highest = mixed[["low", "seed_min"]].min(axis=1), mixed[["high", "seed_max"]].max(axis=1)
    return mixed.loc[[highest.idxmin() if highest.min() < 0 else lowest.idxmin()]]
