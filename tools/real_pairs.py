"""Pairs for a real training run: parallel SQuAD and MLQA, from $HYBRIDLIB_DATA to a file that `train --pairs` reads.

    python tools/real_pairs.py --output FOLDER [--languages en es ...] [--unequal]

Writes FOLDER/train.jsonl.gz and FOLDER/dev.jsonl.gz (the questions of some articles of SQuAD) and prints counts.
The passage is the sentence that holds the answer where the source has spans, as in XQuAD-R, else the whole paragraph. A
pair keeps the languages that both its question and its passage have, at least two; with --unequal it keeps all
languages and needs one of each, and one of them more.

SQuAD's development articles are XQuAD's articles too, though none of XQuAD's paragraphs is here: what is trained on
this has read about XQuAD-R's subjects.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hybridlib.companion.sources.sentences import split_sentences
from hybridlib.files import data_folder, read_json_lines, replace_file

SQUAD = ("en", "es", "fi", "id", "it", "sv")
MLQA = ("de", "es", "vi", "zh")  # languages of contexts; questions are in ar and hi too
DEV_ARTICLES = 6  # of SQuAD's 48, every eighth by name
COLUMN = {"id": "ind"}  # query_id is the identifier: DATA.md


def sentence(text: str, start: int) -> str:
    """The sentence of a paragraph in which the character at `start` lies."""
    before = len("".join(text[:start].split()))  # the splitter changes nothing but white space
    for part in split_sentences(text):
        before -= len("".join(part.split()))
        if before < 0:
            return part
    raise ValueError(f"an answer starts at {start}, behind the end of a paragraph of {len(text)} characters")


def squad(folder: Path) -> Iterator[tuple[str, str, dict[str, str], dict[str, str]]]:
    """(article, question id, questions, passages) of every question of parallel SQuAD."""
    found: dict[str, tuple[str, dict, dict]] = {}
    for lang in SQUAD:
        for _, row in read_json_lines(folder / "squad-dev-parallel" / f"{lang}.jsonl.gz"):
            for qa in row["qas"]:
                passage = sentence(row["context"], qa["answers"][0]["start"]) if qa["answers"] else row["context"]
                _, questions, passages = found.setdefault(qa["qid"], (row["article"], {}, {}))
                questions[lang], passages[lang] = qa["question"].strip(), passage.strip()
    for qid, (article, questions, passages) in found.items():
        yield article, qid, questions, passages


def mlqa(folder: Path) -> Iterator[tuple[str, str, dict[str, str], dict[str, str]]]:
    """The same of MLQA's part, whose passages are paragraphs; it has no articles."""
    contexts = {}
    for lang in MLQA:
        for _, row in read_json_lines(folder / "mlqa-test-part" / f"contexts.{lang}.jsonl.gz"):
            contexts[row["pid"]] = row["context"].strip()
    for _, row in read_json_lines(folder / "mlqa-test-part" / "questions.jsonl.gz"):
        questions = {lang: text.replace("\\n", " ").strip() for lang, text in row["question"].items()}
        yield "", row["qid"], questions, {lang: contexts[pid] for lang, pid in row["contexts"].items()}


def kept(texts: dict[str, str], languages: set[str]) -> dict[str, str]:
    """Texts in these languages that are not empty."""
    return {lang: text for lang, text in texts.items() if lang in languages and text}


def row(source: str, qid: str, questions: dict[str, str], passages: dict[str, str]) -> dict:
    """A line of the file: DATA.md's schema. Equal passages are one, so they have no ids."""
    texts = {f"query_{COLUMN.get(lang, lang)}": text for lang, text in sorted(questions.items())}
    texts |= {f"passage_{COLUMN.get(lang, lang)}": text for lang, text in sorted(passages.items())}
    return {"query_id": qid, "source": source, **texts}


def main() -> None:
    """Write the files and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=sorted({*SQUAD, *MLQA}))
    parser.add_argument("--unequal", action="store_true", help="pairs whose question and passage differ in languages")
    options = parser.parse_args()
    folder, chosen = data_folder(), set(options.languages)
    if folder is None:
        parser.error("set HYBRIDLIB_DATA to the folder with squad-dev-parallel and mlqa-test-part")
    parts: dict[str, list[dict]] = {"train": [], "dev": []}
    counts: Counter[tuple[str, str]] = Counter()
    articles: list[str] = sorted({article for article, *_ in squad(folder)})
    held_out = set(articles[:: len(articles) // DEV_ARTICLES])
    for source, questions in (("squad", squad(folder)), ("mlqa", mlqa(folder))):
        for article, qid, asked, answers in questions:
            asked, answers = kept(asked, chosen), kept(answers, chosen)
            common = asked.keys() & answers.keys()
            if options.unequal and (not asked or not answers or len(asked.keys() | answers.keys()) < 2):
                continue
            if not options.unequal:
                if len(common) < 2:
                    continue
                asked, answers = kept(asked, common), kept(answers, common)
            part = "dev" if article in held_out else "train"
            parts[part].append(row(source, qid, asked, answers))
            counts.update((part, lang) for lang in common)
    for part, rows in parts.items():
        with (
            replace_file(options.output / f"{part}.jsonl.gz") as new,
            open(new, "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as file,
        ):
            file.writelines((json.dumps(line, ensure_ascii=False) + "\n").encode() for line in rows)
        spoken = ", ".join(f"{lang} {n}" for (where, lang), n in sorted(counts.items()) if where == part)
        print(f"{part}: {len(rows)} pairs; with question and passage in {spoken}")


if __name__ == "__main__":
    main()
