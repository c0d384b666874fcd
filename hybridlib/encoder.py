"""Text to vectors: a transformers encoder, a pooling, prefixes and a fast `encode()`; reading, naming and saving it.

Shapes: B texts of a batch, T its tokens, H the backbone's width, D the width of the vectors, N texts.
"""

from __future__ import annotations

import copy
import importlib.resources
import logging
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto as auto
from transformers.utils import logging as transformers_logging

from hybridlib.files import fetch_folder, read_json, replace_folder, sha256_of, write_json

MAX_WASTE = 0.05  # share of a batch's tokens that may be padding
TOKENIZED_AT_ONCE = 8192  # texts; a tokenizer's own lists take ten times the memory of the ids kept
PACKED_FROM = 8192  # tokens; for fewer, laying out the weights anew takes longer than it saves
UNLIMITED = 1_000_000  # tokens; transformers writes 1e30 for a tokenizer without a limit
WITHOUT_WEIGHTS = ("*.json", "*.txt", "*.model")  # of a repository: configurations and tokenizers
POOLINGS = ("mean", "cls", "pooler")
SUCH_AS = "name one such as BERT, XLM-R or LaBSE"
logger = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the text names the folder and what to do."""


def _require(condition: object, reason: str, remedy: str = "use another checkpoint") -> None:
    if not condition:
        raise CheckpointError(f"{reason}: {remedy}")


class Encoder(nn.Module):
    """A backbone whose token vectors are pooled, brought through `dense` if there is one, and normalised.

    Attributes: backbone (transformers' model without its pooler), dense (Linear and activation, or None), tokenizer,
    pooling ("mean" over the tokens; "cls", the first token; "pooler", the first token and `dense`, as LaBSE was
    published), query_prefix and passage_prefix (`encode` adds only the prefix it is given), max_length in tokens.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        pooling: str = "mean",
        dense: nn.Sequential | None = None,
        query_prefix: str = "",
        passage_prefix: str = "",
        max_length: int = 512,
    ) -> None:
        super().__init__()
        self.backbone, self.dense, self.tokenizer = backbone, dense, tokenizer
        self.pooling, self.max_length = pooling, max_length
        self.query_prefix, self.passage_prefix = query_prefix, passage_prefix
        shortest, longest = 1 + tokenizer.num_special_tokens_to_add(), _positions(backbone)
        if not shortest <= max_length <= longest:
            raise ValueError(f"max_length is {max_length}: this encoder takes {shortest} to {longest} tokens")

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        pooling: str | None = None,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        max_length: int | None = None,
        dropout: float | None = None,
        device: str | torch.device | None = None,
    ) -> Encoder:
        """Load a sentence-transformers or transformers checkpoint. What is None is as the preset or checkpoint says.

        Args:
            name: a folder; where there is none, a name of PRESETS; else a repository of the hub, at `revision`.
            pooling, query_prefix, passage_prefix, max_length: a checkpoint that says nothing has the mean and no
                prefixes. Another pooling than the checkpoint's leaves its dense layer out.
            dropout: a probability, the same for all layers and in training only.
            device: None: a GPU if there is one.

        Raises:
            CheckpointError: (a ValueError) anything else than a complete encoder of texts.
        """
        _require(pooling in (None, *POOLINGS), f"pooling is {pooling!r}", f"choose one of {', '.join(POOLINGS)}")
        in_range = dropout is None or 0 <= dropout < 1
        _require(in_range, f"dropout is {dropout}", "give a probability from 0 to below 1")
        given = {"pooling": pooling, "max_length": max_length}
        given |= {"query_prefix": query_prefix, "passage_prefix": passage_prefix}
        given = {key: value for key, value in given.items() if value is not None}
        preset = _preset(name)
        if preset:
            name, given = preset.repository, preset.settings | given
        with TemporaryDirectory(ignore_cleanup_errors=True) as whole:
            folder = local_folder(name, revision)
            if preset and preset.tokenizer:
                folder = _with_tokenizer(folder, preset.tokenizer, Path(whole))
            parts = _read_checkpoint(folder, given.get("pooling"), dropout)
        return cls(**parts | given).to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

    @classmethod
    def tiny(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layers: int = 0,
        hidden: int = 128,
        heads: int = 2,
        max_length: int = 64,
        seed: int = 0,
    ) -> Encoder:
        """Make a BertModel with random weights; without layers it is the static-embedding encoder (LayerNorm, mean)."""
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            max_position_embeddings=max_length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = BertModel(config, add_pooling_layer=False)
        return cls(backbone, tokenizer, max_length=max_length).eval()

    def save(self, folder: str | Path) -> None:
        """Write a folder that sentence-transformers 2 to 6 loads, whole or not at all; an older checkpoint is replaced.

        Raises CheckpointError if `folder` holds something else, OSError where it cannot be written.
        """
        folder = Path(folder)
        empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        ours = empty or (folder / "config.json").exists()
        _require(ours, f"{folder} exists and is no checkpoint", "choose another folder or move it away")
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.model_max_length = self.max_length
        if tokenizer.is_fast:  # every call leaves its settings behind; the file should not depend on the last one
            tokenizer.backend_tokenizer.no_truncation()
            tokenizer.backend_tokenizer.no_padding()
        with replace_folder(folder) as new, quiet():
            self.backbone.save_pretrained(new)
            tokenizer.save_pretrained(new)
            _write_modules(new, self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.device

    @property
    def dimension(self) -> int:
        """D, the width of the vectors."""
        return self.dense[0].out_features if self.dense else self.backbone.config.hidden_size

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors (B, D) of length 1 in float32, of token ids (B, T). No mask: no padding, the faster attention."""
        return self._vectors(self.backbone, input_ids, attention_mask)

    def _vectors(
        self, backbone: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        hidden = backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()  # (B, T, H)
        if self.pooling != "mean":
            pooled = hidden[:, 0]
        elif attention_mask is None:
            pooled = hidden.mean(dim=1)
        else:
            mask = attention_mask.unsqueeze(-1).float()  # (B, T, 1)
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return F.normalize(self.dense(pooled) if self.dense else pooled, dim=-1)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with the special tokens, cut to max_length. No prefix is added."""
        if not len(texts):  # transformers has no answer to none
            return []
        kept = {"padding": False, "return_attention_mask": False, "return_token_type_ids": False}
        return self.tokenizer(list(texts), truncation=True, max_length=self.max_length, **kept)["input_ids"]

    def encode(
        self,
        texts: Sequence[str],
        *,
        prefix: str = "",
        batch_tokens: int = 1024,
        dtype: torch.dtype | None = None,
        progress: bool = False,
    ) -> torch.Tensor:
        """Vectors (N, D) in float32 on the CPU, in the order of `texts`; equal texts are encoded once.

        prefix: put before each text. batch_tokens: tokens of a batch, padding included (a GPU wants more, 16,384 say).
        dtype: the backbone computes in it (torch.bfloat16: faster, less exact); None: in that of its weights. Memory
        beside the vectors: the token ids, 4 bytes each and 100 a text. Raises ValueError naming a bad text, or a text
        whose vector is not finite.
        """
        check_texts(texts)
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct, vectors, was_training = list(rows), torch.empty(len(rows), self.dimension), self.training
        ids = self._token_ids(distinct, prefix)
        self.eval()
        try:
            with tqdm(total=len(rows), unit="text", disable=not progress) as bar:
                for places, batch in self._encode_batches(ids, batch_tokens, dtype):
                    vectors[torch.from_numpy(places)] = batch
                    bar.update(len(places))
        finally:
            self.train(was_training)
        wrong = ~torch.isfinite(vectors).all(dim=1)
        if wrong.any():  # such a vector would be ranked as if it were right
            text = distinct[int(wrong.nonzero()[0])]
            raise ValueError(f"the vector of {text[:60]!r} is not finite: check the weights, or compute in float32")
        return vectors if len(rows) == len(texts) else vectors[torch.tensor([rows[text] for text in texts])]

    def _token_ids(self, texts: list[str], prefix: str) -> list[np.ndarray]:
        ids = []
        for start in range(0, len(texts), TOKENIZED_AT_ONCE):
            part = self.tokenize([prefix + text for text in texts[start : start + TOKENIZED_AT_ONCE]])
            ids += [np.array(tokens, np.int32) for tokens in part]
        empty = next((text for text, tokens in zip(texts, ids, strict=True) if not len(tokens)), None)
        if empty is not None:
            raise ValueError(f"the text {empty!r} has no tokens: leave it out or use a tokenizer with special tokens")
        return ids

    def _encode_batches(
        self, ids: list[np.ndarray], batch_tokens: int, dtype: torch.dtype | None
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Places of texts in `ids` and their vectors on the CPU, batch by batch."""
        lengths = np.array([len(tokens) for tokens in ids], np.int64)
        pad, device = self.tokenizer.pad_token_id or 0, self.device
        backbone = self.backbone if dtype in (None, self.backbone.dtype) else copy.deepcopy(self.backbone).to(dtype)
        if device.type == "cpu" and lengths.sum() >= PACKED_FROM:
            backbone = with_packed_weights(backbone)

        @torch.inference_mode()  # here, because the mode belongs to a thread
        def vectors_of(places: np.ndarray) -> torch.Tensor:
            input_ids, mask = _padded([ids[place] for place in places], pad)
            return self._vectors(backbone, input_ids.to(device), None if mask is None else mask.to(device)).cpu()

        batches = plan_batches(lengths, batch_tokens)
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        yield from zip(batches, _map_in_threads(vectors_of, batches, threads), strict=True)


def _map_in_threads(function: Callable, items: Sequence, threads: int) -> Iterator:
    """The results in order, each item on one thread: all threads on one item would wait for each other all the time."""
    if min(threads, len(items)) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield from pool.map(function, items)
        finally:
            torch.set_num_threads(threads)  # the last call of it, in whatever thread, is what new threads start with


def with_packed_weights(backbone: nn.Module) -> nn.Module:
    """Copy a model for inference on a CPU whose linear layers hold weights as oneDNN multiplies them, laid out once.

    The model itself where torch cannot do so: its operators for it are private, and whatever another version of torch
    makes of them, encoding goes on without.
    """
    weights = {id(tensor): tensor for tensor in chain(backbone.parameters(), backbone.buffers())}
    dtype = next(iter(weights.values())).dtype
    packed = copy.deepcopy(backbone, weights)  # with the weights of the model, not a copy of them
    try:
        onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
        bf16 = dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if not (onednn and (bf16 or dtype == torch.float32)):
            return backbone
        for layer in packed.modules():
            if type(layer) is nn.Linear:
                layer.forward = _packed_product(layer)
                layer(layer.weight[:1])  # a trial: it raises where the operator has changed
    except Exception as error:  # nobody promises what private operators raise
        logger.warning("weights are not packed, which makes encoding slower (%s: %s)", type(error).__name__, error)
        return backbone
    return packed


def _packed_product(linear: nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    weight, bias = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach()), linear.bias
    return lambda inputs: torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


def plan_batches(lengths: np.ndarray, batch_tokens: int, max_waste: float = MAX_WASTE) -> list[np.ndarray]:
    """Cut texts of these token lengths into batches, longest first: arrays of indices, each index once.

    A batch has at most `batch_tokens` tokens with padding (a longer text stands alone) and less than a share of
    `max_waste` of them are padding: neighbouring lengths share a batch only as far as that allows.
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens is {batch_tokens}: give at least 1")
    order = np.argsort(-np.asarray(lengths), kind="stable")
    ordered = np.asarray(lengths)[order]
    batches, start = [], 0
    while start < len(order):
        window = ordered[start : start + max(1, batch_tokens // ordered[start])]
        padded = window[0] * np.arange(1, len(window) + 1)
        # Lengths fall, so the share of padding only grows with each text taken.
        size = int(np.count_nonzero(padded - np.cumsum(window) < max_waste * padded))
        batches.append(order[start : start + size])
        start += size
    return batches


def _padded(ids: list[np.ndarray], pad: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Ids (B, T) of texts, the longest first, and their mask; no mask where all are equally long."""
    mask = np.arange(len(ids[0])) < np.array([len(tokens) for tokens in ids])[:, None]  # (B, T)
    padded = np.full(mask.shape, pad, np.int64)
    padded[mask] = np.concatenate(ids)
    return torch.from_numpy(padded), None if mask.all() else torch.from_numpy(mask.astype(np.int64))


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what cannot be tokenized, by a ValueError that says which text it is."""
    if isinstance(texts, str):
        raise ValueError("texts is one string: give a list of texts")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{place}] is of type {type(text).__name__}: every text must be a str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"texts[{place}] holds half a character ({error}): repair it or leave it out") from error


# ---- names of checkpoints


@dataclass(frozen=True)
class Preset:
    """How one published encoder is used; data/encoders.toml says what each attribute is."""

    repository: str
    pooling: str
    max_length: int
    source: str
    choice: str
    query_prefix: str = ""
    passage_prefix: str = ""
    paper_prefixes: bool = False
    family: str | None = None
    tokenizer: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters of `Encoder.load`."""
        return {name: getattr(self, name) for name in ("pooling", "query_prefix", "passage_prefix", "max_length")}


_TOML = importlib.resources.files("hybridlib").joinpath("data/encoders.toml").read_text(encoding="utf-8")
PRESETS = {name: Preset(**entry) for name, entry in tomllib.loads(_TOML).items()}


def _preset(name: str | Path) -> Preset | None:
    """The preset of that name; a folder of that name goes before it."""
    return None if Path(name).is_dir() else PRESETS.get(str(name))


def identity(name: str | Path, revision: str | None = None) -> dict[str, Any]:
    """Describe as JSON what decides a checkpoint's vectors, for the keys of runs: it changes whenever they may change.

    That is of a folder the SHA-256 of every file in it, hidden ones left out; of a preset its settings and the commits
    of its repositories; of a repository its commit. Name, revision and errors are those of `Encoder.load`.
    """
    preset = _preset(name)
    if preset is None and Path(name).is_dir():
        folder = local_folder(name, revision)
        files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
        shown = [inside for inside in files if not any(part.startswith(".") for part in inside.parts)]
        return {"files": {inside.as_posix(): sha256_of(files[inside]) for inside in shown}}
    revisions = {preset.repository if preset else str(name): revision}
    revisions |= {preset.tokenizer: None} if preset and preset.tokenizer else {}
    with quiet():
        commits = {repo: _snapshot(repo, revision, "config.json").name for repo, revision in revisions.items()}
    return {"commits": commits} | ({"settings": preset.settings} if preset else {})


def local_folder(name: str | Path, revision: str | None = None) -> Path:
    """Find a checkpoint's folder: that of this name, else that of the hub's repository, downloaded into its cache."""
    if Path(name).is_dir():
        _require(revision is None, f"{name} is a folder, and only the hub has revisions", f"leave {revision!r} out")
        return Path(name)
    # A Dense is often left a pickle where the large weights have been converted.
    folder = _snapshot(name, revision, *WITHOUT_WEIGHTS, "*.safetensors", "*Dense/pytorch_model.bin")
    if not any(folder.glob("*.safetensors")):
        _snapshot(name, revision, "*pytorch_model*.bin")
    return folder


def _snapshot(name: str | Path, revision: str | None, *patterns: str) -> Path:
    try:
        return fetch_folder(str(name), patterns, revision=revision)
    except (OSError, ValueError) as error:
        presets = "" if "/" in str(name) else f" and no preset ({', '.join(PRESETS)})"
        raise CheckpointError(f"{name} is not a folder here{presets}, and as a hub repository: {error}") from error


def _with_tokenizer(folder: Path, tokenizer: str, whole: Path) -> Path:
    """Bring the configuration and weights of one folder and the tokenizer of a repository together in another."""
    for path in (folder / "config.json", *folder.glob("*.safetensors*"), *folder.glob("pytorch_model*")):
        shutil.copy(path, whole)
    with quiet():
        AutoTokenizer.from_pretrained(_snapshot(tokenizer, None, *WITHOUT_WEIGHTS)).save_pretrained(whole)
    return whole


# ---- reading

LAYOUT = "Transformer Pooling( Dense)?( Normalize)?"
TANH, IDENTITY = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"
# What the files of Transformer and Dense may set: these to any value, others to one of these values or to nothing.
SETTINGS = ("max_seq_length", "do_lower_case", "modality_config", "unpad_inputs", "in_features", "out_features", "bias")
VALUES = ("feature-extraction", "token_embeddings", "sentence_embedding", TANH, IDENTITY, None, False, "", [], {})


def _read_checkpoint(folder: Path, pooling: str | None, dropout: float | None) -> dict[str, Any]:
    """Read a folder as the arguments of `Encoder`, complete and checked. No code that comes with it is run."""
    with reading(folder):
        root = _check_folder(folder)
        config = AutoConfig.from_pretrained(root, trust_remote_code=False)
        kinds = {*auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, *auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
        encodes = config.model_type in kinds and not getattr(config, "is_decoder", False)
        _require(encodes, f"{root} is no encoder ({config.model_type})", SUCH_AS)
        names = [name for name in config.to_dict() if "dropout" in name and getattr(config, name) is not None]
        parts = _load_modules(folder, {} if dropout is None else dict.fromkeys(names, dropout))
        if pooling not in (None, parts["pooling"]):
            parts |= {"pooling": pooling, "dense": None}
        backbone, use_pooler = parts["backbone"], parts["pooling"] == "pooler" and parts["dense"] is None
        alone = not hasattr(backbone, "decoder")
        _require(alone, f"{root} is no encoder ({config.model_type}), nor is its encoder read alone", SUCH_AS)
        # Loaded once more, without its weights ("meta"): sentence-transformers does not pass the report on.
        options = {"trust_remote_code": False, "weights_only": True, "device_map": "meta", "output_loading_info": True}
        _, report = type(backbone).from_pretrained(root, config=backbone.config, **options)
        lacking = [name for name in report["missing_keys"] if use_pooler or not name.startswith("pooler.")]
        check_complete(root, lacking, parts["tokenizer"])
        tokens, rows = len(parts["tokenizer"]), backbone.get_input_embeddings().num_embeddings
        matching = f"{root} has {tokens} tokens but {rows} token vectors"
        _require(tokens <= rows, matching, "fetch the tokenizer of this encoder")
        pooler = getattr(backbone, "pooler", None)
        if use_pooler:  # LaBSE was published with it
            as_bert = isinstance(getattr(pooler, "dense", None), nn.Linear) and isinstance(pooler.activation, nn.Tanh)
            _require(as_bert, f"{root} has no pooler as BERT has", "choose pooling mean or cls")
            parts["dense"] = nn.Sequential(pooler.dense, nn.Tanh())
        if pooler is not None:
            backbone.pooler = None  # weights without gradients would stop training in several processes
    return parts | {"max_length": int(min(parts["max_length"], _positions(backbone)))}


def _check_folder(folder: Path) -> Path:
    """Refuse, before it is loaded, what brings code, leaves the folder or is not read here; the model's own folder."""
    plain = not (folder / "modules.json").exists()
    known = not plain or (folder / "config.json").exists()
    _require(known, f"{folder} has no modules.json or config.json", "name the folder of a checkpoint")
    modules = [] if plain else read_json(folder / "modules.json")
    for kind, path in ((module["type"], PurePath(module["path"])) for module in modules):
        known = kind.startswith("sentence_transformers.")
        _require(known, f"{folder} comes with code of its own ({kind}), never run here")
        inside = not path.is_absolute() and ".." not in path.parts
        _require(inside, f"{folder / 'modules.json'} points outside of its folder ({path})")
    places = {module["type"].rpartition(".")[2]: folder / module["path"] for module in modules}
    what = f"{folder} consists of {', '.join(places)}: only Transformer, Pooling and after them Dense and Normalize"
    _require(
        plain or re.fullmatch(LAYOUT, " ".join(places)) and len(places) == len(modules), f"{what} are read, each once"
    )
    root = places.get("Transformer", folder)
    dense = [places["Dense"] / "config.json"] if "Dense" in places else []
    for path in (*root.glob("sentence_*_config.json"), *dense):
        for key, value in read_json(path).items():
            _require(key in SETTINGS or value in VALUES, f"{path} sets {key} to {value!r}, which is not read here")
    whole = not (root / "adapter_config.json").exists()
    _require(whole, f"{root} is an adapter of another model", "merge it into that model and save the whole")
    return root


def _load_modules(folder: Path, config_options: dict[str, float]) -> dict[str, Any]:
    """Load a folder with sentence-transformers: the arguments of `Encoder` as the folder says, weights in float32.

    Only this function touches sentence-transformers, whose modules have moved between its versions; to it, a folder
    without modules.json is a plain transformers checkpoint, and the mean is its pooling.
    """
    from sentence_transformers import SentenceTransformer  # takes a second, and only loading needs it

    options = {"device": "cpu", "local_files_only": True, "trust_remote_code": False, "config_kwargs": config_options}
    weights = {"dtype": torch.float32, "weights_only": True}
    model = SentenceTransformer(str(folder), model_kwargs=weights, **options)
    transformer, pool, *others = model
    dense = next((nn.Sequential(m.linear, m.activation_function) for m in others if hasattr(m, "linear")), None)
    prompt = "" if pool.include_prompt else " without the prompt"
    read = pool.pooling_mode in ("mean", "cls") and not prompt
    _require(read, f"{folder} pools by {pool.pooling_mode}{prompt}, not by mean or cls")
    prompts = model.prompts  # passages go by three names; an empty "document" may be there by itself
    return {
        "backbone": transformer.auto_model,
        "tokenizer": transformer.tokenizer,
        "pooling": "pooler" if pool.pooling_mode == "cls" and dense else pool.pooling_mode,
        "dense": dense,
        "query_prefix": prompts.get("query") or "",
        "passage_prefix": next(filter(None, map(prompts.get, ("document", "passage", "corpus"))), ""),
        "max_length": model.max_seq_length or UNLIMITED,
    }


def check_complete(folder: Path, lacking: Collection[str], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse weights and a tokenizer that no file holds: transformers makes them up, without a word."""
    weights = f"{len(lacking)} weights ({min(lacking, default='')}, ...)"
    _require(not lacking, f"{folder} lacks {weights}", "fetch the whole checkpoint")
    made_up = set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens)
    _require(not made_up, f"{folder} has no tokenizer", "fetch tokenizer.json or the vocabulary as well")


def _positions(backbone: PreTrainedModel) -> int:
    """How many tokens a text may have; RoBERTa and its heirs count positions from padding_idx + 1."""
    for module in backbone.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding):
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    return getattr(backbone.config, "max_position_embeddings", None) or UNLIMITED


@contextmanager
def reading(folder: Path, what: str = "encoder") -> Iterator[None]:
    """Turn what the libraries raise over missing, torn and locked files into one error that names the folder.

    Their warnings are silenced, as what they warn of is checked here. Warns itself where weights are a pickle.
    """
    for place in {path.parent for path in folder.rglob("pytorch_model*.bin")}:
        if not any(place.glob("model*.safetensors")):
            logger.warning("%s: the weights are a pickle, read by torch.load(weights_only=True)", place)
    try:
        with quiet():
            yield
    except Exception as error:  # OSError, RuntimeError, KeyError, SafetensorError, UnpicklingError and more
        locked = next((path for path in folder.rglob("*") if not os.access(path, os.R_OK)), None)
        if locked:
            raise CheckpointError(f"{locked} may not be read: change its permissions") from error
        if isinstance(error, CheckpointError):
            raise
        advice = "install or update that package" if isinstance(error, ImportError) else "fetch the checkpoint again"
        if any(folder.rglob("*.model")):  # SentencePiece: without the packages, what is raised does not name them
            advice += ", and pip install sentencepiece protobuf, which its tokenizer may need"
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise CheckpointError(f"{folder} is no complete {what} ({reason}): {advice}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars and all warnings."""
    bars, level = transformers_logging.is_progress_bar_enabled(), logging.root.manager.disable
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
        if bars:
            transformers_logging.enable_progress_bar()


# ---- writing


def _write_modules(folder: Path, encoder: Encoder) -> None:
    """Write what sentence-transformers reads beside the backbone, with class paths of its versions 2 to 6."""
    passage, mean = encoder.passage_prefix, encoder.pooling == "mean"
    prompts = {"query": encoder.query_prefix, "document": passage, "passage": passage}
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", settings)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": encoder.max_length, "do_lower_case": False})
    names = ["Transformer", "Pooling", *(["Dense"] if encoder.dense else []), "Normalize"]
    paths = ["", *(f"{place}_{name}" for place, name in enumerate(names[1:], start=1))]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{name}"}
        for place, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    pooling = {"pooling_mode_cls_token": not mean, "pooling_mode_mean_tokens": mean}
    width = encoder.backbone.config.hidden_size
    write_json(folder / paths[1] / "config.json", {"word_embedding_dimension": width, **pooling})
    if encoder.dense:
        linear, activation = encoder.dense
        shape = {"in_features": width, "out_features": linear.out_features, "bias": linear.bias is not None}
        shape["activation_function"] = TANH if isinstance(activation, nn.Tanh) else IDENTITY
        write_json(folder / paths[2] / "config.json", shape)
        state = {f"linear.{name}": weights for name, weights in linear.state_dict().items()}
        save_file(state, folder / paths[2] / "model.safetensors")
    (folder / paths[-1]).mkdir()
