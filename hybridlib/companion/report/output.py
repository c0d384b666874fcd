"""What `python -m hybridlib evaluate` prints and writes: a table, JSON, rows, TREC files; and the paper's cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hybridlib.companion.experiment.runs import commit, device
from hybridlib.companion.experiment.study import Study
from hybridlib.companion.report import summaries
from hybridlib.companion.report.summaries import SETTINGS, subset
from hybridlib.companion.report.tables import to_markdown
from hybridlib.companion.search import trec
from hybridlib.corpora.base import Benchmark
from hybridlib.evaluation import KEYS, Evaluation, score_blocks
from hybridlib.files import write_json
from hybridlib.training.card import read_labels

PAPER_KEYS = ["benchmark", "checkpoint", "strategy", "setting", "measure", "language"]


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over queries of every measure in each setting, indexed by setting, query_lang, candidate_lang."""
    measures = [name for name in rows.columns if name not in KEYS]
    return rows.groupby(["setting", "query_lang", "candidate_lang"], observed=True)[measures].mean()


def to_json(result: Evaluation) -> dict:
    """All numbers of an evaluation: counts, settings, macro (mean over languages or pairs), rank_distance, excluded."""
    table = cells(result.rows)
    measures = [name for name in table.columns if name != "rank_distance"]
    settings: dict[str, dict] = {setting: {} for setting in SETTINGS}
    for (setting, query, candidate), values in table.iterrows():
        name = f"{query}-{candidate}" if setting == "cross" else query
        settings[setting][name] = {measure: float(values[measure]) for measure in measures}
    distances = distance_by_language(table)
    macro = table[measures].groupby("setting").mean()
    return {
        "benchmark": result.benchmark,
        "counts": result.counts,
        "settings": settings,
        "macro": {setting: macro.loc[setting].to_dict() for setting in SETTINGS if setting in macro.index},
        "rank_distance": {**distances.to_dict(), "mean": float(distances.mean()) if len(distances) else None},
        "excluded": result.excluded,
    }


def distance_by_language(table: pd.DataFrame) -> pd.Series:
    """Mean rank distance of each query language; empty where no query has relevant candidates in two languages."""
    return table.loc["multi", "rank_distance"].droplevel("candidate_lang").dropna()


def to_text(result: Evaluation, trained: Sequence[str] | None = None) -> str:
    """The mono / cross / multi / bias table; with `trained`, the trained and zero-shot means beside the macro mean."""
    queries, candidates = (sum(c[k] for c in result.counts.values()) for k in ("queries", "candidates"))
    head = f"{result.benchmark}: {len(result.languages)} languages, {queries} queries, {candidates} candidates"
    lines = []
    for name in ("all",) if trained is None else ("all", "trained", "zero-shot"):
        part = subset(result.rows, name, trained or ())
        if len(part):
            macro = cells(part).groupby("setting").mean().reindex(SETTINGS).dropna(how="all").reset_index()
            lines.append(macro.assign(languages=name))
    table = pd.concat(lines, ignore_index=True)
    table = table[["languages", *table.columns.drop(["languages", "rank_distance"]), "rank_distance"]]
    excluded = sum(n for part in result.excluded.values() for n in part.values())
    notes = ["Means over languages (mono, multi) or language pairs (cross) of the means over queries."]
    if excluded:
        notes.append(f"Left out for having nothing relevant: {excluded} (query, setting) pairs.")
    return "\n".join([head, "", to_markdown(table, decimals=4), "", *notes])


def write_json_report(result: Evaluation, path: Path) -> None:
    """Write `to_json`, whole or not at all."""
    write_json(path, to_json(result))


def write_rows(result: Evaluation, folder: Path, checkpoint: str) -> None:
    """Write rows.parquet, ranks.parquet, excluded.json and labels.json (what was measured, with what)."""
    result.save(folder)
    trained = read_labels(Path(checkpoint))
    trained.pop("scores", None)
    labels = {"benchmark": result.benchmark, "checkpoint": checkpoint, "device": device(), "evaluated_at": commit()}
    write_json(folder / "labels.json", {**labels, **trained})


def macro_scores(result: Evaluation) -> dict[str, float]:
    """What goes into a model card: mAP in each setting and the rank distance, means over languages or pairs."""
    numbers = to_json(result)
    scores = {f"map {setting}": values["map"] for setting, values in numbers["macro"].items() if "map" in values}
    distance = numbers["rank_distance"]["mean"]
    return scores | ({} if distance is None else {"rank distance": distance})


def write_trec(
    benchmark: Benchmark,
    queries: torch.Tensor,
    candidates: torch.Tensor,
    *,
    setting: str,
    depth: int,
    run: Path | None,
    qrels: Path | None,
) -> None:
    """Write the run and the judgements of one setting, so that trec_eval can confirm its numbers.

    Args:
        setting: "multi", "mono" or an ordered pair of languages such as "de-en" (query language first).
        depth: candidates per query in the run.

    Raises:
        ValueError: the setting is none of the benchmark's.
    """
    pairs = language_pairs(benchmark, setting)
    if run is not None:
        trec.write_run(run, _run_frame(benchmark, queries, candidates, pairs, depth))
    if qrels is not None:
        judged = benchmark.relevant.to_pandas()
        languages = [judged[column].str.split(":").str[0] for column in ("query_id", "candidate_id")]
        inside = [pair in pairs for pair in zip(*languages, strict=True)]
        trec.write_qrels(qrels, judged[inside])


