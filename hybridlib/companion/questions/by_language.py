"""How well do the strategies search MIRACL in each language: Tables 11, 12 and 13, counted and measured?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hybridlib.companion.questions import shared
from hybridlib.companion.questions.shared import NDCG, RECALL
from hybridlib.companion.report import claims, paper, tables
from hybridlib.companion.report.claims import CHECKPOINTS, MEASURES, NAMES
from hybridlib.companion.search import sources
from hybridlib.companion.search.collection import Collection
from hybridlib.files import local_file

FULL, HARD_NEGATIVES = "MIRACL dev", "MIRACL dev, hard negatives"  # its two forms, two benchmarks
TABLES = {"xlm-r": 12, "labse": 13}
CLAIMED = (("x-x-mono", "hybrid"), ("hybrid", "x-y"))  # the first is better on MIRACL, in the mean over languages


def searched(names: Sequence[str]) -> str:
    """What collections of these names are: FULL, HARD_NEGATIVES, or, where none is of MIRACL, their names in words.

    Raises:
        ValueError: two forms, or MIRACL beside something else: no mean is taken over the two.
    """
    hard, miracl = ([name.startswith(prefix) for name in names] for prefix in ("miracl-hard-negatives-", "miracl-"))
    if any(miracl) and not all(miracl) or any(hard) and not all(hard):
        raise ValueError("collections must be of one benchmark: MIRACL in full, or with hard negatives, or others")
    return HARD_NEGATIVES if any(hard) else FULL if any(miracl) else shared.listed(names)


def counted(collections: Sequence[Collection]) -> pd.DataFrame:
    """Table 11 beside what is counted: local dev files, and the passages of the collections that are MIRACL in full.

    The table has 16 of MIRACL's 18 languages; its ar, en and es queries are slips (`paper.notes(11)`).

    Returns:
        language; queries_paper and passages_paper (NA: not in the table); queries and judgements (NA: no local dev
        files); passages (NA: not searched in full); passages_published (MIRACL's); agrees: do the queries, and the
        passages as far as counted: "yes", "no", "not counted" or "not in Table 11".
    """
    printed = paper.reported(11).pivot(index="language", columns="measure", values="value").astype(int)
    full = {part.name: part for part in collections}
    lines = []
    for lang, published in sources.MIRACL_PASSAGES.items():
        part = full.get(f"miracl-{lang}") or _dev(lang)
        sizes = part.sizes() if part else {}
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


def _dev(lang: str) -> Collection | None:
    """A language's queries and judgements; None where the dev files are not local."""
    files = (f"miracl-dev/{kind}.miracl-v1.0-{lang}-dev.tsv" for kind in ("topics", "qrels"))
    return sources.load(f"miracl-{lang}", passages=False)[0] if all(map(local_file, files)) else None


def languages_of(table: int) -> list[str]:
    """The languages of Table 11, 12 or 13, in the order of the print; en is not among the 15 of the last two."""
    languages = paper.reported(table)["language"].unique()
    return [lang for lang in languages if lang not in ("mean", "median")]


def table_cells(rows: pd.DataFrame, *, base: str | None, where: str) -> pd.DataFrame:
    """Cells of Tables 12 and 13 for `tables.build`; empty for another checkpoint or anything but MIRACL in full.

    Mean and median over languages are there only where all 15 languages of the tables are; the median has no interval.

    Returns:
        tables.PAPER_KEYS, value, low, high, sd (over seeds, NaN for one).
    """
    columns = [*tables.PAPER_KEYS, "value", "low", "high", "sd"]
    if base not in TABLES or where != FULL:
        return pd.DataFrame(columns=columns)
    languages, measures = languages_of(TABLES[base]), [NDCG, RECALL]
    rows = rows[rows["query_lang"].isin(languages)]
    parts = dict(list(rows.groupby("query_lang", observed=True)))
    cells = shared.means(parts, "language", measures).rename(columns={"mean": "value"})
    if len(parts) == len(languages):
        mean = shared.means({"mean": rows}, "language", measures).rename(columns={"mean": "value"})
        by_seed = rows.groupby(["strategy", "seed", "query_lang"], observed=True)[measures].mean()
        sd = by_seed.groupby(["strategy", "seed"], observed=True).median().groupby("strategy", observed=True).std()
        median = cells.groupby(["strategy", "measure"], observed=True)["value"].median().reset_index()
        median["sd"] = [sd.loc[strategy, measure] for strategy, measure in median[["strategy", "measure"]].to_numpy()]
        cells = pd.concat([cells, mean, median.assign(language="median")])
    return cells.assign(benchmark="miracl", checkpoint=base, setting="mono").reindex(columns=columns)


def compare_means(rows: pd.DataFrame, where: str) -> pd.DataFrame:
    """Compare the pairs of CLAIMED in nDCG@10 and Recall@100, with the number of languages beside.

    On MIRACL only languages of Tables 12 and 13 count.
    """
    if where in (FULL, HARD_NEGATIVES):
        rows = rows[rows["query_lang"].isin(languages_of(12))]
    compared = shared.compare({where: rows}, "benchmark", CLAIMED, (NDCG, RECALL))
    return compared.assign(languages=rows["query_lang"].nunique())


def judge_means(comparison: pd.DataFrame, where: str, base: str | None) -> pd.DataFrame:
    """Judge the paper's order of means on MIRACL: X-X-mono before hybrid before X-Y.

    Args:
        comparison: of `compare_means`.
        where: what was searched, of `searched`.
        base: what the paper's tables call the checkpoint; None: it is not in them.

    Returns:
        `claims.COLUMNS`; what was measured on MIRACL in full, in all 15 languages, with a checkpoint of the paper
        stands under same_benchmark.
    """
    lines = []
    for measure in (NDCG, RECALL):
        for a, b in CLAIMED:
            row = comparison[(comparison[["measure", "a", "b"]] == [measure, a, b]).all(axis=1)]
            n = int(row["languages"].sum())
            options = {"what": f"{shared.gap(a, b, measure)}, {n} languages", "needs": shared.MISSING}
            if where in (FULL, HARD_NEGATIVES):
                options["paper"] = _printed_means(a, b, measure, base)
            same = where == FULL and base in TABLES and n == len(languages_of(12))
            claim = f"On {where} {NAMES[a]} is better than {NAMES[b]}, mean {MEASURES[measure]}"
            lines.append(claims.line(claim, row, same_benchmark=same, **options))
    return pd.DataFrame(lines, columns=claims.COLUMNS)


def _printed_means(a: str, b: str, measure: str, base: str | None) -> str:
    """The paper's two means, of one checkpoint (None: of both), as printed."""
    parts = []
    for name in TABLES if base is None else {base} & set(TABLES):
        cells = paper.reported(TABLES[name], measure=measure, language="mean").set_index("strategy")["printed"]
        parts.append(f"{CHECKPOINTS[name]} {cells[a]} / {cells[b]}")
    return ", ".join(parts)
