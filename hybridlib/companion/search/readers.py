"""How each test collection was published: from the files of a source to its queries, judgements and passages.

Where the files are stands in `companion/data/collections.toml`. No file of the hub was downloaded by this project: see
DATA.md. A reader takes what a name says (a language), the split or None, and the folder of local copies or None.
"""

from __future__ import annotations

import shutil
import tarfile
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from hybridlib.companion.search import layouts
from hybridlib.files import cache_folder, fetch, local_file, local_or_hub, parse_json, read_bytes, replace_file

TABLE = tomllib.loads((files("hybridlib.companion") / "data" / "collections.toml").read_text(encoding="utf-8"))
MIRACL_PASSAGES: dict[str, int] = TABLE["miracl"]["passages"]  # of each of its 18 languages


@dataclass(frozen=True)
class Published:
    """A collection as it was published; what is called is called only where it is needed.

    Attributes:
        made_of: gives the files, or the repository with its commit, that decide what the collection holds.
        read: gives queries and judgements, as `Collection.build` takes them, and passages (place, doc_id, text); the
            place is for errors.
        options: of `Collection.build`.
    """

    name: str
    made_of: Callable[[], Sequence[Path | str]]
    read: Callable[[], tuple[Iterable, Iterable, Iterable]]
    options: dict = field(default_factory=dict)


def _known_split(what: str, split: str | None, splits: Iterable[str], lang: str, languages: Iterable[str]) -> str:
    """The split, by default the first; ValueError where there is no such split or language."""
    splits = list(splits)
    if lang not in languages or split not in (None, *splits):
        known = f"{', '.join(splits)} of {' '.join(languages)}"
        raise ValueError(f"{what} has no {split or splits[0]!r} of {lang!r}; it has {known}")
    return split or splits[0]


# ---- MIRACL and Mr. TyDi: whole Wikipedias


