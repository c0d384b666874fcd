"""The paper's tables on MIRACL: Table 11 counted from MIRACL's own files, and the languages of Tables 11 to 13."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from hybridlib.companion.report import paper
from hybridlib.companion.search import sources
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.search.sources import MIRACL_PASSAGES
from hybridlib.files import local_file


def table_11(
    *, folder: Path | None = None, collections: Mapping[str, Collection] | None = None, download: bool = True
) -> pd.DataFrame:
    """Put the paper's Table 11 beside MIRACL's own files: a row per language of MIRACL.

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
    for lang in MIRACL_PASSAGES:
        given = (collections or {}).get(lang)
        sizes = dict.fromkeys(("queries", "judgements", "passages"))
        if given or download or _is_local(lang, folder):
            sizes = (given or sources.load(f"miracl-{lang}", passages=False, folder=folder)[0]).sizes()
        queries, passages = printed["queries"].get(lang), printed["candidates"].get(lang)
        same = None
        if queries is not None and sizes["queries"] is not None:
            same = queries == sizes["queries"] and passages == (sizes["passages"] or MIRACL_PASSAGES[lang])
        rows.append(
            {
                "language": lang,
                "queries_paper": queries,
                "queries": sizes["queries"],
                "judgements": sizes["judgements"],
                "passages_paper": passages,
                "passages": sizes["passages"],
                "passages_published": MIRACL_PASSAGES[lang],
                "agrees": same,
            }
        )
    whole = ["queries_paper", "queries", "judgements", "passages_paper", "passages", "passages_published"]
    return pd.DataFrame(rows).astype({**dict.fromkeys(whole, "Int64"), "agrees": "boolean"})


def paper_languages(table: int) -> list[str]:
    """Languages of MIRACL in the paper's Table 11 (16), 12 or 13 (15: without en), in the order of the print."""
    if table not in (11, 12, 13):
        raise ValueError(f"table {table} is not about MIRACL; choose 11, 12 or 13")
    languages = paper.reported(table)["language"]
    return [lang for lang in dict.fromkeys(languages) if lang in MIRACL_PASSAGES]


def _is_local(lang: str, folder: Path | None) -> bool:
    files = (sources.TABLE["miracl"][kind]["local"].format(lang=lang) for kind in ("topics", "qrels"))
    return all(local_file(file, folder) for file in files)
