"""Saved encoders: sentence-transformers folders and plain transformers checkpoints, read and written.

Where a checkpoint's parts lie is `encoder_layout`'s business. What is written, all versions of sentence-transformers
from 2 on read. Pickles are read as weights only.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import normalizers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    M2M100Model,
    MBartModel,
    MT5EncoderModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import is_protobuf_available, is_sentencepiece_available

from hybridlib.encoder_language_codes import LanguageCodes
from hybridlib.encoder_layout import (
    POOLING_FLAGS,
    CheckpointError,
    Layout,
    clear_errors,
    local_folder,
    quiet,
    read_json,
    read_layout,
)
from hybridlib.files import replace_folder, write_json

POOLINGS = ("mean", "cls", "pooler")
TANH = "torch.nn.modules.activation.Tanh"
ACTIVATIONS = {TANH: nn.Tanh, "torch.nn.modules.linear.Identity": nn.Identity}
# Encoder-decoder models whose encoder is read. M2M-100 is NLLB-200's architecture too.
WITH_DECODER = ("mbart", "m2m_100", "mt5")
WITH_LANGUAGE_CODES = ("mbart", "m2m_100")
UNLIMITED = 1_000_000  # tokens; transformers writes 1e30 for a tokenizer without a limit
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a saved encoder consists of. `dense` (Linear, activation) follows the pooling; None: there is none.

    `codes`: of an encoder that wants each text's language; None: of one that does not.
    """

    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pooling: str
    dense: nn.Sequential | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    max_length: int = 512
    codes: LanguageCodes | None = None


def read_checkpoint(
    name_or_folder: str | Path,
    *,
    pooling: str | None = None,
    dropout: float | None = None,
    revision: str | None = None,
    tokenizer: str | Path | None = None,
) -> Parts:
    """The parts of a saved encoder, weights in float32. Another `pooling` than its own leaves its Dense out.

    `dropout`, a probability, takes the place of every dropout in the checkpoint's configuration. `tokenizer` is the
    folder or the hub's repository with the tokenizer, where that is another one. Of mBART, M2M-100, NLLB-200 and mT5
    the encoder is read.

    Raises CheckpointError for whatever is not a complete encoder checkpoint.
    """
    if pooling not in (None, *POOLINGS):
        raise CheckpointError(f"pooling is {pooling!r}: choose one of {', '.join(POOLINGS)}")
    if dropout is not None and not 0 <= dropout < 1:
        raise CheckpointError(f"dropout is {dropout}: give a probability from 0 to below 1")
    folder = local_folder(str(name_or_folder), revision)
    words = local_folder(str(tokenizer), weights=False) if tokenizer else None
    with clear_errors(folder), quiet():
        return _read_parts(read_layout(folder), pooling, dropout, words)


def write_checkpoint(folder: str | Path, parts: Parts) -> None:
    """Write a sentence-transformers folder, whole or not at all; an older checkpoint of that name is replaced.

    Raises CheckpointError if something else lies there, OSError where the folder cannot be written.
    """
    folder = Path(folder)
    if parts.codes:
        raise CheckpointError(
            f"{folder}: sentence-transformers can neither give each text its language code nor load mBART's encoder "
            "alone, so this encoder is not saved; load it again from where it came"
        )
    if folder.exists() and not _replaceable(folder):
        raise CheckpointError(f"{folder} exists and is no checkpoint: choose another folder or move it away")
    with replace_folder(folder) as new, quiet():
        _write_parts(new, parts)


def positions(backbone: PreTrainedModel) -> int | None:
    """How many tokens a text may have; RoBERTa and its heirs count positions from padding_idx + 1. None: no limit."""
    for module in backbone.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding):
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    return getattr(backbone.config, "max_position_embeddings", None)


# ---- reading


def _read_parts(layout: Layout, pooling: str | None, dropout: float | None, words: Path | None) -> Parts:
    own = pooling in (None, layout.pooling)
    pooling, dense_folder = (layout.pooling or "mean", layout.dense) if own else (pooling, None)
    backbone = _read_backbone(layout.root, dropout, with_pooler=pooling == "pooler" and dense_folder is None)
    dense = _read_dense(dense_folder, backbone.config.hidden_size) if dense_folder else None
    if pooling == "pooler" and dense is None:
        dense = _own_pooler(backbone, layout.root)
    if hasattr(backbone, "pooler"):
        backbone.pooler = None  # weights without gradients would stop training in several processes
    tokenizer = _read_tokenizer(words or layout.root, layout.lower_case, backbone)
    limits = (layout.max_length or tokenizer.model_max_length, positions(backbone) or UNLIMITED, UNLIMITED)
    prefixes = (layout.query_prefix, layout.passage_prefix)
    codes = _language_codes(tokenizer, layout.root) if backbone.config.model_type in WITH_LANGUAGE_CODES else None
    return Parts(backbone, tokenizer, pooling, dense, *prefixes, int(min(limits)), codes)


def _language_codes(tokenizer: PreTrainedTokenizerBase, root: Path) -> LanguageCodes:
    codes = LanguageCodes.of(tokenizer)
    if codes is None:
        raise CheckpointError(f"{root}: its tokenizer puts no language code beside a text: fetch the model's own")
    return codes


