"""Encoders by name."""

from __future__ import annotations

from dataclasses import dataclass

from hybridlib.encoder import Encoder


@dataclass(frozen=True)
class Preset:
    """How a checkpoint is used."""

    repo: str
    pooling: str | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    max_length: int = 512
    base: str | None = None


PRESETS = {
    "xlm-r": Preset("FacebookAI/xlm-roberta-base", "mean", "Query: ", "Passage: ", 512, "xlm-r"),
    "labse": Preset("sentence-transformers/LaBSE", None, "Query: ", "Passage: ", 256, "labse"),
    "multilingual-minilm": Preset("microsoft/Multilingual-MiniLM-L12-H384", "mean", "Query: ", "Passage: ", 512),
}


def load_preset(name: str, **overrides) -> Encoder:
    """The encoder of a preset."""
    p = PRESETS[name]
    options = {"pooling": p.pooling, "query_prefix": p.query_prefix, "passage_prefix": p.passage_prefix}
    options["max_length"] = p.max_length
    return Encoder.load(p.repo, **options | {k: v for k, v in overrides.items() if v is not None})
