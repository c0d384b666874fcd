"""Search: exact against brute force, ties included; the same in shards, processes and after a kill; bad input."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made import encoder, parallel_corpus

from hybridlib.companion.search import topk
from hybridlib.companion.search.collection import PASSAGES, Passages
from hybridlib.companion.search.search import search
from hybridlib.companion.search.topk import top_k
from hybridlib.corpora import Benchmark
from hybridlib.encoder import Encoder
from hybridlib.evaluation import encode_benchmark, rank_relevant

WORDS = parallel_corpus()
QUERIES = [f"enask thing{i}" for i in range(9)]


@dataclass(frozen=True, eq=False)
class Corpus(Passages):
    """Passages that note which rows were asked for."""

    asked: list[tuple[int, int]] = field(default_factory=list)

    def texts(self, start: int, stop: int) -> list[str]:
        self.asked.append((start, stop))
        return super().texts(start, stop)


def made(ids: list[str], texts: list[str]) -> Corpus:
    table = pa.table([ids, texts], schema=PASSAGES)
    return Corpus(table, hashlib.sha256(repr(table.to_pydict()).encode()).hexdigest())


def passages(n: int) -> Corpus:
    """Texts of 2 to 9 known words, some of them equal; ids whose order as texts is not that of the rows."""
    rng = np.random.default_rng(5)
    words = [f"thing{i}" for i in range(40)] + ["detell", "entell", "of", "40"]
    texts = [" ".join(rng.choice(words, rng.integers(2, 10))) for _ in range(n)]
    texts = [texts[i // 2] if i % 5 == 0 else texts[i] for i in range(n)]
    return made([f"d{i * 7919 % 1000}#é{i}" for i in range(n)], texts)


def whole_numbers(texts: list[str]) -> torch.Tensor:
    """A vector of small whole numbers for each text."""
    digests = [hashlib.sha256(text.encode()).digest()[:6] for text in texts]
    return torch.tensor([[byte % 3 - 1 for byte in digest] for digest in digests], dtype=torch.float32)


@pytest.fixture
def exact(monkeypatch) -> list[list[str]]:
    """Encoders give whole numbers, so that every score is exact; the list has the texts of each call."""
    calls: list[list[str]] = []

    def encode(self, texts, *, prefix="", **options):
        calls.append(list(texts))
        return whole_numbers([prefix + text for text in texts])

    monkeypatch.setattr(Encoder, "encode", encode)
    return calls


def all_scores(corpus: Passages, queries: list[str], prefix: str = "") -> np.ndarray:
    texts = [prefix + text for text in corpus.texts(0, len(corpus))]
    return (whole_numbers(queries).double() @ whole_numbers(texts).double().T).numpy()


def check_exact(hits, scores: np.ndarray, ids: list[str], k: int) -> None:
    """Each hit has its score, the scores are the k best, and equal ones stand by id descending."""
    n = min(k, len(ids))
    np.testing.assert_array_equal(hits.scores[:, :n], -np.sort(-scores, axis=1)[:, :n])
    for line, rows, names in zip(scores, hits.rows[:, :n], hits.ids[:, :n], strict=True):
        assert [ids[row] for row in rows] == list(names) and len(set(rows)) == n
        found = [(line[row], ids[row]) for row in rows]
        assert found == sorted(found, reverse=True)
    assert (hits.rows[:, n:] == -1).all() and (hits.scores[:, n:] == -np.inf).all() and (hits.ids[:, n:] == "").all()


# ---- top_k


@given(st.data())
def test_top_k_is_brute_force(data):
    n_queries, n, width = (data.draw(st.integers(low, high)) for low, high in ((1, 7), (0, 60), (1, 6)))
    k, rng = data.draw(st.integers(1, 70)), np.random.default_rng(data.draw(st.integers(0, 9)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    queries, vectors = (torch.from_numpy(rng.integers(-2, 3, (m, width))).float() for m in (n_queries, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "QUERIES_AT_ONCE", data.draw(st.integers(1, 8)))
        patch.setattr(topk, "VECTORS_AT_ONCE", data.draw(st.integers(1, 20)))
        found, rows = (table.numpy() for table in top_k(queries, vectors, k, score_dtype=dtype))
    scores = (queries @ vectors.T).numpy()
    assert found.shape == rows.shape == (n_queries, k) and found.dtype == np.float32 and rows.dtype == np.int64
    np.testing.assert_array_equal(found[:, :n], -np.sort(-scores, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(scores, rows[:, :n], axis=1), found[:, :n])
    assert all(len(set(line)) == len(line) for line in rows[:, :n])
    assert (rows[:, n:] == -1).all() and (found[:, n:] == -np.inf).all()


def test_top_k_of_real_numbers_beside_float64():
    rng = np.random.default_rng(1)
    queries, vectors = (torch.from_numpy(rng.standard_normal((n, 48), dtype=np.float32)) for n in (300, 20_000))
    scores, rows = top_k(queries, vectors, 100)
    exact = (queries.double() @ vectors.double().T).numpy()
    wanted = -np.sort(-exact, axis=1)[:, :100]
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(exact, rows.numpy(), axis=1), wanted, atol=1e-5)
    again = top_k(queries, vectors, 100)
    assert torch.equal(again[0], scores) and torch.equal(again[1], rows)


def test_vectors_that_are_not_finite_are_refused():
    queries, vectors = torch.ones(2, 3), torch.ones(9000, 3)
    vectors[8500] = torch.inf
    with pytest.raises(ValueError, match="vectors 8192 to 9000: a vector is not finite"):
        top_k(queries, vectors, 1)
    with pytest.raises(ValueError, match="queries: a vector is not finite"):
        top_k(queries * torch.nan, vectors, 1)
    with pytest.raises(ValueError, match="score in float32"):
        top_k(queries, torch.full((4, 3), 1e6), 1, score_dtype=torch.float16)


# ---- search


@pytest.mark.parametrize("k", [1, 4, 60])
@pytest.mark.parametrize("shard_size", [1, 7, 40, 1000])
def test_search_is_brute_force_ties_included(exact, tmp_path, shard_size, k):
    corpus, model = passages(40), encoder(WORDS)
    model.query_prefix, model.passage_prefix = "", "passage: "
    hits = search(corpus, model, QUERIES, k, tmp_path, shard_size=shard_size)
    assert max(stop - start for start, stop in corpus.asked) <= shard_size
    check_exact(hits, all_scores(corpus, QUERIES, "passage: "), corpus.ids_at(range(40)).tolist(), k)
    assert all(len(set(texts)) == len(texts) for texts in exact), "equal texts of a shard are encoded once"


def test_ranks_are_those_of_evaluate(tmp_path):
    """A real, tiny encoder; equal texts; every judgement's rank in the pool is its place in the list."""
    corpus, model = passages(150), encoder(WORDS, layers=1)
    ids = [f"en:{name}" for name in corpus.ids_at(range(150)).tolist()]
    texts = corpus.texts(0, 150)
    rng = np.random.default_rng(0)
    names = [f"en:q{i}" for i in range(len(QUERIES))]
    judged = [(name, ids[i]) for name in names for i in rng.choice(150, 20, replace=False)]
    columns = {"lang": ["en"] * 9, "question_id": names, "cluster": names, "text": QUERIES}
    benchmark = Benchmark.build(
        "made",
        ["en"],
        pa.table({"query_id": names, **columns}),
        pa.table({"candidate_id": ids, "lang": ["en"] * 150, "text": texts}),
        pa.table(
            {"query_id": [q for q, _ in judged], "candidate_id": [c for _, c in judged], "gain": [1] * len(judged)}
        ),
    )
    hits = search(made(ids, texts), model, QUERIES, 150, tmp_path)
    place = {(name, hit): rank for name, line in zip(names, hits.ids, strict=True) for rank, hit in enumerate(line, 1)}
    ranks = rank_relevant(benchmark, *encode_benchmark(benchmark, model))
    assert len(ranks) == len(judged)
    assert [place[q, c] for q, c in zip(ranks["query_id"], ranks["candidate_id"], strict=True)] == list(
        ranks["rank_in_pool"]
    )


