"""Notebooks 13 and beyond/20 to 22, 24 in the profile colab: a tiny encoder, small collections in published layouts.

Their cells run in this process, one notebook after the other over the same runs, so that all of them take seconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from collections_made import beir_folder, json_lines
from made import encoder, parallel_corpus

from hybridlib.companion.experiment import pretrained
from hybridlib.companion.report.notebook import NeedsAnotherProfile
from hybridlib.companion.search import sources
from hybridlib.companion.sources.embedded.corpus import build_corpus
from hybridlib.companion.sources.translator import Translator

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = {path.stem: path for path in [*FOLDER.glob("13_*.ipynb"), *FOLDER.glob("beyond/*.ipynb")]}
LARGE = sorted(name for name in NOTEBOOKS if name != "23_controls")
FILES = {"ar": 5, "bn": 1, "es": 21, "fa": 5, "fi": 4}  # of 500,000 passages in MIRACL's published corpora
SUBJECTS = range(6)
DECIDED = {"holds", "does not hold", "undecided"}


def query_text(lang: str, i: int) -> str:
    return f"{lang}query thing{i} is where"


def passage_text(lang: str, i: int) -> str:
    return f"{lang}passage thing{i} is here"


def add_pairs(path: Path, n: int) -> None:
    """Pairs of made-up words in three languages, as a user would bring them."""
    rows = []
    for i in range(n):
        texts = {f"query_{lang}": query_text(lang, i) for lang in ("de", "en", "es")}
        texts |= {f"passage_{lang}": passage_text(lang, i) for lang in ("de", "en", "es")}
        rows.append({"query_id": f"q{i}", **texts})
    path.write_bytes(json_lines(rows, packed=True))


def add_miracl(folder: Path, lang: str) -> None:
    """Questions, judgements and passages, one more in each file."""
    (folder / "miracl-dev").mkdir(exist_ok=True)
    corpus = folder / "miracl-corpus" / f"miracl-corpus-v1.0-{lang}"
    corpus.mkdir(parents=True)
    lines = {"topics": [f"{i}\t{query_text(lang, i)}\n" for i in SUBJECTS]}
    lines["qrels"] = [f"{i} Q0 {i}#0 1\n" for i in SUBJECTS]
    for kind, content in lines.items():
        (folder / "miracl-dev" / f"{kind}.miracl-v1.0-{lang}-dev.tsv").write_text("".join(content), encoding="utf-8")
    for number in range(FILES[lang]):
        relevant = SUBJECTS if number == 0 else ()
        rows = [{"docid": f"{i}#0", "title": "", "text": passage_text(lang, i)} for i in relevant]
        rows.append({"docid": f"9#{number}", "title": "thing", "text": f"is here {number}"})
        (corpus / f"docs-{number}.jsonl.gz").write_bytes(json_lines(rows, packed=True))


def add_goldp(folder: Path, lang: str) -> None:
    (folder / "tydiqa-goldp").mkdir(exist_ok=True)
    questions = {i: [{"id": f"{lang}-{i}", "question": query_text(lang, i)}] for i in SUBJECTS}
    paragraphs = [{"context": passage_text(lang, i), "qas": questions[i]} for i in SUBJECTS]
    content = json.dumps({"data": [{"paragraphs": [paragraph]} for paragraph in paragraphs]})
    (folder / "tydiqa-goldp" / f"tydiqa.goldp.{lang}.dev.json").write_text(content, encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the collections (data/), two tiny encoders, pairs, and room for runs."""
    folder = tmp_path_factory.mktemp("questions")
    for seed, name in enumerate(("tiny", "other")):
        encoder(parallel_corpus(languages=("bn", "en", "sw")), seed=seed).save(folder / name)
    add_pairs(folder / "train.jsonl.gz", 60)
    data = folder / "data"
    data.mkdir()
    (folder / "slips").mkdir()
    for lang in FILES:  # 13 expects the counts of ar and es, and of no others, to differ from Table 11
        add_miracl(folder / "slips" if lang in ("ar", "es") else data, lang)
    add_miracl(data, "ar")
    for lang in ("bn", "sw", "te", "en"):
        add_goldp(data, lang)
    (data / "tatoeba-v1").mkdir()
    text = "".join(f"{passage_text('sw', i)}\t{passage_text('en', i)}\n" for i in SUBJECTS)
    (data / "tatoeba-v1" / "swh-eng.tsv").write_text(text, encoding="utf-8")
    for name in ("nfcorpus", "scifact"):
        texts = [{"_id": f"d{i}", "title": "thing", "text": passage_text("en", i)} for i in SUBJECTS]
        queries = [{"_id": f"q{i}", "text": query_text("en", i)} for i in SUBJECTS]
        judged = "query-id\tcorpus-id\tscore\n" + "".join(f"q{i}\td{i}\t{1 + i % 2}\n" for i in SUBJECTS)
        beir_folder(data / name, json_lines(texts), json_lines(queries), judged)
    return folder


@pytest.fixture
def colab(place, monkeypatch) -> dict:
    """Parameters of a quick run in the profile colab; what it reads and writes lies in `place`."""
    benchmark = build_corpus(languages=("de", "en"), trained=("de", "en"), extra_candidates=0).test
    monkeypatch.setattr(pretrained, "load_lareqa", lambda name, **_: benchmark)  # for XQuAD-R and MLQA-R
    for name, folder in (("DATA", "data"), ("CACHE", "cache"), ("ROOT", "")):
        monkeypatch.setenv(f"HYBRIDLIB_{name}", str(place / folder))
    settings = {"checkpoint": str(place / "tiny"), "pairs": str(place / "train.jsonl.gz"), "validation": "none"}
    settings |= {"trained": ["de", "en"], "max_length": 16, "steps": 3, "batch_size": 8}
    return {"profile": "colab", "settings": settings}


