"""The model card of a trained checkpoint: what it was trained on, how, and what it scored.

hybridlib.json beside the weights holds the facts; README.md, with the metadata that the Hugging Face hub reads, is
written from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hybridlib.files import replace_file, write_json

LABEL_FILE = "hybridlib.json"

TEXT = """---
{metadata}
---

# {name}

A dual encoder for retrieval within and across languages: the query and the passage pass through the same weights, and
their cosine similarity is the score. {start} with {kind} batches, as arXiv 2408.10536 describes them.

| | |
|---|---|
{facts}

{prompts}

## Scores

{scores}

Made with hybridlib {version}.
"""

KINDS = {
    "x-x-mono": "monolingual (X-X-mono)",
    "x-y": "cross-lingual (X-Y)",
    "hybrid": "hybrid (monolingual with probability alpha, else cross-lingual)",
    "x-x": "LAReQA's X-X",
    "en-en": "English",
}


def read_labels(folder: Path) -> dict:
    """The facts of a checkpoint trained here; empty for any other."""
    path = Path(folder) / LABEL_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def require_labels(folder: Path) -> dict:
    """The facts of a checkpoint; ValueError where it was not trained here and so has no card of ours."""
    labels = read_labels(folder)
    if not labels:
        raise ValueError(f"{folder}: no {LABEL_FILE} here; only a checkpoint trained with hybridlib has its card")
    return labels


def write_labels(folder: Path, labels: Mapping) -> None:
    """Write the facts and the card of a checkpoint.

    Args:
        folder: of the checkpoint.
        labels: strategy, seed, languages, query_prefix, passage_prefix, version; start, the checkpoint it was trained
            from, if there is one; further facts are listed as they are. `scores`, if there are any: benchmark ->
            {"map mono": ..., ...}.
    """
    write_json(Path(folder) / LABEL_FILE, dict(labels))
    with replace_file(Path(folder) / "README.md") as new:
        new.write_text(_card(labels), encoding="utf-8")


def add_scores(folder: Path, benchmark: str, scores: Mapping[str, float]) -> None:
    """Put the scores on a benchmark into the card, in the place of earlier ones; errors as `require_labels`."""
    labels = require_labels(folder)
    write_labels(folder, {**labels, "scores": {**labels.get("scores", {}), benchmark: dict(scores)}})


def _card(labels: Mapping) -> str:
    scores, start = list(_scores(labels)), labels.get("start")
    name = "-".join([Path(start or "scratch").name, labels["strategy"], f"seed{labels['seed']}"])
    metadata = ModelCardData(
        language=list(labels["languages"]),
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "retrieval", "arxiv:2408.10536"],
        base_model=None if Path(start or "").exists() else start,
        model_name=name,
        eval_results=[EvalResult("sentence-similarity", data, data, *score) for data, *score in scores] or None,
    )
    shown = {key: value for key, value in labels.items() if key not in ("scores", "query_prefix", "passage_prefix")}
    lines = [f"| {data} | {measure} | {value:.4f} |" for data, measure, value in scores]
    card = TEXT.format(
        metadata=metadata.to_yaml(),
        name=name,
        start=f"Fine-tuned from `{start}`" if start else "Trained from new weights",
        kind=KINDS[labels["strategy"]],
        facts="\n".join(f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in shown.items()),
        prompts=_prompts(labels["query_prefix"], labels["passage_prefix"]),
        scores="\n".join(["| benchmark | measure | value |", "|---|---|---|", *lines])
        if lines
        else "Not measured yet.",
        version=labels["version"],
    )
    return str(ModelCard(card))  # refuses metadata that is no YAML


def _scores(labels: Mapping) -> Iterator[tuple[str, str, float]]:
    """Benchmark, measure and value of each score."""
    for benchmark, values in labels.get("scores", {}).items():
        for measure, value in values.items():
            yield benchmark, measure, value


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "-" if value is None else str(value)


def _prompts(query: str, passage: str) -> str:
    if not query and not passage:
        return "No prompts."
    return (
        f"Prompts: `{query}` before a query, `{passage}` before a passage; in sentence-transformers `encode_query` and "
        "`encode_document` add them."
    )
