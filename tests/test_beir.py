"""BEIR: folders in its format, copies of MTEB on a stand-in hub, NFCorpus, and files that are not as they should be."""

from __future__ import annotations

import gzip

import pytest
from collections_made import beir_folder, json_lines, parquet

from hybridlib.companion.search import beir, records

CORPUS = [
    {"_id": "d1", "title": "Title", "text": "the text ", "metadata": {}},
    {"_id": "d2", "title": "", "text": "no title"},
    {"_id": "d3", "title": "Only a title", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two"}, {"_id": "q3", "text": "of another split"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td3\t1\n"
JUDGED = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d3", 1)]
TEXTS = ["Title the text", "no title", "Only a title"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))


def check(collection, name: str) -> None:
    assert collection.name == name
    assert collection.languages == ("en",)
    assert collection.passages.ids(0, 3) == ["d1", "d2", "d3"]
    assert collection.passages.texts(0, 3) == TEXTS
    assert [tuple(row.values())[:3] for row in collection.judgements.to_pylist()] == JUDGED
    assert collection.queries["text"].to_pylist() == ["one", "two"]
    assert collection.counts == {"queries without judgements": 1}


def test_a_folder_in_beirs_format(tmp_path):
    beir_folder(tmp_path / "made", json_lines(CORPUS), json_lines(QUERIES), QRELS)
    check(beir.load_folder(tmp_path / "made"), "made-test")
    check(beir.load("made", folder=tmp_path), "made-test")


def test_the_same_folder_gzipped(tmp_path):
    (tmp_path / "made" / "qrels").mkdir(parents=True)
    (tmp_path / "made" / "corpus.jsonl.gz").write_bytes(json_lines(CORPUS, packed=True))
    (tmp_path / "made" / "queries.jsonl.gz").write_bytes(json_lines(QUERIES, packed=True))
    (tmp_path / "made" / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(QRELS.encode()))
    check(beir.load_folder(tmp_path / "made"), "made-test")


def scores(kind=float) -> list[dict]:
    return [{"query-id": query, "corpus-id": doc, "score": kind(gain)} for query, doc, gain in JUDGED]


def renamed(rows: list[dict]) -> list[dict]:
    """The ids under the name that MTEB's Parquet files use."""
    return [{"id": row["_id"], **{key: row[key] for key in ("title", "text") if key in row}} for row in rows]


def test_mtebs_json_lines_come_from_the_hub_at_the_pinned_commit(hub):
    files = {"corpus.jsonl": json_lines(CORPUS), "queries.jsonl": json_lines(QUERIES), "README.md": b"#"}
    files["qrels/test.jsonl"] = json_lines(scores())
    hub.add("dataset", "mteb/scifact", files, beir.REVISIONS["scifact"])
    hub.add("dataset", "mteb/scifact", {"README.md": b"a later commit"})
    check(beir.load("scifact"), "scifact-test")
    asked = len(hub.requests)
    check(beir.load("scifact"), "scifact-test")
    assert not [path for _, path, _ in hub.requests[asked:] if "/api/" in path]


@pytest.mark.parametrize(
    ("name", "repository", "judgements"),
    [
        ("made", "mteb/made", "qrels"),
        ("made", "mteb/made", "data"),
        ("cqadupstack-android", "mteb/CQADupstackAndroidRetrieval", "default"),
    ],
)
def test_mtebs_parquet_comes_from_the_hub(hub, name, repository, judgements):
    first, second = parquet(renamed(CORPUS)[:2]), parquet(renamed(CORPUS)[2:])
    files = {"corpus/test-00001-of-00002.parquet": second, "corpus/test-00000-of-00002.parquet": first}
    files |= {"queries/test-00000-of-00001.parquet": parquet(renamed(QUERIES))}
    files |= {f"{judgements}/{split}-00000-of-00001.parquet": parquet(scores(int)) for split in ("test", "train")}
    hub.add("dataset", repository, files, beir.REVISIONS.get(name))
    check(beir.load(name), f"{name}-test")
    with pytest.raises(ValueError, match=f"dataset {repository} at .*no corpus, queries and judgements of the 'dev'"):
        beir.load(name, split="dev")


def test_a_repository_of_another_layout_or_none_is_named(hub):
    hub.add("dataset", "mteb/odd", {"documents.csv": b"a,b"})
    with pytest.raises(ValueError, match="mteb/odd .*among its files .documents.csv"):
        beir.load("odd")
    with pytest.raises(FileNotFoundError, match="mteb/nothing, its list of files"):
        beir.load("nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"qrels": QRELS.replace("query-id", "query_id")},
            r"test.tsv, line 1: the header is 'query_id corpus-id score'",
        ),
        ({"qrels": QRELS.partition("\n")[2]}, r"test.tsv, line 1: the header is 'q1 d1 2'"),
        ({"qrels": QRELS + "q2\td1\n"}, r"test.tsv, line 5: 2 columns, expected 3"),
        ({"qrels": QRELS + "q2\td1\t0.5\n"}, r"test.tsv, line 5: the score '0.5' is not a whole number"),
        ({"qrels": QRELS + "q2\td1\tnan\n"}, r"test.tsv, line 5: the score 'nan'"),
        ({"qrels": QRELS + "q 2\td1\t1\n"}, r"line 5: the query-id 'q 2' is empty or holds a blank"),
        ({"qrels": QRELS + "q2\td9\t1\n"}, r"query 'q2' has a judgement of document 'd9'"),
        ({"corpus": json_lines(CORPUS) + b'{"_id": "d4", "title": "x"'}, r"corpus.jsonl, line 4.*invalid JSON"),
        ({"corpus": json_lines(CORPUS) + b"\xff\n"}, r"corpus.jsonl, line 4: not UTF-8"),
        (
            {"corpus": json_lines([*CORPUS, {"_id": "d1", "text": "x"}])},
            r"'d1' stands twice: .*document 1, and .*document 4",
        ),
        ({"corpus": json_lines([*CORPUS, {"_id": "d4", "title": " ", "text": " "}])}, r"line 4: the text is empty"),
        (
            {"corpus": json_lines([*CORPUS, {"id_": "d4", "text": "x"}])},
            r"line 4: there is no '_id' or .* among id_, text",
        ),
        ({"corpus": json_lines([*CORPUS, {"_id": "d4", "text": None}])}, r"line 4: 'text' is NoneType, not str"),
        ({"corpus": json_lines([*CORPUS, {"_id": "d4", "title": 3, "text": "x"}])}, r"line 4: 'title' is int"),
        ({"corpus": json_lines(CORPUS) + b"[1]\n"}, r"line 4: list where an object is expected"),
        ({"queries": json_lines([*QUERIES, QUERIES[0]])}, r"query_id 'q1' occurs more than once"),
        ({"queries": json_lines([*QUERIES, {"_id": "q4", "text": " "}])}, r"queries.jsonl, line 4: the text is empty"),
        ({"queries": json_lines([*QUERIES, {"_id": "", "text": "x"}])}, r"queries.jsonl, line 4: the id '' is empty"),
    ],
)
def test_bad_files_are_named_with_their_line(change, message, tmp_path):
    parts = {"corpus": json_lines(CORPUS), "queries": json_lines(QUERIES), "qrels": QRELS, **change}
    beir_folder(tmp_path / "made", parts["corpus"], parts["queries"], parts["qrels"])
    with pytest.raises(ValueError, match=message):
        beir.load_folder(tmp_path / "made")


