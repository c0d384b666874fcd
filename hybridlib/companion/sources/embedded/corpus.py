"""The embedded corpus: parallel question-passage pairs in 11 languages, made in a second, nothing downloaded.

Facts and names are those of CLDR as Babel ships it (Babel 2.18 has CLDR 47; licence Unicode-3.0, which allows
redistribution with its notice). The sentences around them are templates of this package; native readers have not
checked them yet.

Relevance is by (subject, relation): a question asks one relation of one subject, and exactly one passage per language
states it. All facts of a subject are in one split. One fact in six is never asked and serves as a distractor.
Another version of Babel has other data, so another corpus; fingerprints tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from hybridlib.companion.sources.embedded.facts import (
    LANGUAGES,
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

__all__ = ["LANGUAGES", "TRAINED", "EmbeddedCorpus", "build_corpus", "train_tokenizer"]

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
        untrained: language that is not trained -> passages of the train subjects: raw text for a tokenizer only.
    """

    train: ParallelPairs
    dev_pairs: ParallelPairs
    dev: Benchmark
    test: Benchmark
    facts: pd.DataFrame
    names: pd.DataFrame
    untrained: dict[str, list[str]]

    def dictionary(self, *, held_out: bool = True, languages: Sequence[str] | None = None) -> ParallelPairs:
        """Pair each name in one language with itself in another; the name's id is both query_id and passage_id.

        Two things of different kinds may share a name (a language and its script): the first of territory, language,
        currency, script, weekday and time zone keeps it, so that no other pair is a hidden positive.

        Args:
            held_out: also the names of dev and test subjects. Without them they may still stand as answers in training.
            languages: None means all of the corpus.

        Raises:
            ValueError: a language that the corpus does not have.
        """
        all_languages = list(self.names.columns.drop(["name_id", "split"]))
        languages = _known(all_languages if languages is None else languages, all_languages)
        repeated = self.names[all_languages].apply(lambda column: column.map(fold).duplicated()).any(axis=1)
        names = _with_held_out(self.names[~repeated], held_out)
        ids, texts = names["name_id"].tolist(), {lang: names[lang].tolist() for lang in languages}
        queries, passages = pa.table({"query_id": ids, **texts}), pa.table({"passage_id": ids, **texts})
        pairs = pa.table({"query_id": ids, "passage_id": ids, "source": ["names"] * len(ids)})
        return ParallelPairs.build(queries, passages, pairs, name="embedded-dictionary")

    def shared_subjects(self) -> tuple[int, int]:
        """Test subjects that a training question or passage is about, and test subjects in all."""
        subject = self.facts.set_index("fact_id")["subject_id"]
        training = set(subject[self.train.passages["passage_id"].to_pylist()])
        test = set(self.test.queries["cluster"].to_pylist())
        return len(training & test), len(test)

    def texts(self, *, held_out: bool = True, untrained: bool = True) -> Iterator[str]:
        """Give what a tokenizer may see: texts of training, `untrained` passages, and names in all languages.

        The vocabulary of a pretrained encoder has seen raw text of the languages it is not fine-tuned on; so does this.

        Args:
            held_out: also the names of dev and test subjects.
            untrained: also passages in languages that are not trained.
        """
        for table in (self.train.queries, self.train.passages):
            for lang in self.train.languages:
                yield from table[lang].to_pylist()
        for passages in self.untrained.values() if untrained else ():
            yield from passages
        names = _with_held_out(self.names, held_out)
        for lang in names.columns.drop(["name_id", "split"]):
            yield from names[lang]


