"""Test collections by their names."""

from __future__ import annotations

import pytest
from collections_made import beir_folder, json_lines
from test_miracl import add_full

from hybridlib.companion.search import sources


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("tydiqa-goldp-sw", ["tydiqa-goldp-sw"]),
        ("tydiqa-goldp-pooled-bn-sw", ["tydiqa-goldp-pooled-bn-sw"]),
        ("tatoeba-swh", ["tatoeba-swh-eng", "tatoeba-eng-swh"]),
        ("nfcorpus", ["nfcorpus-test"]),
    ],
)
def test_local_collections(name, names, data_folder):
    assert [collection.name for collection in sources.load(name, folder=data_folder)] == names


def test_collections_of_the_hub(hub):
    add_full(hub)
    assert [collection.name for collection in sources.load("miracl-sw")] == ["miracl-sw"]
    for name, repo in (("miracl-hard-negatives-sw", "mteb/MIRACL"), ("mr-tydi-sw", "castorini"), ("mewsli-x", "izhx")):
        with pytest.raises(FileNotFoundError, match=repo):  # the stand-in has none of these repositories
            sources.load(name)


def test_a_folder_of_ones_own_and_a_name_that_is_nowhere(hub, tmp_path):
    rows = [{"_id": "d", "title": "", "text": "x"}], [{"_id": "q", "text": "?"}]
    beir_folder(tmp_path / "own", *map(json_lines, rows), "query-id\tcorpus-id\tscore\nq\td\t1\n")
    assert [collection.name for collection in sources.load("own", folder=tmp_path)] == ["own-test"]
    with pytest.raises(FileNotFoundError, match="qrels/dev.tsv"):
        sources.load("own", folder=tmp_path, split="dev")
    with pytest.raises(FileNotFoundError, match="miracle-sw: no such collection; names are.*mteb/miracle-sw"):
        sources.load("miracle-sw", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="mewsli-x-dev: no such collection"):
        sources.load("mewsli-x-dev", folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="^dataset mteb/scifact"):
        sources.load("scifact", folder=tmp_path)
    with pytest.raises(ValueError, match="MIRACL has no full form of 'tr'"):
        sources.load("miracl-tr")
