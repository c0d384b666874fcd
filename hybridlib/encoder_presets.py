"""Encoders by a short name, with the pooling, prefixes and maximum length that belong to each.

What comes from a model's card, a file of its repository or a paper, and what is our own choice, is said for each.
Nothing here was downloaded by us, so no revision is pinned: `load_preset(name, revision=...)` takes a commit. Any other
checkpoint: `Encoder.load` with parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from hybridlib.encoder import Encoder
from hybridlib.encoder_layout import CheckpointError


@dataclass(frozen=True)
class Preset:
    """How one published encoder is used.

    Attributes:
        repository: on the Hugging Face hub.
        architecture: transformers' name of it (`model_type`).
        pooling, query_prefix, passage_prefix, max_length: as in `Encoder.load`.
        source: what says so.
        choice: what nothing says, and we chose.
        family: name of the encoder in the paper's tables ("xlm-r" or "labse"), where it is in them.
        tokenizer: repository of the tokenizer, where that is another one.
        with_codes: each text needs its language.
    """

    repository: str
    architecture: str
    pooling: str
    query_prefix: str
    passage_prefix: str
    max_length: int
    source: str
    choice: str
    family: str | None = None
    tokenizer: str | None = None
    with_codes: bool = False


PAPER = ("Query: ", "Passage: ")  # section 2 of arXiv 2408.10536, one space after the colon is our reading
E5 = ("query: ", "passage: ")
NONE = ("", "")
AS_TRAINED = "the paper's prefixes, for training as there; as it is published it has none"
E5_SOURCE = "card: average of the tokens, query: and passage:, at most 512 tokens"

PRESETS = {
    "xlm-r-base": Preset(
        "FacebookAI/xlm-roberta-base",
        "xlm-roberta",
        "mean",
        *PAPER,
        512,
        "config.json: 514 positions, 2 of them unused; paper: prefixes",
        "pooling, and base size (the paper names neither)",
        family="xlm-r",
    ),
    "labse": Preset(
        "sentence-transformers/LaBSE",
        "bert",
        "pooler",
        *PAPER,
        256,
        "card: first token, dense layer with tanh, normalised; 256 tokens",
        AS_TRAINED,
        family="labse",
    ),
    "multilingual-minilm": Preset(
        "microsoft/Multilingual-MiniLM-L12-H384",
        "bert",
        "mean",
        *PAPER,
        512,
        "card: a BertModel with XLM-R's tokenizer, which AutoTokenizer does not find; config.json: 512 positions",
        f"pooling; {AS_TRAINED}",
        tokenizer="FacebookAI/xlm-roberta-base",
    ),
    "mbert": Preset(
        "google-bert/bert-base-multilingual-cased",
        "bert",
        "mean",
        *NONE,
        512,
        "config.json: 512 positions",
        "pooling, no prefixes",
    ),
    "mbart-50": Preset(
        "facebook/mbart-large-50",
        "mbart",
        "mean",
        *NONE,
        1024,
        "card: the text's language code before it, the end after it; 52 languages, not el and yo; config.json: 1,024 "
        "positions",
        "the encoder alone, pooling (over the code too), no prefixes",
        with_codes=True,
    ),
    "mt5-base": Preset(
        "google/mt5-base",
        "mt5",
        "mean",
        *NONE,
        512,
        "card: only pretrained, to be fine-tuned before use; arXiv 2010.11934: trained on 1,024 tokens",
        "the encoder alone, pooling, no prefixes, 512 tokens as the others",
    ),
    "e5-small": Preset("intfloat/multilingual-e5-small", "bert", "mean", *E5, 512, E5_SOURCE, "nothing"),
    "e5-base": Preset("intfloat/multilingual-e5-base", "xlm-roberta", "mean", *E5, 512, E5_SOURCE, "nothing"),
    "e5-large": Preset("intfloat/multilingual-e5-large", "xlm-roberta", "mean", *E5, 512, E5_SOURCE, "nothing"),
    "bge-m3": Preset(
        "BAAI/bge-m3",
        "xlm-roberta",
        "cls",
        *NONE,
        8192,
        "card: 8,192 tokens; dense vector of the first token (1_Pooling/config.json); no instruction before queries",
        "the dense vector only, without the sparse and multi-vector ones",
    ),
    "gte-multilingual-base": Preset(
        "alibaba-nlp-community/gte-multilingual-base",
        "gte",
        "cls",
        *NONE,
        8192,
        "card of Alibaba-NLP/gte-multilingual-base: first token, 8,192 tokens, no prefix; card of this one: the same "
        "weights, a config.json that needs no remote code",
        "all 768 dimensions; the repository, since Alibaba-NLP's own one comes with code, which is never run here",
    ),
}


def load_preset(name: str, **overrides: object) -> Encoder:
    """The encoder of that name in PRESETS; `overrides` are parameters of `Encoder.load` and replace the preset's.

    Raises:
        CheckpointError: (a ValueError) no preset of that name, an installed transformers without its architecture, or
            not a complete encoder.
    """
    if name not in PRESETS:
        raise CheckpointError(
            f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}, or give Encoder.load a folder or a name "
            "of the hub"
        )
    preset = PRESETS[name]
    if preset.architecture not in CONFIG_MAPPING_NAMES:
        raise CheckpointError(
            f"{name}: transformers {transformers.__version__} has no architecture {preset.architecture!r}: install a "
            "newer one; 5.23 has it"
        )
    options = {"pooling": preset.pooling, "max_length": preset.max_length, "tokenizer": preset.tokenizer}
    options |= {"query_prefix": preset.query_prefix, "passage_prefix": preset.passage_prefix, **overrides}
    return Encoder.load(preset.repository, **options)
