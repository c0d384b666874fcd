"""The model card of a trained checkpoint: what it was trained on, how, and what it scored.

hybridlib.json beside the weights holds the facts; README.md, with the metadata that the Hugging Face hub reads, is
written from it by the template data/model_card.md.
"""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hybridlib.files import replace_file, write_json

LABEL_FILE = "hybridlib.json"
NO_FACTS = ("scores", "query_prefix", "passage_prefix")  # labels that have another place in the card


def read_labels(folder: Path) -> dict:
    """The facts of a checkpoint trained here; empty for any other."""
    path = Path(folder) / LABEL_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def require_labels(folder: Path) -> dict:
    """The facts of a checkpoint; ValueError where it was not trained here and so has no card of ours."""
    if labels := read_labels(folder):
        return labels
    raise ValueError(f"{folder}: no {LABEL_FILE} here; only a checkpoint trained with hybridlib has its card")


def write_labels(folder: Path, labels: Mapping) -> None:
    """Write the facts and the card of a checkpoint.

    Args:
        folder: of the checkpoint.
        labels: strategy, seed, languages, query_prefix, passage_prefix, version; start, the checkpoint it was trained
            from, if there is one; further facts are listed as they are. `scores`, if there are any: benchmark ->
            {"map mono": ..., ...}.
    """
    write_json(Path(folder) / LABEL_FILE, dict(labels))
    start, scored = labels.get("start"), labels.get("scores", {})
    scores = [(benchmark, *score) for benchmark, values in scored.items() for score in values.items()]
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
    facts = {key: value for key, value in labels.items() if key not in NO_FACTS}
    template = importlib.resources.files("hybridlib").joinpath("data/model_card.md").read_text(encoding="utf-8")
    values = {"start": None, **labels, "name": name, "facts": facts, "scores": scores}
    card = ModelCard.from_template(metadata, template_str=template, **values)
    with replace_file(Path(folder) / "README.md") as new:
        new.write_text(str(card), encoding="utf-8")


def add_scores(folder: Path, benchmark: str, scores: Mapping[str, float]) -> None:
    """Put the scores on a benchmark into the card, in the place of earlier ones; errors as `require_labels`."""
    labels = require_labels(folder)
    write_labels(folder, {**labels, "scores": {**labels.get("scores", {}), benchmark: dict(scores)}})
