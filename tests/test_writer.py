"""write_pairs and concatenate against ParallelPairs.build on the whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import parallel_corpus
from test_base import PAIRS, PASSAGES, QUERIES, build

from hybridlib.corpora import ParallelPairs, tables
from hybridlib.corpora.write import concatenate, part_of, write_pairs
from hybridlib.sampler import BatchSampler

LANGUAGES = ("de", "en", "zh")
TEXT = st.one_of(st.none(), st.text("aß中 ", min_size=1, max_size=5).filter(str.strip))


@st.composite
def corpora(draw) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Queries, passages and pairs: any languages, several sources, no to three negatives."""

    def texts(key: str, n: int) -> pa.Table:
        columns = {lang: draw(st.lists(TEXT, min_size=n, max_size=n)) for lang in LANGUAGES}
        return pa.table({key: [f"{key[0]}ö{i}" for i in range(n)], **columns}, text_schema(key))

    n_queries, n_passages = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    row = st.tuples(
        st.integers(0, n_queries - 1),
        st.integers(0, n_passages - 1),
        st.one_of(st.none(), st.lists(st.integers(0, n_passages - 1), max_size=3)),
        st.sampled_from(["one", "two", "three"]),
    )
    rows = draw(st.lists(row, min_size=1, max_size=30))
    pairs = {
        "query_id": [f"qö{q}" for q, _, _, _ in rows],
        "passage_id": [f"pö{p}" for _, p, _, _ in rows],
        "negatives": pa.array([n and [f"pö{p}" for p in n] for _, _, n, _ in rows], pa.list_(pa.string())),
        "source": [s for _, _, _, s in rows],
    }
    return texts("query_id", n_queries), texts("passage_id", n_passages), pa.table(pairs)


def text_schema(key: str) -> pa.Schema:
    return pa.schema([(column, pa.string()) for column in (key, *LANGUAGES)])


def pieces(table: pa.Table, cuts: list[int]) -> Iterator[pa.Table]:
    """The table cut at these rows. Pieces but the first lack the columns they have nothing in; their order varies."""
    ends = sorted({0, len(table), *(cut % (len(table) + 1) for cut in cuts)})
    for i, (start, stop) in enumerate(zip(ends, ends[1:], strict=False)):
        part = table.slice(start, stop - start)
        kept = [c for c in part.column_names if not i or part[c].null_count < len(part)]
        yield part.select(kept[::-1] if i % 2 else kept)


@given(parts=corpora(), cuts=st.lists(st.integers(0, 100), max_size=6), size=st.integers(1, 9))
@settings(max_examples=60)
def test_pieces_give_the_corpus_that_the_whole_gives(parts, cuts, size):
    built = ParallelPairs.build(*parts, name="made")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "CHUNK", size * 50)
        patch.setattr(tables, "WINDOW", size)
        patch.setattr(tables, "ID_PART", size)
        streams = zip(("queries", "passages", "pairs"), (pieces(table, cuts) for table in parts), strict=True)
        got = write_pairs(Path(folder) / "corpus", name="made", **dict(streams))
        files = {path.name for path in Path(folder).rglob("*")}
        assert files == {"corpus", "corpus.json", "pairs.arrow", "passages.arrow", "queries.arrow"}
        assert (got.languages, got.groups) == (built.languages, built.groups)
        for part in ("queries", "passages", "pairs"):
            assert getattr(got, part).combine_chunks() == getattr(built, part).combine_chunks()
        assert (got.fingerprint, got.repeats) == (built.fingerprint, built.repeats)


def written(folder: Path, queries: dict | None = None, passages: dict | None = None, pairs: dict | None = None):
    parts = (QUERIES | (queries or {}), PASSAGES | (passages or {}), PAIRS | (pairs or {}))
    streams = zip(("queries", "passages", "pairs"), ([pa.table(part)] for part in parts), strict=True)
    return write_pairs(folder, name="small", **dict(streams))


WRONG = {
    "small: query_id 'q1' occurs more than once; ids must be unique": {"queries": {"query_id": ["q1", "q1", "q3"]}},
    "small: query_id is null in 1 rows; give every row an id": {"queries": {"query_id": ["q1", None, "q3"]}},
    "small: passage_id 'p2' has an empty text in 'en'": {"passages": {"en": ["one", "  "]}},
    "small: pairs name the unknown query_id 'q9'": {"pairs": {"query_id": ["q1", "q2", "q3", "q9"]}},
    "small: pairs name the unknown passage_id 'p9'": {"pairs": {"passage_id": ["p1", "p2", "p1", "p9"]}},
    "small: negatives name the unknown passage_id 'p9'": {"pairs": {"negatives": [["p9"], [], [], []]}},
    "small: source is null in 1 pairs; name their data set": {"pairs": {"source": ["a", None, "a", "a"]}},
    "'English' .* is no language code": {"queries": {"English": ["a", "b", "c"]}},
}


@pytest.mark.parametrize("message", WRONG)
def test_mistakes_are_named_and_leave_nothing(tmp_path, message):
    with pytest.raises(ValueError, match=message):
        written(tmp_path / "corpus", **WRONG[message])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=message):
        build(**WRONG[message])