def _read_backbone(root: Path, dropout: float | None, *, with_pooler: bool) -> PreTrainedModel:
    """The encoder of a folder, every weight from its files; only a pooler or decoder nobody uses may be missing."""
    config = AutoConfig.from_pretrained(root, trust_remote_code=False)
    bidirectional = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if config.model_type not in WITH_DECODER and (not bidirectional or config.is_encoder_decoder):
        raise CheckpointError(f"{root} is no encoder ({config.model_type}): name one such as BERT, XLM-R or LaBSE")
    if dropout is not None:
        names = [name for name in config.to_dict() if "dropout" in name and getattr(config, name) is not None]
        config.update(dict.fromkeys(names, dropout))
    if any(root.glob("pytorch_model*.bin")) and not any(root.glob("model*.safetensors")):
        logger.warning("%s: the weights are a pickle, read by torch.load(weights_only=True)", root)
    options = {"dtype": torch.float32, "trust_remote_code": False, "weights_only": True, "output_loading_info": True}
    kind = MT5EncoderModel if config.model_type == "mt5" else AutoModel
    backbone, report = kind.from_pretrained(root, config=config, **options)
    unused = "decoder." if config.model_type in WITH_DECODER else "pooler."
    missing = sorted(name for name in report["missing_keys"] if with_pooler or not name.startswith(unused))
    if missing:
        raise CheckpointError(f"{root} lacks {len(missing)} weights ({missing[0]}, ...): fetch the whole checkpoint")
    return backbone.get_encoder() if isinstance(backbone, (MBartModel, M2M100Model)) else backbone


def _read_tokenizer(folder: Path, lower_case: bool, backbone: PreTrainedModel) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # it may name packages that do not help
        pieces = [path.name for path in folder.glob("*.model")]
        if pieces and not (is_sentencepiece_available() and is_protobuf_available()):
            raise CheckpointError(
                f"{folder}: its tokenizer is a SentencePiece model ({pieces[0]}): pip install sentencepiece protobuf"
            ) from error
        raise
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers makes one up, without a word
        raise CheckpointError(f"{folder} has no tokenizer: fetch tokenizer.json or the vocabulary as well")
    rows = backbone.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise CheckpointError(
            f"{folder} has {len(tokenizer)} tokens but {rows} token vectors: fetch the tokenizer of this encoder"
        )
    if lower_case:
        steps = [normalizers.Lowercase(), tokenizer.backend_tokenizer.normalizer]
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([step for step in steps if step is not None])
    return tokenizer


def _read_dense(folder: Path, width: int) -> nn.Sequential:
    config = read_json(folder / "config.json")
    activation = ACTIVATIONS.get(config.get("activation_function", TANH))
    if activation is None or config["in_features"] != width or config.get("use_residual"):
        raise CheckpointError(f"{folder} is not Linear from {width} and Tanh or Identity: use another checkpoint")
    if (folder / "model.safetensors").exists():
        state = load_file(folder / "model.safetensors")
    else:
        logger.warning("%s: the weights are a pickle, read by torch.load(weights_only=True)", folder)
        state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    linear = nn.Linear(width, config["out_features"], bias=config.get("bias", True))
    linear.load_state_dict({name.removeprefix("linear."): tensor.float() for name, tensor in state.items()})
    return nn.Sequential(linear, activation())


def _own_pooler(backbone: PreTrainedModel, root: Path) -> nn.Sequential:
    """BERT's pooler: a Linear and tanh over the first token's vector. LaBSE was published with it."""
    pooler = getattr(backbone, "pooler", None)
    if not isinstance(getattr(pooler, "dense", None), nn.Linear) or not isinstance(pooler.activation, nn.Tanh):
        raise CheckpointError(f"{root} has no pooler as BERT has: choose pooling mean or cls")
    return nn.Sequential(pooler.dense, nn.Tanh())


# ---- writing


def _replaceable(folder: Path) -> bool:
    """An empty folder or an older checkpoint."""
    return folder.is_dir() and (not any(folder.iterdir()) or (folder / "config.json").exists())


def _write_parts(folder: Path, parts: Parts) -> None:
    parts.backbone.save_pretrained(folder)
    _write_tokenizer(folder, parts)
    prompts = {"query": parts.query_prefix, "document": parts.passage_prefix, "passage": parts.passage_prefix}
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", settings)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": parts.max_length, "do_lower_case": False})
    names = ["Transformer", "Pooling", *(["Dense"] if parts.dense else []), "Normalize"]
    paths = ["", *(f"{place}_{name}" for place, name in enumerate(names[1:], start=1))]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"}
        for place, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    flags = {f"pooling_mode_{kind}": False for kind in POOLING_FLAGS}
    flags["pooling_mode_mean_tokens" if parts.pooling == "mean" else "pooling_mode_cls_token"] = True
    width = parts.backbone.config.hidden_size
    write_json(folder / paths[1] / "config.json", {"word_embedding_dimension": width, **flags})
    if parts.dense:
        _write_dense(folder / paths[2], parts.dense)
    (folder / paths[-1]).mkdir()


def _write_tokenizer(folder: Path, parts: Parts) -> None:
    tokenizer = copy.deepcopy(parts.tokenizer)
    tokenizer.model_max_length = parts.max_length
    if tokenizer.is_fast:  # every call leaves its settings behind; the file should not depend on the last one
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def _write_dense(folder: Path, dense: nn.Sequential) -> None:
    linear, activation = dense
    path = next(path for path, kind in ACTIVATIONS.items() if isinstance(activation, kind))
    shape = {"in_features": linear.in_features, "out_features": linear.out_features, "bias": linear.bias is not None}
    write_json(folder / "config.json", {**shape, "activation_function": path})
    state = {f"linear.{name}": weights for name, weights in linear.state_dict().items()}
    save_file(state, folder / "model.safetensors")
