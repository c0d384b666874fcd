"""Ranks and measures on a 13,090 x 13,014 score matrix, against an independent implementation, query by query.

    python benchmarks/measures.py [--queries 200] [--json FILE]

Vectors are random (the cost does not depend on them) in XQuAD-R's shape: 11 languages, 1,190 questions, Table 10's
candidates. The peer is ir_measures, given a run per query and setting; it is timed on a sample of queries and
extrapolated. Values must agree to 1e-9.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import ir_measures
import numpy as np
import pyarrow as pa
import torch
from ir_measures import AP, RR, P, R, nDCG

from hybridlib.companion.report import paper
from hybridlib.corpora import Benchmark
from hybridlib.evaluation import evaluate_vectors

MEASURES = {"map": AP, "recall@1": R @ 1, "recall@10": R @ 10, "precision@10": P @ 10, "ndcg@10": nDCG @ 10, "mrr": RR}


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    benchmark = make_benchmark()
    generator = torch.Generator().manual_seed(0)
    q, c = (
        torch.nn.functional.normalize(torch.randn(len(table), 384, generator=generator), dim=1)
        for table in (benchmark.queries, benchmark.candidates)
    )
    began = time.perf_counter()
    result = evaluate_vectors(benchmark, q, c, measures=list(MEASURES))
    ours = time.perf_counter() - began
    rows = np.random.default_rng(0).choice(len(q), arguments.queries, replace=False)
    peer, gap = time_peer(benchmark, (q[rows] @ c.T).numpy(), rows, result.rows)
    report = {
        "score_matrix": [len(q), len(c)],
        "rows": len(result.rows),
        "ours_s": round(ours, 2),
        "peer_sampled_queries": arguments.queries,
        "peer_extrapolated_s": round(peer * len(q) / arguments.queries, 1),
        "ratio": round(peer * len(q) / arguments.queries / ours, 1),
        "largest_difference": gap,
    }
    print(json.dumps(report, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


def make_benchmark() -> Benchmark:
    """XQuAD-R's shape with empty texts: question i is answered by candidate i % n of each language."""
    counts = paper.reported(10, benchmark="xquad-r", measure="candidates").set_index("language")["value"].astype(int)
    languages = sorted(counts.index)
    queries = [(f"{lang}:{i}", lang, str(i), str(i // 5), "") for lang in languages for i in range(1190)]
    candidates = [(f"{lang}:{i:04d}:000", lang, "") for lang in languages for i in range(counts[lang])]
    answers = [[f"{lang}:{i % counts[lang]:04d}:000" for lang in languages] for i in range(1190)]
    relevant = [(query[0], answer, 1) for query in queries for answer in answers[int(query[2])]]
    tables = [
        pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
        for names, rows in (
            (("query_id", "lang", "question_id", "cluster", "text"), queries),
            (("candidate_id", "lang", "text"), candidates),
            (("query_id", "candidate_id", "gain"), relevant),
        )
    ]
    return Benchmark.build("made up", languages, *tables)


def time_peer(benchmark: Benchmark, scores: np.ndarray, rows: np.ndarray, ours) -> tuple[float, float]:
    """Seconds for all settings of the sampled queries, and the largest difference of a value."""
    ids = np.array(benchmark.candidates["candidate_id"].to_pylist())
    spoken = np.array(benchmark.candidates["lang"].to_pylist())
    query_ids = np.array(benchmark.queries["query_id"].to_pylist())[rows]
    judged = benchmark.relevant.to_pandas()
    judged = {
        q: set(part["candidate_id"]) for q, part in judged[judged["query_id"].isin(query_ids)].groupby("query_id")
    }
    own = ours[ours["query_id"].isin(query_ids)].set_index(["query_id", "pool"])
    seconds, gap = 0.0, 0.0
    for query, line in zip(query_ids, scores, strict=True):
        for lang in (*benchmark.languages, "all"):
            inside = np.flatnonzero((spoken == lang) | (lang == "all"))
            run = {query: dict(zip(ids[inside].tolist(), line[inside].tolist(), strict=True))}
            qrels = {query: dict.fromkeys(judged[query] & set(ids[inside].tolist()), 1)}
            began = time.perf_counter()
            values = ir_measures.calc_aggregate(list(MEASURES.values()), qrels, run)
            seconds += time.perf_counter() - began
            row = own.loc[(query, lang)]
            gap = max(gap, *(abs(values[theirs] - row[name]) for name, theirs in MEASURES.items()))
    return seconds, gap


if __name__ == "__main__":
    main()
