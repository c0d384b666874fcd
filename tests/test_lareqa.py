"""XQuAD-R and MLQA-R: counts of Table 10, who is relevant to whom, and every way a file can be wrong."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import random
import threading
from collections import Counter, defaultdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hybridlib.corpora.lareqa import CHECKSUMS, COMMITS, load_lareqa

# Table 10 of arXiv 2408.10536: language -> (queries, candidates).
TABLE_10 = {
    "xquad-r": {
        "ar": (1190, 1222), "de": (1190, 1276), "el": (1190, 1234), "en": (1190, 1180), "es": (1190, 1215),
        "hi": (1190, 1244), "ru": (1190, 1219), "th": (1190, 852), "tr": (1190, 1167), "vi": (1190, 1209),
        "zh": (1190, 1196),
    },
    "mlqa-r": {
        "ar": (517, 2545), "de": (512, 2362), "en": (1148, 6264), "es": (500, 1787), "hi": (507, 2426),
        "vi": (511, 2828), "zh": (504, 2322),
    },
}  # fmt: skip


def data_with(name: str) -> Path:
    """$HYBRIDLIB_DATA if all files of the benchmark are in it; else the test is skipped."""
    folder = os.environ.get("HYBRIDLIB_DATA")
    if not folder:
        pytest.skip("HYBRIDLIB_DATA is not set")
    for lang in CHECKSUMS[name]:
        if not any((Path(folder) / name / f"{lang}.json{suffix}").exists() for suffix in ("", ".gz")):
            pytest.skip(f"HYBRIDLIB_DATA holds no {name}/{lang}.json[.gz]")
    return Path(folder)


@pytest.fixture(scope="module")
def xquad():
    return load_lareqa("xquad-r", folder=data_with("xquad-r"))


def relevant_of(benchmark) -> dict[str, list[str]]:
    found = defaultdict(list)
    for row in benchmark.relevant.to_pylist():
        assert row["gain"] == 1
        found[row["query_id"]].append(row["candidate_id"])
    return found


def counts(benchmark) -> dict[str, tuple[int, int]]:
    return {lang: (n["queries"], n["candidates"]) for lang, n in benchmark.counts().items()}


# ---- the real files


def test_xquad_r_has_the_counts_of_table_10(xquad):
    assert counts(xquad) == TABLE_10["xquad-r"]
    assert xquad.languages == tuple(TABLE_10["xquad-r"])
    assert len(xquad.queries) == 13_090 and len(xquad.candidates) == 13_014


def test_mlqa_r_has_the_counts_of_table_10():
    benchmark = load_lareqa("mlqa-r", folder=data_with("mlqa-r"))
    assert counts(benchmark) == TABLE_10["mlqa-r"]
    assert set(Counter(map(len, relevant_of(benchmark).values()))) <= {2, 3, 4}


def test_relevant_are_the_same_candidates_one_per_language_whatever_language_asks(xquad):
    by_question = defaultdict(set)
    for query, candidates in relevant_of(xquad).items():
        assert [candidate.split(":")[0] for candidate in candidates] == list(xquad.languages)
        by_question[query.split(":")[1]].add(tuple(candidates))
    assert len(by_question) == 1190 and all(len(sets) == 1 for sets in by_question.values())


def test_the_cluster_is_the_paragraph(xquad):
    relevant = relevant_of(xquad)
    paragraphs = defaultdict(set)
    for query in xquad.queries.to_pylist():
        paragraphs[query["cluster"]] |= {candidate.split(":")[1] for candidate in relevant[query["query_id"]]}
    assert len(paragraphs) == 240
    assert sorted(paragraphs.values(), key=min) == [{f"{i:04}"} for i in range(240)]


def test_first_and_last_record(xquad):
    queries, candidates = xquad.queries.to_pylist(), xquad.candidates.to_pylist()
    assert queries[0] == {
        "query_id": "ar:56beb4343aeaaa14008c925b", "lang": "ar", "question_id": "56beb4343aeaaa14008c925b",
        "cluster": "56beb4343aeaaa14008c925b", "text": "كم نقطة تخلى عنها دفاع البانثرز؟",
    }  # fmt: skip
    assert queries[-1]["query_id"] == "zh:5737a25ac3c5551400e51f54"
    assert queries[-1]["text"] == "在计算物体面积时，压力项包括在什么里面？"
    english = [row for row in candidates if row["lang"] == "en"]
    assert english[0] == {
        "candidate_id": "en:0000:000", "lang": "en",
        "text": "The Panthers defense gave up just 308 points, ranking sixth in the league, while also leading the NFL "
        "in interceptions with 24 and boasting four Pro Bowl selections.",
    }  # fmt: skip
    assert candidates[-1]["candidate_id"] == "zh:0239:002"
    assert candidates[-1]["text"] == "应力张量 导致了产生所有应变（变形）的力，包括拉伸应力和压力。：133–134:38-1–38-11"
    assert relevant_of(xquad)["de:56beb4343aeaaa14008c925b"][3] == "en:0000:000"


def test_relevant_sentences_hold_the_answer(xquad):
    """The texts of answers, read here without sentence breaks; fewer than 1 % run over the end of their sentence."""
    relevant = relevant_of(xquad)
    texts = dict(zip(xquad.candidates["candidate_id"].to_pylist(), xquad.candidates["text"].to_pylist(), strict=True))
    missing = 0
    for lang in xquad.languages:
        path = data_with("xquad-r") / "xquad-r" / f"{lang}.json"
        raw = path.read_bytes() if path.exists() else gzip.decompress(path.with_suffix(".json.gz").read_bytes())
        for article in json.loads(raw)["data"]:
            for question in (q for paragraph in article["paragraphs"] for q in paragraph["qas"]):
                (own,) = [c for c in relevant[f"{lang}:{question['id']}"] if c.startswith(lang)]
                missing += question["answers"][0]["text"] not in texts[own]
    assert 0 < missing < 131


def test_some_languages_only(xquad):
    part = load_lareqa("xquad-r", languages=["th", "de"], folder=data_with("xquad-r"))
    assert counts(part) == {lang: TABLE_10["xquad-r"][lang] for lang in ("de", "th")}
    both = relevant_of(xquad)
    for query, candidates in relevant_of(part).items():
        assert candidates == [c for c in both[query] if c[:2] in ("de", "th")]
    clusters = dict(zip(xquad.queries["query_id"].to_pylist(), xquad.queries["cluster"].to_pylist(), strict=True))
    assert all(clusters[q["query_id"]] == q["cluster"] for q in part.queries.to_pylist())


def test_with_paragraph():
    plain = load_lareqa("xquad-r", languages=["en"], folder=data_with("xquad-r"))
    long = load_lareqa("xquad-r", languages=["en"], folder=data_with("xquad-r"), with_paragraph=True)
    assert long.candidates["candidate_id"].equals(plain.candidates["candidate_id"])
    assert long.fingerprint != plain.fingerprint
    for short, text in zip(plain.candidates["text"].to_pylist(), long.candidates["text"].to_pylist(), strict=True):
        assert text.startswith(f"{short} ") and short in text[len(short) :]
    first = [c["text"].split(" ", 1) for c in long.candidates.to_pylist()[:2]]
    assert first[0][1].endswith(first[1][1][-40:])  # the same paragraph stands behind both sentences


# ---- a made-up set in the shape of MLQA-R


def paragraph(questions: dict[str, str], extra: str = "") -> dict:
    """A paragraph with a sentence per question, whose last word is the answer."""
    context, breaks, qas = "", [], []
    for identifier, text in questions.items():
        start = len(context)
        context += f"{text} answers{identifier}{extra}."
        breaks.append([start, len(context)])
        answer = {"text": f"answers{identifier}", "answer_start": start + len(text) + 1}
        qas.append({"id": identifier, "question": f"what {text}?", "answers": [answer]})
        context += " "
    return {"context": context.rstrip(), "sentence_breaks": breaks, "sentences": [], "qas": qas}


def document(*paragraphs: dict) -> dict:
    middle = len(paragraphs) // 2
    articles = [paragraphs[:middle], paragraphs[middle:]]
    return {"version": 1.1, "data": [{"title": "x", "paragraphs": list(part)} for part in articles if part]}


def write(folder: Path, name: str, files: dict[str, dict | bytes]) -> dict[str, tuple[int, str]]:
    """Write language -> document as the loader expects them; gives their checksums."""
    pins = {}
    (folder / name).mkdir(parents=True, exist_ok=True)
    for lang, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name / f"{lang}.json").write_bytes(data)
        pins[lang] = (len(data), hashlib.sha256(data).hexdigest())
    return pins


@pytest.fixture
def made_up(tmp_path):
    """60 questions, each in English and 1 to 3 of 6 languages, in other paragraphs in each language."""
    draw = random.Random(0)
    languages = {
        f"q{i:02}": ["en", *draw.sample(["ar", "de", "es", "hi", "vi", "zh"], draw.randint(1, 3))] for i in range(60)
    }
    files, groups = {}, []
    for lang in TABLE_10["mlqa-r"]:
        questions = [q for q in languages if lang in languages[q]]
        draw.shuffle(questions)
        blocks = []
        while questions:
            size = draw.choice([1, 1, 1, 1, 2])
            blocks.append(questions[:size])
            questions = questions[size:]
        groups += blocks
        files[lang] = document(*(paragraph({q: f"{lang} sentence about {q}" for q in block}) for block in blocks))
    return languages, groups, write(tmp_path, "mlqa-r", files)


def test_relevant_across_languages_that_share_only_some_questions(made_up, tmp_path):
    languages, _, pins = made_up
    benchmark = load_lareqa("mlqa-r", folder=tmp_path, checksums=pins)
    texts = dict(
        zip(benchmark.candidates["candidate_id"].to_pylist(), benchmark.candidates["text"].to_pylist(), strict=True)
    )
    relevant = relevant_of(benchmark)
    assert set(relevant) == {f"{lang}:{question}" for question, spoken in languages.items() for lang in spoken}
    assert {len(candidates) for candidates in relevant.values()} == {2, 3, 4}
    for query, candidates in relevant.items():
        question = query.split(":")[1]
        assert sorted(texts[c] for c in candidates) == sorted(
            f"{lang} sentence about {question} answers{question}." for lang in languages[question]
        )


def test_clusters_join_paragraphs_that_share_questions(made_up, tmp_path):
    _, groups, pins = made_up
    benchmark = load_lareqa("mlqa-r", folder=tmp_path, checksums=pins)
    found = defaultdict(set)
    for query in benchmark.queries.to_pylist():
        found[query["cluster"]].add(query["question_id"])
    merged: list[set[str]] = []  # the slow way: join what overlaps until nothing does
    for group in map(set, groups):
        touching = [other for other in merged if other & group]
        merged = [other for other in merged if not other & group] + [group.union(*touching)]
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, merged))
    assert any(len(members) > 2 for members in merged) and len(merged) > 5
    assert all(cluster == min(members) for cluster, members in found.items())


def test_an_answer_belongs_to_the_sentence_it_starts_in(tmp_path):
    part = paragraph({"a": "one", "b": "two"})
    second = part["sentence_breaks"][1]
    for start, sentence in ((second[0], 1), (second[1] - 1, 1), (second[0] - 2, 0), (0, 0)):
        part["qas"][0]["answers"][0]["answer_start"] = start
        pins = write(tmp_path, "xquad-r", {"en": document(part)})
        relevant = relevant_of(load_lareqa("xquad-r", folder=tmp_path, checksums=pins))
        assert relevant["en:a"] == [f"en:0000:{sentence:03}"]


# ---- what can be wrong


def spoil(part: dict, **changes) -> dict:
    return {key: value for key, value in {**part, **changes}.items() if value is not None}


GOOD = paragraph({"a": "one", "b": "two"})
QUESTION = GOOD["qas"][0]

WRONG = {
    "gap between sentences": (
        spoil(GOOD, qas=[spoil(QUESTION, answers=[{"text": "x", "answer_start": GOOD["sentence_breaks"][0][1]}])]),
        "en.json, paragraph 1, question a: the answer starts at 13, which lies in no sentence",
    ),
    "before the paragraph": (
        spoil(GOOD, qas=[spoil(QUESTION, answers=[{"text": "x", "answer_start": -1}])]), "lies in no sentence"
    ),
    "twice in a paragraph": (spoil(GOOD, qas=[QUESTION, QUESTION]), "question a stands in paragraph 1 already"),
    "twice in a file": (
        paragraph({"z": "zero"}), "en.json, paragraph 1: question z stands in paragraph 0 already"
    ),
    "no answer": (spoil(GOOD, qas=[spoil(QUESTION, answers=[])]), "paragraph 1, question a: no answer"),
    "no sentence breaks": (spoil(GOOD, sentence_breaks=None), "data 1, paragraphs 0: 'sentence_breaks' is missing"),
    "start as text": (
        spoil(GOOD, qas=[spoil(QUESTION, answers=[{"text": "x", "answer_start": "4"}])]),
        "paragraphs 0, qas 0, answers 0, answer_start: str '4' where int is expected",
    ),
    "break past the end": (spoil(GOOD, sentence_breaks=[[0, 999]]), r"sentence break \[0, 999\]"),
    "breaks that overlap": (spoil(GOOD, sentence_breaks=[[0, 9], [8, 20]]), r"sentence break \[8, 20\]"),
    "break that is a number": (spoil(GOOD, sentence_breaks=[7]), "sentence_breaks 0: int 7 where list is expected"),
    "paragraph that is a text": ("text", "data 1, paragraphs 0: str 'text' where dict is expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_paragraph_is_named(tmp_path, case):
    part, message = WRONG[case]
    pins = write(tmp_path, "xquad-r", {"en": document(paragraph({"z": "zero"}), part)})
    with pytest.raises(ValueError, match=message):
        load_lareqa("xquad-r", folder=tmp_path, checksums=pins)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [', "en.json, line 1, column 11: invalid JSON"),
        (b'{"data": [\n"\xe9"]}', "en.json, line 2: not UTF-8"),
        (b"[]", r"en.json: list \[\] where dict is expected"),
        (b'{"data": []}', "en.json: there is no question in it"),
    ],
)
def test_a_file_that_is_none_of_lareqa(tmp_path, content, message):
    pins = write(tmp_path, "xquad-r", {"en": content})
    with pytest.raises(ValueError, match=message):
        load_lareqa("xquad-r", folder=tmp_path, checksums=pins)


def test_a_file_that_is_not_the_pinned_one(tmp_path):
    write(tmp_path, "xquad-r", {"en": document(GOOD)})
    with pytest.raises(ValueError, match="en.json: .* bytes .* 628651 are expected"):
        load_lareqa("xquad-r", languages=["en"], folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "languages", "message"),
    [
        ("xquad", None, "unknown benchmark 'xquad'; LAReQA has xquad-r, mlqa-r"),
        ("xquad-r", ["en", "fr"], "xquad-r has no 'fr'; it has ar, de"),
        ("mlqa-r", ["el"], "mlqa-r has no 'el'"),
        ("xquad-r", [], "languages: empty"),
    ],
)
def test_unknown_name_or_language(name, languages, message):
    with pytest.raises(ValueError, match=message):
        load_lareqa(name, languages=languages)


# ---- folder, cache, download


@pytest.fixture
def public(tmp_path, monkeypatch):
    """An empty cache, no HYBRIDLIB_DATA, and a server with made-up files in the place of the public source."""
    site = tmp_path / "site"
    pins = write(site / COMMITS["xquad-r"], "xquad-r", {"en": document(GOOD)})
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(site))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HYBRIDLIB_LAREQA_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HYBRIDLIB_DATA", raising=False)
    monkeypatch.setattr("hybridlib.files.time.sleep", lambda seconds: None)
    yield site / COMMITS["xquad-r"] / "xquad-r" / "en.json", tmp_path / "cache", pins
    server.shutdown()
    thread.join()
    server.server_close()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_download_is_kept_in_the_cache_and_checked_there(public, tmp_path, monkeypatch):
    served, cache, pins = public
    write(tmp_path / "data", "xquad-r", {"en": served.read_bytes()})
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path / "data"))
    first = load_lareqa("xquad-r", checksums=pins)
    assert files_in(cache) == [], "the folder comes before cache and download"
    monkeypatch.delenv("HYBRIDLIB_DATA")
    assert load_lareqa("xquad-r", checksums=pins).fingerprint == first.fingerprint
    path = cache / "xquad-r" / "en.json"
    assert files_in(cache) == [path] and path.read_bytes() == served.read_bytes()
    served.unlink()
    assert load_lareqa("xquad-r", checksums=pins).fingerprint == first.fingerprint
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))
    with pytest.raises(ValueError, match=f"{path}: its sha256 is .*remove it and get it again"):
        load_lareqa("xquad-r", checksums=pins)


@pytest.mark.parametrize(
    ("spoiled", "error", "message"),
    [
        (lambda whole: None, FileNotFoundError, "404.*HYBRIDLIB_DATA.*or allow the download"),
        (lambda whole: whole[:100], FileNotFoundError, "cut after 100 of"),
        (lambda whole: whole.replace(b"one", b"two"), ValueError, "its sha256 is"),
        (lambda whole: whole + b" ", ValueError, "are expected"),
    ],
    ids=["missing", "cut", "changed", "longer"],
)
def test_a_failed_download_leaves_nothing(public, spoiled, error, message):
    served, cache, pins = public
    whole = served.read_bytes()
    content = spoiled(whole)
    served.unlink() if content is None else served.write_bytes(content)
    with pytest.raises(error, match=message):
        load_lareqa("xquad-r", checksums=pins)
    assert files_in(cache) == []
    served.write_bytes(whole)  # and the next call is not the worse for it
    assert len(load_lareqa("xquad-r", checksums=pins).queries) == 2
