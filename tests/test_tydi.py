"""TyDi QA GoldP as retrieval, from both published layouts, and Mr. TyDi in full."""

from __future__ import annotations

import gzip
import json

import pytest
from collections_made import json_lines, parquet

from hybridlib.companion.search import records, tydi

PAIRS = [  # id, question, paragraph
    ("arabic-1-0", "first?", "Paragraph one"),
    ("arabic-2-0", "second?", "Paragraph two"),
    ("arabic-3-0", "third?", "Paragraph one"),  # a paragraph that stands twice
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))


def squad(pairs) -> str:
    def paragraph(identifier, question, context):
        answers = [{"text": "", "answer_start": 0}]
        return {"context": context, "qas": [{"id": identifier, "question": question, "answers": answers}]}

    return json.dumps({"data": [{"paragraphs": [paragraph(*pair)]} for pair in pairs]})


def local(tmp_path, pairs=PAIRS, lang: str = "ar", split: str = "dev"):
    (tmp_path / "tydiqa-goldp").mkdir(exist_ok=True)
    (tmp_path / "tydiqa-goldp" / f"tydiqa.goldp.{lang}.{split}.json").write_text(squad(pairs), encoding="utf-8")
    return tmp_path


def check_pairs(collection) -> None:
    assert collection.queries["query_id"].to_pylist() == [f"ar:{pair[0]}" for pair in PAIRS]
    assert collection.queries["text"].to_pylist() == [pair[1] for pair in PAIRS]
    assert collection.passages.ids(0, 2) == ["ar:00000", "ar:00001"]
    assert collection.passages.texts(0, 2) == ["Paragraph one", "Paragraph two"]
    assert [row["row"] for row in collection.judgements.to_pylist()] == [0, 1, 0]


def test_goldp_from_xtremes_files(tmp_path):
    collection = tydi.load_goldp("ar", folder=local(tmp_path))
    assert collection.name == "tydiqa-goldp-ar"
    check_pairs(collection)


def test_goldp_from_the_hub(hub):
    rows = [{"id": i, "title": "T", "context": c, "question": q} for i, q, c in [*PAIRS, ("thai-1", "?", "x")]]
    hub.add("dataset", tydi.GOLDP, {"secondary_task/validation-00000-of-00001.parquet": parquet(rows)})
    check_pairs(tydi.load_goldp("ar"))


def test_goldp_pooled_over_languages(tmp_path):
    local(local(tmp_path), [("swahili-1", "first?", "Paragraph one")], "sw")
    collection = tydi.load_goldp(["sw", "ar"], folder=tmp_path)
    assert collection.name == "tydiqa-goldp-pooled-sw-ar"
    assert collection.languages == ("sw", "ar")
    assert collection.sizes() == {"queries": 4, "judgements": 4, "relevant": 4, "passages": 3}
    assert collection.passages.ids(0, 3) == ["sw:00000", "ar:00000", "ar:00001"]


def test_ids_of_train_are_made_unique_and_a_question_asked_twice_is_one(tmp_path):
    pairs = [("english-1", "a?", "x"), ("english-1", "b?", "y"), ("english-1", "a?", "z"), ("english-1", "a?", "x")]
    collection = tydi.load_goldp("en", split="train", folder=local(tmp_path, pairs, "en", "train"))
    assert collection.name == "tydiqa-goldp-en-train"
    assert collection.queries["query_id"].to_pylist() == ["en:english-1", "en:english-1#2"]
    found = [(row["query_id"], row["row"]) for row in collection.judgements.to_pylist()]
    assert found == [("en:english-1", 0), ("en:english-1#2", 1), ("en:english-1", 2)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[]", "ar.dev.json: list where an object with 'data' is expected"),
        ('{"data": [{}]}', "there is no 'paragraphs'"),
        (
            '{"data": [{"paragraphs": [{"context": "", "qas": [{"id": "1", "question": "?"}]}]}]}',
            "paragraph 1: the text",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "x", "qas": ["?"]}]}]}',
            "paragraph 1: str where an object with 'id' is",
        ),
        ('{"data": [{"paragraphs": [{"context": "x", "qas": []}]}]}', "there is no query"),
        ('{"data": [', "line 1, column .*invalid JSON"),
    ],
)
def test_bad_files_are_named(document, message, tmp_path):
    local(tmp_path)
    (tmp_path / "tydiqa-goldp" / "tydiqa.goldp.ar.dev.json").write_text(document)
    with pytest.raises(ValueError, match=message):
        tydi.load_goldp("ar", folder=tmp_path)


