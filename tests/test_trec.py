"""TREC files and ranking: against trec_eval's own cases, and against ir_measures on made-up runs."""

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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridlib.companion.search import trec
from hybridlib.metrics import measure

OURS = {"map": "map", "recip_rank": "mrr", "ndcg": "ndcg"}
OURS_AT = {"P": "precision", "recall": "recall", "ndcg_cut": "ndcg", "map_cut": "map"}
DEFAULT_OUTPUT = ("map", "recip_rank", "P")
CASES = {
    "out.test": DEFAULT_OUTPUT,
    **dict.fromkeys(("out.test.a", "out.test.aq", "out.test.aqc", "out.test.aql"), (*OURS, *OURS_AT)),
}


@lru_cache
def trec_case(expected_output: str) -> tuple[pd.DataFrame, list[str], np.ndarray, trec.Ranking]:
    """(expected values, arguments, query ids, Ranking) of one official case; skips where the files are not at hand."""
    if not os.environ.get("HYBRIDLIB_DATA"):
        pytest.skip("HYBRIDLIB_DATA is not set: the official trec_eval cases are not at hand")
    folder = Path(os.environ["HYBRIDLIB_DATA"]) / "trec-eval-cases"
    with (folder / "commands.tsv").open(encoding="utf-8") as lines:
        case = next(row for row in csv.DictReader(lines, delimiter="\t") if row["expected_output"] == expected_output)
    arguments = shlex.split(case["arguments"])
    level = next((int(word[2:]) for word in arguments if word.startswith("-l")), 1)
    qrels, run = trec.read_qrels(folder / case["qrels"]), trec.read_run(folder / case["run"])
    query_ids, ranking = trec.rank_run(qrels, run, relevance_level=level, complete="-c" in arguments)
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
        ours = values.mean() if query == "all" else values[list(query_ids).index(query)]
        assert f"{ours:.4f}" == value, (official, query)


@pytest.mark.parametrize("case", CASES)
def test_official_number_of_queries(case: str) -> None:
    expected, _, query_ids, ranking = trec_case(case)
    assert expected.set_index(["measure", "query"])["value"]["num_q", "all"] == str(len(query_ids))
    assert ranking.n_queries == len(query_ids) == 3


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
def test_agrees_with_ir_measures(collection: tuple[pd.DataFrame, pd.DataFrame], level: int) -> None:
    qrels, run = collection
    asked = {name: ir_measures.parse_measure(at_level(official, level)) for name, official in INDEPENDENT.items()}
    theirs_qrels = qrels.rename(columns={"candidate_id": "doc_id", "gain": "relevance"}).astype({"relevance": int})
    theirs_run = run.rename(columns={"candidate_id": "doc_id"})
    reported = ir_measures.iter_calc(list(asked.values()), theirs_qrels, theirs_run)
    theirs = {(str(item.measure), item.query_id): item.value for item in reported}
    query_ids, ranking = trec.rank_run(qrels, run, relevance_level=level, complete=True)
    assert {name for name, _ in theirs} <= {str(official) for official in asked.values()}
    for name, official in asked.items():
        ours = np.nan_to_num(measure(name, ranking))  # nothing relevant: NaN here, 0 there
        expected = [theirs.get((str(official), query), 0.0) for query in query_ids]
        np.testing.assert_allclose(ours, expected, atol=1e-6, err_msg=name)


def test_ties_go_by_candidate_id_descending_and_the_rank_column_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("q Q0 b 1 0.5 t\nq Q0 a 2 0.5 t\nq Q0 c 3 0.50 t\nq Q0 d 4 0.75 t more words\n\n", encoding="utf-8")
    qrels = frame([("q", "a", 1), ("q", "c", 1), ("q", "missing", 1)], "gain")
    _, ranking = trec.rank_run(qrels, trec.read_run(path))
    assert ranking.rank.tolist() == [4, 2, np.inf]  # d, then c b a


def test_complete_and_partial_judgement() -> None:
    qrels = frame([("q1", "a", 1), ("q2", "a", 1), ("q3", "a", 0)], "gain")
    run = frame([("q1", "a", 1.0), ("q3", "a", 1.0), ("q4", "a", 1.0)], "score")
    query_ids, ranking = trec.rank_run(qrels, run)
    assert list(query_ids) == ["q1", "q3"]
    np.testing.assert_array_equal(measure("map", ranking), [1, np.nan])
    query_ids, ranking = trec.rank_run(qrels, run, complete=True)
    assert list(query_ids) == ["q1", "q2", "q3"]
    np.testing.assert_array_equal(measure("map", ranking), [1, 0, np.nan])


def test_a_judgement_below_0_is_not_relevant() -> None:
    run = frame([("q", "a", 2.0), ("q", "b", 1.0)], "score")
    for judged in (0, -1, -2):
        _, ranking = trec.rank_run(frame([("q", "a", judged), ("q", "b", 1)], "gain"), run)
        assert ranking.query.tolist() == [0] and ranking.rank.tolist() == [2]


def test_nothing_in_common() -> None:
    query_ids, ranking = trec.rank_run(frame([("q1", "a", 1)], "gain"), frame([("q2", "a", 1.0)], "score"))
    assert len(query_ids) == 0 and measure("map", ranking).shape == (0,)


