"""Corpora larger than memory: written in pieces, opened mapped, drawn from at no cost per pair."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from hybridlib.corpora import ParallelPairs
from hybridlib.sampler import BatchSampler

SCALE = Path(__file__).resolve().parents[1] / "benchmarks" / "scale.py"
MB = 1e6

needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


def benchmark():
    """The benchmark as a module."""
    spec = importlib.util.spec_from_file_location("scale", SCALE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sizes(tmp_path_factory) -> dict[int, dict]:
    """What the benchmark measures with 40,000 and with a million pairs."""
    found = {}
    for n in (40_000, 1_000_000):
        file = tmp_path_factory.mktemp("scale") / "report.json"
        command = [sys.executable, SCALE, "--pairs", str(n), "--json", file]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found[n] = json.loads(file.read_text())
    return found


@needs_linux
def test_opening_and_drawing_take_little_memory_and_no_more_for_more_pairs(sizes):
    small, large = (report["open"]["anonymous_mb_at_the_end"] for report in sizes.values())
    files_small, files_large = (sum(report["file_mb"].values()) for report in sizes.values())
    assert files_large - files_small > 60
    assert large < 30 and large - small < 10


@needs_linux
def test_writing_holds_no_texts(sizes):
    # A block of two million pairs and the ids to look them up in, at most; 40 million pairs: benchmarks/README.md.
    assert sizes[1_000_000]["write"]["peak_anonymous_mb_beyond_start"] < 400


@needs_linux
def test_batches_of_a_large_corpus_are_tokenised_in_little_memory(sizes):
    assert sizes[1_000_000]["tokens"]["peak_anonymous_mb"] < 100


@needs_linux
def test_the_first_batch_of_a_large_corpus_comes_in_seconds(sizes):
    assert sizes[1_000_000]["open"]["seconds_to_first_batch"] < 10


@needs_linux
def test_a_corpus_of_one_query_is_refused_without_reading_all_pairs_into_memory(tmp_path):
    made = benchmark()
    n = 300_000
    pairs = (table.set_column(0, "query_id", pa.repeat("7", len(table))) for table in made.triples(n, 1000, 1000))
    parts = {"queries": made.texts("query_id", 1000), "passages": made.texts("passage_id", 1000), "pairs": pairs}
    corpus = made.write_pairs(tmp_path / "corpus", name="one query", **parts)
    assert len(BatchSampler(corpus, "hybrid", batch_size=1, steps=1).batch(0)) == 1
    with pytest.raises(ValueError, match="only 1 different queries can fill a batch"):
        BatchSampler(corpus, "x-y", batch_size=2, steps=1)


def test_a_batch_that_redrawing_cannot_fill_searches_window_by_window(monkeypatch):
    """The same batches as in one window: all pairs of the queries that are left are equally likely in both."""
    rare = 30  # of these many queries one pair each; of one query all others
    ids = [str(i) for i in range(rare + 1)]
    texts = {lang: [f"{lang} {i}" for i in ids] for lang in ("de", "en")}
    query = ["0"] * 5000 + ids[1:]
    pairs = pa.table({"query_id": query, "passage_id": query, "source": ["made"] * len(query)})
    tables = pa.table({"query_id": ids, **texts}), pa.table({"passage_id": ids, **texts})
    corpus = ParallelPairs.build(*tables, pairs, name="skewed")
    sampler = BatchSampler(corpus, "x-y", batch_size=rare + 1, steps=3)
    whole = [sampler.batch(t).keys() for t in range(3)]
    monkeypatch.setattr("hybridlib.sampler.WINDOW", 700)
    assert [sampler.batch(t).keys() for t in range(3)] == whole
    assert sorted(corpus.query_rows[sampler.batch(0).pair]) == list(range(rare + 1))
