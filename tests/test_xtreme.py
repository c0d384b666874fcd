"""XTREME-R's retrieval tasks: Tatoeba and Mewsli-X, and LAReQA's mAP@20, on cases made by hand."""

from __future__ import annotations

import gzip
import io
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import torch
from collections_made import exact_search, json_lines

from hybridlib.companion.search import measure, xtreme
from hybridlib.corpora.base import Benchmark
from hybridlib.evaluation import evaluate_vectors


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))


# ---- Tatoeba

PAIRS = [("Guten Tag", "Good day"), ("Danke", "Thanks"), ("Ja", "Yes")]


def add_tatoeba(folder, layout: str, pairs=PAIRS):
    (folder / "tatoeba-v1").mkdir()
    if layout == "laser":
        for side, name in enumerate(("deu", "eng")):
            text = "".join(f"{pair[side]}\n" for pair in pairs)
            (folder / "tatoeba-v1" / f"tatoeba.deu-eng.{name}").write_text(text, encoding="utf-8")
    else:
        text = "".join(f"{a}\t{b}\n" for a, b in pairs).encode()
        path = folder / "tatoeba-v1" / "deu-eng.tsv"
        path.write_bytes(text) if layout == "tsv" else path.with_suffix(".tsv.gz").write_bytes(gzip.compress(text))
    return folder


@pytest.mark.parametrize("layout", ["tsv", "tsv.gz", "laser"])
def test_tatoeba_both_directions(layout, tmp_path):
    found = xtreme.load_tatoeba("deu", folder=add_tatoeba(tmp_path, layout))
    assert list(found) == ["deu-eng", "eng-deu"]
    there, back = found.values()
    assert (there.name, there.languages, back.languages) == ("tatoeba-deu-eng", ("de",), ("en",))
    assert (there.passage_lang, back.passage_lang) == ("en", "de")
    assert there.queries["text"].to_pylist() == back.passages.texts(0, 3) == ["Guten Tag", "Danke", "Ja"]
    assert back.queries["text"].to_pylist() == there.passages.texts(0, 3) == ["Good day", "Thanks", "Yes"]
    assert there.judgements["row"].to_pylist() == [0, 1, 2]
    assert xtreme.tatoeba_codes(tmp_path) == ["deu"]


