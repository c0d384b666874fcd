"""How each test collection was published: from the files of a source to its queries, judgements and passages.

Where the files are stands in `companion/data/collections.toml`. No file of the hub was downloaded by this project: see
DATA.md. A reader takes what a name says (a language) and the split, by default the one that is reported.
"""

from __future__ import annotations

import shutil
import tarfile
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from hybridlib import files
from hybridlib.companion.search import layouts
from hybridlib.companion.search.layouts import Row
from hybridlib.files import fetch, local_file

TABLE = tomllib.loads(
    (resources.files("hybridlib.companion") / "data" / "collections.toml").read_text(encoding="utf-8")
)
MIRACL_PASSAGES: dict[str, int] = TABLE["miracl"]["languages"]  # of each of its 18 languages

Parts = tuple[Iterable, Iterable, Iterable]  # queries, judgements and passages, as `Collection.build` takes them


@dataclass(frozen=True)
class Published:
    """A collection as it was published; its files are fetched and read only as far as they are asked for.

    Attributes:
        made_of: the files, or the repository with its commit, that decide what the collection holds.
        read: gives its parts; takes `empty` of `sources.load`.
        options: of `Collection.build`.
    """

    name: str
    made_of: Iterable[Path | str]
    read: Callable[[str], Parts]
    options: dict = field(default_factory=dict)


def _published(name: str, made_of: Iterable[Path | str], lang: str, *rows: Iterable[Row], **options: bool) -> Published:
    """A collection in one language; `rows` are those of its queries, its judgements and its passages."""
    queries, judgements, passages = rows

    def read(empty: str) -> Parts:
        return layouts.queries(queries, lang), layouts.judgements(judgements), layouts.passages(passages, empty)

    return Published(name, made_of, read, {"passage_lang": lang, **options})


def _known_split(group: str, split: str | None, lang: str = "") -> str:
    """The split, by default the first; ValueError where a group of the table has no such split or language."""
    title, splits = TABLE[group]["title"], TABLE[group]["splits"]
    languages = MIRACL_PASSAGES if group.startswith("miracl") else TABLE[group].get("languages", [""])
    split = split or next(iter(splits))
    if split not in splits or lang not in languages:
        of, more = (f" of {lang!r}", f"; its languages are {' '.join(languages)}") if lang else ("", "")
        raise ValueError(f"{title} has no {split!r}{of}; it has {', '.join(splits)}{more}")
    return split


def _file(source: dict, **words: Any) -> Path:
    """A file of the table of sources: the local copy, else that of the hub."""
    relative, name = (source[key].format(**words) for key in ("local", "file"))
    return files.local_or_hub(relative, source["repository"], name, revision=source.get("revision"))


# ---- MIRACL and Mr. TyDi: whole Wikipedias


