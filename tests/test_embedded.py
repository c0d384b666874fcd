"""The embedded corpus: what it promises about splits, relevance and names, checked on the texts themselves."""

from __future__ import annotations

import copy
import pickle
import re
import tomllib
import unicodedata
from collections import defaultdict
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from babel import localedata
from babel.core import get_global

from hybridlib.companion.sources.embedded.corpus import LANGUAGES, TRAINED, build_corpus, train_tokenizer
from hybridlib.companion.sources.embedded.texts import checked_templates

FOLDER = files("hybridlib.companion.sources.embedded") / "templates"
TEMPLATES = {lang: tomllib.loads((FOLDER / f"{lang}.toml").read_text("utf-8")) for lang in LANGUAGES}
SCRIPTS = {"ar": "ARABIC", "el": "GREEK", "hi": "DEVANAGARI", "ru": "CYRILLIC", "th": "THAI", "zh": "CJK"}
ENDS_OF_QUESTIONS = {"ar": "؟", "el": ";", "th": ("", "?"), "zh": "？"}


@pytest.fixture(scope="module")
def corpus():
    return build_corpus()


@pytest.fixture(scope="module")
def other():
    return build_corpus(corpus_seed=1)


@pytest.fixture(scope="module")
def statements(corpus):
    return _parser(corpus)


def _parser(corpus):
    """Parser of passages, made from the template files alone: (lang, text) -> [(relation, subject id, sentence)]."""
    kinds = dict(zip(corpus.facts["relation"], corpus.facts["subject_id"].str.split(":").str[0], strict=True))
    languages = corpus.test.languages
    ids = {
        lang: {(name_id.split(":")[0], name): name_id for name_id, name in corpus.names[["name_id", lang]].to_numpy()}
        for lang in languages
    }
    patterns = {lang: [*_patterns(TEMPLATES[lang], _days(corpus, lang))] for lang in languages}

    @cache
    def parse(lang: str, text: str) -> list[tuple[str, str, str]]:
        return [
            (relation, ids[lang][kinds[relation], match["subject"]], match[0])
            for relation, start, pattern in patterns[lang]
            if start in text
            for match in pattern.finditer(text)
        ]

    return parse


def _days(corpus, lang: str) -> list[str]:
    return corpus.names.loc[corpus.names["name_id"].str.startswith("weekday:"), lang].tolist()


def _patterns(template: dict, days: list[str]):
    """(relation, the literal text before its first name, pattern) of each statement."""
    quoted = "[^" + re.escape("".join(template["quotes"]).replace("\u00a0", "")) + "]+"
    bare = "(?:" + "|".join(["[A-Za-z]+", "[0-9]{4}", *map(re.escape, days)]) + ")"
    for relation, wordings in template["relations"].items():
        for wording in wordings["statements"]:
            answer = quoted if f"{template['quotes'][0]}{{answer}}" in wording else bare
            pattern = re.escape(wording).replace(r"\{subject\}", f"(?P<subject>{quoted})")
            yield relation, wording.split("{")[0], re.compile(pattern.replace(r"\{answer\}", answer))


def _passages(corpus, lang: str) -> dict[str, str]:
    return dict(zip(corpus.passages["passage_id"].to_pylist(), corpus.passages[lang].to_pylist(), strict=True))


def _subjects(corpus, split: str) -> set[str]:
    facts = corpus.facts
    return set(facts.loc[facts["split"] == split, "subject_id"])


def _asked(corpus) -> dict[str, tuple[str, str]]:
    """Fact id -> (relation, subject id)."""
    return {row.fact_id: (row.relation, row.subject_id) for row in corpus.facts[corpus.facts["asked"]].itertuples()}


def test_there_are_enough_relations_and_pairs(corpus):
    everywhere = build_corpus(trained=LANGUAGES, extra_candidates=0)
    assert corpus.facts["relation"].nunique() >= 10
    assert (corpus.facts[corpus.facts["asked"]].groupby("relation").size() >= 20).all()
    assert everywhere.train.languages == LANGUAGES
    assert len(everywhere.train.passages) >= 2000
    assert len(everywhere.train) == 3 * len(everywhere.train.passages)
    counts = corpus.test.counts()
    assert set(counts) == set(LANGUAGES) and len({tuple(c.items()) for c in counts.values()}) == 1
    assert counts["en"]["candidates"] == counts["en"]["queries"] + 300