def reproduced_cells(folders: Sequence[Path], base: str | None) -> pd.DataFrame:
    """Cells of the paper's tables from folders that `write_rows` wrote; what `tables.build` takes.

    Several seeds of one strategy are averaged, with their standard deviation beside the mean.
    """
    parts, seen = [], {}
    for folder in folders:
        if not (folder / "labels.json").exists():
            raise FileNotFoundError(f"{folder}: no labels.json here; give folders that evaluate --rows wrote")
        labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        if "strategy" not in labels:
            raise ValueError(f"{folder}: its checkpoint was not trained with hybridlib, so it belongs in no table")
        _check_alike(folder, labels, seen)
        part = _paper_cells(pd.read_parquet(folder / "rows.parquet"))
        parts.append(part.assign(benchmark=labels["benchmark"], checkpoint=base, strategy=labels["strategy"]))
    if not parts:
        return pd.DataFrame(columns=[*PAPER_KEYS, "value", "sd"])
    return pd.concat(parts).groupby(PAPER_KEYS, as_index=False)["value"].agg(value="mean", sd="std")


def study_cells(study: Study) -> pd.DataFrame:
    """The same cells from the runs of a study, with interval and spread over seeds; empty for a base of no table."""
    columns = [*PAPER_KEYS, "value", "low", "high", "sd"]
    if study.base is None:
        return pd.DataFrame(columns=columns)
    rows, measures = study.rows(study.runs()), ["map", "recall@1", "recall@10", "rank_distance"]
    overall = summaries.summary(rows, study.settings.trained, measures=measures)
    parts = [overall[overall["subset"] == "all"].assign(language="mean")]
    for measure in measures:
        part = rows[rows["setting"] == "multi"] if measure == "rank_distance" else rows
        parts.append(summaries.by_language(part, measure).rename(columns={"query_lang": "language"}))
    together = pd.concat(parts, ignore_index=True).rename(columns={"mean": "value"})
    return together.assign(benchmark=study.benchmark, checkpoint=study.base)[columns]


def _check_alike(folder: Path, labels: dict, seen: dict[tuple, dict]) -> None:
    """Rows of one strategy and benchmark are averaged as seeds, so nothing but the seed may differ."""
    alike = ("alpha", "steps", "batch_size", "pairs", "start")
    group = (labels["benchmark"], labels["strategy"])
    for (other, seed), theirs in [(key[2:], value) for key, value in seen.items() if key[:2] == group]:
        if seed == labels["seed"]:
            raise ValueError(f"{folder} and {other} hold the same strategy and seed; give one of them")
        odd = [name for name in alike if labels.get(name) != theirs.get(name)]
        if odd:
            raise ValueError(f"{folder} and {other} differ in {odd[0]}, not only in the seed; make two tables of them")
    seen[(*group, folder, labels["seed"])] = labels


def _paper_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean per setting, measure and query language (cross: over the candidate languages), and over the languages."""
    by_language = cells(rows).groupby(["setting", "query_lang"]).mean().reset_index()
    mean = by_language.drop(columns="query_lang").groupby("setting").mean().reset_index().assign(query_lang="mean")
    both = pd.concat([by_language, mean]).rename(columns={"query_lang": "language"})
    return both.melt(["setting", "language"], var_name="measure", value_name="value").dropna()


def language_pairs(benchmark: Benchmark, setting: str) -> set[tuple[str, str]]:
    """(query language, candidate language) pairs of "multi", "mono" or a pair such as "de-en"; else ValueError."""
    languages = benchmark.languages
    known = {
        "multi": {(a, b) for a in languages for b in languages},
        "mono": {(a, a) for a in languages},
        **{f"{a}-{b}": {(a, b)} for a in languages for b in languages if a != b},
    }
    if setting not in known:
        raise ValueError(f"{benchmark.name} has no setting {setting!r}; use multi, mono or a pair such as de-en")
    return known[setting]


def _run_frame(
    benchmark: Benchmark, queries: torch.Tensor, candidates: torch.Tensor, pairs: set[tuple[str, str]], depth: int
) -> pd.DataFrame:
    order, blocks = score_blocks(benchmark, queries, candidates)
    ids = np.array(benchmark.candidates["candidate_id"].to_pylist(), dtype=object)[order]
    spoken = np.array(benchmark.candidates["lang"].to_pylist())[order]
    query_ids, query_lang = (benchmark.queries[column].to_pylist() for column in ("query_id", "lang"))
    lines = []
    for start, scores in blocks:
        for i, line in enumerate(scores):
            lang = query_lang[start + i]
            inside = np.flatnonzero(np.isin(spoken, [b for a, b in pairs if a == lang]))
            best = inside[np.argsort(-line[inside], kind="stable")[:depth]]
            lines.append(
                pd.DataFrame({"query_id": query_ids[start + i], "candidate_id": ids[best], "score": line[best]})
            )
    return pd.concat(lines, ignore_index=True)