def miracl(lang: str, split: str | None, folder: Path | None) -> list[Published]:
    """Read MIRACL's dev part in full, every passage of a language's Wikipedia, from MIRACL's own files."""
    _known_split("MIRACL", split, ["dev"], lang, MIRACL_PASSAGES)
    source, count = TABLE["miracl"], -(-MIRACL_PASSAGES.get(lang, 0) // TABLE["miracl"]["passages_per_file"])
    topics, qrels = (_file(source[kind], folder, lang=lang) for kind in ("topics", "qrels"))

    def corpus() -> Iterator[Path]:
        return (_file(source["corpus"], folder, lang=lang, number=number) for number in range(count))

    def read() -> tuple[Iterable, Iterable, Iterable]:
        rows = (row for path in corpus() for row in layouts.rows(path))
        return layouts.topics(topics, lang), layouts.trec_judgements(qrels), layouts.passages(rows)

    return [Published(f"miracl-{lang}", lambda: [topics, qrels, *corpus()], read)]


def miracl_of_mteb(lang: str, split: str | None, folder: Path | None) -> list[Published]:
    """Read MIRACL's dev part in full from MTEB's copy, Parquet files without a login."""
    _known_split("MIRACL", split, ["dev"], lang, MIRACL_PASSAGES)
    return [_of_mteb(f"miracl-{lang}", **TABLE["miracl"]["mteb"], split="dev", lang=lang, subset=f"{lang}-")]


def hard_negatives(lang: str, split: str | None, folder: Path | None) -> list[Published]:
    """Read MTEB's smaller form of MIRACL: at most 1,000 questions, of each the 250 best passages of three systems.

    It is easier than MIRACL in full, and the two are never mixed.
    """
    _known_split("MIRACL with hard negatives", split, ["dev"], lang, MIRACL_PASSAGES)
    source = TABLE["miracl-hard-negatives"]["mteb"]
    options = {"split": "dev", "lang": lang, "subset": f"{lang}-", "sampled": True}
    return [_of_mteb(f"miracl-hard-negatives-{lang}", **source, **options)]


def mr_tydi(lang: str, split: str | None, folder: Path | None) -> list[Published]:
    """Read Mr. TyDi v1.1: the questions of a split, every passage of the language's Wikipedia."""
    source = TABLE["mr-tydi"]
    split = _known_split("Mr. TyDi", split, source["splits"], lang, source["languages"])
    language = source["languages"][lang]
    topics, corpus = (_file(source[kind], folder, language=language, split=split) for kind in ("topics", "corpus"))

    def judgements() -> Iterator[tuple[str, str, int]]:
        for place, row in layouts.rows(topics):
            query_id = layouts.identifier(row, ("query_id",), place)
            for passage in layouts.field(row, ("positive_passages",), place, (list,)):
                yield query_id, layouts.identifier(passage, ("docid",), place), 1

    def read() -> tuple[Iterable, Iterable, Iterable]:
        queries, passages = layouts.queries(layouts.rows(topics), lang), layouts.passages(layouts.rows(corpus))
        return queries, judgements(), passages

    return [Published(f"mr-tydi-{lang}-{split}", lambda: [topics, corpus], read)]


def _file(source: dict, folder: Path | None, **words: Any) -> Path:
    """A file of the table of sources: the local copy, else that of the hub."""
    relative, name = (source[key].format(**words) for key in ("local", "file"))
    return local_or_hub(relative, source["repository"], name, revision=source.get("revision"), folder=folder)


# ---- TyDi QA: its gold passage task


def goldp(lang: str, split: str | None, folder: Path | None) -> list[Published]:
    """Read TyDi QA GoldP in one language: a question seeks its paragraph among those of the file."""
    return [_pooled_goldp(f"tydiqa-goldp-{lang}", [lang], split, folder)]


def goldp_pooled(languages: str, split: str | None, folder: Path | None) -> list[Published]:
    """Read TyDi QA GoldP in several languages, whose codes are joined by hyphens, with their paragraphs in one pool."""
    chosen = list(dict.fromkeys(languages.split("-")))
    return [_pooled_goldp(f"tydiqa-goldp-pooled-{'-'.join(chosen)}", chosen, split, folder)]


def _pooled_goldp(name: str, languages: list[str], split: str | None, folder: Path | None) -> Published:
    """Read questions and the paragraphs of the same files, in one pool.

    A paragraph that stands twice is one passage; a question asked twice is one query with all its passages (in train:
    in dev no question recurs). Ids are `<lang>:<id of the question>` and `<lang>:<number of the paragraph, 5 digits>`;
    a question whose id is another's too (only in train, where ids say little) gets `#2` and so on.
    """
    source = TABLE["tydiqa"]
    for lang in languages:
        split = _known_split("TyDi QA GoldP", split, source["splits"], lang, source["languages"])
    local = {lang: local_file(source["local"].format(lang=lang, split=split), folder) for lang in languages}

    def read() -> tuple[Iterable, Iterable, Iterable]:
        queries, judgements, passages = {}, {}, {}
        for lang in languages:
            uses, paragraphs = Counter(), {}
            for place, identifier, question, paragraph in _goldp_rows(lang, split, local[lang]):
                if (lang, question) not in queries:
                    uses[identifier] += 1
                    again = f"#{uses[identifier]}" if uses[identifier] > 1 else ""
                    queries[lang, question] = f"{lang}:{identifier}{again}"
                doc_id = paragraphs.setdefault(paragraph, f"{lang}:{len(paragraphs):05}")
                judgements[queries[lang, question], doc_id] = 1
                passages[doc_id] = (place, doc_id, paragraph)
        asked = [(query_id, lang, question) for (lang, question), query_id in queries.items()]
        return asked, [(*pair, gain) for pair, gain in judgements.items()], passages.values()

    hub = f"{source['repository']}, {source['config']}"
    name = name if split == "dev" else f"{name}-{split}"
    return Published(name, lambda: [local[lang] or hub for lang in languages], read)


def _goldp_rows(lang: str, split: str, path: Path | None) -> Iterator[tuple[str, str, str, str]]:
    """(place, id, question, paragraph) of each question in a language."""
    source = TABLE["tydiqa"]
    hub = partial(_hub_rows, source["repository"], source["config"], source["splits"][split])
    for place, row in _squad_rows(path) if path else hub():
        identifier = layouts.identifier(row, ("id",), place)
        if path is None and not identifier.startswith(f"{TABLE['mr-tydi']['languages'][lang]}-"):
            continue
        texts = (layouts.checked_text(layouts.field(row, (name,), place), place) for name in ("question", "context"))
        yield place, identifier, *texts


def _squad_rows(path: Path) -> Iterator[layouts.Row]:
    number = 0
    for article in layouts.field(parse_json(read_bytes(path), path), ("data",), str(path), (list,)):
        for paragraph in layouts.field(article, ("paragraphs",), str(path), (list,)):
            number += 1
            place = f"{path}, paragraph {number}"
            for question in layouts.field(paragraph, ("qas",), place, (list,)):
                layouts.identifier(question, ("id",), place)
                yield place, {**question, "context": layouts.field(paragraph, ("context",), place)}


# ---- BEIR


def beir(name: str, split: str | None, folder: Path | None) -> list[Published]:
    """Read a data set of BEIR: the folder of that name in BEIR's format if it is there, else MTEB's copy on the hub.

    As in BEIR's evaluation a document with the id of the query counts as the query itself and is taken out of its hits
    (ArguAna's queries are documents of its corpus), in the data sets of the table.
    """
    source = TABLE["beir"]
    split = split or ("dev" if name in source["dev"] else "test")
    revision = source["revisions"].get(name)
    if folder and (folder / name).is_dir():
        return [beir_folder(folder / name, split, "en", drop_own=revision is not None)]
    repository = source["repository"].format(source["renamed"].get(name, name))
    return [_of_mteb(f"{name}-{split}", repository, revision, split, drop_own=revision is not None)]


def beir_folder(path: Path, split: str, lang: str, drop_own: bool) -> Published:
    """Read a folder in BEIR's format."""
    wanted = ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv")
    found = [local_file(name, path) for name in wanted]
    for name, file in zip(wanted, found, strict=True):
        if file is None:
            splits = ", ".join(sorted(file.name.partition(".")[0] for file in path.glob("qrels/*.tsv*")))
            raise FileNotFoundError(
                f"{path / name}[.gz]: no such file; BEIR's format is {', '.join(wanted)}, and the splits here are "
                f"{splits or 'none'}"
            )
    corpus, queries, qrels = found

    def read() -> tuple[Iterable, Iterable, Iterable]:
        judgements = layouts.judgements(layouts.tab_separated(qrels))
        return layouts.queries(layouts.rows(queries), lang), judgements, layouts.passages(layouts.rows(corpus))

    return Published(f"{path.name}-{split}", lambda: found, read, {"passage_lang": lang, "drop_own": drop_own})


def _of_mteb(
    name: str,
    repository: str,
    revision: str | None,
    split: str,
    lang: str = "en",
    subset: str = "",
    **options: bool,
) -> Published:
    """A retrieval data set of MTEB, in its configurations corpus, queries, and qrels or default."""
    rows = partial(_hub_rows, repository, split=split, revision=revision)

    def read() -> tuple[Iterable, Iterable, Iterable]:
        qrels = rows(f"{subset}qrels" if subset else "default", other="qrels")
        passages = layouts.passages(rows(f"{subset}corpus"))
        return layouts.queries(rows(f"{subset}queries"), lang), layouts.judgements(qrels), passages

    return Published(name, lambda: [f"{repository} at {revision or 'main'}"], read, {"passage_lang": lang, **options})


def _hub_rows(
    repository: str, config: str, split: str, revision: str | None = None, other: str = ""
) -> Iterator[layouts.Row]:
    """Rows of a configuration of a data set on the hub: those of the split, or of the only split that there is.

    Args:
        other: the configuration's other name, where it goes by two.

    Raises:
        OSError: as `fetch`.
        ValueError: there is no such configuration or split.
    """
    from datasets import get_dataset_config_names, load_dataset

    commit = fetch(repository, "README.md", revision=revision).parent.name  # what is not pinned is pinned by this
    what = f"dataset {repository} at {commit}"
    configs = get_dataset_config_names(repository, revision=commit)
    config = other if config not in configs and other in configs else config
    if config not in configs:
        raise ValueError(f"{what}: no configuration {config!r} among {', '.join(configs)}; see DATA.md for the layouts")
    parts = load_dataset(repository, config, revision=commit, cache_dir=str(cache_folder() / "datasets"))
    if split not in parts and len(parts) > 1:
        raise ValueError(f"{what}: {config!r} has no split {split!r} among {', '.join(parts)}")
    for number, row in enumerate(parts[split if split in parts else next(iter(parts))], 1):
        yield f"{what}, {config}, row {number}", row


# ---- Tatoeba


def tatoeba(code: str, split: str | None, folder: Path | None) -> list[Published]:
    """Read LASER's Tatoeba test set of one language (ISO 639-3) and English: to English, and back.

    A sentence's id is its line, from 00001. Reported is the mean of precision@1 over both: the nearest sentence by
    cosine should be the translation. XTREME's prepared files are of no use: their English side is sorted.
    """
    short = {long: lang for lang, long in TABLE["tatoeba"]["languages"].items()}.get(code, code)
    sources = _tatoeba_files(code, folder)
    sides = {code: (0, short), "eng": (1, "en")}

    def direction(first: str, second: str) -> Published:
        (asked, lang), (sought, passage_lang) = sides[first], sides[second]

        def read() -> tuple[Iterable, Iterable, Iterable]:
            pairs = list(_sentence_pairs(sources))
            queries = [(number, lang, pair[asked]) for number, pair in pairs]
            passages = [(str(sources[0]), number, pair[sought]) for number, pair in pairs]
            return queries, [(number, number, 1) for number, _ in pairs], passages

        return Published(f"tatoeba-{first}-{second}", lambda: sources, read, {"passage_lang": passage_lang})

    return [direction(code, "eng"), direction("eng", code)]


def _tatoeba_files(code: str, folder: Path | None) -> list[Path]:
    """`<code>-eng.tsv[.gz]`, or LASER's two files whose lines belong together."""
    place = (folder or Path("$HYBRIDLIB_DATA")) / TABLE["tatoeba"]["local"]
    names = [f"tatoeba.{code}-eng.{side}" for side in (code, "eng")]
    for found in ([local_file(f"{code}-eng.tsv", place)], [local_file(name, place) for name in names]):
        if all(found):
            return found
    raise FileNotFoundError(
        f"{place / code}-eng.tsv[.gz]: no such file, nor {' and '.join(names)} there. They are in data/tatoeba/v1 of "
        "github.com/facebookresearch/LASER; put them there and set HYBRIDLIB_DATA"
    )


def _sentence_pairs(sources: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """(id, [sentence, English]) of each line."""
    if len(sources) == 2:
        sides = [list(layouts.lines(path)) for path in sources]
        if [number for number, _ in sides[0]] != [number for number, _ in sides[1]]:
            raise ValueError(f"{sources[0]}: its lines do not match those of {sources[1].name}; get both files again")
        pairs = [(place, [text, english]) for (place, text), (_, english) in zip(*sides, strict=True)]
    else:
        pairs = [(number, line.split("\t")) for number, line in layouts.lines(sources[0])]
    for number, (line, pair) in enumerate(pairs, 1):
        if len(pair) != 2 or not all(text.strip() for text in pair):
            raise ValueError(f"{sources[0]}, line {line}: not two texts with a tab between; get the file again")
        yield f"{number:05}", pair


# ---- Mewsli-X


def mewsli_x(split: str | None, folder: Path | None) -> list[Published]:
    """Read Mewsli-X: news mentions in 11 languages against all candidate entities, texts as XTREME-R's baseline has them.

    Of a mention "mention: sentence with { mention } marked", of an entity the sentences of its description. Reported is
    the mean of map@20 (one entity is right, so it is MRR@20) over the languages of the mentions.
    """
    splits = TABLE["mewsli-x"]["splits"]
    if split not in (None, *splits):
        raise ValueError(f"Mewsli-X has no split {split!r}; it has {', '.join(splits)}")
    split = split or splits[0]
    entities, mentions = (
        _mewsli_x_file(name, folder) for name in ("candidate_set_entities.jsonl", f"wikinews_mentions-{split}.jsonl")
    )

    def read() -> tuple[Iterable, Iterable, Iterable]:
        rows = list(_mentions(mentions))
        return [row[:3] for row in rows], [(row[0], row[3], 1) for row in rows], _entities(entities)

    return [Published(f"mewsli-x-{split}", lambda: [entities, mentions], read)]


def _mewsli_x_file(name: str, folder: Path | None) -> Path:
    """The local file, else that in the archive of the hub, unpacked into the package's cache."""
    source = TABLE["mewsli-x"]
    unpacked = cache_folder() / "mewsli-x" / source["revision"] / name
    local = local_file(source["local"].format(file=name), folder)
    if local or unpacked.is_file():
        return local or unpacked
    archive = fetch(source["repository"], source["archive"], revision=source["revision"])
    try:
        with tarfile.open(archive, "r:gz") as packed, replace_file(unpacked) as new:
            for entry in packed:
                if entry.isfile() and Path(entry.name).name == name:
                    with new.open("wb") as file:
                        shutil.copyfileobj(packed.extractfile(entry), file)
                    break
            else:
                raise FileNotFoundError(f"{archive}: there is no {name} in it; its layout has changed, see DATA.md")
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise ValueError(f"{archive}: torn or no tar.gz ({error}); remove it and get it again") from error
    return unpacked


def _entities(path: Path) -> Iterator[tuple[str, str, str]]:
    for place, row in layouts.rows(path):
        description = layouts.field(row, ("description",), place)
        sentences = [description[a:b] for a, b in _spans(row, place)]
        yield place, layouts.identifier(row, ("entity_id",), place), " ".join(" ".join(sentences).split())


def _mentions(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """(id, language, text, entity) of each mention."""
    for place, row in layouts.rows(path):
        context = layouts.field(row, ("context",), place, (dict,))
        text, lang = (layouts.field(context, (key,), place) for key in ("text", "language"))
        for mention in layouts.field(row, ("mentions",), place, (list,)):
            span = layouts.field(mention, ("mention_span",), place, (dict,))
            start, stop = (layouts.field(span, (key,), place, (int,)) for key in ("start", "end"))
            inside = [(a, b) for a, b in _spans(context, place) if a <= start and stop <= b]
            if not inside or text[start:stop] != span.get("text"):
                raise ValueError(f"{place}: the mention {span} lies in no sentence of the text; the texts are lacking")
            (a, b), name = inside[0], text[start:stop]
            query = " ".join(f"{name}: {text[a:start]} {{ {name} }} {text[stop:b]}".split())
            yield (
                layouts.identifier(mention, ("example_id",), place),
                lang,
                query,
                layouts.field(mention, ("entity_id",), place),
            )


def _spans(row: dict, place: str) -> list[tuple[int, int]]:
    spans = layouts.field(row, ("sentence_spans",), place, (list,))
    return [tuple(layouts.field(span, (key,), place, (int,)) for key in ("start", "end")) for span in spans]
