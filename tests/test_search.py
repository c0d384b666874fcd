"""Search: exact against brute force, ties included; the same in shards, processes and after a kill; bad input."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made import encoder, parallel_corpus

from hybridlib.companion.search.hitfile import read_hits
from hybridlib.companion.search.search import Hits, search, top_k
from hybridlib.companion.search.topk import merge, top_k_distinct
from hybridlib.corpora import Benchmark
from hybridlib.encoder import Encoder
from hybridlib.evaluation import encode_benchmark, rank_relevant

WORDS = parallel_corpus()


class Corpus:
    """Passages in memory that note how much was asked for at once."""

    def __init__(self, ids: list[str], texts: list[str], fingerprint: str = "made") -> None:
        self._ids, self._texts, self.fingerprint, self.most = ids, texts, fingerprint, 0

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self, start: int, stop: int) -> list[str]:
        self.most = max(self.most, stop - start)
        return self._ids[start:stop]

    def texts(self, start: int, stop: int) -> list[str]:
        self.most = max(self.most, stop - start)
        return self._texts[start:stop]


def passages(n: int, fingerprint: str = "made") -> Corpus:
    """Texts of 2 to 9 known words, some of them equal; ids whose order as texts is not that of the rows."""
    rng = np.random.default_rng(5)
    words = [f"thing{i}" for i in range(40)] + ["detell", "entell", "of", "40"]
    texts = [" ".join(rng.choice(words, rng.integers(2, 10))) for _ in range(n)]
    texts = [texts[i // 2] if i % 5 == 0 else texts[i] for i in range(n)]
    return Corpus([f"d{i * 7919 % 1000}#é{i}" for i in range(n)], texts, fingerprint)


QUERIES = [f"enask thing{i}" for i in range(9)]


def whole_numbers(texts: list[str]) -> torch.Tensor:
    """A vector of small whole numbers for each text."""
    digests = [hashlib.sha256(text.encode()).digest()[:6] for text in texts]
    return torch.tensor([[byte % 3 - 1 for byte in digest] for digest in digests], dtype=torch.float32)


@pytest.fixture
def exact(monkeypatch) -> list[int]:
    """Encoders give whole numbers, so that every score is exact; the list has the number of texts of each call."""
    calls: list[int] = []

    def encode(self, texts, *, prefix="", **options):
        calls.append(len(texts))
        return whole_numbers([prefix + text for text in texts])

    monkeypatch.setattr(Encoder, "encode", encode)
    return calls


def brute_force(corpus: Corpus, queries: list[str], k: int) -> tuple[list[list[int]], list[list[float]]]:
    """Rows and scores in float64, sorted by Python: by score, then by id, both descending."""
    n = len(corpus)
    scores = whole_numbers(queries).double() @ whole_numbers(corpus.texts(0, n)).double().T
    ids = corpus.ids(0, n)
    rows = [sorted(range(n), key=lambda i, line=line: (line[i], ids[i]), reverse=True)[:k] for line in scores.tolist()]
    return rows, [scores[q, line].tolist() for q, line in enumerate(rows)]


# ---- top_k


@given(st.data())
def test_top_k_is_brute_force_with_the_first_of_equal_scores_first(data):
    n_queries, n, width = (data.draw(st.integers(low, high)) for low, high in ((1, 7), (0, 60), (1, 6)))
    k, block = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 20))
    tile = (data.draw(st.integers(1, 8)), data.draw(st.integers(1, 20)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    queries, vectors = (rng.integers(-2, 3, (m, width)) for m in (n_queries, n))
    given = (torch.tensor(part, dtype=torch.float32) for part in (queries, vectors))
    hits = top_k(next(given), next(given).split(block) if n else [], k, score_dtype=dtype, tile=tile)
    scores = queries.astype(np.float64) @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    assert hits.rows.shape == hits.scores.shape == (n_queries, k)
    assert hits.rows.dtype == np.int64 and hits.scores.dtype == np.float32
    np.testing.assert_array_equal(hits.rows[:, :n], order)
    np.testing.assert_array_equal(hits.scores[:, :n], best)
    assert (hits.rows[:, n:] == -1).all() and (hits.scores[:, n:] == -np.inf).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_top_k_of_real_numbers(threads):
    """Beside float64 and, to the bit, beside what another number of threads gives."""
    rng = np.random.default_rng(1)
    queries, vectors = (torch.from_numpy(rng.standard_normal((n, 48), dtype=np.float32)) for n in (300, 9000))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        hits = top_k(queries, vectors.split(4096), 100)
        torch.set_num_threads(3 - threads)
        other = top_k(queries, vectors.split(4096), 100)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(hits.rows, other.rows) and np.array_equal(hits.scores, other.scores)
    exact = (queries.double() @ vectors.double().T).numpy()
    wanted = -np.sort(-exact, axis=1)[:, :100]
    np.testing.assert_allclose(hits.scores, wanted, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(exact, hits.rows, axis=1), wanted, atol=1e-5)
    assert (np.diff(hits.scores) <= 0).all()


def test_equal_vectors_tie_exactly_wherever_they_stand():
    rng = np.random.default_rng(2)
    vectors = torch.from_numpy(rng.standard_normal((400, 33), dtype=np.float32))[rng.integers(0, 400, 3000)]
    queries = torch.from_numpy(rng.standard_normal((5, 33), dtype=np.float32))
    hits = top_k_distinct(queries, vectors, 700)
    distinct, group = np.unique(vectors.numpy(), axis=0, return_inverse=True)
    score = (queries.double() @ torch.from_numpy(distinct).double().T).numpy()
    assert (np.diff(-np.sort(-score, axis=1)) < -1e-7).all(), "the groups are apart"
    order = np.argsort(-score[:, group.reshape(-1)], axis=1, kind="stable")[:, :700]
    np.testing.assert_array_equal(hits.rows, order)
    for rows, scores in zip(hits.rows, hits.scores, strict=True):
        pairs = {(int(group.reshape(-1)[row]), float(score)) for row, score in zip(rows, scores, strict=True)}
        assert len(pairs) == len({which for which, _ in pairs})


@given(st.data())
def test_merged_lists_are_those_of_the_whole(data):
    """Ids of few letters, of all planes, so that one is often the start of another; few scores, so that most tie."""
    ids = data.draw(st.lists(st.text("ab\uffff\U00010000é", max_size=4), unique=True, max_size=24))
    k, n_queries = data.draw(st.integers(1, 12)), 2
    scores = np.array(data.draw(st.lists(st.integers(0, 2), min_size=2 * len(ids), max_size=2 * len(ids)))).reshape(
        2, -1
    )
    shard = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(ids), max_size=len(ids))))

    def best(rows: list[int]) -> Hits:
        hits = Hits(
            np.full((n_queries, k), -1),
            np.full((n_queries, k), -np.inf, dtype=np.float32),
            np.full((n_queries, k), "", dtype=object),
        )
        for q in range(n_queries):
            order = sorted(rows, key=lambda i, q=q: (scores[q, i], ids[i]), reverse=True)[:k]
            hits.rows[q, : len(order)], hits.scores[q, : len(order)] = order, scores[q, order]
            hits.ids[q, : len(order)] = [ids[i] for i in order]
        return hits

    first, second, third = (best(np.flatnonzero(shard == i).tolist()) for i in range(3))
    found, wanted = merge(merge(first, second), third), best(list(range(len(ids))))
    for name in vars(wanted):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize(
    ("queries", "blocks", "options", "message"),
    [
        (torch.ones(2, 3), [torch.ones(4, 3)], {"k": 0}, "k is 0"),
        (torch.ones(2, 3), [torch.ones(4, 3)], {"k": 1, "tile": (0, 5)}, "at least 1"),
        (torch.ones(2, 3), [torch.ones(4, 2)], {"k": 1}, r"must be \(any, 3\)"),
        (torch.full((2, 3), torch.nan), [], {"k": 1}, "queries: a vector is not finite"),
        (torch.ones(2, 3), [torch.ones(4, 3), torch.full((1, 3), torch.inf)], {"k": 1}, "starts at row 4.*not finite"),
        (torch.ones(2, 3), [torch.full((4, 3), 1e6)], {"k": 1, "score_dtype": torch.float16}, "score in float32"),
    ],
)
def test_top_k_says_what_is_wrong(queries, blocks, options, message):
    with pytest.raises(ValueError, match=message):
        top_k(queries, blocks, **options)


def test_a_sum_beyond_float32_is_no_error():
    assert top_k(torch.ones(1, 2), [torch.full((3, 2), 3e38) * torch.tensor([1, -1])], 2).rows.tolist() == [[0, 1]]
    large = torch.full((3, 2), 2e38)
    assert top_k(torch.tensor([[1e-9, 0]]), [large], 2).rows.tolist() == [[0, 1]]


# ---- search


@pytest.mark.parametrize("k", [1, 4, 60])
@pytest.mark.parametrize("shard_size", [1, 7, 40, 1000])
def test_search_is_brute_force_ties_included(exact, tmp_path, shard_size, k):
    corpus, model = passages(40), encoder(WORDS)
    model.query_prefix, model.passage_prefix = "", "passage: "
    hits = search(corpus, model, QUERIES, k, tmp_path, shard_size=shard_size)
    assert corpus.most <= shard_size
    prefixed = Corpus(corpus.ids(0, 40), [f"passage: {text}" for text in corpus.texts(0, 40)])
    rows, scores = brute_force(prefixed, QUERIES, k)
    assert hits.rows[:, :40].tolist() == rows and hits.scores[:, :40].tolist() == scores
    assert (hits.rows[:, 40:] == -1).all() and (hits.scores[:, 40:] == -np.inf).all() and (hits.ids[:, 40:] == "").all()
    assert hits.ids[:, :40].tolist() == [[corpus.ids(0, 40)[i] for i in line] for line in rows]


def test_ranks_are_those_of_evaluate(tmp_path):
    """A real, tiny encoder; equal texts; every judgement's rank in the pool is its place in the list."""
    corpus, model = passages(150), encoder(WORDS, layers=1)
    ids = [f"en:{name}" for name in corpus.ids(0, 150)]
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
    hits = search(Corpus(ids, texts), model, QUERIES, 150, tmp_path)
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