scores = st.one_of(
    st.floats(width=32, allow_nan=False), st.sampled_from([0.1, 0.1 + 1e-9, 1 / 3, 1e-8, 16777217.0, -0.0, 0.0])
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(scores, min_size=1, max_size=12), st.sampled_from(["run.trec", "run.trec.gz"]))
def test_a_written_run_ranks_the_same_when_read_again(tmp_path: Path, values: list[float], name: str) -> None:
    run = frame([(f"q{i % 2}", f"id {i}".replace(" ", "\u00a0"), score) for i, score in enumerate(values)], "score")
    trec.write_run(tmp_path / name, run, tag="x")
    again = trec.read_run(tmp_path / name)
    single = run.assign(score=run["score"].astype("float32").astype("float64"))
    both = single.merge(again, on=["query_id", "candidate_id"])
    assert len(both) == len(run) == len(again)
    first, second = both["score_x"].to_numpy(), both["score_y"].to_numpy()
    np.testing.assert_array_equal(first[:, None] < first, second[:, None] < second)
    np.testing.assert_array_equal(first, second.astype("float32"))
    qrels = run[["query_id", "candidate_id"]].assign(gain=1)
    np.testing.assert_array_equal(trec.rank_run(qrels, single)[1].rank, trec.rank_run(qrels, again)[1].rank)


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
def test_qrels_survive_writing_and_reading(tmp_path: Path, name: str) -> None:
    qrels = frame([("vi:1", "vi:0001:002", 2), ("vi:1", "en:ở", 0), ("ar:1", "x", -1)], "gain")
    trec.write_qrels(tmp_path / name, qrels)
    once = (tmp_path / name).read_bytes()
    trec.write_qrels(tmp_path / name, qrels)
    assert (tmp_path / name).read_bytes() == once
    pd.testing.assert_frame_equal(trec.read_qrels(tmp_path / name), qrels)


def test_line_ends_of_windows_and_no_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_bytes(b"q1\t0 a 1\r\n  q1 0 b 0")
    assert trec.read_qrels(tmp_path / "qrels")["gain"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("reader", "line", "text"),
    [
        (trec.read_qrels, b"q 0 b", "3 columns, expected 4"),
        (trec.read_qrels, b"q 0 b 1 x", "5 columns, expected 4"),
        (trec.read_qrels, b"q 0 b 1.0", "'1.0' is not a whole number"),
        (trec.read_qrels, b"q 0 b 1_0", "'1_0' is not a whole number"),
        (trec.read_qrels, b"q 0 a 1", "'a' again for query 'q'"),
        (trec.read_qrels, b"q 0 \xff 1", "not UTF-8"),
        (trec.read_run, b"q Q0 b 1 0.5", "5 columns, expected 6"),
        (trec.read_run, b"q Q0 b 1 high t", "'high' is not a number"),
        (trec.read_run, b"q Q0 b 1 nan t", "'nan' is not a number"),
        (trec.read_run, b"q Q0 b 1 1_0 t", "'1_0' is not a number"),
        (trec.read_run, b"q Q0 a 1 0.5 t", "'a' again for query 'q'"),
        (trec.read_run, b"q Q0 b\xc3 1 0.5 t", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, reader, line: bytes, text: str) -> None:
    good = b"q 0 a 1" if reader is trec.read_qrels else b"q Q0 a 1 0.5 t"
    path = tmp_path / "file.trec"
    path.write_bytes(good + b"\n\n" + line + b"\n")
    with pytest.raises(ValueError, match=text) as caught:
        reader(path)
    assert f"{path}, line 3: " in str(caught.value)


def test_missing_and_torn_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.trec"):
        trec.read_run(tmp_path / "none.trec")
    path = tmp_path / "torn.gz"
    path.write_bytes(gzip.compress(b"q Q0 a 1 0.5 t\n" * 9)[:-9])
    with pytest.raises(ValueError, match=r"torn\.gz"):
        trec.read_run(path)
    path.write_bytes(b"q Q0 a 1 0.5 t\n")
    with pytest.raises(ValueError, match=r"torn\.gz"):
        trec.read_run(path)


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


def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "qrels.gz"
    path.write_bytes(b"old")
    with pytest.raises(UnicodeEncodeError):
        trec._write(path, ["a\n", "\ud800\n"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["qrels.gz"] and path.read_bytes() == b"old"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")  # a file where a folder is needed fails for root too
    with pytest.raises(OSError, match="file"):
        trec.write_run(tmp_path / "file" / "run", frame([("q", "a", 1.0)], "score"))


def test_other_bad_arguments(tmp_path: Path) -> None:
    qrels, run = frame([("q", "a", 1)], "gain"), frame([("q", "a", 1.0)], "score")
    with pytest.raises(ValueError, match="relevance_level"):
        trec.rank_run(qrels, run, relevance_level=0)
    with pytest.raises(ValueError, match="column score is missing"):
        trec.rank_run(qrels, qrels)
    with pytest.raises(ValueError, match="stands twice"):
        trec.rank_run(pd.concat([qrels, qrels]), run)
    with pytest.raises(ValueError, match="one word"):
        trec.write_run(tmp_path / "run", run, tag="two words")
    with pytest.raises(ValueError, match="whole numbers"):
        trec.write_qrels(tmp_path / "qrels", frame([("q", "a", 0.5)], "gain"))
    assert not list(tmp_path.iterdir())