def build_corpus(
    *,
    corpus_seed: int = 0,
    languages: Sequence[str] = LANGUAGES,
    trained: Sequence[str] = TRAINED,
    extra_candidates: int = 300,
) -> EmbeddedCorpus:
    """Make the corpus; the same arguments give the same one.

    Args:
        corpus_seed: decides splits, distractors and the wordings of evaluation. No training seed changes the corpus.
        languages: of the benchmarks and names, among LANGUAGES. Facts and splits do not depend on the choice.
        trained: languages of the training pairs; those outside `languages` are left out.
        extra_candidates: passages of train subjects among the candidates of dev and test, per language.

    Raises:
        ValueError: an unknown language, none that is trained, or more extra candidates than train has passages.
    """
    languages = _known(languages, LANGUAGES)
    trained = [lang for lang in _known(trained, LANGUAGES) if lang in languages]
    if not trained:
        raise ValueError(f"none of the languages {' '.join(languages)} is trained; add one to `trained`")
    names = load_names()
    facts = load_facts(names)
    split = split_subjects(facts, corpus_seed)
    maker = _Maker(names, plan_passages(facts, split, corpus_seed), corpus_seed)
    asked = {part: [f for f in facts if split[f.subject] == part and f.fact_id in maker.plans] for part in SPLITS}
    extra = _sample(asked["train"], extra_candidates, corpus_seed)
    return EmbeddedCorpus(
        train=maker.pairs("train", asked["train"], trained),
        dev_pairs=maker.pairs("dev", asked["dev"], trained),
        dev=maker.benchmark("dev", asked["dev"], languages, extra),
        test=maker.benchmark("test", asked["test"], languages, extra),
        facts=_facts_frame(facts, split, corpus_seed),
        names=_names_frame(names, split, languages),
        untrained={lang: maker.passages(asked["train"], lang) for lang in languages if lang not in trained},
    )


@dataclass(frozen=True)
class _Maker:
    """Puts facts into the tables of a corpus."""

    names: Names
    plans: dict[str, Plan]
    seed: int

    def pairs(self, part: str, facts: Sequence[Fact], languages: Sequence[str]) -> ParallelPairs:
        """Pair each wording of each fact's question with the fact's passage."""
        query_ids = [f"{fact.fact_id}:w{k}" for fact in facts for k in range(WORDINGS)]
        queries, passages = {"query_id": query_ids}, {"passage_id": [fact.fact_id for fact in facts]}
        for lang in languages:
            ask = load_templates(lang).question
            queries[lang] = [ask(self.names, fact, k) for fact in facts for k in range(WORDINGS)]
            passages[lang] = self.passages(facts, lang)
        passage_ids = [fact.fact_id for fact in facts for _ in range(WORDINGS)]
        pairs = {"query_id": query_ids, "passage_id": passage_ids, "source": ["embedded"] * len(query_ids)}
        return ParallelPairs.build(pa.table(queries), pa.table(passages), pa.table(pairs), name=f"embedded-{part}")

    def benchmark(self, part: str, facts: Sequence[Fact], languages: Sequence[str], extra: Sequence[Fact]) -> Benchmark:
        """Ask one question per fact and language; the fact's passages in all languages are relevant."""
        queries, candidates = [], []
        for lang in languages:
            ask = load_templates(lang).question
            for fact in facts:
                text = ask(self.names, fact, hashed(self.seed, "asked", fact.fact_id) % WORDINGS)
                queries.append((f"{lang}:{fact.fact_id}", lang, fact.fact_id, fact.subject, text))
            pool = [*facts, *extra]
            ids = (f"{lang}:{fact.fact_id}" for fact in pool)
            candidates += [(id, lang, text) for id, text in zip(ids, self.passages(pool, lang), strict=True)]
        relevant = [
            (f"{query_lang}:{fact.fact_id}", f"{candidate_lang}:{fact.fact_id}", 1)
            for query_lang in languages
            for fact in facts
            for candidate_lang in languages
        ]
        return Benchmark.build(
            f"embedded-{part}",
            languages,
            _table(queries, ("query_id", "lang", "question_id", "cluster", "text")),
            _table(candidates, ("candidate_id", "lang", "text")),
            _table(relevant, ("query_id", "candidate_id", "gain")),
        )

    def passages(self, facts: Sequence[Fact], lang: str) -> list[str]:
        """Write the passage of each fact in a language."""
        templates = load_templates(lang)
        return [templates.passage(self.names, self.plans[fact.fact_id]) for fact in facts]


def _known(languages: Sequence[str], known: Sequence[str]) -> list[str]:
    for lang in languages:
        if lang not in known:
            raise ValueError(f"unknown language {lang!r}; the corpus has {' '.join(known)}")
    return sorted(set(languages))


def _with_held_out(names: pd.DataFrame, held_out: bool) -> pd.DataFrame:
    return names if held_out else names[~names["split"].isin(["dev", "test"])]


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
