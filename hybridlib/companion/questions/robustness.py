"""How even is a retriever over languages, and what does noise in the queries cost it?

`shared.values` and `shared.contrasts` measure OVER_LANGUAGES of rows `by_group` in cells of EVEN, and OF_NOISE of rows
`by_noise` in cells of NOISY.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hybridlib.companion.questions.noise import CLEAN
from hybridlib.companion.questions.shared import Function
from hybridlib.companion.report.claims import MEASURES
from hybridlib.companion.report.drawing import INTERVAL, LOOKS, captioned, marks, new_figure, require, strategies

LOW_RESOURCE = ("bn", "sw", "te")  # of TyDi QA's languages those with the smallest corpora in Table 11
QUERY = ["strategy", "seed", "query_lang", "pool", "query_id"]
KINDS = {"typos": "typos: swapped, dropped, doubled letters", "letters": "letters: others of the same script"}

EVEN, NOISY = ["query_lang"], ["rate", "query_lang"]  # the rate of what is clean is 0: its cells are first
MEAN, WORST, SPREAD = "mean", "worst language", "largest - smallest"
OVER_LANGUAGES: dict[str, Function] = {
    MEAN: lambda means: np.nanmean(means, axis=1),
    WORST: lambda means: np.nanmin(means, axis=1),
    SPREAD: lambda means: np.nanmax(means, axis=1) - np.nanmin(means, axis=1),
}


def _clean_and_noisy(means: np.ndarray) -> list[np.ndarray]:
    """Two macro means, of the first half of the cells and of the second."""
    return [np.nanmean(half, axis=1) for half in np.split(means, 2, axis=1)]


def _share(means: np.ndarray) -> np.ndarray:
    clean, noisy = _clean_and_noisy(means)
    return 1 - np.divide(noisy, clean, out=np.full(len(means), np.nan), where=clean > 0)


OF_NOISE: dict[str, Function] = {
    "clean": lambda means: _clean_and_noisy(means)[0],
    "noisy": lambda means: _clean_and_noisy(means)[1],
    "drop": lambda means: np.subtract(*_clean_and_noisy(means)),
    "share": _share,  # of clean, that is lost
}


def groups(languages: Sequence[str]) -> dict[str, list[str]]:
    """The languages, all together and in two groups: group -> languages; a group that has none is not there."""
    low = [lang for lang in languages if lang in LOW_RESOURCE]
    parts = {"low-resource": low, "other": [lang for lang in languages if lang not in low], "all": list(languages)}
    return {name: inside for name, inside in parts.items() if inside and (low or name == "all")}


def by_group(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of the languages in each of `groups`."""
    named = groups(sorted(set(rows["query_lang"])))
    return {group: rows[rows["query_lang"].isin(inside)] for group, inside in named.items()}


def by_noise(rows: pd.DataFrame) -> dict[tuple[str, str, float], pd.DataFrame]:
    """Group, kind and rate -> the noisy rows and the clean ones of the same queries; of rows of `noise.split`.

    Raises:
        ValueError: clean and noisy rows are not of the same queries.
    """
    parts = {}
    for group, inside in by_group(rows).items():
        clean = inside[inside["kind"] == CLEAN]
        for (kind, rate), noisy in inside[inside["kind"] != CLEAN].groupby(["kind", "rate"]):
            both = pd.concat([clean, noisy])
            if not (both.groupby(QUERY, observed=True).size() == 2).all():
                raise ValueError(f"{len(clean)} clean rows, {len(noisy)} of {kind} {rate}: search the same queries")
            parts[group, kind, rate] = both
    return parts


@captioned(f"Marker: macro mean over the languages of the group, moved a little apart. {INTERVAL}")
def noise_rates(losses: pd.DataFrame, measure: str) -> Figure:
    """Draw a measure of each strategy against the share of letters hit: a column per kind of noise, a row per group.

    Args:
        losses: of `shared.values` of OF_NOISE; what is clean stands at rate 0.
    """
    require(losses, "losses", ["group", "kind", "rate", "strategy", "statistic", "value", "low", "high"])
    clean = losses[(losses["statistic"] == "clean")].drop_duplicates(["group", "kind", "strategy"])
    points = pd.concat([clean.assign(rate=0.0), losses[losses["statistic"] == "noisy"]]).sort_values("rate")
    rows, columns = points["group"].unique(), [kind for kind in KINDS if kind in set(points["kind"])]
    figure, axes = new_figure(len(rows), len(columns), 0.6 + 1.75 * len(rows), sharex=True, sharey=True)
    names, rates = strategies(points), points["rate"].unique()
    for (group, kind), ax in zip(((group, kind) for group in rows for kind in columns), axes.flat, strict=True):
        for i, name in enumerate(names):
            part = points[(points[["group", "kind", "strategy"]] == [group, kind, name]).all(axis=1)]
            places = part["rate"] + (i - (len(names) - 1) / 2) * 0.008 * max(rates)
            style = {"color": LOOKS[name].color, "linewidth": 1.2, "label": f"_curve {LOOKS[name].label}"}
            ax.plot(places, part["value"], **style)
            marks(ax, part, places, LOOKS[name], value="value", upright=True)
        ax.set_title(f"{group}\n{KINDS[kind]}")
    for ax in axes[:, 0]:
        ax.set_ylabel(MEASURES.get(measure, measure))
    for ax in axes[-1]:
        ax.set_xticks(rates, [f"{100 * rate:g} %" for rate in rates])
        ax.set_xlabel("share of letters hit")
    axes[0][0].legend(loc="lower left")
    return figure
