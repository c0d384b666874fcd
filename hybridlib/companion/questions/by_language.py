"""MIRACL by language: its two forms, the cells of Tables 12 and 13, gains against the size of a language's corpus.

The paper's sizes are those of Table 11; a language is high-resource above their median (`shared.high_resource`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hybridlib import statistics
from hybridlib.companion.experiment.study import Study
from hybridlib.companion.questions import miracl, shared
from hybridlib.companion.questions.shared import NDCG, RECALL
from hybridlib.companion.report import paper, summaries
from hybridlib.companion.report.claims import CHECKPOINTS, COLUMNS
from hybridlib.companion.report.drawing import LOOKS, MEASURES
from hybridlib.companion.report.output import PAPER_KEYS
from hybridlib.statistics import ClusterSums

HARD = "miracl-hard-negatives-"
FORMS = ("full", "hard-negatives")
TABLES = {"xlm-r": 12, "labse": 13}
CLAIMED = (("x-x-mono", "hybrid"), ("hybrid", "x-y"))  # the first is better on MIRACL, in the mean over languages
ENCODERS = "encoders of these strategies"
GROUPS = ("all", "high-resource", "other")
GAINS = ["panel", "a", "b", "language", "passages", "group", "difference", "low", "high", "seed_min", "seed_max"]


def names(
    study: Study, collections: Sequence[str] | None, languages: Sequence[str] | None, form: str | None
) -> list[str]:
    """Names of the collections to search: those given, else MIRACL in that form (None: the profile's).

    Raises:
        ValueError: no such form; a form beside given collections or the embedded corpus, which has none.
    """
    if form is None:
        return list(collections or shared.names(study, "miracl", languages))
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(map(repr, FORMS))} or None, not {form!r}")
    if collections or study.stand_in:
        raise ValueError("form is of MIRACL in colab and paper; collections name theirs, the embedded corpus has none")
    prefix = "miracl-" if form == "full" else HARD
    return [prefix + name.rpartition("-")[2] for name in shared.names(study, "miracl", languages)]


def form_of(collections: Sequence[str]) -> str | None:
    """The form of MIRACL that these collections have; None: they are of something else.

    Raises:
        ValueError: two forms, or MIRACL beside something else: no mean is taken over the two.
    """
    forms = {_form(name) for name in collections}
    if len(forms) > 1:
        raise ValueError("collections must be of one benchmark: MIRACL in full, or with hard negatives, or others")
    return forms.pop() if forms else None


def _form(name: str) -> str | None:
    if name.startswith(HARD):
        return "hard-negatives"
    return "full" if name.startswith("miracl-") else None


def searched(study: Study, collections: Sequence[str]) -> str:
    """What was searched, in words, for titles and columns."""
    form = form_of(collections)
    words = {"full": "MIRACL dev", "hard-negatives": "MIRACL dev, hard negatives"}
    return words[form] if form else study.data if study.stand_in else ", ".join(collections)


def counted(study: Study, collections: Sequence[str]) -> pd.DataFrame:
    """`miracl.table_11` of what is at hand, nothing downloaded for it: dev files, and collections searched in full.

    Returns:
        Its columns, and agrees in words: yes, no, not counted, not in Table 11.
    """
    full = {name.rpartition("-")[2]: study.collections(name)[0] for name in collections if _form(name) == "full"}
    table = miracl.table_11(collections=full, download=False)
    words = [{True: "yes", False: "no"}.get(same, "not counted") for same in table["agrees"]]
    return table.assign(agrees=np.where(table["queries_paper"].isna(), "not in Table 11", words))


def compare_means(rows: pd.DataFrame, form: str | None) -> pd.DataFrame:
    """`shared.compare` over CLAIMED, nDCG@10 and Recall@100, and the number of languages.

    On MIRACL only languages of Tables 12 and 13 count.
    """
    if form is not None:
        rows = rows[rows["query_lang"].isin(miracl.paper_languages(12))]
    return shared.compare(rows, CLAIMED, (NDCG, RECALL)).assign(languages=rows["query_lang"].nunique())


def table_cells(rows: pd.DataFrame, *, base: str | None, form: str | None) -> pd.DataFrame:
    """Cells of Tables 12 and 13 for `tables.build`; empty for another checkpoint or anything but MIRACL in full.

    Mean and median over languages are there only where all 15 languages of the tables are; the median has no interval.

    Returns:
        report.PAPER_KEYS, value, low, high, sd (over seeds, NaN for one).
    """
    columns = [*PAPER_KEYS, "value", "low", "high", "sd"]
    if base not in TABLES or form != "full":
        return pd.DataFrame(columns=columns)
    wanted = miracl.paper_languages(TABLES[base])
    rows = rows[rows["query_lang"].isin(wanted)]
    parts = []
    for measure in (NDCG, RECALL):
        found = summaries.by_language(rows, measure).rename(columns={"query_lang": "language", "mean": "value"})
        by_seed = rows.groupby(["strategy", "query_lang", "seed"], observed=True)[measure].mean().unstack("seed")
        found["sd"] = by_seed.std(axis=1).reindex(pd.MultiIndex.from_frame(found[["strategy", "language"]])).to_numpy()
        parts.append(found)
        if set(rows["query_lang"]) == set(wanted):
            whole = summaries.summary(rows, (), measures=[measure])
            means = whole[whole["subset"] == "all"].rename(columns={"mean": "value"})
            middle = by_seed.groupby("strategy", observed=True).median()
            medians = found.groupby("strategy", observed=True)["value"].median()
            medians = medians.to_frame().assign(sd=middle.std(axis=1), measure=measure).reset_index()
            parts += [means.assign(language="mean"), medians.assign(language="median")]
    cells = pd.concat(parts, ignore_index=True)
    return cells.assign(benchmark="miracl", checkpoint=base, setting="mono").reindex(columns=columns)


def judge_means(comparison: pd.DataFrame, study: Study, form: str | None) -> pd.DataFrame:
    """The paper's order of means on MIRACL, X-X-mono before hybrid before X-Y, judged by `shared.answer`'s rule.

    Args:
        comparison: of `compare_means`.

    Returns:
        `claims.COLUMNS`; measured on MIRACL in full, in all 15 languages, with a checkpoint of the paper it stands
        under same_benchmark.
    """
    lines = []
    for measure in (NDCG, RECALL):
        for a, b in CLAIMED:
            found = comparison[(comparison["measure"] == measure) & (comparison[["a", "b"]] == [a, b]).all(axis=1)]
            claim = f"On MIRACL {LOOKS[a].label} is better than {LOOKS[b].label}, mean {MEASURES[measure]}"
            n = int(found["languages"].sum())
            what = f"{gap(a, b, measure)}, {n} languages"
            line = answer(claim, found, study=study, form=form, yes=1, what=what)
            line["verdict"] = {"yes": "holds", "no": "does not hold"}.get(line["verdict"], line["verdict"])
            line["paper"] = ", ".join(
                f"{CHECKPOINTS[base]} {_mean(table, a, measure)} / {_mean(table, b, measure)}"
                for base, table in TABLES.items()
                if study.base in (None, base)
            )
            if form == "full" and study.base in TABLES and n == len(miracl.paper_languages(12)):
                line |= {"same_benchmark": line["measured"], "measured": ""}
            lines.append(line)
    return pd.DataFrame(lines, columns=COLUMNS)


def _mean(table: int, strategy: str, measure: str) -> str:
    cells = paper.reported(table, strategy=strategy, measure=measure, language="mean")
    return cells["printed"].iloc[0]


def gap(a: str, b: str, measure: str = NDCG) -> str:
    """A difference in words."""
    return f"{MEASURES[measure]} {LOOKS[a].label} - {LOOKS[b].label}"


def answer(
    question: str, found: pd.DataFrame, *, study: Study, form: str | None, yes: int, what: str, lacking: str = ENCODERS
) -> dict[str, str]:
    """`shared.answer` about MIRACL: on other collections nothing is answered, and hard negatives are named.

    Args:
        lacking: what an answer needs where `found` has no line.
    """
    what += ", hard negatives" if form == "hard-negatives" else ""
    line = shared.answer(question, found if form else found[:0], needs="MIRACL", study=study, yes=yes, what=what)
    if form is None or found.empty:
        line["verdict"] = f"not run: needs {lacking if form else 'MIRACL'}"
    return line


# ---- gains against size


def group_languages(group: str) -> list[str]:
    """Languages of Table 11 of one of GROUPS, the largest corpus first."""
    sizes, high = shared.corpus_sizes().index, shared.high_resource()
    return [lang for lang in sizes if group == "all" or (lang in high) == (group == "high-resource")]


def delta(rows: pd.DataFrame, a: str, b: str, measure: str = NDCG) -> ClusterSums | None:
    """a - b in each language of Table 11; None where one of the strategies, or every such language, is lacking."""
    sums = _sums(rows, a, b, measure)
    return statistics.difference(*sums) if sums else None


def _sums(rows: pd.DataFrame, a: str, b: str, measure: str) -> list[ClusterSums]:
    rows = rows[rows["query_lang"].isin(shared.corpus_sizes().index)]
    if rows.empty or not {a, b} <= set(rows["strategy"]):
        return []
    return [statistics.cluster_sums(rows[rows["strategy"] == s], measure, cell="query_lang") for s in (a, b)]


def gains(rows: pd.DataFrame, a: str, b: str, measure: str = NDCG) -> pd.DataFrame:
    """a - b in each language of Table 11, with paired intervals; no line where there is nothing to compare.

    Returns:
        GAINS (passages: Table 11's; seed_min, seed_max: differences of single seeds) and outcome of a.
    """
    sums = _sums(rows, a, b, measure)
    if not sums:
        return pd.DataFrame(columns=[*GAINS, "outcome"])
    frame = statistics.wins_ties_losses(*sums).rename(columns={"query_lang": "language"})
    seeds = seed_gains(rows, a, b, measure).groupby("language")["difference"]
    spans = {"seed_min": frame["language"].map(seeds.min()), "seed_max": frame["language"].map(seeds.max())}
    return _described(frame.assign(**spans), a, b)[[*GAINS, "outcome"]]


def seed_gains(rows: pd.DataFrame, a: str, b: str, measure: str = NDCG) -> pd.DataFrame:
    """a - b of every single seed: panel, language, group, seed, difference."""
    means = rows.groupby(["strategy", "query_lang", "seed"], observed=True)[measure].mean()
    gaps = (means[a] - means[b]).rename("difference").rename_axis(["language", "seed"]).reset_index()
    gaps = gaps[gaps["language"].isin(shared.corpus_sizes().index)]
    return _described(gaps, a, b)[["panel", "language", "group", "seed", "difference"]]


def printed_delta(base: str, a: str, b: str, measure: str = NDCG) -> ClusterSums:
    """a - b in each language of Table 12 or 13 as printed: as if one cluster, so there is no interval."""
    cells = paper.reported(TABLES[base], measure=measure, language=miracl.paper_languages(TABLES[base]))
    wide = cells.pivot(index="language", columns="strategy", values="value")
    gaps = (wide[a] - wide[b]).sort_index()
    index = pd.MultiIndex.from_frame(gaps.index.to_frame(index=False, name="query_lang"))
    return ClusterSums(gaps.to_numpy()[None], np.ones((1, len(gaps))), pd.Index([base]), index)


def printed_gains(base: str, a: str, b: str, measure: str = NDCG) -> pd.DataFrame:
    """The same as a frame of GAINS, without intervals and seeds."""
    means = statistics.cell_means(printed_delta(base, a, b, measure))
    frame = means.rename("difference").reset_index().rename(columns={"query_lang": "language"})
    frame = _described(frame, a, b)
    return frame.assign(panel=f"{CHECKPOINTS[base]}: " + frame["panel"]).reindex(columns=GAINS)


def _described(frame: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """With panel, strategies, size and group; the largest corpus first."""
    languages = frame["language"].astype(str)
    group = np.where(languages.isin(shared.high_resource()), "high-resource", "other")
    frame = frame.assign(language=languages, passages=languages.map(shared.corpus_sizes()), group=group, a=a, b=b)
    frame = frame.assign(panel=f"{LOOKS[a].label} minus {LOOKS[b].label}")
    return frame.sort_values("passages", ascending=False, kind="stable").reset_index(drop=True)


def compare_groups(
    rows: pd.DataFrame, pairs: Sequence[tuple[str, str]] = summaries.PAIRS, measure: str = NDCG
) -> pd.DataFrame:
    """`shared.compare` within each of GROUPS; Holm's correction is over all tests of the returned frame.

    Returns:
        group, languages (their number), and what `shared.compare` returns.
    """
    parts = []
    for group in GROUPS:
        part = rows[rows["query_lang"].isin(group_languages(group))]
        if len(part):
            n = part["query_lang"].nunique()
            parts.append(shared.compare(part, pairs, (measure,)).assign(group=group, languages=n))
    if not parts:
        return shared.compare(rows[:0], pairs).assign(group="", languages=0)
    frame = pd.concat(parts, ignore_index=True)
    first = ["group", "languages"]
    return frame.assign(p_holm=statistics.holm(frame["p"].astype(float)))[[*first, *frame.columns.drop(first)]]


def between_groups(gaps: ClusterSums | None, seeds: pd.DataFrame | None = None) -> pd.DataFrame:
    """How a difference depends on size: high-resource minus other languages, and the rank correlation with size.

    Args:
        gaps: of `delta` or `printed_delta`.
        seeds: of `seed_gains`.

    Returns:
        One line, none where a group is empty or there are fewer than 3 languages: difference, low, high, p
        (`statistics.group_difference`), seed_min, seed_max (NaN without seeds), rho, rho_low, rho_high, rho_p.
    """
    columns = ["difference", "low", "high", "p", "seed_min", "seed_max", "rho", "rho_low", "rho_high", "rho_p"]
    languages = [] if gaps is None else gaps.cells.get_level_values("query_lang").astype(str)
    inside = np.isin(languages, shared.high_resource())
    if len(inside) < 3 or inside.all() or not inside.any():
        return pd.DataFrame(columns=columns, dtype=float)
    test = statistics.group_difference(gaps, inside)
    rho = statistics.rank_correlation(gaps, shared.corpus_sizes()[languages])
    apart = pd.Series([np.nan])
    if seeds is not None:
        means = seeds.groupby(["group", "seed"])["difference"].mean()
        apart = means["high-resource"] - means["other"]
    return pd.DataFrame([(*test, apart.min(), apart.max(), *rho)], columns=columns)


def panel_means(groups: pd.DataFrame) -> pd.DataFrame:
    """Lines of `compare_groups` for the two groups, as `resource_figures.gain_by_size` takes them."""
    part = groups[groups["group"] != "all"]
    panels = [f"{LOOKS[a].label} minus {LOOKS[b].label}" for a, b in zip(part["a"], part["b"], strict=True)]
    return part.assign(panel=panels)