def test_two_processes_give_to_the_bit_what_one_gives(tmp_path):
    """The one with two threads, the two with one each."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        alone = search(passages(200), encoder(WORDS, layers=2), QUERIES, 30, tmp_path / "one", shard_size=23)
    finally:
        torch.set_num_threads(threads)
    for part in on_two_processes(tmp_path / "two"):
        assert part["rows"].tobytes() == alone.rows.tobytes()
        assert part["scores"].tobytes() == alone.scores.tobytes()
        assert part["ids"].tolist() == alone.ids.tolist()
    assert len(files(tmp_path / "two")) == 9
    for one, two in zip(files(tmp_path / "one"), files(tmp_path / "two"), strict=True):
        assert one.name == two.name
        assert all(
            np.array_equal(a, b) for a, b in zip(*(vars(read_hits(p)[0]).values() for p in (one, two)), strict=True)
        )


def test_a_killed_search_repeats_at_most_one_shard(exact, tmp_path, monkeypatch):
    corpus, model = passages(40), encoder(WORDS)
    whole = search(corpus, model, QUERIES, 10, tmp_path / "whole", shard_size=8)
    exact.clear()
    texts, asked = corpus.texts, []

    def until_the_fourth(start: int, stop: int) -> list[str]:
        asked.append(start)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return texts(start, stop)

    monkeypatch.setattr(corpus, "texts", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        search(corpus, model, QUERIES, 10, tmp_path / "killed", shard_size=8)
    hits = search(corpus, model, QUERIES, 10, tmp_path / "killed", shard_size=8)
    assert asked == [0, 8, 16, 24, 24, 32]
    assert np.array_equal(hits.rows, whole.rows) and np.array_equal(hits.scores, whole.scores)
    exact.clear()
    again = search(corpus, model, QUERIES, 10, tmp_path / "killed", shard_size=8)
    assert exact == [] and np.array_equal(again.rows, whole.rows) and again.ids.tolist() == whole.ids.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"queries": QUERIES[::-1]},
        {"k": 3},
        {"shard_size": 9},
        {"score_dtype": torch.bfloat16},
        {"dtype": torch.bfloat16},
        {"tile": (4, 4)},
        {"batch_tokens": 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_arguments_are_another_search(exact, tmp_path, change):
    arguments = {"queries": QUERIES, "k": 5, "shard_size": 20}
    search(passages(40), encoder(WORDS), folder=tmp_path, **arguments)
    exact.clear()
    search(passages(40), encoder(WORDS), folder=tmp_path, **arguments)
    assert exact == []
    search(passages(40), encoder(WORDS), folder=tmp_path, **{**arguments, **change})
    assert sum(exact) == 40 + len(QUERIES)


def test_another_encoder_or_prefix_is_another_search(exact, tmp_path):
    prefixed = encoder(WORDS)
    prefixed.passage_prefix = "p: "
    for model in (encoder(WORDS), encoder(WORDS, seed=1), prefixed):
        exact.clear()
        search(passages(40), model, QUERIES, 5, tmp_path)
        assert sum(exact) == 40 + len(QUERIES)


# ---- bad input


def files(folder: Path, name: str = "shard-*") -> list[Path]:
    return sorted(folder.glob(f"*/{name}.safetensors"))


@pytest.mark.parametrize("damage", ["empty", "cut off", "one bit", "of another search"])
def test_a_damaged_shard_is_made_again_with_a_warning(exact, tmp_path, caplog, damage):
    corpus, model = passages(40), encoder(WORDS)
    whole = search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    files(tmp_path, "hits")[0].unlink()
    path = files(tmp_path)[2]
    content = path.read_bytes()
    if damage == "of another search":
        search(corpus, model, QUERIES[:1], 10, tmp_path / "other", shard_size=8)
        content = files(tmp_path / "other")[2].read_bytes()
    cut = {"empty": 0, "cut off": len(content) - 9}.get(damage, len(content))
    path.write_bytes(content[: cut - 1] + bytes([content[cut - 1] ^ (damage == "one bit")]) if cut else b"")
    exact.clear()
    with caplog.at_level(logging.WARNING):
        hits = search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    assert str(path) in caplog.text and "searched again" in caplog.text
    assert sorted(exact) == [8, len(QUERIES)]
    assert np.array_equal(hits.rows, whole.rows) and np.array_equal(hits.scores, whole.scores)


def test_a_damaged_result_is_merged_again_from_the_shards(exact, tmp_path, caplog):
    corpus, model = passages(40), encoder(WORDS)
    whole = search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    path = files(tmp_path, "hits")[0]
    path.write_bytes(path.read_bytes()[:-1])
    exact.clear()
    hits = search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    assert str(path) in caplog.text and exact == []
    assert np.array_equal(hits.rows, whole.rows) and np.array_equal(hits.scores, whole.scores)


@pytest.mark.parametrize("complete", [True, False])
def test_a_corpus_that_changed_under_its_fingerprint_is_refused(exact, tmp_path, complete):
    before, model = passages(40), encoder(WORDS)
    search(before, model, QUERIES, 10, tmp_path, shard_size=8)
    if not complete:
        files(tmp_path, "hits")[0].unlink()
    ids, texts = before.ids(0, 40), before.texts(0, 40)
    changed = Corpus([*ids[:17], "new", *ids[18:]], texts)
    with pytest.raises(ValueError, match="shard-000000016-000000024.*other ones now.*fingerprint, made, did not"):
        search(changed, model, QUERIES, 10, tmp_path, shard_size=8)
    with pytest.raises(ValueError, match="had 40 passages and now has 39.*fingerprint, made, did not"):
        search(Corpus(ids[1:], texts[1:]), model, QUERIES, 10, tmp_path, shard_size=8)
    exact.clear()
    changed.fingerprint = "changed"
    search(changed, model, QUERIES, 10, tmp_path, shard_size=8)
    assert sum(exact) == 40 + len(QUERIES)
    search(before, model, QUERIES, 10, tmp_path, shard_size=8)


def test_a_full_disk_leaves_the_finished_shards(exact, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    corpus, model, texts = passages(40), encoder(WORDS), Corpus.texts
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full_at_the_third(self, start: int, stop: int) -> list[str]:
        if start == 16:
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
        return texts(self, start, stop)

    monkeypatch.setattr(Corpus, "texts", full_at_the_third)
    try:
        with pytest.raises(OSError, match="shard-000000016-000000024.*not written.*start again.*finished stays"):
            search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.undo()
    assert [path.name for path in files(tmp_path)] == [f"shard-{a:09d}-{a + 8:09d}.safetensors" for a in (0, 8)]
    assert not list(tmp_path.rglob("*.new"))


def test_after_a_full_disk_a_search_goes_on(exact, tmp_path, monkeypatch):
    corpus, model = passages(40), encoder(WORDS)
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if "shard-000000016" in self.name:
            write(self, content[:100])
            raise OSError(28, "No space left on device")
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device.*make room"):
            search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    exact.clear()
    hits = search(corpus, model, QUERIES, 10, tmp_path, shard_size=8)
    assert sum(exact) == 24 + len(QUERIES)
    assert hits.rows.tolist() == brute_force(corpus, QUERIES, 10)[0]


@pytest.mark.parametrize(
    ("ids", "texts", "message"),
    [
        (["a", "b", "a"], ["x", "y", "z"], "passages 0 to 3: the id 'a' occurs more than once"),
        (["a", "b", "c"], ["x", "y"], "passages 0 to 3: the corpus gives 3 ids but 2 texts"),
        (["a", 5, "c"], ["x", "y", "z"], "passages 0 to 3: the corpus gives 3 ids there, or not only texts"),
        (["a", "b", "c"], ["x", None, "z"], "passages 0 to 3: .*NoneType"),
        (["a", "b", "c"], ["x", "y", "\ud800"], "passages 0 to 3: .*half a character"),
        ([], [], "the corpus has no passages"),
    ],
)
def test_a_corpus_that_is_not_right_is_refused(tmp_path, ids, texts, message):
    with pytest.raises(ValueError, match=message):
        search(Corpus(ids, texts), encoder(WORDS), QUERIES, 2, tmp_path)
    assert not files(tmp_path)


def test_an_id_that_two_shards_have_is_refused(exact, tmp_path):
    with pytest.raises(ValueError, match="the id 'a' more than once"):
        search(Corpus(["a", "b", "a"], ["x", "y", "z"]), encoder(WORDS), QUERIES, 3, tmp_path, shard_size=2)


def test_a_corpus_that_ends_early_is_refused(exact, tmp_path):
    corpus = passages(40)
    corpus.__class__ = type("Short", (Corpus,), {"__len__": lambda self: 45})
    with pytest.raises(ValueError, match="passages 40 to 45: the corpus gives 0 ids"):
        search(corpus, encoder(WORDS), QUERIES, 3, tmp_path, shard_size=8)
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        ("one", {"k": 1}, "list of at least one text"),
        ([], {"k": 1}, "list of at least one text"),
        (QUERIES, {"k": 0}, "k is 0"),
        (QUERIES, {"k": 1, "shard_size": 0}, "shard_size 0"),
    ],
)
def test_search_says_what_is_wrong(tmp_path, queries, options, message):
    with pytest.raises(ValueError, match=message):
        search(passages(4), encoder(WORDS), queries, folder=tmp_path, **options)
