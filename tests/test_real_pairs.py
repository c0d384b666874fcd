"""tools/real_pairs.py: the sentence with the answer, the languages a pair keeps, and articles that are held out."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

from hybridlib.corpora.own import load_pairs

TOOL = Path(__file__).parent.parent / "tools" / "real_pairs.py"


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def paragraph(lang: str, article: int) -> dict:
    context = f"{lang.title()} begins here.  {lang.title()} has answer {article} in it. {lang.title()} ends."
    answers = [] if lang == "fi" else [{"text": f"answer {article}", "start": context.index("answer")}]
    qa = {"qid": f"s{article}", "question": f"{lang} asks {article}?", "answers": answers}
    return {"pid": f"{article}#0", "article": f"a{article:02}", "context": context, "qas": [qa]}


def test_pairs(tmp_path):
    data = tmp_path / "data"
    for lang in ("en", "es", "fi", "id", "it", "sv"):
        write(data / "squad-dev-parallel" / f"{lang}.jsonl.gz", [paragraph(lang, i) for i in range(12)])
    for lang in ("de", "es", "vi", "zh"):
        write(data / "mlqa-test-part" / f"contexts.{lang}.jsonl.gz", [{"pid": f"{lang}1", "context": f"{lang} text"}])
    asked = {"ar": "ar?", "de": "de?", "vi": "vi?"}
    both = {"qid": "m1", "question": asked, "contexts": {"de": "de1", "vi": "vi1", "zh": "zh1"}}
    one = {"qid": "m2", "question": {"de": "only de?"}, "contexts": {"de": "de1"}}
    write(data / "mlqa-test-part" / "questions.jsonl.gz", [both, one])
    command = [sys.executable, str(TOOL), "--output", str(tmp_path), "--languages", *"en es fi id de vi".split()]
    subprocess.run(command, env={**os.environ, "HYBRIDLIB_DATA": str(data)}, check=True, capture_output=True)
    train, dev = (load_pairs(tmp_path / f"{part}.jsonl.gz") for part in ("train", "dev"))
    assert (len(train), len(dev)) == (7, 6), "every second article is held out"
    assert not {*train.queries["query_id"].to_pylist()} & {*dev.queries["query_id"].to_pylist()}
    item = train[(0, "en", "id")] if "en" in train.groups[0].query_languages else train[(1, "en", "id")]
    article = item["query"].split()[-1].rstrip("?")
    assert item["passage"] == f"Id has answer {article} in it."
    row = train.queries["query_id"].to_pylist().index("m1")
    assert {lang for lang in train.languages if train.queries[lang][row].is_valid} == {"de", "vi"}
    finnish = [text for text in train.passages["fi"].to_pylist() if text]
    assert all(text.startswith("Fi begins") for text in finnish) and len(finnish) == 6