def test_splits_share_no_subject_and_have_the_promised_sizes(corpus):
    subjects = {split: _subjects(corpus, split) for split in ("train", "dev", "test")}
    n = sum(map(len, subjects.values()))
    assert n == len(set.union(*subjects.values()))
    shares = [len(subjects[split]) / n for split in ("train", "dev", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=0.005)
    assert set(corpus.test.queries["cluster"].to_pylist()) <= subjects["test"]
    assert set(corpus.dev.queries["cluster"].to_pylist()) <= subjects["dev"]


def test_one_seed_makes_one_corpus(corpus, other):
    same = build_corpus()
    for part in ("train", "dev_pairs", "dev", "test"):
        assert getattr(same, part).fingerprint == getattr(corpus, part).fingerprint
        assert getattr(other, part).fingerprint != getattr(corpus, part).fingerprint
    pd.testing.assert_frame_equal(same.facts, corpus.facts)
    assert _subjects(other, "test") != _subjects(corpus, "test")


def test_untrained_languages_are_not_in_training(corpus):
    for part in (corpus.train, corpus.dev_pairs):
        assert part.languages == TRAINED
        assert not {"el", "vi"} & {*part.queries.column_names, *part.passages.column_names}


def test_fewer_languages_change_nothing_else(corpus):
    small = build_corpus(languages=["en", "de", "el"])
    assert small.train.languages == ("de", "en") and small.test.languages == ("de", "el", "en")
    assert small.train.passages["de"].equals(corpus.train.passages["de"])
    for table in ("queries", "candidates"):
        whole = getattr(corpus.test, table).to_pandas()
        part = getattr(small.test, table).to_pandas()
        pd.testing.assert_frame_equal(part, whole[whole["lang"].isin(small.test.languages)].reset_index(drop=True))
    assert [c for c in small.names.columns if len(c) == 2] == ["de", "el", "en"]


def test_every_query_has_one_relevant_candidate_in_each_language(corpus):
    judged = corpus.test.relevant.to_pandas()
    assert (judged["gain"] == 1).all()
    assert (judged.groupby("query_id").size() == len(corpus.test.languages)).all()
    asked, found = judged["query_id"].str.split(":", n=1), judged["candidate_id"].str.split(":", n=1)
    assert (asked.str[1] == found.str[1]).all()
    assert set(judged["query_id"]) == set(corpus.test.queries["query_id"].to_pylist())


@pytest.mark.parametrize("part", ["dev", "test"])
def test_no_candidate_but_the_relevant_ones_states_the_fact(corpus, statements, part):
    benchmark, asked = getattr(corpus, part), _asked(corpus)
    stating = defaultdict(set)
    for row in benchmark.candidates.to_pylist():
        for relation, subject, _ in statements(row["lang"], row["text"]):
            stating[relation, subject].add(row["candidate_id"])
    relevant = benchmark.relevant.to_pandas().groupby("query_id")["candidate_id"].agg(set)
    for query_id, candidates in relevant.items():
        assert stating[asked[query_id.split(":", 1)[1]]] == candidates


@pytest.mark.parametrize("lang", TRAINED)
def test_in_training_no_passage_but_the_positive_states_the_fact(corpus, statements, lang):
    asked, stating = _asked(corpus), defaultdict(set)
    for part, split in ((corpus.train, "train"), (corpus.dev_pairs, "dev")):
        own = _subjects(corpus, split)
        for passage_id, text in _passages(part, lang).items():
            for relation, subject, _ in statements(lang, text):
                assert subject in own, f"{passage_id} speaks of {subject}, which is not in {split}"
                stating[relation, subject].add(passage_id)
        queries = part.queries["query_id"].to_pylist()
        pairs = zip(part.query_rows, part.passage_rows, strict=True)
        ids = part.passages["passage_id"].to_pylist()
        for query, passage in pairs:
            assert stating[asked[queries[query].rsplit(":", 1)[0]]] == {ids[passage]}


def test_passages_are_two_or_three_statements_and_nothing_else(corpus, statements):
    for lang, text in corpus.test.candidates.select(["lang", "text"]).to_pandas().itertuples(index=False):
        said = sorted((sentence for *_, sentence in statements(lang, text)), key=text.index)
        assert len(said) in (2, 3)
        assert TEMPLATES[lang]["join"].join(said) == text


def test_the_right_answer_stands_in_the_passage(corpus, statements):
    names = corpus.names.set_index("name_id")
    answers = dict(zip(corpus.facts["fact_id"], corpus.facts["answer_id"], strict=True))
    texts = {row["candidate_id"]: row["text"] for row in corpus.test.candidates.to_pylist()}
    asked = _asked(corpus)
    for candidate_id, text in texts.items():
        lang, fact_id = candidate_id.split(":", 1)
        answer = answers[fact_id]
        spelled = names.at[answer, lang] if answer in names.index else answer.split(":")[1]
        own = [said for *fact, said in statements(lang, text) if tuple(fact) == asked[fact_id]]
        assert len(own) == 1 and spelled in own[0]


def test_facts_are_not_stated_in_both_directions(corpus):
    facts = corpus.facts[~corpus.facts["answer_id"].str.match("code:|year:|weekday:|zone:")]
    pairs = [frozenset(pair) for pair in zip(facts["subject_id"], facts["answer_id"], strict=True)]
    assert len(pairs) == len(set(pairs))


def _said(corpus, relation: str) -> dict[str, str]:
    """Code of the subject -> what answers."""
    facts = corpus.facts[corpus.facts["relation"] == relation]
    return {s.split(":")[1]: a.split(":")[1] for s, a in zip(facts["subject_id"], facts["answer_id"], strict=True)}


def _shares(territory: str) -> pd.Series:
    spoken = get_global("territory_languages")[territory]
    return pd.Series({code: about["population_percent"] for code, about in spoken.items()}).sort_values()[::-1]


def test_a_language_is_asked_for_its_script_or_answers_for_one(corpus, other):
    for made in (corpus, other):
        languages = set(_said(made, "language_script"))
        assert not languages & set(_said(made, "script_language").values())
    assert not {"Adlm", "Hang", "Hung", "Java", "Shaw", "Sund"} & set(_said(corpus, "script_language"))


def test_an_official_language_is_the_only_one_even_counting_regional_ones(corpus):
    said = _said(corpus, "official_language")
    for territory, language in said.items():
        spoken = get_global("territory_languages")[territory]
        assert [code for code, about in spoken.items() if about["official_status"]] == [language]
    assert said["JP"] == "ja" and not {"ZA", "IQ"} & set(said)


@pytest.mark.parametrize(("relation", "place", "least"), [("main_language", 0, 50), ("second_language", 1, 5)])
def test_a_place_by_speakers_is_beyond_doubt(corpus, relation, place, least):
    for territory, language in _said(corpus, relation).items():
        shares = _shares(territory)
        assert shares.index[place] == language and shares.iloc[place] >= least
        following = shares.iloc[1 : place + 2].to_numpy()
        assert (shares.iloc[: len(following)].to_numpy() >= 1.2 * following).all()
    assert not {"ER", "ET", "CH"} & set(_said(corpus, relation))  # 60 and 59 %; 43 and 33 and 32 %; nobody's half


def test_constructed_languages_are_asked_for_neither_territory_nor_script(corpus):
    for relation in ("language_territory", "language_script"):
        assert not {"afh", "eo", "ia", "ie", "io", "jbo", "tlh", "tok", "vo", "zbl"} & set(_said(corpus, relation))


def test_no_zone_has_the_name_of_another_in_english(corpus):
    english = corpus.names.set_index("name_id")["en"]
    ids = {zone.casefold() for zone in get_global("meta_zones").values()}
    for zone, name in english[english.index.str.startswith("zone:")].items():
        named = name.removesuffix(" Time").replace(" ", "_").casefold()
        assert named not in ids - {zone.split(":")[1].casefold()}
    assert not {"zone:Apia", "zone:Samoa"} & set(english.index)


def test_a_language_is_tied_to_a_territory_only_where_no_other_has_as_good_a_claim(corpus):
    said = _said(corpus, "language_territory")
    for relation in ("official_language", "main_language"):
        for territory, language in _said(corpus, relation).items():
            assert said.get(language, territory) == territory
    assert "ti" not in said and said["cy"] == "GB"
    for territory, spoken in get_global("territory_languages").items():
        for language, about in spoken.items():
            if about["official_status"] in ("official", "de_facto_official"):
                assert said.get(language, territory) == territory


def test_no_currency_is_older_than_the_years_cldr_is_right_about(corpus):
    years = _said(corpus, "currency_year")
    assert min(map(int, years.values())) >= 1800
    assert years["DE"] == "1999" and "GB" not in years  # 1694: the Bank of England


def test_question_texts_are_unique_in_a_language(corpus):
    for lang in corpus.test.languages:
        texts = []
        for benchmark in (corpus.dev, corpus.test):
            queries = benchmark.queries.to_pandas()
            texts += queries.loc[queries["lang"] == lang, "text"].tolist()
        if lang in TRAINED:
            texts += corpus.train.queries[lang].to_pylist()
        assert len(texts) == len({unicodedata.normalize("NFKC", text).casefold() for text in texts})


def test_names_are_localised(corpus):
    for lang in corpus.test.languages:
        own = _own_names(lang)
        for name_id, name in corpus.names[["name_id", lang]].itertuples(index=False):
            kind, code = name_id.split(":")
            assert name.strip() and name.casefold() != code.casefold()
            assert name in own[kind][code], f"{lang}: {name_id} is {name}, not one of {own[kind][code]}"
            if lang in SCRIPTS:
                assert any(unicodedata.name(letter, "").startswith(SCRIPTS[lang]) for letter in name), name


def _own_names(lang: str) -> dict[str, dict[str, set[str]]]:
    """Kind -> code -> names, from the language's file alone, nothing from the root locale or Babel's own look-ups."""
    own = pickle.loads(Path(localedata.resolve_locale_filename(lang)).read_bytes())
    tables = {"territory": "territories", "language": "languages", "currency": "currency_names", "script": "scripts"}
    names = {kind: {code: {name} for code, name in own[table].items()} for kind, table in tables.items()}
    names["weekday"] = {str(day): {name} for day, name in own["days"]["format"]["wide"].items()}
    names["zone"] = {zone: {*forms.get("long", {}).values()} for zone, forms in own["meta_zones"].items()}
    return names


def test_no_two_things_of_a_kind_share_a_name(corpus):
    kinds = corpus.names["name_id"].str.split(":").str[0]
    for lang in corpus.test.languages:
        assert not pd.DataFrame({"kind": kinds, "name": corpus.names[lang].str.casefold()}).duplicated().any()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_templates_are_in_the_script_of_their_language(lang):
    for relation, wordings in TEMPLATES[lang]["relations"].items():
        for wording in (*wordings["questions"], *wordings["statements"]):
            assert wording == unicodedata.normalize("NFC", wording)
            bare = re.sub(r"\{\w+\}|ISO", "", wording)
            expected = SCRIPTS.get(lang, "LATIN")
            letters = {letter for letter in bare if letter.isalpha()}
            assert all(unicodedata.name(letter).startswith(expected) for letter in letters), (relation, wording)
        assert all(wording.endswith(ENDS_OF_QUESTIONS.get(lang, "?")) for wording in wordings["questions"])


def test_dictionary_pairs_names(corpus):
    names = corpus.dictionary()
    assert names.languages == corpus.test.languages and len(names) == len(names.passages) > 0.8 * len(corpus.names)
    row = names.queries["query_id"].to_pylist().index("territory:JP")
    pair = next(i for i, query in enumerate(names.query_rows) if query == row)
    assert names[pair, "de", "th"] == {"query": "Japan", "passage": "ญี่ปุ่น", "negatives": []}
    for lang in names.languages:
        assert len(set(names.queries[lang].to_pylist())) == len(names)


def test_dictionary_without_held_out_names_or_without_languages(corpus):
    held_out = _subjects(corpus, "dev") | _subjects(corpus, "test")
    whole = set(corpus.dictionary().queries["query_id"].to_pylist())
    rest = set(corpus.dictionary(held_out=False).queries["query_id"].to_pylist())
    assert whole - rest == whole & held_out and len(whole & held_out) > 200
    assert corpus.dictionary(languages=TRAINED).languages == TRAINED
    with pytest.raises(ValueError, match="unknown language 'fr'.*ar de el"):
        corpus.dictionary(languages=["de", "fr"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"languages": ["en", "xx"]}, "unknown language 'xx'; the corpus has ar de el en es hi ru th tr vi zh"),
        ({"trained": ["en", "xx"]}, "unknown language 'xx'"),
        ({"languages": ["el", "vi"]}, "none of the languages el vi is trained"),
        ({"extra_candidates": 10**6}, "extra_candidates must be between 0 and the"),
        ({"extra_candidates": -1}, "extra_candidates must be between 0 and the"),
    ],
)
def test_impossible_wishes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_corpus(**arguments)


