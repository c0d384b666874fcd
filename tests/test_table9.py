"""The loaders of Table 9's sets, against a stand-in hub that serves small files of the real layouts."""

from __future__ import annotations

import io
import json
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import encoder, parallel_corpus

from hybridlib.__main__ import main
from hybridlib.companion.report import paper
from hybridlib.companion.sources import filters, mmarco
from hybridlib.companion.sources.filters import Counts, Row, TextLimits, filtered, write_rows
from hybridlib.companion.sources.named import named_pairs
from hybridlib.companion.sources.table9 import LAYOUTS, SOURCES, find, load
from hybridlib.corpora import ParallelPairs
from hybridlib.files import lock_file


def parquet(records: list[dict]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def lines(records: list[dict]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def serve(hub, name: str, contents: list[bytes]) -> str:
    """Put files at the paths and, where one is known, at the commit of a source."""
    source = find(name)
    return hub.add("dataset", source.repo, dict(zip(source.files, contents, strict=True)), source.revision)


def texts(corpus: ParallelPairs, lang: str = "en") -> list[tuple[str, str, list[str]]]:
    """Question, passage, negatives of each pair, sorted."""
    items = corpus.__getitems__([(row, lang, lang) for row in range(len(corpus))])
    return sorted((item["query"], item["passage"], item["negatives"]) for item in items)


WIKIQA = [
    {"question_id": "Q1", "question": "how big is it", "document_title": "It", "answer": "It is big.", "label": 1},
    {"question_id": "Q1", "question": "how big is it", "document_title": "It", "answer": "It is old.", "label": 0},
    {"question_id": "Q2", "question": "who made it", "document_title": "It", "answer": "She made it.", "label": 1},
]
PLOT = "A long plot in which the butler did it and the cook looked on."
DUORC = [
    {"plot_id": "a", "plot": PLOT, "title": "T", "question_id": "1", "question": "Who did it?"}
    | {"answers": ["the  Butler", "him"], "no_answer": False},
    {"plot_id": "a", "plot": PLOT, "title": "T", "question_id": "2", "question": "Who looked on?"}
    | {"answers": ["the cook"], "no_answer": False},
    {"plot_id": "a", "plot": PLOT, "title": "T", "question_id": "3", "question": "Who knew?"}
    | {"answers": [], "no_answer": True},
    {"plot_id": "a", "plot": PLOT, "title": "T", "question_id": "4", "question": "Who paid?"}
    | {"answers": ["the gardener"], "no_answer": False},
]
NEWSQA = [
    {"context": "(CNN) -- It rained in Rome.", "question": "Where did it rain?", "answers": ["Rome"], "key": "k1"}
    | {"labels": [{"start": [22], "end": [25]}]},
]
MFAQ = [
    {"id": 1, "domain": "shop.example", "num_pairs": 2, "language": "en"}
    | {"qa_pairs": [{"question": "Do you ship?", "answer": "Yes, we do.", "language": "en"}] * 2},
    {"id": 2, "domain": "bank.example", "num_pairs": 2, "language": "en"}
    | {"qa_pairs": [{"question": "Are you open?", "answer": None}, {"question": "", "answer": "Until five."}]},
]
SQUADSHIFTS = [
    {"id": "1", "title": "t", "context": "The tower is tall.", "question": "What is tall?"}
    | {"answers": {"text": ["The tower"], "answer_start": [0]}},
]


NATURAL = [("what is si", "A system.", [])]


# ---- each layout


@pytest.mark.parametrize(
    ("name", "contents", "expected", "dropped"),
    [
        (
            "wikiqa",
            [parquet(WIKIQA), parquet(WIKIQA[2:]), parquet(WIKIQA[1:2])],
            [("how big is it", "It is big.", []), ("who made it", "She made it.", [])],
            {"duplicate": 1},
        ),
        (
            "mr-tydi",
            [parquet([{"anchor": "Who is he?", "positive": "He is Bo.", "negative": "She is Li."}])],
            [("Who is he?", "He is Bo.", ["She is Li."])],
            {},
        ),
        ("newsqa", [parquet(NEWSQA)], [("Where did it rain?", "(CNN) -- It rained in Rome.", [])], {}),
        # The card of natural-questions says one name of the column and shows the other.
        ("natural-questions", [parquet([{"query": "what is si", "answer": "A system."}])], NATURAL, {}),
        ("natural-questions", [parquet([{"question": "what is si", "answer": "A system."}])], NATURAL, {}),
        (
            "yahoo-answers",
            [parquet([{"title": "why?", "answer": "Because."}]), parquet([{"title": "how?", "answer": "Like this."}])],
            [("how?", "Like this.", []), ("why?", "Because.", [])],
            {},
        ),
        ("mfaq", [lines(MFAQ)], [("Do you ship?", "Yes, we do.", [])], {"duplicate": 1, "empty": 2}),
        (
            "squadshifts",
            [lines([{**SQUADSHIFTS[0], "question": f"What is tall {i:02}?"}]) for i in range(12)],
            [(f"What is tall {i:02}?", "The tower is tall.", []) for i in range(12)],
            {},
        ),
    ],
)
def test_each_layout_is_read(hub, tmp_path, name, contents, expected, dropped):
    serve(hub, name, contents)
    corpus = load(name, tmp_path / "out")
    assert texts(corpus) == expected and len(corpus.passages) == len({text for _, p, n in expected for text in (p, *n)})
    assert Counts.load(tmp_path / "out").dropped == dropped
    assert corpus.name == name and {group.source for group in corpus.groups} == {name}
    assert len(load(name, tmp_path / "one", limit=1)) == 1


def test_duorc_wants_an_answer_and_finds_it_in_the_plot(hub, tmp_path):
    serve(hub, "duorc", [parquet(DUORC)])
    corpus = load("duorc", tmp_path / "out")
    assert [query for query, _, _ in texts(corpus)] == ["Who did it?", "Who looked on?"]
    assert len(corpus.passages) == 1
    assert Counts.load(tmp_path / "out").dropped == {"no answer": 1, "answer not in passage": 1}
    near = load("duorc", tmp_path / "near", limits=TextLimits(answer_within=40))
    assert [query for query, _, _ in texts(near)] == ["Who did it?"]


def test_entity_questions_needs_retrieved_passages(hub, tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"(?s)entity-questions: no \*.json here.*dataset.zip.*bm25_retriever.py"
    ):
        load("entity-questions", tmp_path / "out")
    wrong = {"id": "2", "title": "Bo", "text": "is a dog.", "score": 9.1, "has_answer": False}
    right = {"id": "1", "title": "Ann", "text": "was born in Ulm.", "score": 9.0, "has_answer": True}
    results = [
        {"question": "Where was Ann born?", "answers": ["Ulm"], "ctxs": [wrong, right]},
        {"question": "Where was Bo born?", "answers": ["Rome"], "ctxs": [wrong]},
    ]
    (tmp_path / "data" / "entity-questions").mkdir(parents=True)
    (tmp_path / "data" / "entity-questions" / "P19.train.json").write_text(json.dumps(results))
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path / "data"))
    corpus = load("entity-questions", tmp_path / "out")
    assert texts(corpus) == [("Where was Ann born?", "Ann was born in Ulm.", ["Bo is a dog."])]
    assert Counts.load(tmp_path / "out").dropped == {"no answer": 1}


