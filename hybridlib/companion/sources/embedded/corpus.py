"""The embedded corpus: parallel question-passage pairs in 11 languages, made in a second, nothing downloaded.

Nine more languages, of MIRACL and TyDi QA, are there for the asking: `MORE_LANGUAGES`. CLDR names less in some of
them, Swahili above all, so they leave fewer facts.

Facts and names are those of CLDR as Babel ships it (Babel 2.18 has CLDR 47; licence Unicode-3.0, which allows
redistribution with its notice). The sentences around them are templates of this package; native readers have not
checked them yet.

Relevance is by (subject, relation): a question asks one relation of one subject, and exactly one passage per language
states it. All facts of a subject are in one split. One fact in six is never asked and serves as a distractor.
Another version of Babel has other data, so another corpus; fingerprints tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from hybridlib.companion.sources.embedded.facts import (
    LANGUAGES,
    MORE_LANGUAGES,
    SPLITS,
    Fact,
    Names,
    fold,
    hashed,
    load_facts,
    load_names,
    split_subjects,
)
from hybridlib.companion.sources.embedded.texts import WORDINGS, Plan, is_reserved, load_templates, plan_passages
from hybridlib.companion.sources.embedded.tokenizer import train_tokenizer
from hybridlib.corpora.base import Benchmark, ParallelPairs

__all__ = ["LANGUAGES", "MORE_LANGUAGES", "TRAINED", "EmbeddedCorpus", "build_corpus", "train_tokenizer"]

TRAINED = tuple(lang for lang in LANGUAGES if lang not in ("el", "vi"))


@dataclass(frozen=True, eq=False)
class EmbeddedCorpus:
    """The parts of the corpus.

    Attributes:
        train: pairs of the train subjects in the trained languages; a fact's wordings are queries of one passage.
        dev_pairs: pairs of the dev subjects in the trained languages, for a validation loss.
        dev, test: one question per fact and language; the candidates are the split's passages and some of train's.
        facts: fact_id, relation, subject_id, answer_id, split, asked (else it is a distractor only).
        names: name_id, split of the subject of that name ("" where it is none), then a column per language.
        unpaired: passages of train without questions in their language, which is not trained or only in part (`share`):
            raw text for a tokenizer only.
    """

    train: ParallelPairs
    dev_pairs: ParallelPairs
    dev: Benchmark
    test: Benchmark
    facts: pd.DataFrame
    names: pd.DataFrame
    unpaired: dict[str, list[str]]

    def dictionary(self, *, held_out: bool = True, languages: Sequence[str] | None = None) -> ParallelPairs:
        """Pairs of a name in one language and in another; the name's id is both query_id and passage_id.

        Two things of different kinds may share a name (a language and its script): the first of territory, language,
        currency, script, weekday and time zone keeps it, so that no other pair is a hidden positive.

        Args:
            held_out: also the names of dev and test subjects. Without them they may still stand as answers in training.
            languages: None means all of the corpus.

        Raises:
            ValueError: a language that the corpus does not have.
        """
        spoken = [c for c in self.names.columns if c not in ("name_id", "split")]
        languages = _known(spoken if languages is None else languages, spoken)
        names = self.names[_first_of_its_name(self.names[spoken])]
        if not held_out:
            names = names[~names["split"].isin(["dev", "test"])]
        texts = {lang: names[lang].tolist() for lang in languages}
        ids = names["name_id"].tolist()
        queries, passages = pa.table({"query_id": ids, **texts}), pa.table({"passage_id": ids, **texts})
        pairs = pa.table({"query_id": ids, "passage_id": ids, "source": ["names"] * len(ids)})
        return ParallelPairs.build(queries, passages, pairs, name="embedded-dictionary")

    def subjects_in_training(self) -> tuple[int, int]:
        """Test subjects that a training question or passage is about, and all test subjects, as `claims.facts` asks."""
        subject = self.facts.set_index("fact_id")["subject_id"]
        training = set(subject[self.train.passages["passage_id"].to_pylist()])
        test = set(self.test.queries["cluster"].to_pylist())
        return len(training & test), len(test)

    def texts(self, *, held_out: bool = True, untrained: bool = True) -> Iterator[str]:
        """What a tokenizer may see: texts of training, `unpaired` passages, and names in all languages of the corpus.

        The vocabulary of a pretrained encoder has seen raw text of the languages it is not fine-tuned on; so does this.

        Args:
            held_out: also the names of dev and test subjects.
            untrained: also passages that have no question in their language in training.
        """
        for table in (self.train.queries, self.train.passages):
            for lang in self.train.languages:
                yield from table[lang].drop_null().to_pylist()
        for passages in self.unpaired.values() if untrained else ():
            yield from passages
        names = self.names if held_out else self.names[~self.names["split"].isin(["dev", "test"])]
        for lang in names.columns.drop(["name_id", "split"]):
            yield from names[lang]


def build_corpus(
    *,
    corpus_seed: int = 0,
    languages: Sequence[str] = LANGUAGES,
    trained: Sequence[str] = TRAINED,
    extra_candidates: int = 300,
    share: Mapping[str, float] | None = None,
) -> EmbeddedCorpus:
    """Make the corpus; the same arguments give the same one.

    Args:
        corpus_seed: decides splits, distractors and the wordings of evaluation. No training seed changes the corpus.
        languages: of the benchmarks and names, among LANGUAGES and MORE_LANGUAGES. Facts and splits are the same for
            every choice of LANGUAGES; with any of MORE_LANGUAGES only facts with names in those as well are left.
        trained: languages of the training pairs; those outside `languages` are left out.
        extra_candidates: passages of train subjects among the candidates of dev and test, per language.
        share: trained language -> share of the facts of `train`, in (0, 1], of which it has questions and passage; all
            where it is not named. `corpus_seed` draws which. A smaller share is a part of a larger, also of another
            language's, so all languages have translated pairs however few there are. Nothing else is thinned.

    Raises:
        ValueError: an unknown language, none that is trained, more extra candidates than train has passages, or a share
            outside (0, 1] or of a language not trained.
    """
    everywhere = (*LANGUAGES, *MORE_LANGUAGES)
    languages, trained = _known(languages, everywhere), _known(trained, everywhere)
    trained = [lang for lang in trained if lang in languages]
    if not trained:
        raise ValueError(f"none of the languages {' '.join(languages)} is trained; add one to `trained`")
    names = load_names(tuple(lang for lang in languages if lang in MORE_LANGUAGES))
    facts = load_facts(names)
    split = split_subjects(facts, corpus_seed)
    maker = _Maker(names, plan_passages(facts, split, corpus_seed), corpus_seed)
    asked = {part: [f for f in facts if split[f.subject] == part and f.fact_id in maker.plans] for part in SPLITS}
    extra = _sample(asked["train"], extra_candidates, corpus_seed)
    kept = _kept(asked["train"], _checked_share(share or {}, trained), trained, corpus_seed)
    left_out = {lang: [fact for fact in asked["train"] if fact not in kept.get(lang, ())] for lang in languages}
    return EmbeddedCorpus(
        train=maker.pairs("train", asked["train"], kept),
        dev_pairs=maker.pairs("dev", asked["dev"], {lang: set(asked["dev"]) for lang in trained}),
        dev=maker.benchmark("dev", asked["dev"], languages, extra),
        test=maker.benchmark("test", asked["test"], languages, extra),
        facts=_facts_frame(facts, split, corpus_seed),
        names=_names_frame(names, split, languages),
        unpaired={lang: maker.passages(left, lang) for lang, left in left_out.items() if left},
    )


@dataclass(frozen=True)
class _Maker:
    """Puts facts into the tables of a corpus."""

    names: Names
    plans: dict[str, Plan]
    seed: int

    def pairs(self, part: str, facts: Sequence[Fact], kept: Mapping[str, Set[Fact]]) -> ParallelPairs:
        """Each wording of each fact's question with the fact's passage, in the languages that keep the fact."""
        facts = [fact for fact in facts if any(fact in those for those in kept.values())]
        query_ids = [f"{fact.fact_id}:w{k}" for fact in facts for k in range(WORDINGS)]
        passage_ids = [fact.fact_id for fact in facts]
        queries, passages = {"query_id": query_ids}, {"passage_id": passage_ids}
        for lang, those in kept.items():
            say = load_templates(lang)
            queries[lang] = [
                say.question(self.names, fact, k) if fact in those else None for fact in facts for k in range(WORDINGS)
            ]
            passages[lang] = [say.passage(self.names, self.plans[f.fact_id]) if f in those else None for f in facts]
        pairs = {"query_id": query_ids, "passage_id": [id for id in passage_ids for _ in range(WORDINGS)]}
        source = pa.array(["embedded"] * len(query_ids))
        tables = (pa.table(queries), pa.table(passages), pa.table(pairs).append_column("source", source))
        return ParallelPairs.build(*tables, name=f"embedded-{part}")

    def benchmark(self, part: str, facts: Sequence[Fact], languages: Sequence[str], extra: Sequence[Fact]) -> Benchmark:
        """One question per fact and language; the fact's passages in all languages are relevant."""
        queries, candidates = [], []
        for lang in languages:
            say = load_templates(lang).question
            for fact in facts:
                text = say(self.names, fact, hashed(self.seed, "asked", fact.fact_id) % WORDINGS)
                queries.append((f"{lang}:{fact.fact_id}", lang, fact.fact_id, fact.subject, text))
            listed = [*facts, *extra]
            ids = (f"{lang}:{fact.fact_id}" for fact in listed)
            candidates += [(id, lang, text) for id, text in zip(ids, self.passages(listed, lang), strict=True)]
        relevant = [
            (f"{asked}:{fact.fact_id}", f"{answered}:{fact.fact_id}", 1)
            for asked in languages
            for fact in facts
            for answered in languages
        ]
        return Benchmark.build(
            f"embedded-{part}",
            languages,
            _table(queries, ("query_id", "lang", "question_id", "cluster", "text")),
            _table(candidates, ("candidate_id", "lang", "text")),
            _table(relevant, ("query_id", "candidate_id", "gain")),
        )

    def passages(self, facts: Sequence[Fact], lang: str) -> list[str]:
        """The passage of each fact in a language."""
        templates = load_templates(lang)
        return [templates.passage(self.names, self.plans[fact.fact_id]) for fact in facts]


