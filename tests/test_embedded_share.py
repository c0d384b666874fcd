"""Shares of the training pairs of the embedded corpus: what is left, what stays as it was."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlib.companion.sources.embedded.corpus import build_corpus
from hybridlib.sampler import BatchSampler

LANGUAGES = ("de", "en", "fi")
SHARES = st.sampled_from([0.001, 0.02, 0.1, 0.35, 0.5, 0.9, 1.0])


@cache
def made(*shares: tuple[str, float], seed: int = 0):
    return build_corpus(corpus_seed=seed, languages=LANGUAGES, trained=LANGUAGES, share=dict(shares) or None)


def kept(corpus, lang: str) -> set[str]:
    """Ids of the facts of which training has the passage in a language."""
    ids, texts = (corpus.train.passages[column].to_pylist() for column in ("passage_id", lang))
    return {id for id, text in zip(ids, texts, strict=True) if text is not None}


@given(SHARES, SHARES)
@settings(max_examples=8, deadline=None)
def test_a_share_keeps_so_many_facts_and_a_smaller_one_a_part_of_them(one, two):
    whole = len(made().train.passages)
    thin, thick = (made(("fi", min(one, two))), made(("fi", max(one, two))))
    for corpus, share in ((thin, min(one, two)), (thick, max(one, two))):
        assert len(kept(corpus, "fi")) == max(1, round(share * whole))
        assert len(kept(corpus, "de")) == len(kept(corpus, "en")) == whole
    assert kept(thin, "fi") <= kept(thick, "fi")


def test_what_is_kept_and_everything_else_is_as_without_shares():
    whole, thin = made(), made(("fi", 0.1), ("de", 0.5))
    for part in ("dev_pairs", "dev", "test"):
        assert getattr(thin, part).fingerprint == getattr(whole, part).fingerprint
    assert thin.facts.equals(whole.facts) and thin.names.equals(whole.names)
    for table in ("queries", "passages"):
        before, after = (getattr(corpus.train, table).to_pandas() for corpus in (whole, thin))
        assert before["en"].equals(after["en"])
        for lang in ("de", "fi"):
            left = after[lang].notna()
            assert 0 < left.sum() < len(left) and after.loc[left, lang].equals(before.loc[left, lang])
    assert made(("fi", 1.0)).train.fingerprint == whole.train.fingerprint


def test_a_language_has_all_wordings_and_the_passage_of_a_fact_or_none():
    corpus = made(("fi", 0.1), ("de", 0.5))
    for lang in LANGUAGES:
        questions = corpus.train.queries.to_pandas().set_index("query_id")[lang].dropna()
        asked = questions.groupby(questions.index.str.rsplit(":", n=1).str[0]).size()
        assert (asked == 3).all() and set(asked.index) == kept(corpus, lang)


def test_languages_thinned_differently_share_their_facts():
    corpus = made(("fi", 0.1), ("de", 0.5))
    assert kept(corpus, "fi") < kept(corpus, "de") < kept(corpus, "en")


def test_the_corpus_seed_draws_which():
    share = ("fi", 0.2)
    again = build_corpus(languages=LANGUAGES, trained=LANGUAGES, share=dict([share]))
    assert again.train.fingerprint == made(share).train.fingerprint
    both = kept(made(seed=1), "en") & kept(made(), "en")  # train subjects in both corpora
    assert kept(made(share, seed=1), "fi") & both != kept(made(share), "fi") & both


def test_facts_that_no_language_keeps_are_not_in_training():
    corpus = made(("fi", 0.1), ("de", 0.2), ("en", 0.2))
    whole = len(made().train.passages)
    assert len(corpus.train.passages) == round(0.2 * whole) and len(corpus.train) == 3 * round(0.2 * whole)


def test_a_tokenizer_may_see_the_passages_left_out_but_not_their_questions():
    whole, thin = made(), made(("fi", 0.1))
    assert not whole.unpaired and set(thin.unpaired) == {"fi"}
    passages = set(whole.train.passages["fi"].to_pylist())
    assert set(thin.unpaired["fi"]) | set(thin.train.passages["fi"].drop_null().to_pylist()) == passages
    assert set(thin.texts()) < set(whole.texts()) and passages <= set(thin.texts())
    assert not set(thin.unpaired["fi"]) & set(thin.texts(untrained=False))


@pytest.mark.parametrize("strategy", ["x-x-mono", "x-y", "hybrid"])
def test_batches_are_drawn_from_what_is_left(strategy):
    corpus = made(("fi", 0.02), ("de", 0.02)).train
    languages = set()
    for keys in BatchSampler(corpus, strategy, batch_size=16, steps=20):
        assert all(row["query"] and row["passage"] for row in corpus.__getitems__(keys))
        languages |= {(query, passage) for _, query, passage in keys}
    assert {"de", "fi"} <= {query for query, _ in languages}
    assert strategy != "x-y" or {("de", "fi"), ("fi", "de")} <= languages


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({"fi": 0}, "share of 'fi' must be above 0 and at most 1, not 0"),
        ({"fi": 1.5}, "share of 'fi' must be above 0 and at most 1, not 1.5"),
        ({"fi": float("nan")}, "share of 'fi' must be above 0"),
        ({"el": 0.5}, "share: 'el' is not trained, only de en fi"),
    ],
)
def test_impossible_shares_are_named(share, message):
    with pytest.raises(ValueError, match=message):
        build_corpus(languages=(*LANGUAGES, "el"), trained=LANGUAGES, share=share)