# ---- mMARCO

PASSAGES = {
    "english": {0: "The passage zero.", 1: "The passage one.", 2: "The passage two.", 3: "Not needed."},
    "german": {0: "Der Abschnitt null.", 2: "Der Abschnitt zwei.", 1: "  "},
    "hindi": {0: 'अंश "शून्य"', 1: "अंश एक", 2: "अंश दो"},
}
QUERIES = {
    "english": {10: "what is zero", 11: "what is one", 12: "what is three", 99: "unused"},
    "german": {11: "was ist eins"},
    "hindi": {10: "शून्य क्या है", 11: "एक क्या है"},
}
TRIPLES = [(10, 0, 1), (11, 1, 0), (10, 0, 2), (12, 7, 0), (10, 0, 1), (11, 1, 1)]  # the last is none


def tsv(records) -> bytes:
    return "".join("\t".join(map(str, record)) + "\n" for record in records).encode()


@pytest.fixture
def mmarco_files(hub):
    source = find("mmarco")
    files = {source.files[0]: tsv(TRIPLES)}
    for language in ("german", "english", "hindi"):
        for file, records in zip(source.files_by_language, (QUERIES, PASSAGES), strict=True):
            files[file.format(language=language)] = tsv(records[language].items())
    hub.add("dataset", source.repo, files, source.revision)
    return files


def test_mmarco_is_parallel_by_id(mmarco_files, tmp_path):
    corpus = load("mmarco", tmp_path / "out", languages=["hi", "en", "de"])
    assert corpus.languages == ("de", "en", "hi")
    assert texts(corpus, "en") == [
        ("what is one", "The passage one.", ["The passage zero."]),
        ("what is zero", "The passage zero.", ["The passage one.", "The passage two.", "The passage one."]),
    ]
    assert corpus.__getitems__([(0, "hi", "de")])[0]["passage"] in ("Der Abschnitt null.",)
    queries = {row["query_id"]: row for row in corpus.queries.to_pylist()}
    assert queries["mmarco:10"]["de"] is None and queries["mmarco:10"]["hi"] == "शून्य क्या है"
    passages = {row["passage_id"]: row for row in corpus.passages.to_pylist()}
    assert set(passages) == {"mmarco:0", "mmarco:1", "mmarco:2"}
    assert passages["mmarco:1"]["de"] is None and passages["mmarco:0"]["hi"] == 'अंश "शून्य"'