@pytest.mark.parametrize(
    ("streams", "error", "message"),
    [
        ({"pairs": []}, ValueError, "there is no pair; give at least one row"),
        ({"queries": []}, ValueError, "there is no query; give at least one row"),
        ({"passages": [pa.table(QUERIES)]}, ValueError, "a table lacks the column passage_id; it has query_id, de, en"),
        ({"pairs": pa.table(PAIRS)}, TypeError, "not tables; put a single table in a list"),
    ],
)
def test_empty_streams_and_other_things_are_refused(tmp_path, streams, error, message):
    parts = {"queries": [pa.table(QUERIES)], "passages": [pa.table(PASSAGES)], "pairs": [pa.table(PAIRS)]}
    with pytest.raises(error, match=message):
        write_pairs(tmp_path / "corpus", name="small", **{**parts, **streams})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_older_corpus(tmp_path):
    def interrupted() -> Iterator[pa.Table]:
        yield pa.table(PASSAGES)
        raise OSError("connection lost")

    older = written(tmp_path / "corpus").fingerprint
    with pytest.raises(OSError, match="connection lost"):
        write_pairs(tmp_path / "corpus", name="new", queries=[pa.table(QUERIES)], passages=interrupted(), pairs=[])
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert ParallelPairs.load(tmp_path / "corpus").fingerprint == older


def test_a_folder_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").touch()
    for make in (written, parallel_corpus().save):
        with pytest.raises(ValueError, match="letters: holds something else than a saved corpus"):
            make(tmp_path / "letters")
    assert (tmp_path / "letters" / "one.txt").exists()


def test_a_file_that_was_cut_is_named(tmp_path):
    written(tmp_path / "corpus")
    file = tmp_path / "corpus" / "passages.arrow"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match="passages.arrow: not the .* bytes that were saved; write the corpus again"):
        ParallelPairs.load(tmp_path / "corpus")


def test_a_written_corpus_serves_batches_as_a_built_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "WINDOW", 7)
    monkeypatch.setattr(tables, "CHUNK", 1)
    built = parallel_corpus(negatives=True)
    ids = [str(i) for i in range(40)]
    pairs = {"query_id": ids, "passage_id": ids, "source": ["made"] * 40}
    pairs["negatives"] = [[str((i + 1) % 40), str((i + 2) % 40)] for i in range(40)]
    streams = {"queries": [built.queries.drop_columns(["positives"])], "passages": [built.passages]}
    got = write_pairs(tmp_path / "corpus", name="made", pairs=[pa.table(pairs)], **streams)
    assert got.passages["en"].num_chunks == 6 and got.pairs["query"].num_chunks == 1
    assert got.fingerprint == built.fingerprint
    batch = BatchSampler(got, "hybrid", batch_size=16, steps=1).batch(0)
    assert got.__getitems__(batch.keys()) == built.__getitems__(batch.keys())
    rows = got.query_rows[batch.pair]
    assert [p.tolist() for p in got.positives(rows)] == [p.tolist() for p in built.positives(rows)]


def test_concatenated_corpora_keep_their_pairs_under_ids_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CHUNK", 1)
    small, other = written(tmp_path / "small"), parallel_corpus(5, languages=("en", "fr"), negatives=True)
    both = concatenate(tmp_path / "both", [small, other], "both")
    assert both.languages == ("de", "en", "fr") and len(both) == len(small) + len(other)
    assert both.queries["query_id"].to_pylist() == [
        "small/q1",
        "small/q2",
        "small/q3",
        *(f"made/{i}" for i in range(5)),
    ]
    assert sorted(triples(both)) == sorted(triples(small, "small/") + triples(other, "made/"))
    assert {group.source for group in both.groups} == {"a", "b", "made"}
    assert both.query_texts([0, 3], ["de", "fr"]) == ["eins?", "frask thing0"]
    assert [rows.tolist() for rows in both.positives([2, 3])] == [[0, 1], [2]]


def triples(corpus: ParallelPairs, prefix: str = "") -> list[tuple]:
    """Ids of query, passage and negatives, and the source, of each pair."""
    query, passage = corpus.queries["query_id"].to_pylist(), corpus.passages["passage_id"].to_pylist()
    return [
        (
            prefix + query[row["query"]],
            prefix + passage[row["passage"]],
            [prefix + passage[i] for i in row["negatives"]],
            row["source"],
        )
        for row in corpus.pairs.to_pylist()
    ]


def test_a_part_keeps_the_pairs_and_negatives_that_stay(tmp_path):
    small = written(tmp_path / "small")
    stays = {"queries": np.array([True, False, True]), "passages": np.array([True, True])}
    part = part_of(small, tmp_path / "part", **stays)
    assert sorted(triples(part)) == sorted(row for row in triples(small) if row[0] != "q2")
    part = part_of(small, tmp_path / "part", queries=stays["queries"], passages=np.array([True, False]))
    assert sorted(triples(part)) == [("q1", "p1", [], "a"), ("q3", "p1", [], "a")]
    with pytest.raises(ValueError, match="small: no pair is left of 4"):
        part_of(small, tmp_path / "part", queries=stays["queries"], passages=np.array([False, False]))


def test_concatenate_wants_corpora_with_different_names(tmp_path):
    with pytest.raises(ValueError, match="two corpora are named 'made'; give corpora with different names"):
        concatenate(tmp_path / "both", [parallel_corpus(3), parallel_corpus(4)], "both")
    with pytest.raises(ValueError, match="there is no corpus"):
        concatenate(tmp_path / "both", [], "both")
