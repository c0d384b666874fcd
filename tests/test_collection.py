"""Test collections: what is stored is what was given, memory does not grow with it, and bad input is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hybridlib.companion.search import collect
from hybridlib.companion.search.collect import build_collection, prepared, write_collection
from hybridlib.companion.search.collection import Collection

QUERIES = [("q1", "de", "wer?"), ("q2", "en", "who?"), ("q3", "en", "unjudged")]
JUDGEMENTS = [("q1", "b", 2), ("q2", "a", 1), ("q1", "c", 0)]
PASSAGES = [("one.jsonl", [("a", "A text"), ("b", "Ein Text é")]), ("two.jsonl", [("c", "third")])]


def content(collection: Collection) -> tuple:
    passages = collection.passages
    return (
        collection.name,
        collection.languages,
        collection.queries.to_pylist(),
        collection.judgements.to_pylist(),
        passages.ids(0, len(passages)),
        passages.texts(0, len(passages)),
        passages.fingerprint,
        collection.counts,
    )


def made(how: str, folder, **changes) -> Collection:
    given = {"queries": QUERIES, "judgements": JUDGEMENTS, "passages": PASSAGES, **changes}
    return build_collection("made", **given) if how == "build" else write_collection(folder, "made", **given)


both = pytest.mark.parametrize("how", ["build", "write"])


@both
def test_a_collection_holds_what_was_given(how, tmp_path):
    collection = made(how, tmp_path / "c")
    assert collection.languages == ("de", "en")
    assert [row["query_id"] for row in collection.queries.to_pylist()] == ["q1", "q2"]
    assert collection.counts == {"queries without judgements": 1}
    rows = {(row["query_id"], row["doc_id"]): (row["gain"], row["row"]) for row in collection.judgements.to_pylist()}
    assert rows == {("q1", "b"): (2, 1), ("q2", "a"): (1, 0), ("q1", "c"): (0, 2)}
    assert collection.sizes() == {"queries": 2, "judgements": 3, "relevant": 2, "passages": 3}
    assert collection.passages.ids(1, 3) == ["b", "c"]
    assert collection.passages.texts(1, 2) == ["Ein Text é"]
    assert collection.passages.ids_at(np.array([2, 0, 2])).tolist() == ["c", "a", "c"]
    with pytest.raises(IndexError, match="3 to 3"):
        collection.passages.ids_at(np.array([3]))


def test_written_piece_by_piece_it_is_the_same_as_in_memory(tmp_path, monkeypatch):
    whole = made("build", None)
    monkeypatch.setattr(collect, "ROWS", 2)
    cut = made("write", tmp_path / "c")
    assert len(cut.passages.table["doc_id"].chunks) == 2
    assert content(cut) == content(whole) == content(Collection.load(tmp_path / "c"))
    assert cut.fingerprint == whole.fingerprint
    assert cut.passages.ids_at(np.array([2, 0, 1])).tolist() == ["c", "a", "b"]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "collection.json",
        "judgements.arrow",
        "passages.arrow",
        "queries.arrow",
    ]


def test_the_fingerprint_is_that_of_what_is_searched():
    changed = [("one.jsonl", [("a", "A text!"), ("b", "Ein Text é")]), PASSAGES[1]]
    other = made("build", None, passages=changed)
    assert other.passages.fingerprint != made("build", None).passages.fingerprint
    renamed = made("build", None, passages=[("other.jsonl", [*PASSAGES[0][1], *PASSAGES[1][1]])])
    assert renamed.passages.fingerprint == made("build", None).passages.fingerprint


@both
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judgements": [*JUDGEMENTS, ("q2", "z", 1)]}, "query 'q2' has a judgement of document 'z'.*among the 3"),
        ({"judgements": [*JUDGEMENTS, ("q2", "z", 0)]}, "query 'q2' has a judgement of document 'z'"),
        ({"judgements": [*JUDGEMENTS, ("q9", "a", 1)]}, "document 'a' names the unknown query 'q9'"),
        ({"judgements": [*JUDGEMENTS, ("q1", "b", 1)]}, "query 'q1' has two judgements of document 'b'"),
        ({"judgements": []}, "there is no judgement"),
        ({"queries": []}, "there is no query"),
        ({"queries": [*QUERIES, ("q1", "de", "again")]}, "query_id 'q1' occurs more than once"),
        ({"passages": []}, "there is no passage"),
        (
            {"passages": [*PASSAGES, ("three.jsonl", [("d", "x"), ("a", "y")])]},
            "'a' stands twice: one.jsonl, document 1.*three.jsonl, document 2",
        ),
        (
            {"passages": [("one.jsonl", [("a", "A"), ("b", "half \ud83d")])]},
            "one.jsonl, document 2: 'b' holds half a char",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(how, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        made(how, tmp_path / "c", **changes)
    assert list(tmp_path.iterdir()) == []


@both
def test_a_sampled_corpus_may_lack_what_is_judged_not_relevant(how, tmp_path):
    judgements = [*JUDGEMENTS, ("q2", "z", 0)]
    collection = made(how, tmp_path / "c", judgements=judgements, sampled=True)
    assert collection.counts == {"queries without judgements": 1, "judgements of passages not sampled": 1}
    assert len(collection.judgements) == 3
    with pytest.raises(ValueError, match="query 'q2' has a judgement of document 'z'"):
        made(how, tmp_path / "d", judgements=[*JUDGEMENTS, ("q2", "z", 1)], sampled=True)


def test_ids_with_the_same_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(collect, "_hashes", lambda batch: np.zeros(len(batch), dtype=np.uint64))
    assert len(made("build", None).passages) == 3
    with pytest.raises(ValueError, match="'b' stands twice"):
        made("build", None, passages=[*PASSAGES, ("x", [("b", "y")])])


def test_without_passages_queries_and_judgements_load():
    collection = build_collection("made", queries=QUERIES, judgements=JUDGEMENTS, passages=None)
    assert collection.sizes() == {"queries": 2, "judgements": 3, "relevant": 2, "passages": None}
    assert {row["row"] for row in collection.judgements.to_pylist()} == {-1}


def test_a_torn_file_and_a_foreign_folder_are_refused(tmp_path):
    made("write", tmp_path / "c")
    with (tmp_path / "c" / "passages.arrow").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="passages.arrow: 100 bytes, not the"):
        Collection.load(tmp_path / "c")
    (tmp_path / "c" / "passages.arrow").unlink()
    with pytest.raises(ValueError, match="passages.arrow: 0 bytes"):
        Collection.load(tmp_path / "c")
    with pytest.raises(FileNotFoundError, match="no collection here"):
        Collection.load(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="something else than a collection"):
        made("write", tmp_path / "d")
    assert (tmp_path / "d" / "thesis.tex").exists()


def test_a_failed_writing_leaves_what_was_there(tmp_path):
    def broken():
        yield "a", "A text"
        raise OSError("No space left on device")

    before = content(made("write", tmp_path / "c"))
    with pytest.raises(OSError, match="No space"):
        made("write", tmp_path / "c", passages=[("one.jsonl", broken())])
    assert content(Collection.load(tmp_path / "c")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path):
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    before = content(made("write", tmp_path / "c"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=r"c: not written .*make room or choose another folder"):
            made("write", tmp_path / "c", passages=[*PASSAGES, ("big", [("x", "text " * 4096)])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(Collection.load(tmp_path / "c")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_prepared_collection_is_made_once_and_anew_when_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))
    source, calls = tmp_path / "source.txt", []
    source.write_text("1")

    def write(folder, about):
        calls.append(folder)
        return write_collection(folder, "made", queries=QUERIES, judgements=JUDGEMENTS, passages=PASSAGES, about=about)

    first = prepared("made", [source], {"empty": "error"}, None, write)
    again = prepared("made", [source], {"empty": "error"}, None, write)
    assert content(first) == content(again)
    assert calls == [tmp_path / "cache" / "collections" / "made"]
    prepared("made", [source], {"empty": "keep"}, None, write)
    source.write_text("12")
    prepared("made", [source], {"empty": "keep"}, None, write)
    assert len(calls) == 3
    prepared("made", [source], {"empty": "keep"}, tmp_path / "own", write)
    assert json.loads((tmp_path / "own" / "collection.json").read_text())["made_of"]["files"][0][:2] == [
        "source.txt",
        2,
    ]


GROWING = """
import sys
from pathlib import Path
from pathlib import Path
from hybridlib.companion.search import collect

def own_memory():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) // 1024

def passages(n):
    for i in range(n):
        if i % 4096 == 0:
            peaks.append(own_memory())
        yield f"{i}#0", f"passage {i} " + "text " * 40

collect.ROWS = 8192
n, peaks = int(sys.argv[2]), []
parts = [("f", passages(n))]
judgements = [("q", f"{n - 1}#0", 1)]
made = collect.write_collection(sys.argv[1], "big", queries=[("q", "en", "?")], judgements=judgements, passages=parts)
assert made.judgements["row"].to_pylist() == [n - 1]
print(max(peaks), own_memory())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc: memory of the process's own is not known")
def test_memory_does_not_grow_with_the_passages(tmp_path):
    """32 chunks instead of 4: what the process itself holds stays; mapped files, which can be dropped, aside."""
    memory = []
    for n in (32_768, 262_144):
        command = [sys.executable, "-c", GROWING, str(tmp_path / str(n)), str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        memory.append([int(word) for word in done.stdout.split()])
    assert (tmp_path / "262144" / "passages.arrow").stat().st_size > 50 << 20
    for small, large in zip(*memory, strict=True):
        assert large - small < 10  # MB
