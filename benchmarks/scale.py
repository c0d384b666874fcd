"""A corpus of mMARCO's size: seconds and memory to write it, to open it, and to draw batches from it.

    python benchmarks/scale.py [--pairs 39780811] [--folder FOLDER] [--json FILE]

Made up are as many triples, queries, passages and languages as mMARCO's training set has (unicamp-dl/mmarco: 39,780,811
triples of a query, a passage and a negative; 808,731 queries; 8,841,823 passages), with fewer pairs in proportion. Only
the texts are smaller: a few made-up words, about 20 bytes where mMARCO's passages have hundreds.

The corpus is written by `write_pairs` in one process and opened in a fresh one, which builds every sampler and draws
batches with their texts; before, the files are dropped from the page cache where the system allows it. Memory is what
Linux calls RssAnon: what a process holds beyond mapped files. The growth is counted from after the imports. Another
process then takes English batches with their token ids; the tokenizer is a toy (a token per digit), so its speed says
little about a real one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora import ParallelPairs
from hybridlib.corpora.write import write_pairs
from hybridlib.sampler import MIXTURES, BatchSampler

TRIPLES, QUERIES, PASSAGES = 39_780_811, 808_731, 8_841_823
LANGUAGES = ("de", "en", "es", "fr", "it", "pt", "zh")
STRATEGIES = ("x-x-mono", "x-y", "hybrid")
PIECE = 100_000  # rows of a table in the streams
BATCH, BATCHES = 256, 200


def main() -> None:
    """Write, open in another process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=TRIPLES)
    parser.add_argument("--folder", type=Path, help="where the corpus is written, and kept (None: a temporary folder)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=["open", "tokens"], help="only this part, of the corpus in --folder")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps({"open": opened, "tokens": tokenised}[arguments.part](arguments.folder / "corpus")))
        return
    with tempfile.TemporaryDirectory() as temporary:
        report = measured(arguments.pairs, arguments.folder or Path(temporary))
    print(json.dumps(report, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


def measured(n: int, folder: Path) -> dict:
    """Numbers of all processes; MB are 10^6 bytes."""
    report = {"pairs": n, "load_before": os.getloadavg()[0], "write": written(n, folder / "corpus")}
    report["file_mb"] = file_sizes(folder / "corpus")
    drop_from_cache(folder / "corpus")
    report["open"] = in_fresh_process("open", folder)
    report["tokens"] = in_fresh_process("tokens", folder)
    return report | {"load_after": os.getloadavg()[0]}


def in_fresh_process(part: str, folder: Path) -> dict:
    """What this script finds when it is started for one part."""
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def written(n: int, folder: Path) -> dict:
    """Write the corpus; seconds and the peak of the memory."""
    share = n / TRIPLES
    n_queries, n_passages = (max(1000, round(count * share)) for count in (QUERIES, PASSAGES))
    before, began = resident(), time.perf_counter()
    with Peak() as peak:
        corpus = write_pairs(
            folder,
            name="made up",
            queries=texts("query_id", n_queries),
            passages=texts("passage_id", n_passages),
            pairs=triples(n, n_queries, n_passages),
        )
    assert len(corpus) == n and len(corpus.queries) == n_queries and len(corpus.passages) == n_passages
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 1), "peak_anonymous_mb_beyond_start": megabytes(peak.bytes - before)}


def texts(key: str, n: int) -> Iterator[pa.Table]:
    """Ids "0", "1", ... and for each a made-up text in every language."""
    for start in range(0, n, PIECE):
        number = np.arange(start, min(start + PIECE, n))
        ids = pa.array(number).cast(pa.string())
        words = [pa.array(number * factor % modulus).cast(pa.string()) for factor, modulus in ((7919, 9973), (31, 997))]
        columns = {lang: pc.binary_join_element_wise(f"{lang}{key[0]}", ids, *words, " ") for lang in LANGUAGES}
        yield pa.table({key: ids, **columns})


def triples(n: int, n_queries: int, n_passages: int) -> Iterator[pa.Table]:
    """Random pairs, two thirds as many different ones as there are queries, each with a random negative."""
    rng = np.random.default_rng(0)
    answer = rng.integers(n_passages, size=max(1, n_queries * 2 // 3))
    for start in range(0, n, PIECE):
        query = rng.integers(len(answer), size=min(PIECE, n - start))
        negative = pa.array(rng.integers(n_passages, size=len(query))).cast(pa.string())
        yield pa.table(
            {
                "query_id": pa.array(query).cast(pa.string()),
                "passage_id": pa.array(answer[query]).cast(pa.string()),
                "negatives": pa.ListArray.from_arrays(np.arange(len(query) + 1, dtype=np.int32), negative),
                "source": pa.repeat("mmarco", len(query)),
            }
        )


def opened(folder: Path) -> dict:
    """Open the corpus, build the samplers, draw; seconds and memory beyond mapped files."""
    before, began = resident(), time.perf_counter()
    corpus = ParallelPairs.load(folder)
    first = BatchSampler(corpus, "hybrid", batch_size=BATCH, steps=BATCHES)
    assert len(corpus.__getitems__(first.batch(0).keys())) == BATCH
    seconds = time.perf_counter() - began
    assert len(corpus.fingerprint) == 64
    report = {"seconds_to_first_batch": round(seconds, 2), "anonymous_mb_then": megabytes(resident() - before)}
    kinds = [(strategy, mixture) for strategy in STRATEGIES for mixture in MIXTURES]
    samplers = {kind: BatchSampler(corpus, kind[0], mixture=kind[1], batch_size=BATCH, steps=BATCHES) for kind in kinds}
    report["seconds_with_all_samplers"] = round(time.perf_counter() - began, 2)
    for kind, sampler in samplers.items():
        report[" ".join(kind)] = {"batches_per_second": rates(corpus, sampler)}
    return report | {"anonymous_mb_at_the_end": megabytes(resident() - before), "peak_mb": megabytes(resident("VmHWM"))}


def rates(corpus: ParallelPairs, sampler: BatchSampler) -> dict[str, float]:
    """Batches per second: drawn; drawn with their positives and all texts, negatives included."""
    began = time.perf_counter()
    batches = [sampler.batch(step) for step in range(len(sampler))]
    plan = time.perf_counter() - began
    for batch in batches[: len(batches) // 4]:
        corpus.positives(corpus.query_rows[batch.pair])
        corpus.__getitems__(batch.keys())
    rest = (time.perf_counter() - began - plan) * 4
    return {"plan": round(len(batches) / plan), "with_texts": round(len(batches) / (plan + rest))}


def tokenised(folder: Path) -> dict:
    """Take English batches with their token ids; their rate, and the memory."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from hybridlib.encoder import Encoder
    from hybridlib.training.tokens import TokenizedPairs

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *"0123456789", "enq", "enp"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", pad_token="[PAD]")
    encoder, corpus = Encoder.tiny(tokenizer, hidden=32), ParallelPairs.load(folder)
    before, began = resident(), time.perf_counter()
    with Peak() as peak:
        tokens = TokenizedPairs(corpus, encoder)
        sampler = BatchSampler(corpus, "en-en", batch_size=BATCH, steps=BATCHES)
        for step in range(BATCHES):
            pair = sampler.batch(step).pair
            tokens.query_ids(corpus.query_rows[pair], ["en"] * BATCH)
            tokens.passage_ids(corpus.passage_rows[pair], ["en"] * BATCH)
    rate = BATCHES / (time.perf_counter() - began)
    return {"batches_per_second": round(rate), "peak_anonymous_mb": megabytes(peak.bytes - before)}


class Peak:
    """The largest RssAnon while the block runs, in bytes, looked at every 20 ms."""

    def __enter__(self) -> Peak:
        self.bytes, self._ended = resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.bytes = max(self.bytes, resident())


def resident(kind: str = "RssAnon") -> int:
    """Bytes of memory of this process, as /proc/self/status names them (Linux only)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def megabytes(size: float) -> float:
    """In units of 10^6 bytes."""
    return round(size / 1e6, 1)


def file_sizes(folder: Path) -> dict[str, float]:
    """Of all files, in MB."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): megabytes(path.stat().st_size) for path in files}


def drop_from_cache(folder: Path) -> None:
    """Make the system read the files from the disk again (where it can be told so)."""
    for path in folder.rglob("*"):
        if path.is_file() and hasattr(os, "posix_fadvise"):
            with open(path, "rb") as content:
                os.fsync(content.fileno())
                os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
