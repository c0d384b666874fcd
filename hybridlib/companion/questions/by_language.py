"""How well do the strategies search MIRACL in each language: Tables 11, 12 and 13, counted and measured?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from hybridlib.companion.questions import shared
from hybridlib.companion.questions.shared import NDCG, RECALL
from hybridlib.companion.report import claims, paper, summaries, tables
from hybridlib.companion.report.claims import CHECKPOINTS, MEASURES, NAMES
from hybridlib.companion.report.drawing import (
    INTERVAL,
    LOOKS,
    Look,
    captioned,
    label_rows,
    marks,
    new_figure,
    require,
    strategies,
)
from hybridlib.companion.search import sources
from hybridlib.companion.search.collection import Collection
from hybridlib.files import local_file

FORMS = {"full": "MIRACL dev", "hard-negatives": "MIRACL dev, hard negatives"}
TABLES = {"xlm-r": 12, "labse": 13}
CLAIMED = (("x-x-mono", "hybrid"), ("hybrid", "x-y"))  # the first is better on MIRACL, in the mean over languages


def form_of(names: Sequence[str]) -> str | None:
    """The form of MIRACL that collections of these names have, one of FORMS; None: they are of something else.

    Raises:
        ValueError: two forms, or MIRACL beside something else: no mean is taken over the two.
    """
    forms = {_form(name) for name in names}
    if len(forms) > 1:
        raise ValueError("collections must be of one benchmark: MIRACL in full, or with hard negatives, or others")
    return forms.pop() if forms else None


def _form(name: str) -> str | None:
    if name.startswith("miracl-hard-negatives-"):
        return "hard-negatives"
    return "full" if name.startswith("miracl-") else None


def searched(names: Sequence[str]) -> str:
    """What was searched, in words, for titles and claims."""
    form = form_of(names)
    return FORMS[form] if form else shared.listed(names)


def counted(collections: Sequence[Collection]) -> pd.DataFrame:
    """Table 11 beside what is counted: local dev files, and the passages of the collections that are MIRACL in full.

    The table has 16 of MIRACL's 18 languages; its ar, en and es queries are slips (`paper.notes(11)`).

    Returns:
        language; queries_paper and passages_paper (NA: not in the table); queries and judgements (NA: no local dev
        files); passages (NA: not searched in full); passages_published (MIRACL's); agrees: do the queries, and the
        passages as far as counted: "yes", "no", "not counted" or "not in Table 11".
    """
    printed = paper.reported(11).pivot(index="language", columns="measure", values="value").astype(int)
    full = {part.name.rpartition("-")[2]: part for part in collections if _form(part.name) == "full"}
    lines = []
    for lang, published in sources.MIRACL_PASSAGES.items():
        sizes = full[lang].sizes() if lang in full else _dev_sizes(lang)
        line = {"language": lang, "queries": sizes.get("queries"), "judgements": sizes.get("judgements")}
        line |= {"passages": sizes.get("passages"), "passages_published": published, "agrees": "not in Table 11"}
        if lang in printed.index:
            line["queries_paper"], line["passages_paper"] = printed.loc[lang, ["queries", "candidates"]]
            measured = (line["queries"], line["passages"] or published)
            same = "yes" if measured == (line["queries_paper"], line["passages_paper"]) else "no"
            line["agrees"] = same if line["queries"] else "not counted"
        lines.append(line)
    columns = ["queries_paper", "queries", "judgements", "passages_paper", "passages", "passages_published"]
    return pd.DataFrame(lines, columns=["language", *columns, "agrees"]).astype(dict.fromkeys(columns, "Int64"))


def _dev_sizes(lang: str) -> dict[str, int | None]:
    """Numbers of queries and judgements in a language's dev files; empty where they are not local."""
    files = (f"miracl-dev/{kind}.miracl-v1.0-{lang}-dev.tsv" for kind in ("topics", "qrels"))
    if not all(map(local_file, files)):
        return {}
    return sources.load(f"miracl-{lang}", passages=False)[0].sizes()


def languages_of(table: int) -> list[str]:
    """The 15 languages of Table 12 or 13, in the order of the print; en is not among them."""
    languages = paper.reported(table)["language"].unique()
    return [lang for lang in languages if lang not in ("mean", "median")]


def compare_means(rows: pd.DataFrame, form: str | None) -> pd.DataFrame:
    """Compare the pairs of CLAIMED in nDCG@10 and Recall@100, with the number of languages beside.

    On MIRACL only languages of Tables 12 and 13 count.
    """
    if form is not None:
        rows = rows[rows["query_lang"].isin(languages_of(12))]
    return shared.compare(rows, CLAIMED, (NDCG, RECALL)).assign(languages=rows["query_lang"].nunique())


def table_cells(rows: pd.DataFrame, *, base: str | None, form: str | None) -> pd.DataFrame:
    """Cells of Tables 12 and 13 for `tables.build`; empty for another checkpoint or anything but MIRACL in full.

    Mean and median over languages are there only where all 15 languages of the tables are; the median has no interval.

    Returns:
        tables.PAPER_KEYS, value, low, high, sd (over seeds, NaN for one).
    """
    columns = [*tables.PAPER_KEYS, "value", "low", "high", "sd"]
    if base not in TABLES or form != "full":
        return pd.DataFrame(columns=columns)
    languages = languages_of(TABLES[base])
    rows = rows[rows["query_lang"].isin(languages)]
    parts = [_cells(rows, measure, len(languages)) for measure in (NDCG, RECALL)]
    cells = pd.concat(parts, ignore_index=True)
    return cells.assign(benchmark="miracl", checkpoint=base, setting="mono").reindex(columns=columns)


def _cells(rows: pd.DataFrame, measure: str, languages: int) -> pd.DataFrame:
    """The cells of one measure: each language's, and, where that many languages are, their mean and median."""
    cells = summaries.by_language(rows, measure).rename(columns={"query_lang": "language", "mean": "value"})
    by_seed = rows.groupby(["strategy", "query_lang", "seed"], observed=True)[measure].mean().unstack("seed")
    cells["sd"] = by_seed.std(axis=1).reindex(pd.MultiIndex.from_frame(cells[["strategy", "language"]])).to_numpy()
    if rows["query_lang"].nunique() < languages:
        return cells
    overall = summaries.summary(rows, (), measures=[measure])
    means = overall[overall["subset"] == "all"].rename(columns={"mean": "value"})
    medians = cells.groupby("strategy", observed=True)["value"].median().to_frame()
    medians["sd"] = by_seed.groupby("strategy", observed=True).median().std(axis=1)
    medians = medians.assign(measure=measure, language="median").reset_index()
    return pd.concat([cells, means.assign(language="mean"), medians])


def judge_means(comparison: pd.DataFrame, where: str, *, base: str | None, form: str | None) -> pd.DataFrame:
    """Judge the paper's order of means on MIRACL: X-X-mono before hybrid before X-Y.

    Args:
        comparison: of `compare_means`.
        where: what was searched, in words.
        base: what the paper's tables call the checkpoint; None: it is not in them.

    Returns:
        `claims.COLUMNS`; what was measured on MIRACL in full, in all 15 languages, with a checkpoint of the paper
        stands under same_benchmark.
    """
    whole = form == "full" and base in TABLES
    lines = []
    for measure in (NDCG, RECALL):
        for a, b in CLAIMED:
            found = comparison[(comparison["measure"] == measure) & (comparison[["a", "b"]] == [a, b]).all(axis=1)]
            n = int(found["languages"].sum())
            claim = f"On {where} {NAMES[a]} is better than {NAMES[b]}, mean {MEASURES[measure]}"
            what = f"{shared.gap(a, b, measure)}, {n} languages"
            printed = _printed_means(a, b, measure, base) if form else ""
            here = whole and n == len(languages_of(12))
            options = {"what": what, "paper": printed, "same_benchmark": here, "needs": shared.MISSING}
            lines.append(claims.line(claim, found, **options))
    return pd.DataFrame(lines, columns=claims.COLUMNS)


def _printed_means(a: str, b: str, measure: str, base: str | None) -> str:
    """The paper's two means, of one checkpoint (None: of both), as printed."""
    parts = []
    for name in TABLES if base is None else {base} & set(TABLES):
        cells = paper.reported(TABLES[name], measure=measure, language="mean").set_index("strategy")["printed"]
        parts.append(f"{CHECKPOINTS[name]} {cells[a]} / {cells[b]}")
    return ", ".join(parts)


# ---- figure


@captioned(
    "Hollow: as the paper prints it, without an interval. Filled: reproduced on the same benchmark, where it was. "
    + INTERVAL
)
def reported_by_language(cells: pd.DataFrame, *, measure: str = NDCG, languages: Sequence[str] = ()) -> Figure:
    """Draw the paper's numbers of each language and strategy, a panel per checkpoint; beside them what was reproduced.

    Reported markers are hollow, reproduced ones filled, with the intervals of the frame (95 %, cluster bootstrap).

    Args:
        cells: of `tables.build`: checkpoint, strategy, measure, language, reported, reproduced, low, high.
        languages: from top to bottom; none: as they come. Others are left out.
    """
    columns = ["checkpoint", "strategy", "language", "reported", "reproduced", "low", "high"]
    frame = require(cells, "cells", columns, measure=measure)
    languages = [lang for lang in languages or frame["language"].unique() if lang in set(frame["language"])]
    frame = frame[frame["language"].isin(languages)]
    bases, names = list(frame["checkpoint"].unique()), strategies(frame)
    figure, axes = new_figure(1, len(bases), 0.9 + 0.25 * len(languages), sharex=True, sharey=True)
    for ax, base in zip(axes[0], bases, strict=True):
        label_rows(ax, languages)
        for i, strategy in enumerate(names):
            part, look = frame[(frame["checkpoint"] == base) & (frame["strategy"] == strategy)], LOOKS[strategy]
            places = part["language"].map(languages.index) + (i - (len(names) - 1) / 2) * 0.7 / len(names)
            marks(ax, part[["reported"]], places, look, value="reported", hollow=True)
            marks(ax, part, places, Look(f"_reproduced {look.label}", look.color, look.marker), value="reproduced")
        for edge in range(1, len(languages)):
            ax.axhline(edge - 0.5, color="0.2" if languages[edge] == "mean" else "0.9", linewidth=0.6)
        ax.set(xlabel=MEASURES.get(measure, measure))
        ax.set_title(CHECKPOINTS.get(base, base), pad=16)
    axes[0][0].set(ylabel="query language")
    axes[0][0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderpad=0.1)
    return figure
