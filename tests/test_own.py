"""The user's own parallel files: what is read, and an error with file and line for everything that is wrong."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybridlib.corpora import own
from hybridlib.corpora.own import language_codes, load_pairs, open_pairs

ROWS = [
    {"query_id": "q1", "passage_id": "p1", "query_en": "Who wrote Faust?", "query_de": "Wer schrieb Faust?",
     "passage_en": "Goethe wrote Faust.", "passage_de": "Goethe schrieb Faust.", "negatives": ["p2"]},
    {"query_id": "q2", "passage_id": "p2", "query_en": "Who painted Guernica?", "passage_el": "Ο Πικάσο.",
     "source": "art"},
    {"query_id": "q2", "passage_id": "p1", "query_en": "Who painted Guernica?",
     "passage_en": "Goethe wrote Faust.", "passage_de": "Goethe schrieb Faust.", "negatives": None},
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, rows: list) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, columns_of(rows)), path)
        return path
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def columns_of(rows: list[dict]) -> pa.Schema:
    kinds = {"negatives": pa.list_(pa.string())}
    return pa.schema([(column, kinds.get(column, pa.string())) for column in sorted({c for row in rows for c in row})])


def content(pairs) -> list[dict]:
    """What the corpus says of each pair, by id, in the order of the ids."""
    queries, passages = pairs.queries.drop_columns("positives").to_pylist(), pairs.passages.to_pylist()
    found = []
    for row in pairs.pairs.to_pylist():
        texts = {**queries[row["query"]], **{f"passage_{k}": v for k, v in passages[row["passage"]].items()}}
        texts |= {"negatives": [passages[i]["passage_id"] for i in row["negatives"]], "source": row["source"]}
        found.append({key: value for key, value in texts.items() if value is not None})
    return sorted(found, key=lambda row: (row["query_id"], row["passage_passage_id"]))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("chunk", [1, 2, 10_000])
def test_all_kinds_of_file_give_the_same(tmp_path, monkeypatch, suffix, chunk):
    monkeypatch.setattr(own, "CHUNK", chunk)
    pairs = load_pairs(write(tmp_path / f"my.pairs{suffix}", ROWS))
    assert pairs.name == "my.pairs" and pairs.languages == ("de", "el", "en")
    assert len(pairs) == 3 and len(pairs.queries) == 2 and len(pairs.passages) == 2
    goethe = {"passage_passage_id": "p1", "passage_en": "Goethe wrote Faust.", "passage_de": "Goethe schrieb Faust."}
    who = {"query_id": "q2", "en": "Who painted Guernica?"}
    assert content(pairs) == [
        {"query_id": "q1", "en": "Who wrote Faust?", "de": "Wer schrieb Faust?", **goethe, "negatives": ["p2"],
         "source": "my.pairs"},
        {**who, **goethe, "negatives": [], "source": "my.pairs"},
        {**who, "passage_passage_id": "p2", "passage_el": "Ο Πικάσο.", "negatives": [], "source": "art"},
    ]  # fmt: skip


def test_without_ids_equal_texts_share_one(tmp_path):
    bare = [{k: v for k, v in row.items() if not k.endswith("_id") and k != "negatives"} for row in ROWS]
    pairs = load_pairs(write(tmp_path / "a.jsonl", bare))
    assert pairs.queries["query_id"].to_pylist() == ["1", "2"]
    assert pairs.passages["passage_id"].to_pylist() == ["1", "2"]
    assert [(row["query_id"], row["passage_passage_id"]) for row in content(pairs)] == [
        ("1", "1"), ("2", "1"), ("2", "2")]  # fmt: skip


def test_indonesian_is_written_ind(tmp_path):
    rows = [{"query_id": "1", "query_ind": "Siapa?", "passage_ind": "Dia.", "passage_en": "He."}]
    pairs = load_pairs(write(tmp_path / "a.jsonl", rows))
    assert pairs.languages == ("en", "id") and pairs[(0, "id", "en")]["passage"] == "He."


def test_the_example_in_data_md_is_read(tmp_path):
    text = (Path(__file__).parent.parent / "DATA.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```jsonl\n(.*?)```", text, flags=re.DOTALL)
    assert example.count("\n") == 2
    (tmp_path / "a.jsonl").write_text(example, encoding="utf-8")
    pairs = load_pairs(tmp_path / "a.jsonl")
    assert len(pairs) == 2 and pairs.languages == ("de", "en")
    assert [row["negatives"] for row in content(pairs)] == [["p2"], []]
    first = [bool(row["negatives"]) for row in pairs.pairs.to_pylist()].index(True)
    assert pairs[(first, "de", "de")] == {
        "query": "Wer schrieb Faust?", "passage": "Goethe schrieb Faust.", "negatives": ["Picasso hat es gemalt."]
    }  # fmt: skip


GOOD = {"query_id": "q9", "passage_id": "p9", "query_en": "Where?", "passage_en": "There."}


def without(*columns: str, **changes) -> dict:
    return {key: value for key, value in {**GOOD, **changes}.items() if key not in columns}


WRONG = {
    "no query": (without("query_en"), r"the query has no text in any language; give at least one query_<lang>"),
    "no passage": (without(passage_en=None), "the passage has no text in any language"),
    "empty text": (without(query_en=" "), "query_en is an empty text"),
    "id in some rows only": (without("query_id"), "query_id is given in some rows only"),
    "other passage text": (without(passage_id="p1"), "passage_id 'p1' has other texts, .* than in {unit} 1"),
    "other query text": (without(query_id="q2"), "query_id 'q2' has other texts, .* than in {unit} 2"),
    "fewer languages": (
        without(query_id="q1", query_en="Who wrote Faust?"), "query_id 'q1' has other texts, or other languages"
    ),
    "own negative": (without(negatives=["p9"]), "passage 'p9' is among its own negatives"),
    "unknown negative": (without(negatives=["p1", "p0"]), "negatives in {unit} 3 name 'p0'"),
    "no such language": (without(query_xx="Where?"), "the column 'query_xx': 'xx' is no ISO 639 language code"),
    "no language": (without(query_english="Where?"), "the column 'query_english': 'english' is no ISO 639"),
    "unknown column": (without(pasage_de="Dort."), "unknown column 'pasage_de'; the columns are query_id"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_is_named(tmp_path, case, suffix):
    row, message = WRONG[case]
    path = write(tmp_path / f"a{suffix}", [*ROWS[:2], row, {**GOOD, "query_id": "q8", "passage_id": "p8"}])
    unit = "row" if suffix == ".parquet" else "line"
    place = ": " if case == "unknown negative" else rf", {unit} \d: "  # Parquet has its columns in every row
    with pytest.raises(ValueError, match=f"a{suffix}{place}{message.format(unit=unit)}") as caught:
        load_pairs(path)
    if suffix == ".jsonl":
        assert "line 3" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (without(query_en=7), r"query_en is 7 \(int\), not text"),
        (without(query_id=7), r"query_id is 7 \(int\), not text"),
        (without(source=["x"]), r"source is \['x'\] \(list\), not text"),
        (without(negatives="p1"), r"negatives is 'p1' \(str\), not a list"),
        (without(negatives=[1]), r"negatives is 1 \(int\), not text"),
        (["Where?", "There."], r"\(list\) is no object; write one object per line"),
        (without("passage_id", "query_id", passage_en="\ud83d"), "passage_en holds half of a surrogate pair"),
    ],
)
def test_a_wrong_type(tmp_path, row, message):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (*ROWS[:2], row)))
    with pytest.raises(ValueError, match=f"a.jsonl, line 3: .*{message}"):
        load_pairs(path)


def test_negatives_need_passage_ids(tmp_path):
    with pytest.raises(ValueError, match="line 1: .*add the column passage_id"):
        load_pairs(write(tmp_path / "a.jsonl", [without("passage_id", negatives=["p1"])]))


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_an_empty_and_a_torn_file(tmp_path, suffix):
    with pytest.raises(ValueError, match=f"a{suffix}: empty; give at least one row"):
        load_pairs(write(tmp_path / f"a{suffix}", []))
    path = write(tmp_path / f"a{suffix}", ROWS)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"a{suffix}, (after (line|row) \d: torn|line 3, column \d+: invalid JSON)"):
        load_pairs(path)


def test_parquet_with_a_column_of_numbers(tmp_path):
    pq.write_table(pa.table({"query_en": [1, 2], "passage_en": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet, row 1: query_en is 1 \(int\), not text"):
        load_pairs(tmp_path / "a.parquet")


def test_parquet_with_invalid_utf8(tmp_path):
    raw = pa.array([b"good", b"\xff\xfe"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"query_en": text, "passage_en": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="a.parquet, after row 0: torn or invalid Parquet .*UTF8"):
        load_pairs(tmp_path / "a.parquet")


def test_missing_file_and_unknown_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.jsonl: no such file"):
        load_pairs(tmp_path / "none.jsonl")
    (tmp_path / "a.csv").write_text("query_en,passage_en\n")
    with pytest.raises(ValueError, match="a.csv: unknown kind of file; name it .jsonl"):
        load_pairs(tmp_path / "a.csv")


def test_what_was_read_is_kept_and_opened_memory_mapped(tmp_path, cache, monkeypatch):
    path = write(tmp_path / "a.jsonl", ROWS)
    first = load_pairs(path)
    monkeypatch.setattr(own, "_rows", lambda *_: pytest.fail("the file was read again"))
    assert load_pairs(path).fingerprint == first.fingerprint
    assert not first.pairs["query"].chunk(0).buffers()[1].is_mutable, "memory-mapped"
    monkeypatch.undo()
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(cache))
    assert load_pairs(write(path, ROWS[:2])).fingerprint != first.fingerprint, "the file has changed"
    assert load_pairs(path, name="other").name == "other"


def test_several_files_are_opened_as_one(tmp_path):
    paths = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "b.parquet", ROWS[:2])
    pairs = open_pairs(*paths)
    assert (pairs.name, len(pairs), len(pairs.passages)) == ("a+b", 5, 4)
    assert open_pairs(*paths).fingerprint == pairs.fingerprint
    assert open_pairs(paths[0]).name == "a"


def test_a_line_says_that_texts_stand_under_several_ids(tmp_path, caplog):
    rows = [{"query_id": f"q{i}", "passage_id": f"p{i}", "query_en": f"Who {i}?", "passage_en": "Ask."} for i in "123"]
    path = write(tmp_path / "a.jsonl", rows)
    for _ in ("read", "opened"):
        caplog.clear()
        assert load_pairs(path).repeats == {"queries": 0, "passages": 1}
        (record,) = caplog.records
        assert record.getMessage().startswith("a: 1 texts of passages stand under more than one id")
    caplog.clear()
    bare = [{key: row[key] for key in row if not key.endswith("_id")} for row in rows]
    assert load_pairs(write(tmp_path / "b.jsonl", bare)).repeats["passages"] == 0 and not caplog.records


def test_the_language_codes_are_those_of_babel():
    babel = pytest.importorskip("babel")
    codes = {code for code in babel.Locale.parse("en").languages if re.fullmatch("[a-z]{2,3}", code)}
    assert len(language_codes()) == 636 and len(language_codes() ^ codes) < 20, "another version may differ a little"
