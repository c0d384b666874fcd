"""BEIR: a folder in its format, or a data set by name from MTEB's copies on the hub.

BEIR: Thakur et al. 2021, arXiv 2104.08663. Its format: corpus.jsonl (_id, title, text), queries.jsonl (_id, text),
qrels/<split>.tsv with a header. MTEB's copies hold the same rows as JSON Lines, newer data sets as Parquet in a folder
per part. No file of the hub was downloaded by this project: see DATA.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from huggingface_hub import HfApi

from hybridlib.companion.search import records
from hybridlib.companion.search.collect import prepared, write_collection
from hybridlib.companion.search.collection import Collection
from hybridlib.files import cache_folder, data_folder, explained, fetch, make_parent, parse_json, write_json

# The public data sets of BEIR as MTEB has them, mteb/<name> or as named in REPOSITORIES, at the commits that the tasks
# of mteb 2.26.24 name. CQADupStack is twelve data sets, whose results are averaged.
REVISIONS = {
    "arguana": "c22ab2a51041ffd869aaddef7af8d8215647e41a",
    "climate-fever": "47f2ac6acb640fc46020b02a5b59fdda04d39380",
    "cqadupstack-android": "9be4c0e46342e8e3aff577a89b9a1ec9bc6b4af3",
    "cqadupstack-english": "ad9991cb51e31e31e430383c75ffb2885547b5f0",
    "cqadupstack-gaming": "4885aa143210c98657558c04aaf3dc47cfb54340",
    "cqadupstack-gis": "5003b3064772da1887988e05400cf3806fe491f2",
    "cqadupstack-mathematica": "90fceea13679c63fe563ded68f3b6f06e50061de",
    "cqadupstack-physics": "79531abbd1fb92d06c6d6315a0cbbbf5bb247ea4",
    "cqadupstack-programmers": "6184bc1440d2dbc7612be22b50686b8826d22b32",
    "cqadupstack-stats": "65ac3a16b8e91f9cee4c9828cc7c335575432a2a",
    "cqadupstack-tex": "46989137a86843e03a6195de44b09deda022eec7",
    "cqadupstack-unix": "6c6430d3a6d36f8d2a829195bc5dc94d7e063e53",
    "cqadupstack-webmasters": "160c094312a0e1facb97e55eeddb698c0abe3571",
    "cqadupstack-wordpress": "4ffe81d471b1924886b33c7567bfb200e9eec5c4",
    "dbpedia": "c0f706b76e590d620bd6618b3ca8efdd34e2d659",
    "fever": "bea83ef9e8fb933d90a2f1d5515737465d613e12",
    "fiqa": "27a168819829fe9bcd655c2df245fb19452e8e06",
    "hotpotqa": "ab518f4d6fcca38d87c25209f94beba119d02014",
    "msmarco": "c5a29a104738b98a9e76336939199e264163d4a0",
    "nfcorpus": "ec0fa4fe99da2ff19ca1214b7966684033a58814",
    "nq": "b774495ed302d8c44a3a7ea25c90dbce03968f31",
    "quora": "e4e08e0b7dbe3c8700f0daef558ff32256715259",
    "scidocs": "f8c2fcf00f625baaa80f62ec5bd9e1fff3b8ae88",
    "scifact": "d56462d0e63a25450459c4f213e49ffdb866f7f9",
    "touche2020": "a34f9a33db75fa0cbb21bb5cfc3dae8dc8bec93f",
    "trec-covid": "bb9466bac8153a0349341eb1b22e06409e78ef4e",
}
REPOSITORIES = {"cqadupstack-android": "CQADupstackAndroidRetrieval"}


class Files(NamedTuple):
    """The files of a collection; `corpus` and `queries` may be in several."""

    corpus: Sequence[Path]
    queries: Sequence[Path]
    judgements: Sequence[Path]


def load(
    name: str,
    *,
    split: str | None = None,
    folder: Path | None = None,
    output: Path | None = None,
    empty: str = "error",
) -> Collection:
    """A data set of BEIR: `<folder>/<name>` in BEIR's format if it is there, else mteb/<name> from the hub.

    As in BEIR's evaluation a document with the id of the query counts as the query itself and is dropped from what was
    found for it (ArguAna's queries are documents of its corpus), in the data sets of REVISIONS.

    Args:
        split: whose judgements; default "test", and "dev" for msmarco, as BEIR evaluates.
        folder: local copies; default $HYBRIDLIB_DATA.
        output: where the prepared collection lies; default a folder of the package's cache.
        empty: "error" refuses a document without any text, "keep" keeps it.

    Raises:
        ValueError: a file is not of its layout, damaged, or its ids do not fit together.
        OSError: the data set is neither at hand nor to be had.
    """
    split = split or ("dev" if name == "msmarco" else "test")
    folder = folder or data_folder()
    local = Path(folder) / name if folder else None
    if local and local.is_dir():
        return load_folder(local, split=split, drop_own=name in REVISIONS, output=output, empty=empty)
    files = hub_files(f"mteb/{REPOSITORIES.get(name, name)}", revision=REVISIONS.get(name), split=split)
    return from_files(f"{name}-{split}", files, drop_own=name in REVISIONS, output=output, empty=empty)


def load_folder(
    path: Path,
    *,
    split: str = "test",
    lang: str = "en",
    drop_own: bool = False,
    output: Path | None = None,
    empty: str = "error",
) -> Collection:
    """A folder in BEIR's format: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, each also with .gz.

    Args:
        drop_own: a document with the id of a query is that query itself; see `Collection.own`.

    Raises:
        FileNotFoundError: a file is lacking.
        ValueError: as `load`.
    """
    path = Path(path)
    names = ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv")
    found = []
    for name in names:
        choices = [path / f"{name}{ending}" for ending in ("", ".gz")]
        file = next((choice for choice in choices if choice.is_file()), None)
        if file is None:
            splits = sorted(file.name.partition(".")[0] for file in path.glob("qrels/*.tsv*"))
            raise FileNotFoundError(
                f"{choices[0]}[.gz]: no such file; BEIR's format is {', '.join(names)}, and the splits here are "
                f"{', '.join(splits) or 'none'}"
            )
        found.append([file])
    options = {"lang": lang, "drop_own": drop_own, "output": output, "empty": empty}
    return from_files(f"{path.name}-{split}", Files(*found), **options)


def from_files(
    name: str,
    files: Files,
    *,
    lang: str = "en",
    sampled: bool = False,
    drop_own: bool = False,
    output: Path | None = None,
    empty: str = "error",
) -> Collection:
    """The collection that these files hold; `sampled` and `drop_own` as `collect.write_collection`'s."""
    write = partial(
        write_collection,
        name=name,
        queries=(row for path in files.queries for row in records.queries(path, lang)),
        judgements=(row for path in files.judgements for row in records.beir_judgements(path)),
        passages=[(str(path), records.passages(path, empty=empty)) for path in files.corpus],
        sampled=sampled,
        drop_own=drop_own,
    )
    options = {"lang": lang, "sampled": sampled, "drop_own": drop_own, "empty": empty}
    return prepared(name, [path for part in files for path in part], options, output, write)


# ---- MTEB's copies


def hub_files(repo: str, *, revision: str | None, split: str, subset: str | None = None) -> Files:
    """The files of a retrieval data set of MTEB, fetched: JSON Lines in BEIR's names, or a folder of Parquet per part.

    Args:
        subset: of a data set with several (MIRACL's languages): its folders are `<subset>-corpus` and so on.

    Raises:
        ValueError: the repository has none of the two layouts, or not this subset or split.
        OSError: as `hub.fetch`.
    """
    commit, names = listing(repo, revision)
    found = _json_lines(names, split) if subset is None else None
    found = found or _parquet(names, split, f"{subset}-" if subset else "")
    if found is None:
        some = ", ".join(sorted({name.partition("/")[0] for name in names})[:20])
        raise ValueError(
            f"dataset {repo} at {commit}: no corpus, queries and judgements of {subset or 'the'} {split!r} among its "
            f"files ({some}); check subset and split, or see DATA.md for the layouts"
        )
    return Files(*([fetch(repo, name, revision=commit) for name in part] for part in found))


def _json_lines(names: Sequence[str], split: str) -> list[list[str]] | None:
    parts = ([["corpus.jsonl"], ["queries.jsonl"], [f"qrels/{split}.{ending}"]] for ending in ("jsonl", "tsv"))
    return next((found for found in parts if all(name in names for [name] in found)), None)


def _parquet(names: Sequence[str], split: str, prefix: str) -> list[list[str]] | None:
    found = []
    for folders in (("corpus",), ("queries",), ("qrels", "default", "data")):
        inside = [name for name in names if name.endswith(".parquet")]
        choices = [[name for name in inside if name.startswith(f"{prefix}{folder}/")] for folder in folders]
        part = next((choice for choice in choices if choice), [])
        of_split = [name for name in part if name.rpartition("/")[2].startswith(f"{split}-")]
        judgements = "qrels" in folders
        found.append(sorted(of_split if of_split or judgements else part))
    return found if all(found) else None


def listing(repo: str, revision: str | None) -> tuple[str, list[str]]:
    """Commit and file names of a data set's repository; asked once, then kept in the package's cache.

    Raises:
        OSError: as `hub.fetch`.
    """
    store, key = cache_folder() / "hub-listings.json", f"{repo}@{revision or 'main'}"
    known = parse_json(store.read_bytes(), store) if store.exists() else {}
    if key not in known:
        try:
            info = HfApi().dataset_info(repo, revision=revision)
        except Exception as error:  # the client's own, the network's
            clear = explained(error, f"dataset {repo}, its list of files at {revision or 'main'}")
            raise clear from (None if clear is error else error)
        entry = {"revision": info.sha, "files": sorted(file.rfilename for file in info.siblings or [])}
        make_parent(store)
        with FileLock(f"{store}.lock"):
            known = parse_json(store.read_bytes(), store) if store.exists() else {}
            write_json(store, {**known, key: entry})
        known[key] = entry
    return known[key]["revision"], known[key]["files"]