def _known(languages: Sequence[str], known: Sequence[str]) -> list[str]:
    for lang in languages:
        if lang not in known:
            raise ValueError(f"unknown language {lang!r}; the corpus has {' '.join(known)}")
    return sorted(set(languages))


def _checked_share(share: Mapping[str, float], trained: Sequence[str]) -> Mapping[str, float]:
    for lang, part in share.items():
        if lang not in trained:
            raise ValueError(f"share: {lang!r} is not trained, only {' '.join(trained)}; leave it out or train it")
        if not 0 < part <= 1:
            raise ValueError(f"share of {lang!r} must be above 0 and at most 1, not {part}")
    return share


def _kept(facts: Sequence[Fact], share: Mapping[str, float], trained: Sequence[str], seed: int) -> dict[str, Set[Fact]]:
    """Trained language -> the facts it keeps, one at least: the first of one order for all languages."""
    drawn = sorted(facts, key=lambda fact: (hashed(seed, "kept", fact.fact_id), fact))
    return {lang: set(drawn[: max(1, round(share.get(lang, 1) * len(drawn)))]) for lang in trained}


def _sample(facts: Sequence[Fact], count: int, seed: int) -> list[Fact]:
    if not 0 <= count <= len(facts):
        raise ValueError(f"extra_candidates must be between 0 and the {len(facts)} passages of train, not {count}")
    return sorted(facts, key=lambda fact: (hashed(seed, "extra", fact.fact_id), fact))[:count]


def _table(rows: Sequence[tuple], columns: Sequence[str]) -> pa.Table:
    return pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))


def _facts_frame(facts: Sequence[Fact], split: dict[str, str], seed: int) -> pd.DataFrame:
    rows = [(f.fact_id, f.relation, f.subject, f.answer, split[f.subject], not is_reserved(f, seed)) for f in facts]
    return pd.DataFrame(rows, columns=["fact_id", "relation", "subject_id", "answer_id", "split", "asked"])


def _names_frame(names: Names, split: dict[str, str], languages: Sequence[str]) -> pd.DataFrame:
    rows = [(id, split.get(id, ""), *(spelled[lang] for lang in languages)) for id, spelled in names.items()]
    return pd.DataFrame(rows, columns=["name_id", "split", *languages])


def _first_of_its_name(names: pd.DataFrame) -> pd.Series:
    """Whether no earlier name reads the same in any language."""
    return ~names.apply(lambda column: column.map(fold).duplicated()).any(axis=1)
