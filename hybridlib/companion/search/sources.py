"""Test collections by name, from local files in their published layouts or from the Hugging Face hub.

Names: those of FORMS, such as miracl-sw, tydiqa-goldp-pooled-bn-sw (one pool of several languages) or tatoeba-deu (two
collections, there and back); any other name is a data set of BEIR. Local files are looked for in $HYBRIDLIB_DATA.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from hybridlib.companion.search import readers
from hybridlib.companion.search.collection import Collection, prepared
from hybridlib.companion.search.readers import MIRACL_PASSAGES, TABLE, Published
from hybridlib.files import cache_folder

FORMS: dict[str, Callable[..., list[Published]]] = {
    "miracl-hard-negatives-<lang>": partial(readers.miracl_of_mteb, group="miracl-hard-negatives"),
    "miracl-mteb-<lang>": readers.miracl_of_mteb,
    "miracl-<lang>": readers.miracl,
    "mr-tydi-<lang>": readers.mr_tydi,
    "tydiqa-goldp-pooled-<lang>": readers.goldp,
    "tydiqa-goldp-<lang>": readers.goldp,
    "tatoeba-<lang>": readers.tatoeba,
    "mewsli-x": readers.mewsli_x,
    "<name of BEIR>": readers.beir,
}
GROUPS = ("miracl", "miracl-hard-negatives", "mr-tydi", "tydiqa", "tatoeba", "beir")
EMPTY = ("error", "keep")  # what may become of a passage of nothing but white space


def names(group: str, profile: str = "paper", languages: Sequence[str] | None = None) -> list[str]:
    """List the names of a group's collections, as `load` takes them.

    Args:
        group: one of GROUPS.
        profile: to spare a free GPU, colab has three data sets of BEIR and MIRACL with hard negatives in six languages.
        languages: ISO 639-1; None: all that the group has (of MIRACL those of the paper's Table 11). BEIR is English.

    Raises:
        ValueError: no such group, or it has none of the languages.
    """
    if group not in GROUPS:
        raise ValueError(f"group must be one of {', '.join(GROUPS)}, not {group!r}")
    if group == "beir":
        return list(TABLE["beir"]["colab" if profile == "colab" else "revisions"])
    if group == "miracl" and profile == "colab":
        group, languages = "miracl-hard-negatives", languages or TABLE["miracl"]["colab"]
    known = MIRACL_PASSAGES if group.startswith("miracl") else TABLE[group]["languages"]
    default = TABLE["miracl"]["table_11"] if group.startswith("miracl") else known
    chosen = [lang for lang in languages or default if lang in known]
    if not chosen:
        raise ValueError(f"{group} has none of {' '.join(languages)}; it has {' '.join(known)}")
    codes = [known[lang] for lang in chosen] if group == "tatoeba" else chosen
    return [TABLE[group]["names"].format(code) for code in codes]


def load(name: str, *, split: str | None = None, passages: bool = True, empty: str = "error") -> list[Collection]:
    """Load the collection of that name, of Tatoeba both directions; prepared once in the cache, then memory-mapped.

    Args:
        split: whose questions; default the one that is reported.
        passages: False leaves them out, for queries and judgements alone.
        empty: a passage without any text is an "error", or "keep" keeps it.

    Raises:
        ValueError: an unknown language or split; a file is damaged, of another layout, or its ids do not fit together.
        OSError: a file is neither at hand nor to be had; for a name that is nowhere the text lists the names there are.
    """
    reader, arguments = _reader(name)
    try:
        return [_collection(part, empty, passages) for part in reader(*arguments, split)]
    except FileNotFoundError as error:
        if reader is not readers.beir or name in TABLE["beir"]["revisions"]:
            raise
        raise FileNotFoundError(f"{name}: no such collection; names are {', '.join(FORMS)}. {error}") from error


def load_folder(
    path: Path, *, split: str = "test", lang: str = "en", drop_own: bool = False, empty: str = "error"
) -> Collection:
    """Load a folder in BEIR's format: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, each also with .gz.

    Args:
        lang: language of queries and passages.
        drop_own: a document with the id of a query is that query itself; see `Collection.own`.
        empty: as in `load`.

    Raises:
        FileNotFoundError: a file is lacking.
        ValueError: as `load`.
    """
    return _collection(readers.beir_folder(Path(path), split, lang, drop_own), empty)


def _reader(name: str) -> tuple[Callable[..., list[Published]], list[str]]:
    for form, reader in FORMS.items():
        prefix, variable, _ = form.partition("<")
        if name == form:
            return reader, []
        if prefix and variable and name.startswith(prefix):
            return reader, [name.removeprefix(prefix)]
    return readers.beir, [name]


def _collection(published: Published, empty: str, passages: bool = True) -> Collection:
    """Open the prepared collection, or prepare it; without passages nothing is prepared."""
    if empty not in EMPTY:
        raise ValueError(f"empty is {empty!r}; choose one of {', '.join(EMPTY)}")
    name, options = published.name, published.options
    if not passages:
        queries, judgements, _ = published.read(empty)
        return Collection.build(name, queries=queries, judgements=judgements, passages=None, **options)

    made_of = {"sources": [_state(source) for source in published.made_of], "empty": empty, **options}
    return prepared(cache_folder() / "collections" / name, name, made_of, partial(published.read, empty), **options)


def _state(source: Path | str) -> list | str:
    """What changes when a file does: name, size and time of change."""
    if isinstance(source, str):
        return source
    return [source.name, source.stat().st_size, source.stat().st_mtime_ns]
