"""Flags of degenerate translations: hand-made cases in several scripts, and the embedded corpus's own texts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridlib.companion.questions.translation_flags import judge, rates
from hybridlib.companion.sources.embedded.corpus import LANGUAGES, build_corpus
from hybridlib.companion.sources.flags import FLAGS, FlagLimits, find_flags, has_loop
from hybridlib.companion.sources.languages import NLLB, script_of, scripts
from hybridlib.corpora.lareqa import load_lareqa

SOURCE = "Who painted the large picture that hangs in the hall of the museum?"
GOOD = {
    "ar": "من رسم اللوحة الكبيرة المعلقة في قاعة المتحف؟",
    "de": "Wer hat das große Bild gemalt, das in der Halle des Museums hängt?",
    "el": "Ποιος ζωγράφισε τον μεγάλο πίνακα που κρέμεται στην αίθουσα του μουσείου;",
    "hi": "संग्रहालय के हॉल में टंगी बड़ी तस्वीर किसने बनाई?",
    "ja": "美術館のホールに掛かっている大きな絵を描いたのは誰ですか?",
    "ko": "박물관 홀에 걸려 있는 큰 그림은 누가 그렸습니까?",
    "ru": "Кто написал большую картину, которая висит в зале музея?",
    "th": "ใครเป็นคนวาดภาพขนาดใหญ่ที่แขวนอยู่ในห้องโถงของพิพิธภัณฑ์",
    "vi": "Ai đã vẽ bức tranh lớn treo trong sảnh của viện bảo tàng?",
    "zh": "挂在博物馆大厅里的那幅大画是谁画的?",
}


@pytest.mark.parametrize("lang", GOOD)
def test_a_good_translation_has_no_flag(lang):
    assert find_flags(SOURCE, GOOD[lang], lang=lang) == ()


@pytest.mark.parametrize("lang", GOOD)
@pytest.mark.parametrize("text", ["", "  ", "?", "...", "«»"])
def test_empty(lang, text):
    assert find_flags(SOURCE, text, lang=lang) == ("empty",)


@pytest.mark.parametrize("lang", GOOD)
def test_copied(lang):
    assert "copied" in find_flags(SOURCE, SOURCE, lang=lang)
    assert "copied" in find_flags(SOURCE, SOURCE.upper().rstrip("?"), lang=lang)
    mostly = "Who painted the large picture that hangs in the hall of the " + GOOD[lang][-8:]
    assert "copied" in find_flags(SOURCE, mostly, lang=lang)


@pytest.mark.parametrize(
    ("source", "text", "lang"),
    [
        ("Berlin", "Berlin", "de"),
        ("Barack Obama", "Barack Obama", "zh"),  # a name may stay in its own script
        ("New York City Marathon", "New York City Marathon", "de"),
        ("What is iPhone 15 Pro Max?", "iPhone 15 Pro Max是什么?", "zh"),
        ("what is docker compose", "什么是 docker compose", "zh"),
        ("USB-C cable", "Кабель USB-C", "ru"),
        ("1984", "1984", "ar"),
        ("10 + 5 = 15 (A)", "10 + 5 = 15 (A)", "th"),
    ],
)
def test_names_and_numbers_may_stay(source, text, lang):
    assert find_flags(source, text, lang=lang) == ()


@pytest.mark.parametrize("lang", GOOD)
def test_repeated(lang):
    start = GOOD[lang][:12]
    assert "repeated" in find_flags(SOURCE, start + " " + GOOD[lang][3:9] * 6, lang=lang)
    assert "repeated" in find_flags(SOURCE, GOOD[lang] + " " + "、".join([GOOD[lang][:5]] * 8), lang=lang)


def test_what_is_no_loop():
    limits = FlagLimits()
    assert not has_loop("No, no, no, no!", limits)
    assert not has_loop("Name ......................... Seite", limits)
    assert not has_loop("1 000 000 000 000 000 000 000", limits)
    assert has_loop("the the the the the the the the", limits)
    assert has_loop("哈哈" * 10, limits)
    laughing = "ha " * 12
    assert "repeated" not in find_flags("He said: " + laughing, "Er sagte: " + laughing, lang="de")


@pytest.mark.parametrize("lang", GOOD)
@pytest.mark.parametrize("other", ["en", *GOOD])
def test_wrong_script(lang, other):
    text = {"en": "Who made the big painting shown inside this gallery?", **GOOD}[other]
    if other == lang or scripts(other) == scripts(lang):
        assert "wrong_script" not in find_flags(SOURCE, text, lang=lang)
    elif not scripts(other) & scripts(lang):
        assert "wrong_script" in find_flags(SOURCE, text, lang=lang)


@pytest.mark.parametrize("lang", GOOD)
def test_length(lang):
    assert "length" in find_flags(SOURCE * 4, GOOD[lang][:6], lang=lang)
    assert "length" in find_flags(SOURCE, " ".join(GOOD.values()) * 2, lang=lang)


def test_the_flags_stand_in_their_order_and_limits_move_them():
    found = find_flags(SOURCE, SOURCE, lang="ru")
    assert found == tuple(flag for flag in FLAGS if flag in found) == ("copied", "wrong_script")
    assert find_flags(SOURCE, GOOD["ru"], lang="ru", limits=FlagLimits(script_share=1.1)) == ("wrong_script",)


def test_unknown_languages_are_named():
    for options in ({"lang": "xx"}, {"lang": "de", "source_lang": "xx"}):
        with pytest.raises(ValueError, match="unknown language 'xx'; give one of ar"):
            find_flags(SOURCE, "Text", **options)


@pytest.mark.parametrize("lang", [lang for lang in GOOD if lang not in ("de", "vi")])
def test_a_text_half_in_a_wrong_script_is_found(lang):
    other = GOOD["el" if lang == "ru" else "ru"]
    text = GOOD[lang][: len(GOOD[lang]) // 2] + " " + other[len(other) // 2 :]
    assert "wrong_script" in find_flags(SOURCE, text, lang=lang)


@given(st.text(max_size=80), st.text(max_size=80), st.sampled_from(sorted(NLLB)))
def test_any_text_can_be_judged(source, text, lang):
    found = find_flags(source, text, lang=lang)
    assert set(found) <= set(FLAGS) and len(set(found)) == len(found)
    assert ("empty" in found) == (found == ("empty",))
    assert "empty" in find_flags(source, "", lang=lang)


@given(st.text("abc ä", min_size=1, max_size=12).filter(str.strip), st.integers(20, 40))
def test_any_loop_of_letters_is_found(unit, times):
    assert has_loop(f"Es war einmal {unit * times}", FlagLimits())


def test_scripts_of_characters():
    letters = {"LATIN": "aß", "CYRILLIC": "ж", "CJK": "漢々", "KATAKANA": "ー", "HANGUL": "한", None: "7? "}
    assert all(script_of(letter) == script for script, some in letters.items() for letter in some)


def test_good_texts_of_the_embedded_corpus_are_hardly_flagged_and_damaged_ones_are():
    train = build_corpus(trained=LANGUAGES).train
    texts = {lang: train.queries[lang].to_pylist()[::8] + train.passages[lang].to_pylist()[::3] for lang in LANGUAGES}
    found = rates(texts, damage_every=10).set_index("lang")
    assert sorted(found.index) == sorted(set(LANGUAGES) - {"en"})
    assert (found["false alarms"] <= 0.002 * found["texts"]).all(), found
    sure = found[["empty", "copied", "repeated", "wrong_script"]]
    assert (found["damaged"] > 100).all() and sure.ge(0.99 * found["damaged"], axis=0).all(axis=None), found


def test_a_few_texts_are_shown_with_their_flags():
    echo = SimpleNamespace(translate=lambda texts, *, target, source: [GOOD["de"]] if target == "de" else texts)
    sample = judge({"en": [SOURCE], "de": ["given"], "ru": ["given"]}, echo)
    assert sample["lang"].tolist() == ["de", "ru"] and sample["translated"].tolist() == [GOOD["de"], SOURCE]
    assert sample["flags"].tolist() == ["", "copied wrong_script"]


def test_a_language_without_another_script_beside_it_is_named():
    with pytest.raises(ValueError, match="in another script than 'de'"):
        rates({"en": ["a"], "de": ["b"]})


def test_of_the_questions_of_xquad_hardly_any_is_flagged_but_those_left_in_english(data_folder):
    rows = load_lareqa("xquad-r").queries.to_pylist()
    texts = {(row["lang"], row["question_id"]): row["text"] for row in rows}
    flagged = {}
    for (lang, question), text in texts.items():
        if lang != "en":
            flagged[lang, question] = find_flags(texts["en", question], text, lang=lang)
    in_english = [key for key, text in texts.items() if key[0] == "el" and text == texts["en", key[1]]]
    assert len(in_english) == 3 and all(flagged.pop(key) == ("copied", "wrong_script") for key in in_english)
    assert len(flagged) == 11_897 and sum(map(bool, flagged.values())) <= 8
