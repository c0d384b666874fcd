"""MIRACL dev: questions, judgements and the Wikipedia passages of 18 languages; and MTEB's form with hard negatives.

Zhang et al. 2023, MIRACL: A Multilingual Retrieval Dataset Covering 18 Diverse Languages, doi:10.1162/tacl_a_00595.
Two forms that are never mixed: `full` searches every passage of a language's Wikipedia; `hard-negatives` a part of them
(MTEB: the 250 best passages per question of three systems, at most 1,000 questions), on which the same encoder scores
higher. Their collections are named miracl-<lang> and miracl-hard-negatives-<lang>.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from hybridlib.companion.report import paper
from hybridlib.companion.search import beir, records
from hybridlib.companion.search.collect import build_collection, prepared, write_collection
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.sources.leakage import MIRACL_LANGUAGES as LANGUAGES
from hybridlib.files import data_folder, fetch

FORMS, SOURCES = ("full", "hard-negatives"), ("miracl", "mteb")
TOPICS, CORPUS = "miracl/miracl", "miracl/miracl-corpus"
CORPUS_REVISION = "d921ec7e349ce0d28daf30b2da9da5ee698bef0d"  # the repository's list of commits
MTEB = {  # form -> repository and commit, as the tasks of mteb 2.26.24 name them
    "full": ("mteb/MIRACLRetrieval", "9c09abc13478308c27598f350e31d8f06b9b5481"),
    "hard-negatives": ("mteb/MIRACLRetrievalHardNegatives", "d7d94fa4b946cec4a27c84653aa0cf6b33f74a3c"),
}

# Passages of each language (MIRACL's README; de and yo: mteb 2.26.24), in files of 500,000.
PASSAGES = {
    "ar": 2_061_414,
    "bn": 297_265,
    "de": 15_866_222,
    "en": 32_893_221,
    "es": 10_373_953,
    "fa": 2_207_172,
    "fi": 1_883_509,
    "fr": 14_636_953,
    "hi": 506_264,
    "id": 1_446_315,
    "ja": 6_953_614,
    "ko": 1_486_752,
    "ru": 9_543_918,
    "sw": 131_924,
    "te": 518_079,
    "th": 542_166,
    "yo": 49_043,
    "zh": 4_934_368,
}
PASSAGES_PER_FILE = 500_000


def load(
    lang: str,
    *,
    form: str = "full",
    source: str = "miracl",
    passages: bool = True,
    folder: Path | None = None,
    output: Path | None = None,
    empty: str = "error",
) -> Collection:
    """The dev part of one language.

    A file of the full form is looked for in `folder`, then fetched from MIRACL's repositories:
    miracl-dev/{topics,qrels}.miracl-v1.0-<lang>-dev.tsv[.gz] and
    miracl-corpus/miracl-corpus-v1.0-<lang>/docs-<number>.jsonl.gz. The other form is MTEB's alone.

    Args:
        form: one of FORMS.
        source: "mteb" takes the full form from MTEB's copy too, Parquet files without a login.
        passages: False loads questions and judgements only (full form, not MTEB's copy).
        folder: local copies; default $HYBRIDLIB_DATA.
        output: where the prepared collection lies; default a folder of the package's cache.
        empty: "error" refuses a passage without any text, "keep" keeps it.

    Raises:
        ValueError: an unknown language or form; a file is damaged; a judged passage is not in the corpus.
        OSError: a file is neither at hand nor to be had.
    """
    if lang not in LANGUAGES or form not in FORMS or source not in SOURCES:
        raise ValueError(
            f"MIRACL has no {form} form of {lang!r} from {source}; it has {', '.join(FORMS)} of {' '.join(LANGUAGES)} "
            f"from {', '.join(SOURCES)}"
        )
    name = f"miracl-{lang}" if form == "full" else f"miracl-{form}-{lang}"
    if form != "full" or source == "mteb":
        repo, revision = MTEB[form]
        files = beir.hub_files(repo, revision=revision, split="dev", subset=lang)
        return beir.from_files(name, files, lang=lang, sampled=form != "full", output=output, empty=empty)
    folder = folder or data_folder()
    topics, qrels = (_dev_file(kind, lang, folder) for kind in ("topics", "qrels"))
    queries, judgements = records.topics(topics, lang), records.trec_judgements(qrels)
    if not passages:
        return build_collection(name, queries=queries, judgements=judgements, passages=None)
    corpus = corpus_files(lang, folder)
    parts = [(str(path), records.passages(path, empty=empty)) for path in corpus]
    write = partial(write_collection, name=name, queries=queries, judgements=judgements, passages=parts)
    return prepared(name, [topics, qrels, *corpus], {"empty": empty}, output, write)


def corpus_files(lang: str, folder: Path | None = None) -> list[Path]:
    """The files of a language's passages, local or fetched: 66 of 80 MB or so for English."""
    found = []
    for number in range(-(-PASSAGES[lang] // PASSAGES_PER_FILE)):
        file = f"miracl-corpus-v1.0-{lang}/docs-{number}.jsonl.gz"
        local = Path(folder) / "miracl-corpus" / file if folder else None
        found.append(local if local and local.is_file() else fetch(CORPUS, file, revision=CORPUS_REVISION))
    return found


def table_11(
    *, folder: Path | None = None, collections: Mapping[str, Collection] | None = None, download: bool = True
) -> pd.DataFrame:
    """The paper's Table 11 beside MIRACL's own files: a row per language of MIRACL.

    The table has 16 of the 18 languages; its ar, en and es queries are slips (`paper.notes(11)`).

    Args:
        folder: local copies of the dev files; default $HYBRIDLIB_DATA, else they are fetched.
        collections: full collections by language whose passages are to be counted.
        download: False leaves a language uncounted whose dev files are not local.

    Returns:
        language; queries_paper and passages_paper (NA: not in the table); queries, judgements (counted, NA where not);
        passages (counted, NA where no collection was given); passages_published (MIRACL's); agrees (do the queries, and
        the passages as far as counted; NA: not in the table, or not counted).
    """
    printed = {
        measure: paper.reported(11, measure=measure).set_index("language")["value"].astype(int).to_dict()
        for measure in ("queries", "candidates")
    }
    rows = []
    for lang in LANGUAGES:
        given = (collections or {}).get(lang)
        sizes = dict.fromkeys(("queries", "judgements", "passages"))
        if given or download or _is_local(lang, folder or data_folder()):
            sizes = (given or load(lang, passages=False, folder=folder)).sizes()
        queries, passages = printed["queries"].get(lang), printed["candidates"].get(lang)
        same = None
        if queries is not None and sizes["queries"] is not None:
            same = queries == sizes["queries"] and passages == (sizes["passages"] or PASSAGES[lang])
        rows.append(
            {
                "language": lang,
                "queries_paper": queries,
                "queries": sizes["queries"],
                "judgements": sizes["judgements"],
                "passages_paper": passages,
                "passages": sizes["passages"],
                "passages_published": PASSAGES[lang],
                "agrees": same,
            }
        )
    whole = ["queries_paper", "queries", "judgements", "passages_paper", "passages", "passages_published"]
    return pd.DataFrame(rows).astype({**dict.fromkeys(whole, "Int64"), "agrees": "boolean"})


def paper_languages(table: int) -> list[str]:
    """Languages of MIRACL in the paper's Table 11 (16), 12 or 13 (15: without en), in the order of the print."""
    if table not in (11, 12, 13):
        raise ValueError(f"table {table} is not about MIRACL; choose 11, 12 or 13")
    found = paper.reported(table)["language"]
    return [lang for lang in dict.fromkeys(found) if lang in LANGUAGES]


def _dev_file(kind: str, lang: str, folder: Path | None) -> Path:
    return _local(kind, lang, folder) or fetch(TOPICS, f"miracl-v1.0-{lang}/{kind}/{kind}.miracl-v1.0-{lang}-dev.tsv")


def _local(kind: str, lang: str, folder: Path | None) -> Path | None:
    name = f"{kind}.miracl-v1.0-{lang}-dev.tsv"
    files = [Path(folder) / "miracl-dev" / f"{name}{ending}" for ending in ("", ".gz")] if folder else []
    return next((path for path in files if path.is_file()), None)


def _is_local(lang: str, folder: Path | None) -> bool:
    return all(_local(kind, lang, folder) for kind in ("topics", "qrels"))
