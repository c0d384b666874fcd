"""TREC files and measures: against trec_eval's own cases, and against ir_measures on made-up runs."""

from __future__ import annotations

import csv
import gzip
import os
import shlex
from functools import lru_cache
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pytest
from collections_made import rank_run, read_qrels, read_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridlib.companion.search import trec
from hybridlib.metrics import Ranking, measure

OURS = {"map": "map", "recip_rank": "mrr", "ndcg": "ndcg"}
OURS_AT = {"P": "precision", "recall": "recall", "ndcg_cut": "ndcg", "map_cut": "map"}
DEFAULT_OUTPUT = ("map", "recip_rank", "P")
CASES = {
    "out.test": DEFAULT_OUTPUT,
    **dict.fromkeys(("out.test.a", "out.test.aq", "out.test.aqc", "out.test.aql"), (*OURS, *OURS_AT)),
}


@lru_cache
def trec_case(expected_output: str) -> tuple[pd.DataFrame, list[str], list[str], Ranking]:
    """(expected values, arguments, query ids, Ranking) of one official case; skips where the files are not at hand."""
    if not os.environ.get("HYBRIDLIB_DATA"):
        pytest.skip("HYBRIDLIB_DATA is not set: the official trec_eval cases are not at hand")
    folder = Path(os.environ["HYBRIDLIB_DATA"]) / "trec-eval-cases"
    with (folder / "commands.tsv").open(encoding="utf-8") as lines:
        case = next(row for row in csv.DictReader(lines, delimiter="\t") if row["expected_output"] == expected_output)
    arguments = shlex.split(case["arguments"])
    level = next((int(word[2:]) for word in arguments if word.startswith("-l")), 1)
    qrels, run = read_qrels(folder / case["qrels"]), read_run(folder / case["run"])
    query_ids, ranking = rank_run(qrels, run, relevance_level=level, complete="-c" in arguments)
    expected = pd.read_csv(folder / expected_output, sep=r"\s+", names=["measure", "query", "value"], dtype=str)
    return expected, arguments, query_ids, ranking


def our_name(official: str) -> str:
    kind, _, cutoff = official.rpartition("_")
    return OURS.get(official) or f"{OURS_AT[kind]}@{cutoff}"


@pytest.mark.parametrize(("case", "family"), [(case, family) for case in CASES for family in CASES[case]])
def test_official_trec_eval_cases(case: str, family: str) -> None:
    expected, arguments, query_ids, ranking = trec_case(case)
    pattern = family if family in OURS else rf"{family}_\d+"
    rows = expected[expected["measure"].str.fullmatch(pattern)]
    assert len(rows) == (1 if family in OURS else 9) * (1 + 3 * ("-q" in arguments))
    for official, query, value in rows.itertuples(index=False):
        values = measure(our_name(official), ranking)
        ours = values.mean() if query == "all" else values[query_ids.index(query)]
        assert f"{ours:.4f}" == value, (official, query)


def frame(rows: list[tuple], value: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["query_id", "candidate_id", value])


