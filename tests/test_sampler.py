"""The sampler against the contract: proportions, distinctness, purity, slices, errors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hybridlib.corpora import ParallelPairs
from hybridlib.sampler import STRATEGIES, BatchSampler, expected_shares

LANGUAGES = ("de", "en", "fr")


def make_corpus(n: int = 60, english_only: int = 0, wordings: int = 1) -> ParallelPairs:
    """n passages in three languages, `wordings` queries each, and a source with English pairs only."""
    passage = [f"p{i}" for i in range(n + english_only)]
    query = [f"q{i}.{k}" for i in range(n + english_only) for k in range(wordings)]

    def texts(ids: list[str], lang: str) -> list[str | None]:
        return [f"{lang} {x}" if lang == "en" or int(x[1:].split(".")[0]) < n else None for x in ids]

    queries = pa.table({"query_id": query, **{lang: texts(query, lang) for lang in LANGUAGES}})
    passages = pa.table({"passage_id": passage, **{lang: texts(passage, lang) for lang in LANGUAGES}})
    of = [f"p{x[1:].split('.')[0]}" for x in query]
    source = ["parallel" if int(x[1:]) < n else "english" for x in of]
    pairs = pa.table({"query_id": query, "passage_id": of, "source": source})
    return ParallelPairs.build(queries, passages, pairs, name="made up")


CORPUS = make_corpus(wordings=2)


def sampler(strategy: str, corpus: ParallelPairs = CORPUS, **options) -> BatchSampler:
    return BatchSampler(corpus, strategy, **{"batch_size": 16, "steps": 400, **options})


def within_binomial(count: int, n: int, p: float, sds: float = 5.0) -> bool:
    return abs(count - n * p) <= sds * np.sqrt(n * p * (1 - p))


@given(
    strategy=st.sampled_from(STRATEGIES),
    mixture=st.sampled_from(["language-first", "dataset-first"]),
    size=st.integers(1, 60),
    step=st.integers(0, 10**6),
    seed=st.integers(0, 10**6),
)
def test_every_batch_keeps_the_contract(strategy, mixture, size, step, seed):
    corpus = make_corpus(english_only=70)
    batch = sampler(strategy, corpus, batch_size=size, seed=seed, mixture=mixture).batch(step)
    assert len(batch) == size
    assert len(set(batch.pair.tolist())) == size
    assert len(set(corpus.query_rows[batch.pair].tolist())) == size
    same = batch.query_lang == batch.passage_lang
    if batch.mode == "x-y":
        assert not same.any()
    else:
        assert same.all()
    if batch.mode in ("x-x-mono", "en-en"):
        assert len(set(batch.query_lang)) == 1
    for item, (_, query_lang, passage_lang) in zip(corpus.__getitems__(batch.keys()), batch.keys(), strict=True):
        (q_lang, q_id), (p_lang, p_id) = item["query"].split(), item["passage"].split()
        assert (q_lang, p_lang) == (query_lang, passage_lang) and q_id[1:].split(".")[0] == p_id[1:]


@pytest.mark.parametrize("alpha", [0.0, 0.25, None, 1.0])
def test_share_of_modes(alpha):
    assert [sampler(strategy).alpha for strategy in STRATEGIES] == [None, None, 0.5, None, None]
    s = sampler("hybrid", alpha=alpha, batch_size=4)
    assert s.alpha == (0.5 if alpha is None else alpha)
    modes = [s.batch(t).mode for t in range(2000)]
    assert within_binomial(modes.count("x-x-mono"), 2000, s.alpha) and set(modes) == set(s.modes)


@pytest.mark.parametrize(("strategy", "kinds", "size", "steps"), [("x-x-mono", 3, 1, 3000), ("x-y", 6, 16, 300)])
def test_languages_and_ordered_pairs_of_languages_are_uniform(strategy, kinds, size, steps):
    s = sampler(strategy, batch_size=size)
    drawn = [f"{q}-{p}" for t in range(steps) for _, q, p in s.batch(t).keys()]
    assert len(set(drawn)) == kinds
    for pair in set(drawn):
        assert within_binomial(drawn.count(pair), len(drawn), 1 / kinds)


def test_pairs_are_drawn_uniformly():
    s = sampler("x-x", batch_size=10)
    drawn = np.bincount(np.concatenate([s.batch(t).pair for t in range(1200)]), minlength=len(CORPUS))
    assert (np.abs(drawn - 100) < 5 * np.sqrt(100)).all()


def test_dataset_first_draws_data_sets_by_size_and_english_only_sets_serve_english():
    corpus = make_corpus(n=50, english_only=150)
    s = sampler("x-x-mono", corpus, batch_size=8, mixture="dataset-first")
    batches = [s.batch(t) for t in range(1500)]
    sources = [set(corpus.pairs["source"].take(b.pair).to_pylist()) for b in batches]
    assert all(len(source) == 1 for source in sources)
    english = [b for b, source in zip(batches, sources, strict=True) if source == {"english"}]
    assert within_binomial(len(english), 1500, 0.75)
    assert all(set(b.query_lang) == {"en"} for b in english)
    cross = sampler("x-y", corpus, mixture="dataset-first")
    assert set(corpus.pairs["source"].take(cross.batch(0).pair).to_pylist()) == {"parallel"}


@pytest.mark.parametrize("mixture", ["language-first", "dataset-first"])
@pytest.mark.parametrize("strategy", ["hybrid", "x-x", "en-en"])
def test_shares_are_what_is_drawn(strategy, mixture):
    corpus = make_corpus(n=50, english_only=150)
    s = sampler(strategy, corpus, batch_size=4, mixture=mixture)
    shares = s.shares().set_index(["mode", "source", "query_lang", "passage_lang"])["share"]
    assert shares.sum() == pytest.approx(1)
    if (strategy, mixture) == ("en-en", "language-first"):
        assert shares["en-en", "english", "en", "en"] == pytest.approx(0.75), "larger data sets weigh more"
    known = expected_shares(corpus.groups, strategy, s.languages, alpha=s.alpha, mixture=mixture)
    assert known.equals(s.shares()), "sizes alone say the same"
    batches = [s.batch(t) for t in range(4000)]
    first = [(b.mode, corpus.pairs["source"][int(b.pair[0])].as_py(), *map(str, b.keys()[0][1:])) for b in batches]
    assert set(first) <= set(shares.index)
    assert all(within_binomial(first.count(kind), 4000, share) for kind, share in shares.items())


def test_same_seed_same_plan_and_other_seed_other_plan():
    a, b, c = (sampler("hybrid", seed=seed) for seed in (1, 1, 2))
    assert [a.batch(t).keys() for t in range(20)] == [b.batch(t).keys() for t in range(20)]
    assert [a.batch(t).keys() for t in range(20)] != [c.batch(t).keys() for t in range(20)]


def test_a_resumed_plan_equals_the_uninterrupted_one():
    whole = list(sampler("hybrid", steps=30))
    assert list(sampler("hybrid", steps=30, start=11)) == whole[11:]
    assert len(sampler("hybrid", steps=30)) == 30


@given(size=st.integers(1, 60), processes=st.integers(1, 9), step=st.integers(0, 1000))
def test_slices_add_up_to_the_global_batch(size, processes, step):
    batch = sampler("hybrid", batch_size=size).batch(step)
    parts = [batch.slice(i, processes) for i in range(processes)]
    assert sum((part.keys() for part in parts), []) == batch.keys()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_batch_as_large_as_the_corpus_holds_every_query():
    corpus = make_corpus(n=12)
    for strategy in ("x-x-mono", "x-y", "x-x"):
        batch = sampler(strategy, corpus, batch_size=12).batch(0)
        assert sorted(corpus.query_rows[batch.pair]) == list(range(12))


def test_in_a_plain_data_loader():
    batches = list(DataLoader(CORPUS, batch_sampler=sampler("hybrid", steps=5), collate_fn=list))
    assert len(batches) == 5
    assert batches[2] == CORPUS.__getitems__(sampler("hybrid").batch(2).keys())


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("hybrid", {"alpha": 1.5}, r"alpha .* in \[0, 1\], not 1.5"),
        ("hybrid", {"alpha": float("nan")}, "alpha"),
        ("x-y", {"alpha": 0.5}, "belongs to the strategy hybrid"),
        ("x-z", {}, "strategy must be one of"),
        ("x-y", {"languages": ["de"]}, "at least two training languages"),
        ("x-x-mono", {"languages": ["xx"]}, "no language 'xx'"),
        ("x-x-mono", {"languages": ["de", "de"]}, "none twice"),
        ("en-en", {"languages": ["de", "fr"]}, "'en' is not among"),
        ("x-x-mono", {"batch_size": 121}, "only 120 different queries can fill a batch in 'de'"),
        ("x-y", {"batch_size": 121}, "only 120 different queries"),
        ("x-x-mono", {"mixture": "size-first"}, "mixture must be one of"),
        ("x-x-mono", {"batch_size": 0}, "batch_size"),
    ],
)
def test_errors_say_what_is_wrong(strategy, options, message):
    with pytest.raises(ValueError, match=message):
        sampler(strategy, **options)


def test_a_language_without_translations_is_named():
    queries = pa.table({"query_id": ["a", "b"], "de": ["x", "y"], "en": ["x", "y"], "th": [None, "z"]})
    passages = pa.table({"passage_id": ["a", "b"], "de": ["x", "y"], "en": ["x", "y"]})
    pairs = pa.table({"query_id": ["a", "b"], "passage_id": ["a", "b"], "source": ["s", "s"]})
    corpus = ParallelPairs.build(queries, passages, pairs, name="partial")
    with pytest.raises(ValueError, match="'th'"):
        sampler("x-x-mono", corpus, batch_size=1)
    batch = sampler("x-y", corpus, batch_size=2).batch(0)  # th can be a query language
    assert len(batch) == 2
