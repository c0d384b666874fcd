"""MIRACL: published files on a stand-in hub and local, its two forms apart, and Table 11 counted."""

from __future__ import annotations

import pytest
from collections_made import json_lines, parquet

from hybridlib.companion.report import paper
from hybridlib.companion.search import miracl
from hybridlib.companion.sources import leakage

TOPICS = "1\tNani?\n2\tLini?\n"
QRELS = "1 Q0 7#0 1\n1 Q0 7#1 0\n2 Q0 9#0 1\n"
FIRST = [{"docid": "7#0", "title": "Saba", "text": "Sifuri."}, {"docid": "7#1", "title": "Saba", "text": "Moja."}]
SECOND = [{"docid": "9#0", "title": "Tisa", "text": "Sifuri."}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))


def add_full(hub, lang: str = "sw", qrels: str = QRELS) -> None:
    base = f"miracl-v1.0-{lang}"
    files = {f"{base}/topics/topics.{base}-dev.tsv": TOPICS, f"{base}/qrels/qrels.{base}-dev.tsv": qrels}
    hub.add("dataset", "miracl/miracl", {name: text.encode() for name, text in files.items()})
    parts = {f"miracl-corpus-v1.0-{lang}/docs-0.jsonl.gz": json_lines(FIRST + SECOND, packed=True)}
    if lang == "te":  # in two files
        parts = {
            f"miracl-corpus-v1.0-te/docs-{number}.jsonl.gz": json_lines(rows, packed=True)
            for number, rows in enumerate((FIRST, SECOND))
        }
    hub.add("dataset", "miracl/miracl-corpus", parts, miracl.CORPUS_REVISION)


@pytest.mark.parametrize("lang", ["sw", "te"])
def test_the_full_form_comes_from_the_hub(hub, lang):
    add_full(hub, lang)
    collection = miracl.load(lang)
    assert collection.name == f"miracl-{lang}"
    assert collection.languages == (lang,)
    assert collection.sizes() == {"queries": 2, "judgements": 3, "relevant": 2, "passages": 3}
    assert collection.passages.ids(0, 3) == ["7#0", "7#1", "9#0"]
    assert collection.passages.texts(0, 3) == ["Saba Sifuri.", "Saba Moja.", "Tisa Sifuri."]
    assert [row["row"] for row in collection.judgements.to_pylist()] == [0, 1, 2]


def test_the_full_form_comes_from_local_files(tmp_path):
    (tmp_path / "miracl-dev").mkdir()
    for kind, text in (("topics", TOPICS), ("qrels", QRELS)):
        (tmp_path / "miracl-dev" / f"{kind}.miracl-v1.0-sw-dev.tsv").write_text(text, encoding="utf-8")
    corpus = tmp_path / "miracl-corpus" / "miracl-corpus-v1.0-sw"
    corpus.mkdir(parents=True)
    (corpus / "docs-0.jsonl.gz").write_bytes(json_lines(FIRST + SECOND, packed=True))
    assert miracl.load("sw", folder=tmp_path).sizes()["passages"] == 3