@st.composite
def collections(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Graded qrels and a run over the same few ids, many tied scores, queries missing on either side.

    No judgement is below 0: trec_eval 9, behind ir_measures, loops for ever on a query that has no other.
    """
    pairs = st.tuples(st.sampled_from(["q1", "q2", "q10", "Q1"]), st.sampled_from([*"abcdefg", "D", "a1", "é", "z9"]))
    judged = draw(st.dictionaries(pairs, st.integers(0, 3), min_size=1, max_size=30))
    shown = draw(st.dictionaries(pairs, st.sampled_from([-1.5, 0.0, 0.25, 0.5, 2.0]), min_size=1, max_size=40))
    return frame([(*k, v) for k, v in judged.items()], "gain"), frame([(*k, v) for k, v in shown.items()], "score")


INDEPENDENT = {
    "map": "AP",
    "map@20": "AP@20",
    "map@3": "AP@3",
    "mrr": "RR",
    "precision@1": "P@1",
    "precision@10": "P@10",
    "recall@1": "R@1",
    "recall@10": "R@10",
    "recall@5": "R@5",
    "ndcg": "nDCG",
    "ndcg@10": "nDCG@10",
    "ndcg@3": "nDCG@3",
}


def at_level(official: str, level: int) -> str:
    """AP@20 -> AP(rel=2)@20; nDCG takes no level."""
    kind, at, cutoff = official.partition("@")
    return official if kind == "nDCG" else f"{kind}(rel={level}){at}{cutoff}"


@settings(max_examples=150, deadline=None)
@given(collections(), st.integers(1, 3))
def test_measures_agree_with_ir_measures(collection: tuple[pd.DataFrame, pd.DataFrame], level: int) -> None:
    qrels, run = collection
    asked = {name: ir_measures.parse_measure(at_level(official, level)) for name, official in INDEPENDENT.items()}
    theirs_qrels = qrels.rename(columns={"candidate_id": "doc_id", "gain": "relevance"}).astype({"relevance": int})
    theirs_run = run.rename(columns={"candidate_id": "doc_id"})
    reported = ir_measures.iter_calc(list(asked.values()), theirs_qrels, theirs_run)
    theirs = {(str(item.measure), item.query_id): item.value for item in reported}
    query_ids, ranking = rank_run(qrels, run, relevance_level=level, complete=True)
    assert {name for name, _ in theirs} <= {str(official) for official in asked.values()}
    for name, official in asked.items():
        ours = np.nan_to_num(measure(name, ranking))  # nothing relevant: NaN here, 0 there
        expected = [theirs.get((str(official), query), 0.0) for query in query_ids]
        np.testing.assert_allclose(ours, expected, atol=1e-6, err_msg=name)


# ---- writing

scores = st.one_of(
    st.floats(width=32, allow_nan=False), st.sampled_from([0.1, 0.1 + 1e-9, 1 / 3, 1e-8, 16777217.0, -0.0, 0.0])
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(scores, min_size=1, max_size=12), st.sampled_from(["run.trec", "run.trec.gz"]))
def test_a_written_run_gives_back_its_float32_scores(tmp_path: Path, values: list[float], name: str) -> None:
    run = frame([(f"q{i % 2}", f'id"{i}é', score) for i, score in enumerate(values)], "score")
    trec.write_run(tmp_path / name, run)
    again = read_run(tmp_path / name)
    both = run.assign(score=run["score"].astype("float32")).merge(again, on=["query_id", "candidate_id"])
    assert len(both) == len(run) == len(again)
    np.testing.assert_array_equal(both["score_x"], both["score_y"].astype("float32"))


def test_the_written_run_is_sorted_and_ranked(tmp_path: Path) -> None:
    run = frame([("q2", "a", 1.0), ("q1", "a", 0.1), ("q1", "b", 0.1), ("q1", "c", 3.0)], "score")
    trec.write_run(tmp_path / "run", run)
    assert (tmp_path / "run").read_text(encoding="utf-8").splitlines() == [
        "q1 Q0 c 1 3.0 hybridlib",
        "q1 Q0 b 2 0.1 hybridlib",
        "q1 Q0 a 3 0.1 hybridlib",
        "q2 Q0 a 1 1.0 hybridlib",
    ]


@pytest.mark.parametrize("name", ["qrels", "qrels.gz"])
def test_written_qrels_are_read_by_ir_measures_and_repeat_to_the_byte(tmp_path: Path, name: str) -> None:
    qrels = frame([("vi:1", "vi:0001:002", 2), ("vi:1", "en:ở", 0), ("ar:1", "x", -1)], "gain")
    trec.write_qrels(tmp_path / name, qrels)
    once = (tmp_path / name).read_bytes()
    trec.write_qrels(tmp_path / name, qrels)
    assert (tmp_path / name).read_bytes() == once
    text = (gzip.decompress(once) if name.endswith(".gz") else once).decode()
    assert text == "vi:1 0 vi:0001:002 2\nvi:1 0 en:ở 0\nar:1 0 x -1\n"
    pd.testing.assert_frame_equal(read_qrels(tmp_path / name), qrels)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([("q", "a", 1.0), ("q", "a", 2.0)], "'a' stands twice for query 'q'"),
        ([("q", "a", np.nan)], "NaN"),
        ([("q", None, 1.0)], "missing"),
        ([("q", "a b", 1.0)], "'a b' is empty or holds a blank"),
        ([("", "a", 1.0)], "query_id '' is empty"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, rows: list[tuple], text: str) -> None:
    path = tmp_path / "run"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match=text):
        trec.write_run(path, frame(rows, "score"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"] and path.read_text(encoding="utf-8") == "old"


def test_other_bad_arguments(tmp_path: Path) -> None:
    qrels = frame([("q", "a", 1)], "gain")
    with pytest.raises(ValueError, match="column score is missing"):
        trec.write_run(tmp_path / "run", qrels)
    with pytest.raises(ValueError, match="whole numbers"):
        trec.write_qrels(tmp_path / "qrels", frame([("q", "a", 0.5)], "gain"))
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("", encoding="utf-8")  # a file where a folder is needed fails for root too
    with pytest.raises(OSError, match="file"):
        trec.write_qrels(tmp_path / "file" / "qrels", qrels)