def test_tatoebas_accuracy_by_hand(tmp_path):
    """German 1 is nearest to English 1, 2 to 1, 3 to 3: two of three. English 1 to German 1, 2 to 1, 3 to 3, as well;
    but English 1 to German 2 if that lies closer: the directions differ."""
    found = xtreme.load_tatoeba("deu", folder=add_tatoeba(tmp_path, "tsv"))

    def at(*degrees):
        return np.array([[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees], dtype=np.float32)

    german, english = at(0, 20, 90), at(15, 50, 80)  # from 0: 15; from 20: 15 (5 away); from 90: 80
    there = measure.measure(found["deu-eng"], exact_search(found["deu-eng"], german, english, 1), [xtreme.ACCURACY])
    assert there.rows[xtreme.ACCURACY].tolist() == [1, 0, 1]
    back = measure.measure(found["eng-deu"], exact_search(found["eng-deu"], english, german, 1), [xtreme.ACCURACY])
    assert back.rows[xtreme.ACCURACY].tolist() == [0, 1, 1]  # from 15: 20; from 50: 20 (30 away, 90 is 40); from 80: 90
    assert there.means()[xtreme.ACCURACY].tolist() == [pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("layout", "pairs", "message"),
    [
        ("tsv", [*PAIRS, ("Nein", "")], r"deu-eng.tsv, line 4: not two texts"),
        ("tsv", [*PAIRS, ("Nein", "No\tno")], r"deu-eng.tsv, line 4: not two texts"),
        ("laser", [*PAIRS, ("Nein", "")], r"tatoeba.deu-eng.deu: its lines do not match those of tatoeba.deu-eng.eng"),
    ],
)
def test_bad_lines_of_tatoeba_are_named(layout, pairs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        xtreme.load_tatoeba("deu", folder=add_tatoeba(tmp_path, layout, pairs))


def test_tatoeba_says_where_its_files_are(tmp_path, monkeypatch):
    monkeypatch.delenv("HYBRIDLIB_DATA", raising=False)
    for folder in (tmp_path, None):
        with pytest.raises(FileNotFoundError, match="xyz-eng.tsv.*facebookresearch/LASER; put them there and set"):
            xtreme.load_tatoeba("xyz", folder=folder)


def test_tatoeba_is_complete(data_folder):
    """112 languages, 88,877 pairs, 1,000 at most; no sentence recurs on its side of a file, so no tie is due."""
    codes = xtreme.tatoeba_codes(data_folder)
    assert len(codes) == 112
    sizes = {}
    for code in codes:
        pairs = list(xtreme.tatoeba_pairs(code, folder=data_folder))
        sizes[code] = len(pairs)
        assert [len(set(side)) for side in zip(*pairs, strict=True)] == [sizes[code]] * 2
    assert sum(sizes.values()) == 88_877
    assert max(sizes.values()) == sizes["deu"] == 1000
    assert (len(xtreme.XTREME), len(xtreme.XTREME_R)) == (36, 41)
    assert set(xtreme.XTREME_R) <= set(codes)


# ---- Mewsli-X

TEXT = "Title of it\n\nThe strike hit Helsinki on\nMonday. Nobody rode."
CONTEXT = {"document_id": "en-1", "language": "en", "text": TEXT, "sentence_spans": [{"start": 0, "end": 11}]}
CONTEXT["sentence_spans"] += [{"start": 13, "end": 47}, {"start": 48, "end": 60}]
MENTION = {"example_id": "e1", "mention_span": {"start": 28, "end": 36, "text": "Helsinki"}, "entity_id": "Q1757"}
ENTITIES = [
    {
        "entity_id": "Q1757",
        "title": "Helsinki",
        "description": "Capital.  Of Finland. More",
        "description_language": "en",
    },
    {"entity_id": "Q64", "title": "Berlin", "description": "Stadt", "description_language": "de"},
]
ENTITIES[0]["sentence_spans"] = [{"start": 0, "end": 8}, {"start": 10, "end": 21}]
ENTITIES[1]["sentence_spans"] = [{"start": 0, "end": 5}]


def mewsli_files(mentions=None) -> dict[str, bytes]:
    rows = [{"context": CONTEXT, "mentions": mentions or [MENTION]}]
    return {"candidate_set_entities.jsonl": json_lines(ENTITIES), "wikinews_mentions-test.jsonl": json_lines(rows)}


def archive(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as packed:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"dataset/{name}")
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def check_mewsli(collection) -> None:
    assert collection.name == "mewsli-x-test"
    [query] = collection.queries.to_pylist()
    text = "Helsinki: The strike hit { Helsinki } on Monday."
    assert query == {"query_id": "e1", "lang": "en", "text": text}
    assert collection.passages.ids(0, 2) == ["Q1757", "Q64"]
    assert collection.passages.texts(0, 2) == ["Capital. Of Finland.", "Stadt"]
    assert collection.judgements["row"].to_pylist() == [0]


def test_mewsli_x_from_local_files(tmp_path):
    (tmp_path / "mewsli-x").mkdir()
    for name, data in mewsli_files().items():
        (tmp_path / "mewsli-x" / name).write_bytes(data)
    check_mewsli(xtreme.load_mewsli_x(folder=tmp_path))


def test_mewsli_x_from_the_hub(hub):
    hub.add("dataset", xtreme.MEWSLI_X, {"raw.tar.gz": archive(mewsli_files())}, xtreme.MEWSLI_X_REVISION)
    check_mewsli(xtreme.load_mewsli_x())
    with pytest.raises(FileNotFoundError, match="no wikinews_mentions-dev.jsonl in it"):
        xtreme.load_mewsli_x(split="dev")
    with pytest.raises(ValueError, match="no split 'train'"):
        xtreme.load_mewsli_x(split="train")


@pytest.mark.parametrize(
    ("mention", "message"),
    [
        ({**MENTION, "mention_span": {"start": 28, "end": 35, "text": "Helsinki"}}, "lies in no sentence of the text"),
        ({**MENTION, "mention_span": {"start": 13, "end": 52, "text": TEXT[13:52]}}, "lies in no sentence of the text"),
        ({**MENTION, "entity_id": "Q5"}, "query 'e1' has a judgement of document 'Q5', which is not among"),
        ("Helsinki", "str where an object with 'mention_span' is expected"),
    ],
)
def test_a_bad_mention_is_named(mention, message, hub):
    """Google's files as released have no texts: its scripts put them in."""
    hub.add("dataset", xtreme.MEWSLI_X, {"raw.tar.gz": archive(mewsli_files([mention]))}, xtreme.MEWSLI_X_REVISION)
    with pytest.raises(ValueError, match=message):
        xtreme.load_mewsli_x()


def test_a_torn_archive_is_named(hub):
    torn = archive(mewsli_files())[:-40]
    hub.add("dataset", xtreme.MEWSLI_X, {"raw.tar.gz": torn}, xtreme.MEWSLI_X_REVISION)
    with pytest.raises(ValueError, match="raw.tar.gz: torn or no tar.gz"):
        xtreme.load_mewsli_x()


# ---- LAReQA


def test_lareqas_map_at_20_by_hand():
    """One question with relevant candidates at ranks 1, 20 and 21 of the pool: (1/1 + 2/20 + 0) / 3; without a cutoff
    the third adds 3/21."""
    candidates = [(f"en:{i:04}:000", "en", f"text {i}") for i in range(30)]
    scores = np.linspace(1, 0, 30)  # candidate i has rank i + 1
    relevant = pa.table(
        {
            "query_id": ["en:q"] * 3,
            "candidate_id": [candidates[i][0] for i in (0, 19, 20)],
            "gain": [1, 1, 1],
        }
    )
    queries = {"query_id": ["en:q"], "lang": ["en"], "question_id": ["q"], "cluster": ["q"], "text": ["?"]}
    names = ("candidate_id", "lang", "text")
    table = pa.table([pa.array(column) for column in zip(*candidates, strict=True)], names=list(names))
    benchmark = Benchmark.build("hand", ["en"], pa.table(queries), table, relevant)
    vectors = torch.tensor(np.stack([scores, np.sqrt(1 - scores**2)], axis=1), dtype=torch.float32)
    rows = evaluate_vectors(benchmark, torch.tensor([[1.0, 0.0]]), vectors, measures=("map@20", "map")).rows
    mono = rows[rows["setting"] == "mono"].iloc[0]
    assert mono["map@20"] == pytest.approx((1 + 2 / 20) / 3)
    assert mono["map"] == pytest.approx((1 + 2 / 20 + 3 / 21) / 3)