@pytest.mark.parametrize(
    ("part", "wordings", "message"),
    [
        ("questions", [], "en.toml: currency.questions needs 3 different wordings, not 0"),
        ("questions", ["“{subject}”?"] * 3, "en.toml: currency.questions needs 3 different wordings, not 1"),
        (
            "questions",
            ["a {subject}", "b {subject}", "c {subject}"],
            "must have “{subject}”, with these quotation marks",
        ),
        ("statements", ["“{subject}”: {answer} {object}.", "x"], "must have answer and subject in braces, once each"),
    ],
)
def test_faulty_templates_are_named(part, wordings, message):
    content = copy.deepcopy(TEMPLATES["en"])
    content["relations"]["currency"][part] = wordings
    with pytest.raises(ValueError, match=message):
        checked_templates(content, "en.toml")


def test_tokenizer_knows_every_language(corpus):
    tokenizer = train_tokenizer(corpus.texts())
    candidates = corpus.test.candidates.to_pandas()
    assert len(tokenizer) == 8000
    for lang, texts in candidates.groupby("lang")["text"]:
        ids = [token for row in tokenizer(texts.tolist())["input_ids"] for token in row]
        assert ids.count(tokenizer.unk_token_id) / len(ids) < 0.001, lang
    first, *_, last = tokenizer("ＡＢＣ")["input_ids"]
    assert (first, last) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer("ＡＢＣ")["input_ids"] == tokenizer("ABC")["input_ids"]  # NFKC
    assert tokenizer.tokenize("中文") == ["中", "文"]


