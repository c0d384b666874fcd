"""Test collections by name: published layouts, local and on a stand-in hub; real ones; files that are not right."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import datasets
import pytest
from collections_made import beir_folder, json_lines, parquet

from hybridlib.companion.questions import by_language
from hybridlib.companion.search import sources
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.sources import leakage

TABLE = sources.TABLE


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mteb(hub, monkeypatch):
    """The stand-in hub, which `datasets` asks too."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    return hub


def load_all(name: str, *, folder: Path | None = None, **options) -> list[Collection]:
    """What is at hand locally lies in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        if folder:
            patch.setenv("HYBRIDLIB_DATA", str(folder))
        return sources.load(name, **options)


def load(name: str, **options) -> Collection:
    [collection] = load_all(name, **options)
    return collection


def ids(collection: Collection) -> list[str]:
    return collection.passages.ids_at(range(len(collection.passages))).tolist()


def judged(collection: Collection) -> list[tuple[str, str, int]]:
    return [(row["query_id"], row["doc_id"], row["gain"]) for row in collection.judgements.to_pylist()]


# ---- names


def test_the_names_of_a_group():
    assert len(sources.names("beir")) == 26 and "cqadupstack-wordpress" in sources.names("beir")
    assert sources.names("tatoeba", languages=["de", "sw", "xx"]) == ["tatoeba-deu", "tatoeba-swh"]
    assert len(sources.names("tatoeba")) == 41
    assert sources.names("tydiqa", languages=["sw"]) == ["tydiqa-goldp-sw"]
    assert sources.names("mr-tydi", languages=["th"]) == ["mr-tydi-th"]
    assert sources.names("miracl-hard-negatives", languages=["yo"]) == ["miracl-hard-negatives-yo"]
    assert [name.removeprefix("miracl-") for name in sources.names("miracl")] == by_language.languages_of(11)
    assert sources.names("beir", "colab") == ["nfcorpus", "scifact", "fiqa"]
    assert sources.names("miracl", "colab") == [f"miracl-hard-negatives-{lang}" for lang in "bn en es fr sw te".split()]
    assert sources.names("miracl", "colab", ["sw"]) == ["miracl-hard-negatives-sw"]
    with pytest.raises(ValueError, match="group must be one of miracl, .*, beir, not 'trec'"):
        sources.names("trec")
    with pytest.raises(ValueError, match="tydiqa has none of ja th; it has ar bn"):
        sources.names("tydiqa", languages=["ja", "th"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("miracl-tr", "MIRACL has no 'dev' of 'tr'; it has dev; its languages are ar bn de"),
        ("miracl-hard-negatives-tr", "MIRACL with hard negatives has no 'dev' of 'tr'"),
        ("mr-tydi-de", "Mr. TyDi has no 'test' of 'de'; it has test, dev, train; its languages are ar bn en"),
        (
            "tydiqa-goldp-ja",
            "TyDi QA GoldP has no 'dev' of 'ja'; it has dev, train; its languages are ar bn en fi id ko ru sw te",
        ),
        ("tydiqa-goldp-pooled-ar-ja", "TyDi QA GoldP has no 'dev' of 'ja'"),
    ],
)
def test_a_language_that_a_source_has_not_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        sources.load(name)
    with pytest.raises(ValueError, match="has no 'other' of"):
        sources.load(f"{name[:-2]}ar", split="other")


# ---- BEIR

CORPUS = [
    {"_id": "d1", "title": "Title", "text": "the text ", "metadata": {}},
    {"_id": "d2", "title": "", "text": "no title"},
    {"_id": "d3", "title": "Only a title", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two"}, {"_id": "q3", "text": "of another split"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td3\t1\n"
JUDGED = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d3", 1)]


def check_beir(collection: Collection, name: str) -> None:
    assert (collection.name, collection.languages, collection.passage_lang) == (name, ("en",), "en")
    assert ids(collection) == ["d1", "d2", "d3"]
    assert collection.passages.texts(0, 3) == ["Title the text", "no title", "Only a title"]
    assert judged(collection) == JUDGED
    assert collection.queries["text"].to_pylist() == ["one", "two"]
    assert collection.counts == {"queries without judgements": 1}


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_in_beirs_format(tmp_path, packed):
    beir_folder(tmp_path / "made", json_lines(CORPUS), json_lines(QUERIES), QRELS)
    for path in list((tmp_path / "made").rglob("*.*")) if packed else ():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    check_beir(sources.load_folder(tmp_path / "made"), "made-test")
    check_beir(load("made", folder=tmp_path), "made-test")
    assert load("made", folder=tmp_path).own is None
    assert sources.load_folder(tmp_path / "made", drop_own=True).own == ("q1", "q2")
    with pytest.raises(FileNotFoundError, match=r"qrels/dev.tsv\[.gz\]: no such file.*the splits here are test"):
        load("made", folder=tmp_path, split="dev")


def card(parts: dict[str, dict[str, str]]) -> bytes:
    """A data card that says which files belong to which configuration and split."""
    configs = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in files.items()]}
        for name, files in parts.items()
    ]
    return f"---\nconfigs: {json.dumps(configs)}\n---\n".encode()


def scores(kind=float) -> list[dict]:
    return [{"query-id": query, "corpus-id": doc, "score": kind(gain)} for query, doc, gain in JUDGED]


def test_mtebs_json_lines_come_from_the_hub_at_the_pinned_commit(mteb):
    """As in mteb/scifact: corpus and queries in splits of their own names, judgements in the configuration default."""
    parts = {"default": {"test": "qrels/test.jsonl"}, "corpus": {"corpus": "corpus.jsonl"}}
    files = {"README.md": card({**parts, "queries": {"queries": "queries.jsonl"}})}
    files |= {"corpus.jsonl": json_lines([{"metadata": {}, **row} for row in CORPUS])}
    files |= {"queries.jsonl": json_lines(QUERIES), "qrels/test.jsonl": json_lines(scores())}
    mteb.add("dataset", "mteb/scifact", files, TABLE["beir"]["revisions"]["scifact"])
    mteb.add("dataset", "mteb/scifact", {"README.md": b"a later commit"})
    check_beir(load("scifact"), "scifact-test")
    asked = len(mteb.requests)
    again = load("scifact")
    check_beir(again, "scifact-test")
    assert again.own == ("q1", "q2")
    assert len(mteb.requests) == asked, "a prepared collection needs no network"


@pytest.mark.parametrize(
    ("name", "repository", "judgements"),
    [("made", "mteb/made", "qrels"), ("cqadupstack-android", "mteb/CQADupstackAndroidRetrieval", "default")],
)
def test_mtebs_parquet_comes_from_the_hub(mteb, name, repository, judgements):
    rows = [{"id": row["_id"], **{key: row[key] for key in ("title", "text") if key in row}} for row in CORPUS]
    parts = {part: {"test": f"{part}/test-*"} for part in ("corpus", "queries")}
    parts[judgements] = {split: f"{judgements}/{split}-*" for split in ("test", "train")}
    files = {"README.md": card(parts), "corpus/test-00001-of-00002.parquet": parquet(rows[2:])}
    files |= {"corpus/test-00000-of-00002.parquet": parquet(rows[:2])}
    files |= {"queries/test-00000-of-00001.parquet": parquet(QUERIES)}
    files |= {f"{judgements}/{split}-00000-of-00001.parquet": parquet(scores(int)) for split in ("test", "train")}
    mteb.add("dataset", repository, files, TABLE["beir"]["revisions"].get(name))
    check_beir(load(name), f"{name}-test")
    with pytest.raises(ValueError, match=f"dataset {repository} at .*{judgements}' has no split 'dev' among"):
        load(name, split="dev")


def test_a_repository_of_another_layout_or_none_is_named(mteb, tmp_path):
    mteb.add("dataset", "mteb/odd", {"README.md": b"#", "documents.csv": b"a,b\n1,2\n"})
    with pytest.raises(ValueError, match="mteb/odd at .*no configuration 'corpus' among default"):
        load("odd")
    with pytest.raises(FileNotFoundError, match="miracle-sw: no such collection; names are miracl-.*mteb/miracle-sw"):
        load("miracle-sw", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="^dataset mteb/scifact"):
        load("scifact", folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qrels": QRELS.replace("query-id", "query_id")}, r"test.tsv, line 1: the header is 'query_id.tcorpus-id"),
        ({"qrels": QRELS.partition("\n")[2]}, r"test.tsv, line 1: the header is 'q1.td1.t2'"),
        ({"qrels": QRELS + "q2\td1\n"}, r"test.tsv, line 5: 2 columns, expected with tabs between: query-id"),
        ({"qrels": QRELS + "q2\td1\t0.5\n"}, r"test.tsv, line 5: the score '0.5' is not a whole number"),
        ({"qrels": QRELS + "q2\td1\tnan\n"}, r"test.tsv, line 5: the score 'nan'"),
        ({"qrels": QRELS + "q 2\td1\t1\n"}, r"line 5: the id 'q 2' is empty, holds a blank"),
        ({"qrels": QRELS + "q2\td9\t1\n"}, r"query 'q2' has a judgement of document 'd9'"),
        ({"corpus": json_lines(CORPUS) + b'{"_id": "d4", "title": "x"'}, r"corpus.jsonl, line 4.*invalid JSON"),
        ({"corpus": json_lines(CORPUS) + b"\xff\n"}, r"corpus.jsonl, line 4: not UTF-8"),
        (
            {"corpus": json_lines([*CORPUS, {"_id": "d1", "text": "x"}])},
            r"made-test: doc_id 'd1' occurs more than once",
        ),
        ({"corpus": json_lines([*CORPUS, {"_id": "d4", "title": " ", "text": " "}])}, r"line 4: the text is empty"),
        ({"corpus": json_lines([*CORPUS, {"id_": "d4", "text": "x"}])}, r"line 4: there is no '_id' or .* id_, text"),
        ({"corpus": json_lines([*CORPUS, {"_id": "d4", "text": None}])}, r"line 4: NoneType where a text is expected"),
        (
            {"corpus": json_lines([*CORPUS, {"_id": "d4", "title": 3, "text": "x"}])},
            r"line 4: int where a text is expected",
        ),
        ({"corpus": json_lines(CORPUS) + b"[1]\n"}, r"line 4: list where an object is expected"),
        ({"queries": json_lines([*QUERIES, QUERIES[0]])}, r"query_id 'q1' occurs more than once"),
        ({"queries": json_lines([*QUERIES, {"_id": "q4", "text": " "}])}, r"queries.jsonl, line 4: the text is empty"),
        ({"queries": json_lines([*QUERIES, {"_id": "", "text": "x"}])}, r"queries.jsonl, line 4: the id '' is empty"),
    ],
)
def test_bad_files_of_beir_are_named_with_their_line(change, message, tmp_path):
    parts = {"corpus": json_lines(CORPUS), "queries": json_lines(QUERIES), "qrels": QRELS, **change}
    beir_folder(tmp_path / "made", parts["corpus"], parts["queries"], parts["qrels"])
    with pytest.raises(ValueError, match=message):
        sources.load_folder(tmp_path / "made")


def test_an_empty_document_can_be_kept(tmp_path):
    beir_folder(tmp_path / "made", json_lines([*CORPUS, {"_id": "d4", "text": ""}]), json_lines(QUERIES), QRELS)
    assert sources.load_folder(tmp_path / "made", empty="keep").passages.texts(3, 4) == [""]
    with pytest.raises(ValueError, match="empty is 'skip'; choose one of error, keep"):
        load("made", folder=tmp_path, empty="skip")


def test_a_changed_file_makes_the_collection_anew(tmp_path):
    beir_folder(tmp_path / "made", json_lines(CORPUS), json_lines(QUERIES), QRELS)
    first = load("made", folder=tmp_path)
    assert load("made", folder=tmp_path).fingerprint == first.fingerprint
    (tmp_path / "made" / "corpus.jsonl").write_bytes(json_lines([*CORPUS, {"_id": "d4", "text": "new"}]))
    assert len(load("made", folder=tmp_path).passages) == 4
    assert [path.name for path in (tmp_path / "cache" / "collections").glob("[!.]*")] == ["made-test"]


def test_nfcorpus(data_folder):
    """Counts of documents, test queries and judgements as MTEB states them for mteb/nfcorpus; all queries: its card."""
    for split, queries, judgements in (("test", 323, 12_334), ("dev", 324, 11_385), ("train", 2_590, 110_575)):
        collection = load("nfcorpus", split=split, folder=data_folder)
        sizes = {"queries": queries, "judgements": judgements, "relevant": judgements, "passages": 3_633}
        assert collection.sizes() == sizes
        assert collection.counts == {"queries without judgements": 3_237 - queries}
    assert collection.passages.texts(0, 1)[0].startswith("Statin Use and Breast Cancer Survival: A Nationwide Cohort")


# ---- MIRACL

TOPICS = "1\tNani?\n2\tLini?\n"
TREC_QRELS = "1 Q0 7#0 1\n1 Q0 7#1 0\n2 Q0 9#0 1\n"
WIKIPEDIA = [
    {"docid": "7#0", "title": "Saba", "text": "Sifuri."},
    {"docid": "7#1", "title": "Saba", "text": "Moja."},
    {"docid": "9#0", "title": "Tisa", "text": "Sifuri."},
]


def add_full(hub, lang: str = "sw") -> None:
    base = f"miracl-v1.0-{lang}"
    files = {f"{base}/topics/topics.{base}-dev.tsv": TOPICS, f"{base}/qrels/qrels.{base}-dev.tsv": TREC_QRELS}
    hub.add("dataset", "miracl/miracl", {name: text.encode() for name, text in files.items()})
    corpus = [WIKIPEDIA[:2], WIKIPEDIA[2:]] if lang == "te" else [WIKIPEDIA]  # te: in two files
    files = {f"miracl-corpus-v1.0-{lang}/docs-{i}.jsonl.gz": json_lines(p, packed=True) for i, p in enumerate(corpus)}
    hub.add("dataset", "miracl/miracl-corpus", files, TABLE["miracl"]["corpus"]["revision"])


def local_miracl(folder: Path, topics: str = TOPICS, qrels: str = TREC_QRELS) -> Path:
    (folder / "miracl-dev").mkdir()
    for kind, text in (("topics", topics), ("qrels", qrels)):
        (folder / "miracl-dev" / f"{kind}.miracl-v1.0-sw-dev.tsv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("lang", ["sw", "te"])
def test_miracl_in_full_comes_from_the_hub(hub, lang):
    add_full(hub, lang)
    collection = load(f"miracl-{lang}")
    assert (collection.name, collection.languages) == (f"miracl-{lang}", (lang,))
    assert collection.sizes() == {"queries": 2, "judgements": 3, "relevant": 2, "passages": 3}
    assert ids(collection) == ["7#0", "7#1", "9#0"]
    assert collection.passages.texts(0, 3) == ["Saba Sifuri.", "Saba Moja.", "Tisa Sifuri."]
    assert [row["row"] for row in collection.judgements.to_pylist()] == [0, 1, 2]


def test_miracl_in_full_comes_from_local_files(tmp_path):
    corpus = local_miracl(tmp_path) / "miracl-corpus" / "miracl-corpus-v1.0-sw"
    corpus.mkdir(parents=True)
    (corpus / "docs-0.jsonl.gz").write_bytes(json_lines(WIKIPEDIA, packed=True))
    assert load("miracl-sw", folder=tmp_path).sizes()["passages"] == 3


def add_miracl_of_mteb(hub, group: str) -> None:
    rows = [{"id": row["docid"], "title": row["title"], "text": row["text"]} for row in WIKIPEDIA]
    qrels = [{"query-id": "1", "corpus-id": doc, "score": gain} for doc, gain in (("7#0", 1), ("55#0", 0))]
    parts = {"sw-corpus": rows, "sw-queries": [{"id": "1", "text": "Nani?"}], "sw-qrels": qrels}
    files = {f"{part}/dev-00000-of-00001.parquet": parquet(content) for part, content in parts.items()}
    files["README.md"] = card({part: {"dev": f"{part}/dev-*"} for part in parts})
    source = TABLE[group]["mteb"]
    hub.add("dataset", source["repository"], files, source["revision"])


def test_miracl_with_hard_negatives_has_its_own_name(mteb):
    add_miracl_of_mteb(mteb, "miracl-hard-negatives")
    collection = load("miracl-hard-negatives-sw")
    assert (collection.name, collection.languages) == ("miracl-hard-negatives-sw", ("sw",))
    assert collection.sizes() == {"queries": 1, "judgements": 1, "relevant": 1, "passages": 3}
    assert collection.counts == {"judgements of passages not sampled": 1}
    assert collection.passages.texts(0, 1) == ["Saba Sifuri."]
    with pytest.raises(ValueError, match="no configuration 'te-corpus' among sw-corpus"):
        load("miracl-hard-negatives-te")


def test_miracl_in_full_from_mteb_must_be_full(mteb):
    """The same small files under the name of the full form lack a judged passage."""
    add_miracl_of_mteb(mteb, "miracl")
    with pytest.raises(ValueError, match="miracl-sw: query '1' has a judgement of document '55#0'"):
        load("miracl-mteb-sw")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"topics": f"{TOPICS}3 no tab\n"}, "topics.*line 3: 1 columns, expected with tabs between: query_id, query"),
        ({"topics": f"{TOPICS}3\t \n"}, "topics.*line 3: the text is empty"),
        (
            {"qrels": f"{TREC_QRELS}2 Q0 7#0\n"},
            "qrels.*line 4: 3 columns, expected with blanks between: query-id, iteration",
        ),
        ({"qrels": f"{TREC_QRELS}2 Q0 7#0 yes\n"}, "qrels.*line 4: the score 'yes' is not a whole number"),
    ],
)
def test_bad_lines_of_miracl_are_named(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load("miracl-sw", passages=False, folder=local_miracl(tmp_path, **change))


def test_languages_and_files_of_miracl():
    """Files: languages2filesize in miracl-corpus.py at the pinned commit, for the 16 languages seen there."""
    counts = dict(ar=5, bn=1, en=66, es=21, fa=5, fi=4, fr=30, hi=2, id=3, ja=14, ko=3, ru=20, sw=1, te=2, th=2, zh=10)
    per_file = TABLE["miracl"]["passages_per_file"]
    assert {lang: -(-sources.MIRACL_PASSAGES[lang] // per_file) for lang in counts} == counts
    assert set(sources.MIRACL_PASSAGES) - set(by_language.languages_of(11)) == {"de", "yo"}
    for table in (12, 13):
        assert set(by_language.languages_of(11)) - set(by_language.languages_of(table)) == {"en"}


def test_passages_are_counted_where_they_are_searched(data_folder, hub, monkeypatch):
    add_full(hub)
    swahili = load("miracl-sw")
    monkeypatch.setenv("HYBRIDLIB_DATA", str(data_folder))
    table = by_language.counted([swahili]).set_index("language")
    assert table.loc["sw", ["queries", "passages", "agrees"]].tolist() == [2, 3, "no"]
    assert table["passages"].count() == 1


def test_the_questions_are_those_that_leakage_compares(data_folder):
    theirs = sorted(leakage._miracl_questions())
    ours = (load(f"miracl-{lang}", passages=False, folder=data_folder) for lang in sources.MIRACL_PASSAGES)
    assert sorted(text for collection in ours for text in collection.queries["text"].to_pylist()) == theirs


# ---- TyDi QA GoldP

PAIRS = [  # id, question, paragraph
    ("arabic-1-0", "first?", "Paragraph one"),
    ("arabic-2-0", "second?", "Paragraph two"),
    ("arabic-3-0", "third?", "Paragraph one"),  # a paragraph that stands twice
]


def squad(pairs) -> str:
    def paragraph(identifier, question, context):
        answers = [{"text": "", "answer_start": 0}]
        return {"context": context, "qas": [{"id": identifier, "question": question, "answers": answers}]}

    return json.dumps({"data": [{"paragraphs": [paragraph(*pair)]} for pair in pairs]})


def local_goldp(folder: Path, document: str, lang: str = "ar", split: str = "dev") -> Path:
    (folder / "tydiqa-goldp").mkdir(exist_ok=True)
    (folder / "tydiqa-goldp" / f"tydiqa.goldp.{lang}.{split}.json").write_text(document, encoding="utf-8")
    return folder


def check_goldp(collection: Collection) -> None:
    assert collection.name == "tydiqa-goldp-ar"
    assert collection.queries["query_id"].to_pylist() == [f"ar:{pair[0]}" for pair in PAIRS]
    assert collection.queries["text"].to_pylist() == [pair[1] for pair in PAIRS]
    assert ids(collection) == ["ar:00000", "ar:00001"]
    assert collection.passages.texts(0, 2) == ["Paragraph one", "Paragraph two"]
    assert [row["row"] for row in collection.judgements.to_pylist()] == [0, 1, 0]


def test_goldp_from_xtremes_files_and_from_the_hub(mteb, tmp_path):
    check_goldp(load("tydiqa-goldp-ar", folder=local_goldp(tmp_path, squad(PAIRS))))
    rows = [{"id": i, "title": "T", "context": c, "question": q} for i, q, c in [*PAIRS, ("thai-1", "?", "x")]]
    files = {"README.md": card({"secondary_task": {"validation": "secondary_task/validation-*"}})}
    files["secondary_task/validation-00000-of-00001.parquet"] = parquet(rows)
    mteb.add("dataset", TABLE["tydiqa"]["repository"], files)
    check_goldp(load("tydiqa-goldp-ar"))


def test_goldp_pooled_over_languages(tmp_path):
    local_goldp(local_goldp(tmp_path, squad(PAIRS)), squad([("swahili-1", "first?", "Paragraph one")]), "sw")
    collection = load("tydiqa-goldp-pooled-sw-ar", folder=tmp_path)
    assert collection.name == "tydiqa-goldp-pooled-sw-ar"
    assert (collection.languages, collection.passage_lang) == (("sw", "ar"), None)
    assert collection.sizes() == {"queries": 4, "judgements": 4, "relevant": 4, "passages": 3}
    assert ids(collection) == ["sw:00000", "ar:00000", "ar:00001"]


def test_ids_of_goldps_train_are_made_unique_and_a_question_asked_twice_is_one(tmp_path):
    pairs = [("english-1", "a?", "x"), ("english-1", "b?", "y"), ("english-1", "a?", "z"), ("english-1", "a?", "x")]
    local_goldp(tmp_path, squad(pairs), "en", "train")
    collection = load("tydiqa-goldp-en", split="train", folder=tmp_path)
    assert collection.name == "tydiqa-goldp-en-train"
    assert collection.queries["query_id"].to_pylist() == ["en:english-1", "en:english-1#2"]
    rows = [(row["query_id"], row["row"]) for row in collection.judgements.to_pylist()]
    assert rows == [("en:english-1", 0), ("en:english-1#2", 1), ("en:english-1", 2)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[]", "ar.dev.json: list where an object is expected"),
        ('{"data": [{}]}', "there is no 'paragraphs'"),
        (squad([("1", "?", "")]), "paragraph 1: the text is empty"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": ["?"]}]}]}', "paragraph 1: string indices must be"),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": []}]}]}', "there is no query"),
        ('{"data": [', "line 1, column .*invalid JSON"),
    ],
)
def test_bad_files_of_goldp_are_named(document, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load("tydiqa-goldp-ar", folder=local_goldp(tmp_path, document))


COUNTS = {"ar": (921, 842), "bn": (113, 105), "en": (440, 429), "ko": (276, 228), "ru": (812, 778), "sw": (499, 357)}


def test_counts_of_goldp(data_folder):
    """Questions and different paragraphs, counted from the files by another program."""
    for lang, (questions, paragraphs) in COUNTS.items():
        sizes = load(f"tydiqa-goldp-{lang}", folder=data_folder).sizes()
        assert (sizes["queries"], sizes["relevant"], sizes["passages"]) == (questions, questions, paragraphs)
    pooled = load(f"tydiqa-goldp-pooled-{'-'.join(COUNTS)}", folder=data_folder).sizes()
    assert (pooled["queries"], pooled["passages"]) == tuple(map(sum, zip(*COUNTS.values(), strict=True)))


# ---- Mr. TyDi

POSITIVES = [
    {"query_id": "0", "query": "Ya kwanza?", "positive_passages": [{"docid": "5#0", "title": "", "text": ""}]},
    {"query_id": "1", "query": "Ya pili?", "positive_passages": [{"docid": "5#1"}, {"docid": "6#0"}]},
]
ARTICLES = [{"docid": doc, "title": "Kichwa", "text": f"maandishi {doc}"} for doc in ("5#0", "5#1", "6#0", "7#0")]


def check_mr_tydi(collection: Collection) -> None:
    assert collection.name == "mr-tydi-sw-test"
    assert collection.sizes() == {"queries": 2, "judgements": 3, "relevant": 3, "passages": 4}
    assert collection.passages.texts(1, 2) == ["Kichwa maandishi 5#1"]
    assert judged(collection) == [("0", "5#0", 1), ("1", "5#1", 1), ("1", "6#0", 1)]


def test_mr_tydi_from_the_hub_and_from_local_files(hub, tmp_path):
    for part, name, rows in (("topics", "test", POSITIVES), ("corpus", "corpus", ARTICLES)):
        source, file = TABLE["mr-tydi"][part], f"mrtydi-v1.1-swahili/{name}.jsonl.gz"
        hub.add("dataset", source["repository"], {file: json_lines(rows, packed=True)}, source["revision"])
        local = tmp_path / "data" / source["local"].format(language="swahili", split="test")
        local.parent.mkdir(parents=True)
        local.write_bytes(json_lines(rows, packed=True))
    check_mr_tydi(load("mr-tydi-sw"))
    hub.requests.clear()
    check_mr_tydi(load("mr-tydi-sw", folder=tmp_path / "data"))
    assert hub.requests == []
    topics = tmp_path / "data" / "mr-tydi" / "mrtydi-v1.1-swahili" / "test.jsonl.gz"
    bad = [*POSITIVES, {"query_id": "2", "query": "x", "positive_passages": ["5#0"]}]
    topics.write_bytes(json_lines(bad, packed=True))
    with pytest.raises(ValueError, match=r"test.jsonl.gz, line 3: string indices must be"):
        load("mr-tydi-sw", folder=tmp_path / "data")


# ---- Tatoeba

SENTENCES = [("Guten Tag", "Good day"), ("Danke", "Thanks"), ("Ja", "Yes")]


def add_tatoeba(folder: Path, layout: str, pairs=SENTENCES) -> Path:
    (folder / "tatoeba-v1").mkdir()
    if layout == "laser":
        for side, name in enumerate(("deu", "eng")):
            text = "".join(f"{pair[side]}\n" for pair in pairs)
            (folder / "tatoeba-v1" / f"tatoeba.deu-eng.{name}").write_text(text, encoding="utf-8")
    else:
        text = "".join(f"{a}\t{b}\n" for a, b in pairs).encode()
        path = folder / "tatoeba-v1" / f"deu-eng.{layout}"
        path.write_bytes(gzip.compress(text) if layout.endswith(".gz") else text)
    return folder


@pytest.mark.parametrize("layout", ["tsv", "tsv.gz", "laser"])
def test_tatoeba_both_directions(layout, tmp_path):
    there, back = load_all("tatoeba-deu", folder=add_tatoeba(tmp_path, layout))
    assert (there.name, there.languages, there.passage_lang) == ("tatoeba-deu-eng", ("de",), "en")
    assert (back.name, back.languages, back.passage_lang) == ("tatoeba-eng-deu", ("en",), "de")
    assert there.queries["text"].to_pylist() == back.passages.texts(0, 3) == ["Guten Tag", "Danke", "Ja"]
    assert back.queries["text"].to_pylist() == there.passages.texts(0, 3) == ["Good day", "Thanks", "Yes"]
    assert there.queries["query_id"].to_pylist() == ["00001", "00002", "00003"]
    assert there.judgements["row"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("layout", "pairs", "message"),
    [
        ("tsv", [*SENTENCES, ("Nein", "")], r"deu-eng.tsv, line 4: the text is empty"),
        ("tsv", [*SENTENCES, ("Nein", "No\tno")], r"deu-eng.tsv, line 4: 3 columns"),
        ("laser", [*SENTENCES, ("Nein", "")], r"tatoeba.deu-eng.deu: its lines do not match those of tatoeba.deu-eng"),
    ],
)
def test_bad_lines_of_tatoeba_are_named(layout, pairs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_all("tatoeba-deu", folder=add_tatoeba(tmp_path, layout, pairs))


def test_tatoeba_says_where_its_files_are(tmp_path, monkeypatch):
    monkeypatch.delenv("HYBRIDLIB_DATA", raising=False)
    for folder in (tmp_path, None):
        with pytest.raises(FileNotFoundError, match="xyz-eng.tsv.*facebookresearch/LASER; put them there and set"):
            load_all("tatoeba-xyz", folder=folder)


def test_tatoeba_is_complete(data_folder):
    """The 41 languages of XTREME-R; 1,000 pairs at most; no sentence recurs on its side of a file, so no tie is due."""
    sizes = {}
    for name in sources.names("tatoeba"):
        there, back = load_all(name, folder=data_folder)
        sizes[name] = len(there.passages)
        for collection in (there, back):
            assert len(set(collection.passages.texts(0, sizes[name]))) == sizes[name]
    assert max(sizes.values()) == sizes["tatoeba-deu"] == 1000 and sizes["tatoeba-swh"] == 390


# ---- Mewsli-X

TEXT = "Title of it\n\nThe strike hit Helsinki on\nMonday. Nobody rode."
SPANS = [{"start": 0, "end": 11}, {"start": 13, "end": 47}, {"start": 48, "end": 60}]
CONTEXT = {"document_id": "en-1", "language": "en", "text": TEXT, "sentence_spans": SPANS}
MENTION = {"example_id": "e1", "mention_span": {"start": 28, "end": 36, "text": "Helsinki"}, "entity_id": "Q1757"}
ENTITIES = [
    {"entity_id": "Q1757", "description": "Capital.  Of Finland. More", "sentence_spans": [(0, 8), (10, 21)]},
    {"entity_id": "Q64", "description": "Stadt", "sentence_spans": [(0, 5)]},
]


def mewsli_files(mentions=(MENTION,)) -> dict[str, bytes]:
    entities = [
        {**row, "sentence_spans": [dict(zip(("start", "end"), span, strict=True)) for span in row["sentence_spans"]]}
        for row in ENTITIES
    ]
    rows = [{"context": CONTEXT, "mentions": list(mentions)}]
    return {"candidate_set_entities.jsonl": json_lines(entities), "wikinews_mentions-test.jsonl": json_lines(rows)}


def add_mewsli(hub, files: dict[str, bytes], cut: int | None = None) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as packed:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"dataset/{name}")
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
    source = TABLE["mewsli-x"]
    hub.add("dataset", source["repository"], {source["archive"]: sink.getvalue()[:cut]}, source["revision"])


def check_mewsli(collection: Collection) -> None:
    assert (collection.name, collection.languages) == ("mewsli-x-test", ("en",))
    text = "Helsinki: The strike hit { Helsinki } on Monday."
    assert collection.queries.to_pylist() == [{"query_id": "e1", "lang": "en", "text": text}]
    assert ids(collection) == ["Q1757", "Q64"]
    assert collection.passages.texts(0, 2) == ["Capital. Of Finland.", "Stadt"]
    assert collection.judgements["row"].to_pylist() == [0]


def test_mewsli_x_from_local_files_and_from_the_hub(hub, tmp_path):
    (tmp_path / "mewsli-x").mkdir()
    for name, data in mewsli_files().items():
        (tmp_path / "mewsli-x" / name).write_bytes(data)
    check_mewsli(load("mewsli-x", folder=tmp_path))
    add_mewsli(hub, mewsli_files())
    check_mewsli(load("mewsli-x"))
    with pytest.raises(FileNotFoundError, match="no wikinews_mentions-dev.jsonl in it"):
        load("mewsli-x", split="dev")
    with pytest.raises(ValueError, match="Mewsli-X has no 'train'; it has test, dev"):
        load("mewsli-x", split="train")


@pytest.mark.parametrize(
    ("mention", "message"),
    [
        ({**MENTION, "mention_span": {"start": 28, "end": 35, "text": "Helsinki"}}, "lies in no sentence of the text"),
        ({**MENTION, "mention_span": {"start": 13, "end": 52, "text": TEXT[13:52]}}, "lies in no sentence of the text"),
        ({**MENTION, "entity_id": "Q5"}, "query 'e1' has a judgement of document 'Q5', which is not among"),
        ("Helsinki", "test.jsonl, line 1: string indices must be"),
    ],
)
def test_a_bad_mention_is_named(mention, message, hub):
    """Google's files as released have no texts: its scripts put them in."""
    add_mewsli(hub, mewsli_files([mention]))
    with pytest.raises(ValueError, match=message):
        load("mewsli-x")


def test_a_torn_archive_is_named(hub):
    add_mewsli(hub, mewsli_files(), cut=-40)
    with pytest.raises(ValueError, match="raw.tar.gz: torn or no tar.gz"):
        load("mewsli-x")