def test_mmarco_counts_pairs_and_lacking_texts(mmarco_files, tmp_path):
    load("mmarco", tmp_path / "out", languages=["en", "de"])
    counts = Counts.load(tmp_path / "out")
    assert (counts.read, counts.kept, counts.dropped) == (3, 2, {"no text": 1})
    assert counts.more["query not in the file, de"] == 2 and counts.more["passage not in the file, en"] == 1
    assert counts.more["passage length, de"] == 1


def test_mmarco_reads_the_first_triples_only(mmarco_files, tmp_path):
    corpus = load("mmarco", tmp_path / "out", languages=["en"], limit=1)
    assert texts(corpus) == [("what is zero", "The passage zero.", ["The passage one."])]


def test_mmarco_in_small_pieces_is_the_same(mmarco_files, tmp_path, monkeypatch):
    whole = load("mmarco", tmp_path / "out", languages=["en", "de", "hi"])
    monkeypatch.setattr(mmarco, "CHUNK", 1)
    monkeypatch.setattr(mmarco, "TRIPLES", 1)
    monkeypatch.setattr(mmarco, "BLOCK", 64)
    assert load("mmarco", tmp_path / "again", languages=["en", "de", "hi"]).fingerprint == whole.fingerprint


def test_first_negatives_against_a_plain_loop(monkeypatch):
    triples = pd.DataFrame(np.random.default_rng(0).integers(0, 6, (500, 3)), columns=["query", "positive", "negative"])
    monkeypatch.setattr(mmarco, "TRIPLES", 100)
    rows = mmarco.first_negatives((triples[start : start + 30] for start in range(0, 500, 30)), 3)
    expected: dict[tuple[int, int], list[int]] = {}
    for query, positive, negative in triples.to_numpy().tolist():
        expected.setdefault((query, positive), []).append(negative)
    grouped = rows.groupby(["query", "positive"])["negative"].agg(list)
    assert grouped.to_dict() == {pair: negatives[:3] for pair, negatives in expected.items()}
    assert rows[["query", "positive"]].apply(tuple, axis=1).is_monotonic_increasing


@pytest.mark.parametrize("content", [b"10\t0\n", b"ten\t0\t1\n", b"\xff\t0\t1\n"])
def test_mmarco_names_a_file_that_is_not_of_its_layout(mmarco_files, hub, tmp_path, content):
    source = find("mmarco")
    hub.add("dataset", source.repo, {**mmarco_files, source.files[0]: content}, source.revision)
    with pytest.raises(ValueError, match=r"triples.train.ids.small.tsv: not as mMARCO's files are"):
        load("mmarco", tmp_path / "out", languages=["en"])


# ---- filters


def test_each_row_counts_once_under_the_first_filter():
    good = Row("who is it", "it is me", ("me",))
    bad = {
        "empty": Row(" ", "x"),
        "no UTF-8": Row("who\ud800", "it is me"),
        "no answer": Row("who is it", "it is me", ()),
        "query length": Row("w?", "it is me"),
        "passage length": Row("who is it", "x" * 21),
        "answer not in passage": Row("who is it", "it is me", ("you",)),
    }
    counts = Counts()
    kept = list(filtered([good, *bad.values(), good], TextLimits(passage=(3, 20)), counts))
    assert kept == [good]
    assert counts == Counts(8, 1, Counter(dict.fromkeys([*bad, "duplicate"], 1)))


def test_ids_do_not_depend_on_order_or_filters(tmp_path):
    made = [Row(f"question {i}", f"passage {i % 3}", negatives=(f"passage {(i + 1) % 3}",)) for i in range(9)]
    one, two = (write_rows(tmp_path / f"{step}", made[::step], name="made") for step in (1, -1))
    assert set(one.queries["query_id"].to_pylist()) == set(two.queries["query_id"].to_pylist())
    assert texts(one) == texts(two) and len(one.passages) == 3


