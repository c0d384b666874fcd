"""Test collections: what is stored is what was given, memory does not grow with it, and bad input is named."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from hybridlib.companion.search import collection as collection_module
from hybridlib.companion.search.collection import Collection, prepared

QUERIES = [("q1", "de", "wer?"), ("q2", "en", "who?"), ("q3", "en", "unjudged")]
JUDGEMENTS = [("q1", "b", 2), ("q2", "a", 1), ("q1", "c", 0)]
NUMBERS = count()  # what each is made of differs, so that each is written
PASSAGES = [("a", "A text"), ("b", "Ein Text é"), ("c", "third")]


def content(collection: Collection) -> tuple:
    passages = collection.passages
    texts = (passages.ids_at(range(len(passages))).tolist(), passages.texts(0, 99), passages.fingerprint)
    tables = (collection.queries.to_pylist(), collection.judgements.to_pylist())
    return (collection.name, collection.languages, *tables, *texts, collection.counts)


def made(how: str, folder, **changes) -> Collection:
    given = {"queries": QUERIES, "judgements": JUDGEMENTS, "passages": PASSAGES, **changes}
    if how == "build":
        return Collection.build("made", **given)
    parts = tuple(given.pop(part) for part in ("queries", "judgements", "passages"))
    return prepared(folder, "made", {"number": next(NUMBERS)}, lambda: parts, **given)


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
    assert collection.passages.texts(1, 2) == ["Ein Text é"]
    assert collection.passages.ids_at([2, 0, -1, 2]).tolist() == ["c", "a", "", "c"]
    with pytest.raises(IndexError):
        collection.passages.ids_at([3])


def test_written_piece_by_piece_it_is_the_same_as_in_memory(tmp_path, monkeypatch):
    whole = made("build", None)
    monkeypatch.setattr(collection_module, "BATCH", 2)
    cut = made("write", tmp_path / "c")
    assert len(cut.passages.table["doc_id"].chunks) == 2
    assert content(cut) == content(whole) == content(Collection.load(tmp_path / "c"))
    assert cut.fingerprint == whole.fingerprint
    assert cut.passages.ids_at(np.array([2, 0, 1])).tolist() == ["c", "a", "b"]
    names = ["collection.json", "judgements.arrow", "passages.arrow", "queries.arrow"]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == names
    changed = made("build", None, passages=[("a", "A text!"), *PASSAGES[1:]])
    assert changed.passages.fingerprint != whole.passages.fingerprint


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
        ({"passages": [*PASSAGES, ("d", "x"), ("a", "y")]}, "doc_id 'a' occurs more than once"),
        ({"passages": [("a", "A"), ("b", "half \ud83d")]}, "made: a text or an id holds half a character"),
    ],
)
def test_what_does_not_fit_together_is_named(how, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        made(how, tmp_path / "c", **changes)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


@both
def test_a_sampled_corpus_may_lack_what_is_judged_not_relevant(how, tmp_path):
    judgements = [*JUDGEMENTS, ("q2", "z", 0)]
    collection = made(how, tmp_path / "c", judgements=judgements, sampled=True)
    assert collection.counts == {"queries without judgements": 1, "judgements of passages not sampled": 1}
    assert len(collection.judgements) == 3
    with pytest.raises(ValueError, match="query 'q2' has a judgement of document 'z'"):
        made(how, tmp_path / "d", judgements=[*JUDGEMENTS, ("q2", "z", 1)], sampled=True)


def test_without_passages_queries_and_judgements_load():
    collection = made("build", None, passages=None)
    assert collection.sizes() == {"queries": 2, "judgements": 3, "relevant": 2, "passages": None}
    assert {row["row"] for row in collection.judgements.to_pylist()} == {-1}


def test_a_torn_file_and_a_foreign_folder_are_refused(tmp_path):
    made("write", tmp_path / "c")
    with (tmp_path / "c" / "passages.arrow").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="passages.arrow: torn or no Arrow file"):
        Collection.load(tmp_path / "c")
    (tmp_path / "c" / "passages.arrow").unlink()
    with pytest.raises(ValueError, match="passages.arrow: torn or no Arrow file"):
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
        made("write", tmp_path / "c", passages=broken())
    assert content(Collection.load(tmp_path / "c")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.lock", "c"]


def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path):
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    before = content(made("write", tmp_path / "c"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=r"c: not written .*make room or choose another folder"):
            made("write", tmp_path / "c", passages=[*PASSAGES, ("x", "text " * 4096)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(Collection.load(tmp_path / "c")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.lock", "c"]


def test_a_prepared_collection_is_made_once_and_anew_when_what_it_is_made_of_changes(tmp_path):
    calls = []

    def read():
        calls.append(1)
        return QUERIES, JUDGEMENTS, PASSAGES

    first, again = (prepared(tmp_path / "c", "made", {"files": [["f", 1]]}, read) for _ in range(2))
    assert content(first) == content(again) and len(calls) == 1
    for changes in ({"name": "other"}, {"made_of": {"files": [["f", 2]]}}):
        prepared(tmp_path / "c", **{"name": "made", "made_of": {"files": [["f", 1]]}} | changes, read=read)
    assert len(calls) == 3
    assert json.loads((tmp_path / "c" / "collection.json").read_text())["made_of"] == {"files": [["f", 2]]}


GROWING = """
import sys
from pathlib import Path
from hybridlib.companion.search.collection import prepared

def own_memory():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) // 1024

def passages(n):
    for i in range(n):
        if i % 4096 == 0:
            peaks.append(own_memory())
        yield f"{i}#0", f"passage {i} " + "text " * 40

n, peaks = int(sys.argv[2]), []
judgements = [("q", f"{n - 1}#0", 1)]
made = prepared(sys.argv[1], "big", {}, lambda: ([("q", "en", "?")], judgements, passages(n)))
assert made.judgements["row"].to_pylist() == [n - 1]
print(max(peaks), own_memory())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc: memory of the process's own is not known")
def test_memory_does_not_grow_with_the_passages(tmp_path):
    """16 chunks instead of 2: what the process itself holds stays; mapped files, which can be dropped, aside."""
    memory = []
    for n in (32_768, 262_144):
        command = [sys.executable, "-c", GROWING, str(tmp_path / str(n)), str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        memory.append([int(word) for word in done.stdout.split()])
    assert (tmp_path / "262144" / "passages.arrow").stat().st_size > 50 << 20
    for small, large in zip(*memory, strict=True):
        assert large - small < 10  # MB