def test_an_empty_document_can_be_kept(tmp_path):
    beir_folder(tmp_path / "made", json_lines([*CORPUS, {"_id": "d4", "text": ""}]), json_lines(QUERIES), QRELS)
    assert beir.load_folder(tmp_path / "made", empty="keep").passages.texts(3, 4) == [""]
    with pytest.raises(ValueError, match="empty is 'skip'; choose one of error, keep"):
        beir.load_folder(tmp_path / "made", empty="skip")


def test_torn_files_are_named(tmp_path):
    (tmp_path / "torn.jsonl.gz").write_bytes(json_lines(CORPUS * 500, packed=True)[:-20])
    (tmp_path / "torn.parquet").write_bytes(parquet(CORPUS[1:])[:-9])
    for name, message in (("torn.jsonl.gz", "after line .*: torn or no gzip"), ("torn.parquet", "torn or no Parquet")):
        with pytest.raises(ValueError, match=message):
            list(records.rows(tmp_path / name))


def test_what_a_folder_lacks_is_named(tmp_path):
    beir_folder(tmp_path / "made", json_lines(CORPUS), json_lines(QUERIES), QRELS)
    with pytest.raises(FileNotFoundError, match=r"qrels/dev.tsv\[.gz\]: no such file.*the splits here are test"):
        beir.load_folder(tmp_path / "made", split="dev")


def test_nfcorpus(data_folder):
    """Counts of documents, test queries and judgements as MTEB states them for mteb/nfcorpus; all queries: its card."""
    for split, queries, judgements in (("test", 323, 12_334), ("dev", 324, 11_385), ("train", 2_590, 110_575)):
        collection = beir.load("nfcorpus", split=split, folder=data_folder)
        sizes = {"queries": queries, "judgements": judgements, "relevant": judgements, "passages": 3_633}
        assert collection.sizes() == sizes
        assert collection.counts == {"queries without judgements": 3_237 - queries}
    assert collection.passages.texts(0, 1)[0].startswith("Statin Use and Breast Cancer Survival: A Nationwide Cohort")
