"""The model card of a trained checkpoint: what it was trained on, how, and what it scored.

hybridlib.json beside the weights holds the facts; README.md, with the metadata that the Hugging Face hub reads, is
written from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hybridlib.files import replace_file, write_json

LABEL_FILE = "hybridlib.json"

TEXT = """---
{metadata}
---

# {name}

A dual encoder for retrieval within and across languages: the query and the passage pass through the same weights, and
their cosine similarity is the score. Fine-tuned from `{start}` with {kind} batches, as arXiv 2408.10536 describes them.

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


def write_labels(folder: Path, labels: Mapping) -> None:
    """Write the facts and the card of a checkpoint.

    Args:
        folder: of the checkpoint.
        labels: strategy, alpha, seed, steps, batch_size, pairs (name of the data), start (checkpoint it was trained
            from), languages, query_prefix, passage_prefix, version; further facts are listed too. `scores`, if there
            are any: benchmark -> {"map mono": ..., ...}.
    """
    write_json(Path(folder) / LABEL_FILE, dict(labels))
    with replace_file(Path(folder) / "README.md") as new:
        new.write_text(_card(labels), encoding="utf-8")


def require(folder: Path) -> dict:
    """The same; ValueError where there are none: the checkpoint was not trained here and has no card of ours."""
    labels = read_labels(folder)
    if not labels:
        raise ValueError(f"{folder}: no {LABEL_FILE} here; only a checkpoint trained with hybridlib has its card")
    return labels


def add_scores(folder: Path, benchmark: str, scores: Mapping[str, float]) -> None:
    """Put the scores on a benchmark into the card, in the place of earlier ones on it; ValueError as `require`."""
    labels = require(folder)
    write_labels(folder, {**labels, "scores": {**labels.get("scores", {}), benchmark: dict(scores)}})


def _card(labels: Mapping) -> str:
    scores = labels.get("scores", {})
    name = "-".join([Path(labels["start"]).name, labels["strategy"], f"seed{labels['seed']}"])
    results = [
        EvalResult("sentence-similarity", benchmark, benchmark, measure, value)
        for benchmark, values in scores.items()
        for measure, value in values.items()
    ]
    metadata = ModelCardData(
        language=list(labels["languages"]),
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "feature-extraction", "retrieval", "arxiv:2408.10536"],
        base_model=None if Path(labels["start"]).exists() else labels["start"],
        model_name=name,
        eval_results=results or None,
    )
    shown = {key: value for key, value in labels.items() if key not in ("scores", "query_prefix", "passage_prefix")}
    card = TEXT.format(
        metadata=metadata.to_yaml(),
        name=name,
        start=labels["start"],
        kind=KINDS[labels["strategy"]],
        facts="\n".join(f"| {key.replace('_', ' ')} | {_shown(value)} |" for key, value in shown.items()),
        prompts=_prompts(labels),
        scores=_scores(scores),
        version=labels["version"],
    )
    return str(ModelCard(card))  # refuses metadata that is no YAML


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "-" if value is None else str(value)


def _prompts(labels: Mapping) -> str:
    if not labels["query_prefix"] and not labels["passage_prefix"]:
        return "No prompts."
    return (
        f"Prompts: `{labels['query_prefix']}` before a query, `{labels['passage_prefix']}` before a passage; in "
        "sentence-transformers `encode_query` and `encode_document` add them."
    )


def _scores(scores: Mapping[str, Mapping[str, float]]) -> str:
    if not scores:
        return "Not measured yet."
    lines = ["| benchmark | measure | value |", "|---|---|---|"]
    lines += [
        f"| {name} | {measure} | {value:.4f} |" for name, part in scores.items() for measure, value in part.items()
    ]
    return "\n".join(lines)