def run(name: str, **values) -> dict:
    """What a notebook's names stand for after its cells, the values injected after its parameters as papermill does."""
    names: dict = {"__name__": "__main__"}
    for number, cell in enumerate(nbformat.read(NOTEBOOKS[name], as_version=4).cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}, cell {number}", "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                assert set(values) <= set(names), f"{name} lacks {set(values) - set(names)}"
                names.update(values)
    return names


def verdicts(names: dict) -> dict[str, str]:
    """The claims of a notebook's record with their verdicts; its figures are drawn and its numbers there."""
    notebook = names["notebook"]
    record = json.loads(notebook.path.read_text(encoding="utf-8"))
    assert record["numbers"] and record["profile"] == "colab"
    drawn = notebook.study.root / "runs" / "figures" / "colab-tiny-xquad-r-custom"
    assert list(drawn.glob(f"{notebook.name[:2]}_*.png"))
    return {claim["claim"]: claim["verdict"] for claim in record["claims"]}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("profile", ["demo", "smoke"])
def test_without_their_data_they_say_what_they_need_in_one_line(name, profile, tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_ROOT", str(tmp_path))
    with pytest.raises(NeedsAnotherProfile) as end:
        run(name, profile=profile)
    assert "needs" in str(end.value) and "colab or paper" in str(end.value) and "\n" not in str(end.value)
    assert nbformat.read(NOTEBOOKS[name], as_version=4).metadata["hybridlib"]["profiles"] == ["colab", "paper"]
    assert not list(tmp_path.rglob("*.json")), "nothing was made"


def test_miracl(colab, place, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_DATA", str(place / "slips"))
    names = run("13_miracl", **colab, collections=["miracl-ar", "miracl-es"], alpha=0.25)
    assert set(verdicts(names).values()) <= DECIDED and len(verdicts(names)) == 4
    hybrid = names["rows"][names["rows"]["strategy"] == "hybrid"]
    assert set(hybrid["alpha"]) == {0.25} and set(hybrid["pool"].astype(str)) == {"miracl-ar", "miracl-es"}
    assert names["rows"]["alpha"].isna().sum() == 2 * len(hybrid), "a strategy without alpha has none"
    assert set(names["counts"].loc[names["counts"]["agrees"] == "no", "language"]) == {"ar", "es"}


def test_miracl_with_the_checkpoint_as_it_is(colab, place, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_DATA", str(place / "slips"))
    names = run("13_miracl", **colab, collections=["miracl-es"], strategies=["none"])
    assert set(verdicts(names).values()) == {"not run: needs encoders of these strategies"}


def test_resources(colab, monkeypatch):
    local = {"miracl": ["miracl-bn", "miracl-fi", "miracl-fa", "miracl-ar"]}
    local["tydiqa"] = [f"tydiqa-goldp-{lang}" for lang in ("bn", "en", "sw", "te")]
    monkeypatch.setattr(sources, "names", lambda benchmark, profile, languages=None: local[benchmark])
    names = run("20_resources", **colab, rates=[0.1, 0.5])
    assert set(verdicts(names).values()) <= DECIDED and len(verdicts(names)) == 14
    assert set(names["even"]["passages"]) == {"one language", "pooled"}
    assert set(names["losses"]["rate"]) == {0.1, 0.5}


def test_resources_of_collections_of_ones_own(colab):
    names = run("20_resources", **colab, collections=["nfcorpus"])
    found = verdicts(names)
    assert sum(verdict in DECIDED for verdict in found.values()) == 2, "English is high-resource, and alone"
    assert "not run: needs these languages" in found.values()


def test_encoders(colab, place):
    collections = {"english": ["nfcorpus", "scifact"], "collections": ["miracl-bn", "miracl-fi"]}
    others = [str(place / "other"), str(place / "nowhere")]
    names = run("21_encoders", **colab, **collections, others=others)
    found = verdicts(names)
    assert len(found) == 6 and sum(verdict in DECIDED for verdict in found.values()) == 4
    assert [verdict for claim, verdict in found.items() if "nowhere" in claim] == ["not run: needs the encoder"] * 2
    assert list(names["left_out"]) == [str(place / "nowhere")]
    assert set(names["summary"]["encoder"]) == {str(place / "tiny"), str(place / "other")}
    assert set(names["untrained"]["strategy"]) == {"none"}


def test_ratio(colab):
    settings = colab["settings"] | {"alphas": [0, 0.3, 1]}
    names = run("22_ratio", profile="colab", settings=settings, alpha=0.3, collections=["miracl-bn", "tatoeba-swh"])
    assert list(names["tasks"]) == ["LAReQA", "MIRACL", "Tatoeba"]
    assert set(verdicts(names).values()) <= DECIDED and len(verdicts(names)) == 7
    assert names["best"]["monolingual_share"].tolist() == [0.0, 0.3, 1.0] * 3
    assert "map" not in names["rows"]["Tatoeba"], "what a task does not report is not measured"


def test_translation(colab, monkeypatch):
    class Echo:
        def translate(self, texts, *_, **__):
            return list(texts)

    monkeypatch.setattr(Translator, "load", lambda name, **_: Echo())
    names = run("24_translation", profile="colab", translator="echo")
    assert (names["sample"]["flags"].str.contains("copied")).mean() > 0.5, "an English text is no translation"
    assert names["found"]["false alarms"].sum() < 0.01 * names["found"]["texts"].sum()