def test_what_tydi_qa_has_not_is_named():
    for arguments in ({"languages": "ja"}, {"languages": []}, {"languages": "ar", "split": "test"}):
        with pytest.raises(ValueError, match="it has dev and train of ar bn en fi id ko ru sw te"):
            tydi.load_goldp(**arguments)
    with pytest.raises(ValueError, match="Mr. TyDi has no 'test' of 'de'"):
        tydi.load_mr_tydi("de")


COUNTS = {"ar": (921, 842), "bn": (113, 105), "en": (440, 429), "ko": (276, 228), "ru": (812, 778), "sw": (499, 357)}


def test_counts_of_goldp(data_folder):
    """Questions and different paragraphs, counted from the files by another program."""
    for lang, (questions, paragraphs) in COUNTS.items():
        sizes = tydi.load_goldp(lang, folder=data_folder).sizes()
        assert (sizes["queries"], sizes["relevant"], sizes["passages"]) == (questions, questions, paragraphs)
    pooled = tydi.load_goldp(list(COUNTS), folder=data_folder).sizes()
    assert (pooled["queries"], pooled["passages"]) == tuple(map(sum, zip(*COUNTS.values(), strict=True)))


# ---- Mr. TyDi

TOPICS = [
    {"query_id": "0", "query": "Ya kwanza?", "positive_passages": [{"docid": "5#0", "title": "", "text": ""}]},
    {"query_id": "1", "query": "Ya pili?", "positive_passages": [{"docid": "5#1"}, {"docid": "6#0"}]},
]
CORPUS = [{"docid": doc, "title": "Kichwa", "text": f"maandishi {doc}"} for doc in ("5#0", "5#1", "6#0", "7#0")]


def add_mr_tydi(hub, topics=TOPICS) -> None:
    inside = "mrtydi-v1.1-swahili"
    files = {f"{inside}/test.jsonl.gz": json_lines(topics, packed=True)}
    hub.add("dataset", tydi.MR_TYDI, files, tydi.MR_TYDI_REVISION)
    files = {f"{inside}/corpus.jsonl.gz": json_lines(CORPUS, packed=True)}
    hub.add("dataset", tydi.MR_TYDI_CORPUS, files, tydi.MR_TYDI_CORPUS_REVISION)


def test_mr_tydi_from_the_hub(hub):
    add_mr_tydi(hub)
    collection = tydi.load_mr_tydi("sw")
    assert collection.name == "mr-tydi-sw-test"
    assert collection.sizes() == {"queries": 2, "judgements": 3, "relevant": 3, "passages": 4}
    assert collection.passages.texts(1, 2) == ["Kichwa maandishi 5#1"]
    judged = [(row["query_id"], row["doc_id"]) for row in collection.judgements.to_pylist()]
    assert judged == [("0", "5#0"), ("1", "5#1"), ("1", "6#0")]


def test_mr_tydi_from_local_files(hub, tmp_path):
    for name, file, rows in (("mr-tydi", "test.jsonl.gz", TOPICS), ("mr-tydi-corpus", "corpus.jsonl.gz", CORPUS)):
        (tmp_path / name / "mrtydi-v1.1-swahili").mkdir(parents=True)
        (tmp_path / name / "mrtydi-v1.1-swahili" / file).write_bytes(json_lines(rows, packed=True))
    assert tydi.load_mr_tydi("sw", folder=tmp_path).sizes()["passages"] == 4
    assert hub.requests == []


def test_a_bad_topic_of_mr_tydi_is_named(hub):
    add_mr_tydi(hub, [*TOPICS, {"query_id": "2", "query": "x", "positive_passages": ["5#0"]}])
    with pytest.raises(ValueError, match=r"test.jsonl.gz, line 3: str where an object with 'docid' is"):
        tydi.load_mr_tydi("sw")


def test_real_passages_of_mr_tydi_have_the_fields_that_are_read(data_folder):
    """The sample is of pyserini's index: `contents` is title, blank line, text; ours are the same words."""
    with gzip.open(data_folder / "mrtydi-sample" / "passages.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            title, _, text = row["contents"].partition("\n\n")
            assert records.joined(title, text).split() == row["contents"].split()