def test_the_files_of_a_corpus_are_those_of_miracls_own_script():
    """languages2filesize in miracl-corpus.py at CORPUS_REVISION, for the 16 languages seen there."""
    counts = dict(ar=5, bn=1, en=66, es=21, fa=5, fi=4, fr=30, hi=2, id=3, ja=14, ko=3, ru=20, sw=1, te=2, th=2, zh=10)
    assert {lang: -(-miracl.PASSAGES[lang] // miracl.PASSAGES_PER_FILE) for lang in counts} == counts


def test_a_corpus_that_is_cut_off_is_noticed(hub):
    add_full(hub, qrels=QRELS + "2 Q0 99#3 0\n")
    with pytest.raises(ValueError, match="miracl-sw: query '2' has a judgement of document '99#3', which is not among"):
        miracl.load("sw")


def add_mteb(hub, form: str) -> None:
    rows = [{"id": row["docid"], "title": row["title"], "text": row["text"]} for row in FIRST + SECOND]
    queries = [{"id": "1", "text": "Nani?"}]
    scores = [{"query-id": "1", "corpus-id": doc, "score": gain} for doc, gain in (("7#0", 1), ("55#0", 0))]
    files = {"sw-corpus": rows, "sw-queries": queries, "sw-qrels": scores, "te-corpus": rows[:1]}
    files = {f"{folder}/dev-00000-of-00001.parquet": parquet(content) for folder, content in files.items()}
    repo, commit = miracl.MTEB[form]
    hub.add("dataset", repo, files, commit)


def test_the_hard_negatives_form_has_its_own_name(hub):
    add_mteb(hub, "hard-negatives")
    collection = miracl.load("sw", form="hard-negatives")
    assert collection.name == "miracl-hard-negatives-sw"
    assert collection.sizes() == {"queries": 1, "judgements": 1, "relevant": 1, "passages": 3}
    assert collection.counts == {"judgements of passages not sampled": 1}
    assert collection.passages.texts(0, 1) == ["Saba Sifuri."]
    with pytest.raises(ValueError, match="no corpus, queries and judgements of te 'dev'"):
        miracl.load("te", form="hard-negatives")


def test_the_full_form_from_mteb_must_be_full(hub):
    """The same small files under the name of the full form lack a judged passage."""
    add_mteb(hub, "full")
    with pytest.raises(ValueError, match="miracl-sw: query '1' has a judgement of document '55#0'"):
        miracl.load("sw", source="mteb")


@pytest.mark.parametrize(
    ("lang", "form", "source"), [("tr", "full", "mteb"), ("sw", "small", "mteb"), ("sw", "full", "x")]
)
def test_what_miracl_has_not_is_named(lang, form, source):
    with pytest.raises(ValueError, match="full, hard-negatives of ar bn .* from miracl, mteb"):
        miracl.load(lang, form=form, source=source)


@pytest.mark.parametrize(
    ("kind", "line", "message"),
    [
        ("topics", "3 no tab", "topics.*line 3: no tab between id and query"),
        ("topics", "3\t ", "topics.*line 3: the text is empty"),
        ("qrels", "2 Q0 7#0", "qrels.*line 4: 3 columns, expected 4"),
        ("qrels", "2 Q0 7#0 yes", "qrels.*line 4: judgement 'yes' is not a whole number"),
    ],
)
def test_bad_lines_are_named(kind, line, message, tmp_path):
    (tmp_path / "miracl-dev").mkdir()
    for name, text in (("topics", TOPICS), ("qrels", QRELS)):
        content = text + f"{line}\n" * (name == kind)
        (tmp_path / "miracl-dev" / f"{name}.miracl-v1.0-sw-dev.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        miracl.load("sw", passages=False, folder=tmp_path)


def test_languages():
    assert len(miracl.LANGUAGES) == 18 == len(miracl.PASSAGES)
    assert len(miracl.paper_languages(11)) == 16
    assert set(miracl.LANGUAGES) - set(miracl.paper_languages(11)) == {"de", "yo"}
    for table in (12, 13):
        assert set(miracl.paper_languages(11)) - set(miracl.paper_languages(table)) == {"en"}
    with pytest.raises(ValueError, match="table 10"):
        miracl.paper_languages(10)


def test_table_11_counted(data_folder):
    """All but three rows agree, and the paper's notes say which: ar has a slip, en and es are swapped."""
    table = miracl.table_11(folder=data_folder).set_index("language")
    assert table.index[~table["agrees"].fillna(True)].tolist() == ["ar", "en", "es"]
    assert table.loc[["de", "yo"], "queries_paper"].isna().all()
    assert table.loc["ar", ["queries_paper", "queries"]].tolist() == [2869, 2896]
    assert table.loc["en", "queries"] == table.loc["es", "queries_paper"] == 799
    assert table.loc["es", "queries"] == table.loc["en", "queries_paper"] == 648
    assert any(all(word in note for word in ("ar 2,869", "swapped")) for note in paper.notes(11))
    printed = table.dropna(subset=["passages_paper"])
    assert (printed["passages_paper"] == printed["passages_published"]).all()
    assert table["queries"].sum() == 13_495  # MTEB's count of all 18
    assert table["passages_published"].sum() == 106_332_152  # the same


def test_passages_are_counted_where_they_are_given(data_folder, hub):
    add_full(hub)
    table = miracl.table_11(folder=data_folder, collections={"sw": miracl.load("sw")}).set_index("language")
    assert table.loc["sw", ["queries", "passages", "agrees"]].tolist() == [2, 3, False]
    assert table["passages"].count() == 1


def test_the_questions_are_those_that_leakage_compares(data_folder):
    theirs = sorted(leakage.miracl_questions(data_folder))
    collections = (miracl.load(lang, passages=False, folder=data_folder) for lang in miracl.LANGUAGES)
    assert sorted(text for collection in collections for text in collection.queries["text"].to_pylist()) == theirs