def test_half_precision_scores_are_near(tmp_path):
    corpus, model = passages(90), encoder(WORDS, layers=1)
    whole = search(corpus, model, QUERIES, 90, tmp_path)
    for dtype, error in ((torch.bfloat16, 2**-7), (torch.float16, 2**-10)):
        half = search(corpus, model, QUERIES, 90, tmp_path, score_dtype=dtype)
        for q in range(len(QUERIES)):
            exact = dict(zip(whole.rows[q], whole.scores[q], strict=True))
            np.testing.assert_allclose(half.scores[q], [exact[row] for row in half.rows[q]], atol=2 * error)
        assert len(np.unique(half.scores)) < len(np.unique(whole.scores))


SCRIPT = """
import sys
import numpy as np
from accelerate import PartialState
from test_search import QUERIES, WORDS, encoder, passages, search
hits = search(passages(200), encoder(WORDS, layers=2), QUERIES, 30, sys.argv[1], shard_size=23)
process = PartialState().process_index
np.savez(f"{sys.argv[1]}/process{process}.npz", rows=hits.rows, scores=hits.scores, ids=hits.ids.astype(str))
"""


def on_two_processes(folder: Path) -> list[dict[str, np.ndarray]]:
    """What each returns. --multi_gpu is torchrun, and runs on CPUs where there is no GPU."""
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0", "--num_machines", "1"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", str(folder / "script.py"), str(folder)]
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "accelerate.commands.launch", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    return [dict(np.load(folder / f"process{i}.npz")) for i in range(2)]


def test_two_processes_share_the_shards_and_give_what_one_gives(tmp_path):
    alone = search(passages(200), encoder(WORDS, layers=2), QUERIES, 30, tmp_path / "one", shard_size=23)
    for part in on_two_processes(tmp_path / "two"):
        np.testing.assert_allclose(part["scores"], alone.scores, atol=1e-6)
        assert [sorted(line) for line in part["rows"]] == [sorted(line) for line in alone.rows]
        assert part["ids"].tolist() == alone.ids.tolist()
    assert [path.name for path in files(tmp_path / "one")] == [path.name for path in files(tmp_path / "two")]


