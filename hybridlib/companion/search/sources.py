"""Test collections by name, from local files in their published layouts or from the Hugging Face hub.

Names: miracl-sw, miracl-hard-negatives-sw, mr-tydi-sw, tydiqa-goldp-sw, tydiqa-goldp-pooled-bn-sw (one pool of several
languages), tatoeba-deu (two collections, there and back), mewsli-x; any other name is a data set of BEIR. Where the
files are stands in `companion/data/collections.toml`. No file of the hub was downloaded by this project: see DATA.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hybridlib.companion.search import layouts, readers
from hybridlib.companion.search.collection import Collection, prepared, write_collection
from hybridlib.companion.search.readers import MIRACL_PASSAGES, TABLE, Published
from hybridlib.files import data_folder

FORMS: dict[str, Callable[..., list[Published]]] = {
    "miracl-hard-negatives-<lang>": readers.hard_negatives,
    "miracl-<lang>": readers.miracl,
    "mr-tydi-<lang>": readers.mr_tydi,
    "tydiqa-goldp-pooled-<lang>": readers.goldp_pooled,
    "tydiqa-goldp-<lang>": readers.goldp,
    "tatoeba-<lang>": readers.tatoeba,
    "mewsli-x": readers.mewsli_x,
    "<name of BEIR>": readers.beir,
}
GROUPS = {  # group -> language -> how the names of its collections spell it
    "miracl": {lang: lang for lang in TABLE["miracl"]["table_11"]},
    "miracl-hard-negatives": {lang: lang for lang in TABLE["miracl"]["table_11"]},
    "mr-tydi": {lang: lang for lang in TABLE["mr-tydi"]["languages"]},
    "tydiqa": {lang: lang for lang in TABLE["tydiqa"]["languages"]},
    "tatoeba": TABLE["tatoeba"]["languages"],
}
EMPTY = ("error", "keep")  # what may become of a passage of nothing but white space


def names(group: str, languages: Sequence[str] | None = None) -> list[str]:
    """List the names of a group's collections, as `load` takes them.

    Args:
        group: one of GROUPS, or "beir".
        languages: ISO 639-1; None: all that the group has (of MIRACL those of the paper's Table 11). BEIR is English.

    Raises:
        ValueError: no such group, or it has none of the languages.
    """
    if group == "beir":
        return list(TABLE["beir"]["revisions"])
    if group not in GROUPS:
        raise ValueError(f"group must be one of {', '.join([*GROUPS, 'beir'])}, not {group!r}")
    spelling = GROUPS[group]
    if group.startswith("miracl") and languages:
        spelling = {lang: lang for lang in MIRACL_PASSAGES}  # German and Yoruba too
    chosen = [spelling[lang] for lang in languages or spelling if lang in spelling]
    if not chosen:
        raise ValueError(f"{group} has none of {' '.join(languages)}; it has {' '.join(spelling)}")
    return [TABLE[group]["names"].format(code) for code in chosen]


def load(
    name: str,
    *,
    split: str | None = None,
    passages: bool = True,
    mteb: bool = False,
    folder: Path | None = None,
    output: Path | None = None,
    empty: str = "error",
) -> list[Collection]:
    """Load the collection of that name, of Tatoeba both directions; prepared once, then memory-mapped.

    Args:
        split: whose questions; default the one that is reported.
        passages: False leaves them out, for queries and judgements alone.
        mteb: MIRACL's full form from MTEB's copy, Parquet files without a login.
        folder: local copies; default $HYBRIDLIB_DATA.
        output: where the prepared collections lie, each in a folder of its name; default the package's cache.
        empty: a passage without any text is an "error", or "keep" keeps it.

    Raises:
        ValueError: an unknown language or split; a file is damaged, of another layout, or its ids do not fit together.
        OSError: a file is neither at hand nor to be had; for a name that is nowhere the text lists the names there are.
    """
    if empty not in EMPTY:
        raise ValueError(f"empty is {empty!r}; choose one of {', '.join(EMPTY)}")
    reader, arguments = _reader(name)
    reader = readers.miracl_of_mteb if mteb and reader is readers.miracl else reader
    try:
        published = reader(*arguments, split, Path(folder) if folder else data_folder())
        return [_collection(part, passages=passages, output=output, empty=empty) for part in published]
    except FileNotFoundError as error:
        if reader is not readers.beir or name in TABLE["beir"]["revisions"]:
            raise
        raise FileNotFoundError(f"{name}: no such collection; names are {', '.join(FORMS)}. {error}") from error


def load_folder(
    path: Path,
    *,
    split: str = "test",
    lang: str = "en",
    drop_own: bool = False,
    output: Path | None = None,
    empty: str = "error",
) -> Collection:
    """Load a folder in BEIR's format: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, each also with .gz.

    Args:
        drop_own: a document with the id of a query is that query itself; see `Collection.own`.
        output: where the prepared collection lies, in a folder of its name; default the package's cache.

    Raises:
        FileNotFoundError: a file is lacking.
        ValueError: as `load`.
    """
    return _collection(readers.beir_folder(Path(path), split, lang, drop_own), output=output, empty=empty)


def _collection(
    published: Published, *, passages: bool = True, output: Path | None = None, empty: str = "error"
) -> Collection:
    """Open the prepared collection, or prepare it; without passages nothing is prepared."""
    name, options = published.name, published.options

    def write(**where) -> Collection:
        queries, judgements, rows = published.read()
        texts = ((doc_id, layouts.checked_text(text, place, empty)) for place, doc_id, text in rows)
        return write_collection(name=name, queries=queries, judgements=judgements, passages=texts, **options, **where)

    if not passages:
        queries, judgements, _ = published.read()
        return Collection.build(name, queries=queries, judgements=judgements, passages=None, **options)
    made_of = {"sources": [_state(source) for source in published.made_of()], "empty": empty, **options}
    return prepared(name, made_of, write, Path(output) / name if output else None)


def _state(source: Path | str) -> list | str:
    """What changes when a file does: name, size and time of change."""
    if isinstance(source, str):
        return source
    return [source.name, source.stat().st_size, source.stat().st_mtime_ns]


def _reader(name: str) -> tuple[Callable[..., list[Published]], list[str]]:
    for form, reader in FORMS.items():
        prefix, variable, _ = form.partition("<")
        if name == form:
            return reader, []
        if prefix and variable and name.startswith(prefix):
            return reader, [name.removeprefix(prefix)]
    return readers.beir, [name]
