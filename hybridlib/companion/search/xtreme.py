"""XTREME-R's retrieval tasks beside LAReQA (`corpora.lareqa` with the measure map@20): Tatoeba and Mewsli-X.

Ruder et al. 2021, arXiv 2104.07412. Tatoeba: the nearest English sentence by cosine is the translation, and back.
Mewsli-X: a mention of an entity in a news sentence against descriptions of a million entities in 50 languages.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hybridlib.companion.search import records
from hybridlib.companion.search.collect import build_collection, prepared, write_collection
from hybridlib.companion.search.collection import Collection
from hybridlib.files import data_folder, fetch, parse_json

ACCURACY = "precision@1"  # what Tatoeba reports: one sentence is right, and only the nearest counts
# ISO 639-3, as in Tatoeba's file names, -> ISO 639-1. XTREME: the 36 of google-research/xtreme's data preparation.
# XTREME-R: also those of its new languages that have a file, which makes 41.
XTREME = dict(
    pair.split(":")
    for pair in (
        "afr:af ara:ar bul:bg ben:bn deu:de ell:el spa:es est:et eus:eu pes:fa fin:fi fra:fr heb:he hin:hi hun:hu "
        "ind:id ita:it jpn:ja jav:jv kat:ka kaz:kk kor:ko mal:ml mar:mr nld:nl por:pt rus:ru swh:sw tam:ta tel:te "
        "tha:th tgl:tl tur:tr urd:ur vie:vi cmn:zh"
    ).split()
)
XTREME_R = {**XTREME, "aze": "az", "lit": "lt", "pol": "pl", "ron": "ro", "ukr": "uk"}
MEWSLI_X, MEWSLI_X_REVISION = "izhx/mewsli-x", "7e3723faa15c6d84cfd56d66cf6cd347be8ad00e"
MEWSLI_X_LANGUAGES = tuple("ar de en es fa ja pl ro ta tr uk".split())


def load_tatoeba(code: str, *, folder: Path | None = None) -> dict[str, Collection]:
    """LASER's Tatoeba test set (v1) of one language and English, both directions.

    Files, in `<folder>/tatoeba-v1/` (or LASER's own names there): `<code>-eng.tsv[.gz]`, sentence and English; or
    LASER's `tatoeba.<code>-eng.<code>` and `tatoeba.<code>-eng.eng`, whose lines belong together. XTREME's prepared
    files are of no use: their English side is sorted, which hides what belongs to what.

    Args:
        code: ISO 639-3, as in the file's name.

    Returns:
        {"<code>-eng": queries in the language, passages English; "eng-<code>": the other way}. A sentence's id is its
        line, from 00001. Languages are ISO 639-1 where XTREME_R knows them. The task's number is the mean of ACCURACY.

    Raises:
        FileNotFoundError: no such file; the text says where to get it.
        ValueError: a line has not two columns, is empty, or the two files differ in length.
    """
    pairs = list(tatoeba_pairs(code, folder=folder))
    sides = {code: [pair[0] for pair in pairs], "eng": [pair[1] for pair in pairs]}
    short = {code: XTREME_R.get(code, code), "eng": "en"}
    ids = [f"{number:05}" for number in range(1, len(pairs) + 1)]
    found = {}
    for a, b in ((code, "eng"), ("eng", code)):
        found[f"{a}-{b}"] = build_collection(
            f"tatoeba-{a}-{b}",
            queries=[(identifier, short[a], text) for identifier, text in zip(ids, sides[a], strict=True)],
            judgements=[(identifier, identifier, 1) for identifier in ids],
            passages=[(f"{code}-eng", list(zip(ids, sides[b], strict=True)))],
            passage_lang=short[b],
        )
    return found


def tatoeba_codes(folder: Path | None = None) -> list[str]:
    """The languages whose files lie in `<folder>/tatoeba-v1` (default $HYBRIDLIB_DATA), sorted."""
    folder = folder or data_folder()
    place = Path(folder) / "tatoeba-v1" if folder else None
    names = [path.name for path in place.glob("*-eng.*")] if place else []
    return sorted({name.removeprefix("tatoeba.").partition("-")[0] for name in names})


def tatoeba_pairs(code: str, *, folder: Path | None = None) -> Iterator[tuple[str, str]]:
    """(sentence, English) of each line; arguments and errors as `load_tatoeba`'s."""
    place = Path(folder or data_folder() or "$HYBRIDLIB_DATA") / "tatoeba-v1"
    table = next((p for p in (place / f"{code}-eng.tsv", place / f"{code}-eng.tsv.gz") if p.is_file()), None)
    if table:
        for number, line in records.lines(table):
            columns = line.split("\t")
            if len(columns) != 2 or not all(column.strip() for column in columns):
                raise ValueError(f"{table}, line {number}: not two texts with a tab between; get the file again")
            yield columns[0], columns[1]
        return
    theirs, english = (place / f"tatoeba.{code}-eng.{side}" for side in (code, "eng"))
    if not (theirs.is_file() and english.is_file()):
        raise FileNotFoundError(
            f"{place / code}-eng.tsv[.gz]: no such file, nor {theirs.name} and {english.name} there. They are in "
            "data/tatoeba/v1 of github.com/facebookresearch/LASER; put them there and set HYBRIDLIB_DATA"
        )
    sides = [list(records.lines(path)) for path in (theirs, english)]
    if [number for number, _ in sides[0]] != [number for number, _ in sides[1]]:
        raise ValueError(f"{theirs}: its lines do not match those of {english.name}; get both files again")
    yield from ((a, b) for (_, a), (_, b) in zip(*sides, strict=True))


# ---- Mewsli-X


def load_mewsli_x(*, split: str = "test", folder: Path | None = None, output: Path | None = None) -> Collection:
    """Mewsli-X (mewsli-x_20220518_6): WikiNews mentions in 11 languages against all candidate entities.

    Files candidate_set_entities.jsonl and wikinews_mentions-<split>.jsonl in `<folder>/mewsli-x/`, as Google's scripts
    make them; else both inside raw.tar.gz of izhx/mewsli-x on the hub. Texts as XTREME-R's baseline has them: of a
    mention "mention: sentence with { mention } marked", of an entity the sentences of its description.
    Reported is the mean of map@20 (one entity is right, so it is MRR@20) over the languages of the mentions.

    Args:
        split: "test" or "dev".
        folder: local copies; default $HYBRIDLIB_DATA.
        output: where the prepared collection lies; default a folder of the package's cache.

    Raises:
        ValueError: an unknown split, a damaged file, a mention that lies in no sentence.
        OSError: a file is neither at hand nor to be had.
    """
    if split not in ("test", "dev"):
        raise ValueError(f"Mewsli-X has no split {split!r}; it has test and dev")
    folder = folder or data_folder()
    names = ("candidate_set_entities.jsonl", f"wikinews_mentions-{split}.jsonl")
    local = [Path(folder) / "mewsli-x" / name for name in names] if folder else []
    if not (local and all(path.is_file() for path in local)):
        local = [fetch(MEWSLI_X, "raw.tar.gz", revision=MEWSLI_X_REVISION)] * 2
    mentions = list(_mentions(local[1], names[1]))
    write = partial(
        write_collection,
        name=f"mewsli-x-{split}",
        queries=[(identifier, lang, text) for identifier, lang, text, _ in mentions],
        judgements=[(identifier, entity, 1) for identifier, _, _, entity in mentions],
        passages=[(str(local[0]), _entities(local[0], names[0]))],
    )
    return prepared(f"mewsli-x-{split}", local, {}, output, write)


def _entities(path: Path, member: str) -> Iterator[tuple[str, str]]:
    for place, row in _member_rows(path, member):
        entity = records.identifier(records.field(row, ("entity_id",), place), place, "entity_id")
        description = records.field(row, ("description",), place)
        sentences = [description[a:b] for a, b in _spans(row, place)]
        yield entity, records.check_text(_one_line(" ".join(sentences)), place)


def _mentions(path: Path, member: str) -> Iterator[tuple[str, str, str, str]]:
    """(id, language, text, entity) of each mention."""
    for place, row in _member_rows(path, member):
        context = records.field(row, ("context",), place, (dict,))
        text, lang = (records.field(context, (key,), place) for key in ("text", "language"))
        for mention in records.field(row, ("mentions",), place, (list,)):
            span = records.field(mention, ("mention_span",), place, (dict,))
            start, stop = (records.field(span, (key,), place, (int,)) for key in ("start", "end"))
            inside = [(a, b) for a, b in _spans(context, place) if a <= start and stop <= b]
            if not inside or text[start:stop] != span.get("text"):
                raise ValueError(f"{place}: the mention {span} lies in no sentence of the text; the texts are lacking")
            (a, b), name = inside[0], text[start:stop]
            query = _one_line(f"{name}: {text[a:start]} {{ {name} }} {text[stop:b]}")
            identifier = records.identifier(records.field(mention, ("example_id",), place), place, "example_id")
            yield identifier, lang, query, records.field(mention, ("entity_id",), place)


def _spans(row: dict, place: str) -> list[tuple[int, int]]:
    spans = records.field(row, ("sentence_spans",), place, (list,))
    return [tuple(records.field(span, (key,), place, (int,)) for key in ("start", "end")) for span in spans]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _member_rows(path: Path, member: str) -> Iterator[tuple[str, dict]]:
    """Rows of a JSON Lines file, or of one inside a .tar.gz, as `records.rows`."""
    if path.suffix != ".gz":
        yield from records.rows(path)
        return
    with _member(path, member) as stream:
        for number, line in enumerate(stream, 1):
            place = f"{path}: {member}, line {number}"
            row = parse_json(line, f"{path}: {member}", number)
            if not isinstance(row, dict):
                raise ValueError(f"{place}: {type(row).__name__} where an object is expected; see DATA.md")
            yield place, row


@contextmanager
def _member(path: Path, member: str):
    try:
        with tarfile.open(path, "r:gz") as archive:
            for entry in archive:
                if entry.isfile() and Path(entry.name).name == member:
                    yield archive.extractfile(entry)
                    return
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"{path}: torn or no tar.gz ({error}); remove it and get it again") from error
    raise FileNotFoundError(f"{path}: there is no {member} in it; its layout has changed, see DATA.md")