def test_a_killed_search_repeats_at_most_one_shard(exact, tmp_path, monkeypatch):
    corpus, model = passages(40), encoder(WORDS)
    whole = search(corpus, model, QUERIES, 10, tmp_path / "whole", shard_size=8)
    corpus.asked.clear()

    def killed(self, texts, **options):
        if len(corpus.asked) == 4:
            raise KeyboardInterrupt
        return whole_numbers(texts)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", killed)
        with pytest.raises(KeyboardInterrupt):
            search(corpus, model, QUERIES, 10, tmp_path / "killed", shard_size=8)
    hits = search(corpus, model, QUERIES, 10, tmp_path / "killed", shard_size=8)
    assert [start for start, _ in corpus.asked] == [0, 8, 16, 24, 24, 32]
    exact.clear()
    again = search(corpus, model, QUERIES, 10, tmp_path / "killed", shard_size=8)
    assert exact == []
    for other in (hits, again):
        assert np.array_equal(other.rows, whole.rows) and np.array_equal(other.scores, whole.scores)


def test_what_decides_the_result_makes_another_search(exact, tmp_path):
    prefixed = encoder(WORDS)
    prefixed.passage_prefix = "p: "
    first = {"corpus": passages(40), "encoder": encoder(WORDS), "queries": QUERIES, "k": 5, "shard_size": 20}
    changes = [{"queries": QUERIES[::-1]}, {"k": 3}, {"shard_size": 9}, {"score_dtype": torch.bfloat16}]
    changes += [{"dtype": torch.bfloat16}, {"batch_tokens": 64}, {"encoder": encoder(WORDS, seed=1)}]
    changes += [{"encoder": prefixed}, {"corpus": passages(39)}]
    for change in [{}, *changes]:
        exact.clear()
        search(**first | change, folder=tmp_path)
        assert len(exact) > 1, change
    exact.clear()
    search(**first, folder=tmp_path)
    assert exact == []


# ---- bad input


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*.npz"))


@pytest.mark.parametrize("damage", ["empty", "cut off", "one bit", "of another search"])
def test_a_damaged_shard_is_made_again_with_a_warning(exact, tmp_path, caplog, damage):
    corpus, model = passages(40), encoder(WORDS)
    whole = search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    path = files(tmp_path)[2]
    content = bytearray(path.read_bytes())
    if damage == "of another search":
        search(corpus, model, QUERIES[:1], 10, tmp_path / "other", shard_size=8)
        content = files(tmp_path / "other")[2].read_bytes()
    elif damage == "one bit":
        content[content.rindex(b"NUMPY") + 150] ^= 1  # of the rows
    cut = {"empty": 0, "cut off": len(content) - 9}.get(damage, len(content))
    path.write_bytes(content[:cut])
    exact.clear()
    with caplog.at_level(logging.WARNING):
        hits = search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    assert str(path) in caplog.text and "searched again" in caplog.text
    assert [len(texts) for texts in exact] == [len(QUERIES), len(set(corpus.texts(16, 24)))]
    assert np.array_equal(hits.rows, whole.rows) and np.array_equal(hits.scores, whole.scores)


def test_a_full_disk_leaves_the_finished_shards(exact, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    corpus, model, texts = passages(40), encoder(WORDS), Corpus.texts
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full_at_the_third(self, start: int, stop: int) -> list[str]:
        if start == 16:
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
        return texts(self, start, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Corpus, "texts", full_at_the_third)
        try:
            with pytest.raises(OSError, match="shard-000000016.*not written.*make room.*finished stays"):
                search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in files(tmp_path)] == [f"shard-{start:09d}.npz" for start in (0, 8)]
    assert not list(tmp_path.rglob("*.new"))
    hits = search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    check_exact(hits, all_scores(corpus, QUERIES), corpus.ids_at(range(40)).tolist(), 10)


@pytest.mark.parametrize(
    ("texts", "queries", "options", "message"),
    [
        (["x", None, "z"], QUERIES, {"k": 1}, "passages 0 to 3: .*must be a str"),
        ([], QUERIES, {"k": 1}, "the corpus has no passages"),
        (["x"], "one", {"k": 1}, "list of at least one text"),
        (["x"], [], {"k": 1}, "list of at least one text"),
        (["x"], QUERIES, {"k": 0}, "k is 0"),
        (["x"], QUERIES, {"k": 1, "shard_size": 0}, "shard_size 0"),
    ],
)
def test_search_says_what_is_wrong(tmp_path, texts, queries, options, message):
    corpus = made([f"d{i}" for i in range(len(texts))], texts)
    with pytest.raises(ValueError, match=message):
        search(corpus, encoder(WORDS), queries, folder=tmp_path, **options)
    assert not files(tmp_path)