def test_writing_in_small_chunks_is_the_same(tmp_path, monkeypatch):
    made = [Row(f"question {i}", f"passage {i % 3}", negatives=(f"passage {(i + 1) % 3}", "")) for i in range(9)]
    made[0] = Row("question 0", "passage 0", negatives=("passage 0", "passage 1"))
    whole = write_rows(tmp_path / "one", made, name="made")
    assert Counts.load(tmp_path / "one").more["negatives left out"] == 9
    monkeypatch.setattr(filters, "CHUNK", 2)
    assert write_rows(tmp_path / "two", made, name="made").fingerprint == whole.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_nothing_left_says_which_filter_took_it(tmp_path):
    with pytest.raises(ValueError, match="made: none of 2 rows is left, dropped were {'query length': 2}"):
        write_rows(tmp_path / "out", [Row("?", "passage")] * 2, name="made")
    assert list(tmp_path.iterdir()) == []


# ---- what users get wrong, and files that are


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="unknown data set 'nq'; choose from wikiqa, "):
        load("nq", tmp_path)
    with pytest.raises(ValueError, match="languages: mmarco has no .*'el'"):
        load("mmarco", tmp_path, languages=["en", "el"])
    with pytest.raises(ValueError, match="limit is 0"):
        load("duorc", tmp_path, limit=0)
    with pytest.raises(FileNotFoundError, match="counts.json: no counts here"):
        Counts.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "duorc",
            parquet([{"question": "?"}]),
            "row 1: no 'answers' that is list among question; this is another layout",
        ),
        ("duorc", b"PAR1 torn", "torn or no Parquet file"),
        ("mr-tydi", parquet([{"a": "b"}]), "no 'query' or 'question' or 'title' or 'anchor' that is str among a;"),
        ("mfaq", b'{"qa_pairs": [1]}\n', "line 1: a pair is int"),
        ("mfaq", b'{"question": "?"}\n', "line 1: no 'qa_pairs' that is list among question"),
        ("mfaq", b"{\n", "line 1"),
    ],
)
def test_another_layout_is_named(hub, tmp_path, name, content, message):
    serve(hub, name, [content])
    with pytest.raises(ValueError, match=f"{find(name).files[0].split('/')[-1]}.*{message}"):
        load(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_local_copy_comes_before_the_hub(hub, tmp_path, monkeypatch):
    path = tmp_path / "data" / "newsqa" / find("newsqa").files[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(parquet(NEWSQA))
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path / "data"))
    assert len(load("newsqa", tmp_path / "out")) == 1 and hub.requests == []


def test_every_set_of_table_9_has_a_source_with_its_size():
    sizes = paper.reported(9).set_index("dataset")["value"].astype(int).to_dict()
    assert {source.paper: source.paper_size for source in SOURCES.values() if source.paper} == sizes
    for source in SOURCES.values():
        assert source.layout in LAYOUTS or source.files_by_language
        assert source.revision is None or len(source.revision) == 40
        assert source.note and source.licence and source.name == source.name.lower()


# ---- the command


def test_data_writes_what_it_can_get_and_train_takes_it(hub, tmp_path, capsys):
    serve(
        hub,
        "mfaq",
        [lines([{"qa_pairs": [{"question": f"Where is thing{i}?", "answer": f"thing{i} is here"}]} for i in range(9)])],
    )
    serve(hub, "newsqa", [parquet([{**NEWSQA[0], "question": f"Where did thing{i} rain?"} for i in range(9)])])
    out = tmp_path / "out"
    assert main(["data", "mfaq", "duorc", "newsqa", "--output", str(out)]) == 0
    printed = capsys.readouterr()
    assert "mfaq: 9 pairs in en; Table 9 has 3,567,659; read 9, dropped none" in printed.out
    assert "duorc: left out. " in printed.err and "check the names of repository" in printed.err
    assert sorted(path.name for path in out.iterdir()) == ["mfaq", "newsqa"]
    assert len(json.loads(lock_file().read_text())["commits"]) == 2
    encoder(parallel_corpus()).save(tmp_path / "start")
    flags = ["--checkpoint", str(tmp_path / "start"), "--strategy", "en-en", "--steps", "2", "--batch-size", "4"]
    pairs = [str(out / "mfaq"), str(out / "newsqa")]
    assert main(["train", *flags, "--pairs", *pairs, "--output", str(tmp_path / "trained")]) == 0
    assert len(named_pairs(*pairs)) == 18


def test_data_without_names_shows_the_sources_and_without_output_asks_for_it(capsys):
    assert main(["data"]) == 0
    assert "entity-questions: Table 9 176,975, source -; no open source" in capsys.readouterr().out
    assert main(["data", "nq", "--output", "x", "--check-leakage", "miracl"]) == 1
    assert "unknown data set 'nq'" in capsys.readouterr().err
    assert main(["data", "duorc"]) == 1
    assert "--output is missing" in capsys.readouterr().err