def test_tokenizer_is_deterministic_and_says_what_it_lacks(corpus):
    texts = list(corpus.texts())[::20]
    one, two = (train_tokenizer(texts, vocabulary_size=3000) for _ in range(2))
    assert one.backend_tokenizer.to_str() == two.backend_tokenizer.to_str()
    assert one.pad_token_id is not None
    with pytest.raises(ValueError, match="vocabulary_size 100 is below the"):
        train_tokenizer(texts, vocabulary_size=100)
    with pytest.raises(ValueError, match="no text to train a tokenizer on"):
        train_tokenizer([])


def test_untrained_languages_reach_the_tokenizer_as_passages_of_training_subjects_only(corpus, statements):
    assert set(corpus.untrained) == {"el", "vi"}
    subjects = _subjects(corpus, "train")
    for lang, passages in corpus.untrained.items():
        assert len(passages) == len(corpus.train.passages)
        assert {subject for text in passages for _, subject, _ in statements(lang, text)} <= subjects
        assert set(passages) <= set(corpus.texts())
        assert not set(passages) & set(corpus.texts(untrained=False))


def test_held_out_names_can_be_kept_from_the_tokenizer(corpus):
    names = corpus.names[corpus.names["name_id"].str.startswith("territory:")]  # no other kind shares their names
    held_out = set(names.loc[names["split"].isin(["dev", "test"]), "el"])
    assert held_out <= set(corpus.texts())
    assert not held_out & set(corpus.texts(held_out=False))