def miracl(lang: str, split: str | None) -> list[Published]:
    """Read MIRACL's dev part in full, every passage of a language's Wikipedia, from MIRACL's own files."""
    _known_split("miracl", split, lang)
    source = TABLE["miracl"]
    topics, qrels = (_file(source[kind], lang=lang) for kind in ("topics", "qrels"))

    def corpus() -> Iterator[Path]:
        for number in range(-(-MIRACL_PASSAGES[lang] // source["passages_per_file"])):
            yield _file(source["corpus"], lang=lang, number=number)

    rows = (layouts.table(topics, layouts.TOPICS), layouts.table(qrels, layouts.TREC_QRELS, blanks=True))
    passages = chain.from_iterable(map(layouts.rows, corpus()))
    return [_published(f"miracl-{lang}", chain([topics, qrels], corpus()), lang, *rows, passages)]


def miracl_of_mteb(lang: str, split: str | None, *, group: str = "miracl") -> list[Published]:
    """Read MIRACL from MTEB's copies, Parquet files without a login: in full, or the group "miracl-hard-negatives".

    That one is smaller and easier, and the two are never mixed: at most 1,000 questions, of each the 250 best passages
    of three systems.
    """
    options = {"split": _known_split(group, split, lang), "lang": lang, "subset": f"{lang}-"}
    return [_of_mteb(f"{group}-{lang}", **TABLE[group]["mteb"], **options, sampled=group != "miracl")]


def mr_tydi(lang: str, split: str | None) -> list[Published]:
    """Read Mr. TyDi v1.1: the questions of a split, every passage of the language's Wikipedia."""
    split, source = _known_split("mr-tydi", split, lang), TABLE["mr-tydi"]
    words = {"language": source["languages"][lang], "split": split}
    topics, corpus = (_file(source[kind], **words) for kind in ("topics", "corpus"))

    def positives(row: dict) -> Iterator[Row]:
        for passage in row["positive_passages"]:
            pair = (row["query_id"], passage["docid"], 1)
            yield str(topics), dict(zip(layouts.QRELS, pair, strict=True))

    rows = (layouts.rows(topics), layouts.parsed(layouts.rows(topics), positives), layouts.rows(corpus))
    return [_published(f"mr-tydi-{lang}-{split}", [topics, corpus], lang, *rows)]


# ---- TyDi QA: its gold passage task


def goldp(languages: str, split: str | None) -> list[Published]:
    """Read TyDi QA GoldP: a question seeks its paragraph among those of the files of one or several languages.

    A paragraph that stands twice is one passage; a question asked twice is one query with all its passages (in train:
    in dev no question recurs). Ids are `<lang>:<id of the question>` and `<lang>:<number of the paragraph, 5 digits>`;
    a question whose id is another's too (only in train, where ids say little) gets `#2` and so on.

    Args:
        languages: their codes, joined by hyphens.
    """
    source, chosen = TABLE["tydiqa"], list(dict.fromkeys(languages.split("-")))
    for lang in chosen:
        split = _known_split("tydiqa", split, lang)
    local = {lang: local_file(source["local"].format(lang=lang, split=split)) for lang in chosen}

    def read(empty: str) -> Parts:
        queries, judgements, passages = {}, {}, {}
        for lang in chosen:
            uses, paragraphs = Counter(), {}
            for identifier, question, paragraph in _goldp_rows(lang, split, local[lang]):
                if (lang, question) not in queries:
                    uses[identifier] += 1
                    again = f"#{uses[identifier]}" if uses[identifier] > 1 else ""
                    queries[lang, question] = f"{lang}:{identifier}{again}"
                doc_id = paragraphs.setdefault(paragraph, f"{lang}:{len(paragraphs):05}")
                judgements[queries[lang, question], doc_id] = 1
                passages[doc_id] = paragraph
        asked = [(query_id, lang, question) for (lang, question), query_id in queries.items()]
        return asked, [(*pair, gain) for pair, gain in judgements.items()], passages.items()

    hub = f"{source['repository']}, {source['config']}"
    name = f"tydiqa-goldp-{'pooled-' if len(chosen) > 1 else ''}{'-'.join(chosen)}"
    name = name if split == "dev" else f"{name}-{split}"
    return [Published(name, [local[lang] or hub for lang in chosen], read)]


def _goldp_rows(lang: str, split: str, path: Path | None) -> Iterator[tuple[str, str, str]]:
    """(id, question, paragraph) of each question in a language, from XTREME's file or else from the hub."""
    source = TABLE["tydiqa"]

    def questions(paragraph: dict) -> Iterator[tuple[str, str, str]]:
        for question in paragraph.get("qas", [paragraph]):  # on the hub a row is a question with its paragraph
            texts = (layouts.text(question["question"]), layouts.text(paragraph["context"]))
            yield layouts.identifier(question["id"]), *texts

    if path is None:
        rows = _hub_rows(source["repository"], source["config"], split=source["splits"][split])
        prefix = f"{TABLE['mr-tydi']['languages'][lang]}-"  # the hub's splits hold all languages
        return (row for row in layouts.parsed(rows, questions) if row[0].startswith(prefix))
    document = [(str(path), files.read_json(path))]
    paragraphs = layouts.parsed(document, lambda row: [p for article in row["data"] for p in article["paragraphs"]])
    return layouts.parsed(((f"{path}, paragraph {n}", part) for n, part in enumerate(paragraphs, 1)), questions)


# ---- BEIR


def beir(name: str, split: str | None) -> list[Published]:
    """Read a data set of BEIR: the folder of that name in BEIR's format if it is there, else MTEB's copy on the hub.

    As in BEIR's evaluation a document with the id of the query counts as the query itself and is taken out of its hits
    (ArguAna's queries are documents of its corpus), in the data sets of the table.
    """
    source, folder = TABLE["beir"], files.data_folder()
    split = split or ("dev" if name in source["dev"] else "test")
    revision = source["revisions"].get(name)
    if folder and (folder / name).is_dir():
        return [beir_folder(folder / name, split, "en", drop_own=revision is not None)]
    repository = source["repository"].format(source["renamed"].get(name, name))
    return [_of_mteb(f"{name}-{split}", repository, revision, split, drop_own=revision is not None)]


def beir_folder(path: Path, split: str, lang: str, drop_own: bool) -> Published:
    """Read a folder in BEIR's format."""
    wanted = ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv")
    corpus, queries, qrels = parts = [local_file(name, path) for name in wanted]
    if None in parts:
        splits = ", ".join(sorted(file.name.partition(".")[0] for file in path.glob("qrels/*.tsv*"))) or "none"
        raise FileNotFoundError(
            f"{path / wanted[parts.index(None)]}[.gz]: no such file; BEIR's format is {', '.join(wanted)}, and the "
            f"splits here are {splits}"
        )

    rows = (layouts.rows(queries), layouts.table(qrels, layouts.QRELS, header=True), layouts.rows(corpus))
    return _published(f"{path.name}-{split}", parts, lang, *rows, drop_own=drop_own)


def _of_mteb(
    name: str, repository: str, revision: str | None, split: str, lang: str = "en", subset: str = "", **options: bool
) -> Published:
    """A retrieval data set of MTEB, in its configurations corpus, queries, and qrels or default."""
    configs = ([f"{subset}queries"], ["default", f"{subset}qrels"], [f"{subset}corpus"])
    rows = (_hub_rows(repository, *choice, split=split, revision=revision) for choice in configs)
    return _published(name, [f"{repository} at {revision or 'main'}"], lang, *rows, **options)


def _hub_rows(repository: str, *configs: str, split: str, revision: str | None = None) -> Iterator[Row]:
    """Rows of a data set on the hub: those of the split, or of the only split that there is.

    Args:
        configs: the names that the configuration may have.

    Raises:
        OSError: as `fetch`.
        ValueError: there is no such configuration or split.
    """
    from datasets import get_dataset_config_names, load_dataset

    commit = fetch(repository, "README.md", revision=revision).parent.name  # what is not pinned is pinned by this
    what = f"dataset {repository} at {commit}"
    known = get_dataset_config_names(repository, revision=commit)
    config = next((config for config in configs if config in known), None)
    if config is None:
        raise ValueError(f"{what}: no configuration {configs[-1]!r} among {', '.join(known)}; see DATA.md")
    parts = load_dataset(repository, config, revision=commit, cache_dir=str(files.cache_folder() / "datasets"))
    if split not in parts and len(parts) > 1:
        raise ValueError(f"{what}: {config!r} has no split {split!r} among {', '.join(parts)}")
    for number, row in enumerate(parts[split if split in parts else next(iter(parts))], 1):
        yield f"{what}, {config}, row {number}", row


# ---- Tatoeba


def tatoeba(code: str, split: str | None) -> list[Published]:
    """Read LASER's Tatoeba test set of one language (ISO 639-3) and English: to English, and back.

    A sentence's id is its line, from 00001. Reported is the mean of precision@1 over both: the nearest sentence by
    cosine should be the translation. XTREME's prepared files are of no use: their English side is sorted.
    """
    lang = {long: short for short, long in TABLE["tatoeba"]["languages"].items()}.get(code, code)
    paths, languages = _tatoeba_files(code), (lang, "en")

    def direction(name: str, asked: int, sought: int) -> Published:
        def read(empty: str) -> Parts:
            pairs = {f"{n:05}": pair for n, pair in enumerate(_sentence_pairs(paths), 1)}
            queries = [(number, languages[asked], pair[asked]) for number, pair in pairs.items()]
            passages = [(number, pair[sought]) for number, pair in pairs.items()]
            return queries, [(number, number, 1) for number in pairs], passages

        return Published(f"tatoeba-{name}", paths, read, {"passage_lang": languages[sought]})

    return [direction(f"{code}-eng", 0, 1), direction(f"eng-{code}", 1, 0)]


def _tatoeba_files(code: str) -> list[Path]:
    """`<code>-eng.tsv[.gz]`, or LASER's two files whose lines belong together."""
    folder = (files.data_folder() or Path("$HYBRIDLIB_DATA")) / TABLE["tatoeba"]["local"]
    names = [f"tatoeba.{code}-eng.{side}" for side in (code, "eng")]
    for choice in ([f"{code}-eng.tsv"], names):
        paths = [local_file(name, folder) for name in choice]
        if all(paths):
            return paths
    raise FileNotFoundError(
        f"{folder / code}-eng.tsv[.gz]: no such file, nor {' and '.join(names)} there. They are in data/tatoeba/v1 of "
        "github.com/facebookresearch/LASER; put them there and set HYBRIDLIB_DATA"
    )


def _sentence_pairs(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """(sentence, English) of each line."""
    columns = ("sentence", "English")
    rows = layouts.table(paths[0], columns)
    if len(paths) > 1:
        sides = [dict(layouts.lines(path)) for path in paths]
        if sides[0].keys() != sides[1].keys():
            raise ValueError(f"{paths[0]}: its lines do not match those of {paths[1].name}; get both files again")
        pairs = [dict(zip(columns, pair, strict=True)) for pair in zip(*[side.values() for side in sides], strict=True)]
        rows = zip((f"{paths[0]}, line {number}" for number in sides[0]), pairs, strict=True)
    return layouts.parsed(rows, lambda row: [tuple(layouts.text(row[column]) for column in columns)])


# ---- Mewsli-X


def mewsli_x(split: str | None) -> list[Published]:
    """Read Mewsli-X: mentions in news in 11 languages against all candidate entities; texts as in XTREME-R's baseline.

    Of a mention "mention: sentence with { mention } marked", of an entity the sentences of its description. Reported is
    the mean of map@20 (one entity is right, so it is MRR@20) over the languages of the mentions.
    """
    split = _known_split("mewsli-x", split)
    names = ("candidate_set_entities.jsonl", f"wikinews_mentions-{split}.jsonl")
    entities, mentions = map(_mewsli_x_file, names)

    def read(empty: str) -> Parts:
        rows = list(layouts.parsed(layouts.rows(mentions), _mentions))
        passages = layouts.parsed(layouts.rows(entities), partial(_entity, empty=empty))
        return [row[:3] for row in rows], [(row[0], row[3], 1) for row in rows], passages

    return [Published(f"mewsli-x-{split}", [entities, mentions], read)]


def _mewsli_x_file(name: str) -> Path:
    """The local file, else that in the archive of the hub, unpacked into the package's cache."""
    source = TABLE["mewsli-x"]
    unpacked = files.cache_folder() / "mewsli-x" / source["revision"] / name
    local = local_file(source["local"].format(file=name))
    if local or unpacked.is_file():
        return local or unpacked
    archive = fetch(source["repository"], source["archive"], revision=source["revision"])
    try:
        with tarfile.open(archive, "r:gz") as packed:
            entry = next((entry for entry in packed if entry.isfile() and Path(entry.name).name == name), None)
            if entry is None:
                raise FileNotFoundError(f"{archive}: there is no {name} in it; its layout has changed, see DATA.md")
            with files.replace_file(unpacked) as new, new.open("wb") as file:
                shutil.copyfileobj(packed.extractfile(entry), file)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise ValueError(f"{archive}: torn or no tar.gz ({error}); remove it and get it again") from error
    return unpacked


def _entity(row: dict, empty: str) -> Iterator[tuple[str, str]]:
    sentences = " ".join(row["description"][span["start"] : span["end"]] for span in row["sentence_spans"])
    yield layouts.identifier(row["entity_id"]), layouts.text(" ".join(sentences.split()), empty)


def _mentions(row: dict) -> Iterator[tuple[str, str, str, str]]:
    """(id, language, text, entity) of each mention."""
    context = row["context"]
    text = context["text"]
    for mention in row["mentions"]:
        span = mention["mention_span"]
        start, stop = span["start"], span["end"]
        sentences = [part for part in context["sentence_spans"] if part["start"] <= start and stop <= part["end"]]
        if not sentences or text[start:stop] != span["text"]:
            raise ValueError(f"the mention {span} lies in no sentence of the text; the texts are lacking")
        name, before, after = text[start:stop], text[sentences[0]["start"] : start], text[stop : sentences[0]["end"]]
        query = " ".join(f"{name}: {before} {{ {name} }} {after}".split())
        example, entity = (layouts.identifier(mention[key]) for key in ("example_id", "entity_id"))
        yield example, context["language"], query, entity
