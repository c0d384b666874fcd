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
    fold,
    hashed,
    load_facts,
    load_names,
    split_subjects,
)
from hybridlib.companion.sources.embedded.texts import WORDINGS, Writer
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
        languages = _known(self.test.languages if languages is None else languages, self.test.languages)
        spelled = self.names[list(self.test.languages)]
        repeated = spelled.apply(lambda column: column.map(fold).duplicated()).any(axis=1)
        names = self._names(held_out)
        names = names[~repeated[names.index]]
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
        names = self._names(held_out)
        for lang in self.test.languages:
            yield from names[lang]

    def _names(self, held_out: bool) -> pd.DataFrame:
        return self.names if held_out else self.names[~self.names["split"].isin(["dev", "test"])]


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
    writer = Writer(names, facts, split, corpus_seed)
    rows = [(f.fact_id, f.relation, f.subject, f.answer, split[f.subject], f not in writer.reserved) for f in facts]
    spelled = [(id, split.get(id, ""), *(name[lang] for lang in languages)) for id, name in names.items()]
    asked = {part: [f for f in facts if split[f.subject] == part and f not in writer.reserved] for part in SPLITS}
    train = asked["train"]
    if not 0 <= extra_candidates <= len(train):
        raise ValueError(
            f"extra_candidates must be between 0 and the {len(train)} passages of train, not {extra_candidates}"
        )
    extra = sorted(train, key=lambda fact: (hashed(corpus_seed, "extra", fact.fact_id), fact))[:extra_candidates]
    return EmbeddedCorpus(
        train=_pairs("train", writer, train, trained),
        dev_pairs=_pairs("dev", writer, asked["dev"], trained),
        dev=_benchmark("dev", writer, asked["dev"], languages, extra),
        test=_benchmark("test", writer, asked["test"], languages, extra),
        facts=pd.DataFrame(rows, columns=["fact_id", "relation", "subject_id", "answer_id", "split", "asked"]),
        names=pd.DataFrame(spelled, columns=["name_id", "split", *languages]),
        untrained={lang: writer.passages(train, lang) for lang in languages if lang not in trained},
    )


def _pairs(part: str, writer: Writer, facts: Sequence[Fact], languages: Sequence[str]) -> ParallelPairs:
    """Pair each wording of each fact's question with the fact's passage."""
    wordings = [(fact, k) for fact in facts for k in range(WORDINGS)]
    ids = {"query_id": [f"{fact.fact_id}:w{k}" for fact, k in wordings]}
    queries = ids | {lang: [writer.question(fact, lang, k) for fact, k in wordings] for lang in languages}
    passages = {"passage_id": [fact.fact_id for fact in facts]}
    passages |= {lang: writer.passages(facts, lang) for lang in languages}
    pairs = ids | {"passage_id": [fact.fact_id for fact, _ in wordings], "source": ["embedded"] * len(wordings)}
    return ParallelPairs.build(*map(pa.table, (queries, passages, pairs)), name=f"embedded-{part}")


def _benchmark(
    part: str, writer: Writer, facts: Sequence[Fact], languages: Sequence[str], extra: Sequence[Fact]
) -> Benchmark:
    """Ask one question per fact and language; the fact's passages in all languages are relevant."""
    queries, candidates, relevant, pool = [], [], [], [*facts, *extra]
    for lang in languages:
        for fact in facts:
            query = {"query_id": f"{lang}:{fact.fact_id}", "lang": lang, "question_id": fact.fact_id}
            text = writer.question(fact, lang, hashed(writer.seed, "asked", fact.fact_id) % WORDINGS)
            queries.append(query | {"cluster": fact.subject, "text": text})
            ids = (f"{candidate_lang}:{fact.fact_id}" for candidate_lang in languages)
            relevant += [{"query_id": query["query_id"], "candidate_id": id, "gain": 1} for id in ids]
        for fact, text in zip(pool, writer.passages(pool, lang), strict=True):
            candidates.append({"candidate_id": f"{lang}:{fact.fact_id}", "lang": lang, "text": text})
    return Benchmark.build(f"embedded-{part}", languages, *map(pa.Table.from_pylist, (queries, candidates, relevant)))


def _known(languages: Sequence[str], known: Sequence[str]) -> list[str]:
    for lang in languages:
        if lang not in known:
            raise ValueError(f"unknown language {lang!r}; the corpus has {' '.join(known)}")
    return sorted(set(languages))
