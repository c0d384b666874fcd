"""Text to vectors: a transformers encoder, a pooling, prefixes and a fast `encode()`; reading, naming and saving it.

Shapes: B texts of a batch, T its tokens, H the backbone's width, D the width of the vectors, N texts.
"""

from __future__ import annotations

import copy
import importlib.resources
import logging
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import snapshot_download
from safetensors.torch import save_file
from tokenizers import normalizers
from torch import nn
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer, BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import is_protobuf_available, is_sentencepiece_available
from transformers.utils import logging as transformers_logging

from hybridlib.files import explained, parse_json, replace_folder, sha256_of, verify, write_json

MAX_WASTE = 0.05  # share of a batch's tokens that may be padding
TOKENIZED_AT_ONCE = 8192  # texts; a tokenizer's own lists take ten times the memory of the ids kept
PACKED_DTYPES = (torch.float32, torch.bfloat16)
PACKED_FROM = 8192  # tokens; for fewer, laying out the weights anew takes longer than it saves
UNLIMITED = 1_000_000  # tokens; transformers writes 1e30 for a tokenizer without a limit
POOLINGS = ("mean", "cls", "pooler")
TANH = "torch.nn.modules.activation.Tanh"
ACTIVATIONS = {TANH: nn.Tanh, "torch.nn.modules.linear.Identity": nn.Identity}
logger = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the text names the folder and what to do."""


def _require(condition: object, message: str) -> None:
    if not condition:
        raise CheckpointError(message)


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
        shortest, longest = 1 + tokenizer.num_special_tokens_to_add(), _positions(backbone) or max_length
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
        """Load a sentence-transformers or transformers checkpoint.

        Args:
            name: a folder; where there is none, a name of PRESETS; else a repository of the hub, at `revision`.
            pooling, query_prefix, passage_prefix, max_length: None: as the preset, else the checkpoint says; without
                a pooling of its own "mean", without prompts no prefix. Another pooling leaves the checkpoint's own
                dense layer out.
            dropout: a probability, the same for all layers and in training only; None: as the checkpoint says.
            device: None: a GPU if there is one.

        Raises:
            CheckpointError: (a ValueError) anything else than a complete encoder of texts.
        """
        _require(pooling in (None, *POOLINGS), f"pooling is {pooling!r}: choose one of {', '.join(POOLINGS)}")
        in_range = dropout is None or 0 <= dropout < 1
        _require(in_range, f"dropout is {dropout}: give a probability from 0 to below 1")
        preset, given = _preset(name), {"pooling": pooling, "max_length": max_length}
        given |= {"query_prefix": query_prefix, "passage_prefix": passage_prefix}
        settings = preset.settings if preset else {}
        settings |= {key: value for key, value in given.items() if value is not None}
        folder = local_folder(preset.repository if preset else name, revision)
        with _with_tokenizer(folder, preset.tokenizer) if preset and preset.tokenizer else nullcontext(folder) as whole:
            parts = _read_checkpoint(whole, settings.get("pooling"), dropout)
        return cls(**parts | settings).to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

    @classmethod
    def tiny(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        *,
        layers: int = 0,
        hidden: int = 128,
        heads: int = 2,
        max_length: int = 64,
        dropout: float = 0.0,
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
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
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
        ours = (
            not folder.exists() or (folder / "config.json").exists() or (folder.is_dir() and not any(folder.iterdir()))
        )
        _require(ours, f"{folder} exists and is no checkpoint: choose another folder or move it away")
        with replace_folder(folder) as new, quiet():
            self.backbone.save_pretrained(new)
            _write_tokenizer(new, self)
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
        beside the vectors: the token ids, 4 bytes each. Raises ValueError naming a bad text, or a text whose vector is
        not finite.
        """
        rows = _unique_rows(texts)
        vectors = torch.empty(len(rows), self.dimension)
        was_training = self.training
        self.eval()
        try:
            for places, batch in self._encode_batches(list(rows), prefix, batch_tokens, dtype, progress):
                vectors[torch.from_numpy(places)] = batch
        finally:
            self.train(was_training)
        _check_finite(vectors, rows)
        return vectors if len(rows) == len(texts) else vectors[torch.tensor([rows[text] for text in texts])]

    def _encode_batches(
        self, texts: list[str], prefix: str, batch_tokens: int, dtype: torch.dtype | None, progress: bool
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Rows of `texts` and their vectors on the CPU, batch by batch."""
        tokens = _Tokens.of(self, texts, prefix)
        pad, device = self.tokenizer.pad_token_id or 0, self.device
        backbone = self.backbone if dtype in (None, self.backbone.dtype) else copy.deepcopy(self.backbone).to(dtype)
        if device.type == "cpu" and len(tokens.ids) >= PACKED_FROM:
            backbone = _with_packed_weights(backbone)

        @torch.inference_mode()  # here, because the mode belongs to a thread
        def vectors_of(places: np.ndarray) -> torch.Tensor:
            input_ids, mask = tokens.batch(places, pad)
            return self._vectors(backbone, input_ids.to(device), None if mask is None else mask.to(device)).cpu()

        batches = plan_batches(tokens.lengths, batch_tokens)
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        with tqdm(total=len(texts), unit="text", disable=not progress) as bar:
            for places, batch in zip(batches, _map_in_threads(vectors_of, batches, threads), strict=True):
                yield places, batch
                bar.update(len(places))


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


class _PackedLinear(nn.Module):
    """nn.Linear whose weights lie as oneDNN multiplies them, which saves it laying them out at every call."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach()), linear.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")


def _with_packed_weights(backbone: PreTrainedModel) -> PreTrainedModel:
    """Copy a backbone for inference on a CPU, its linear layers packed; the backbone itself where torch cannot do so.

    torch's operators for it are private: whatever another version of torch makes of them, encoding goes on without.
    """
    dtype = backbone.dtype
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled and dtype in PACKED_DTYPES):
        return backbone
    shared = {id(tensor): tensor for tensor in chain(backbone.parameters(), backbone.buffers())}
    packed = copy.deepcopy(backbone, shared)
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return backbone
        for parent in list(packed.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Linear:
                    layer = _PackedLinear(child)
                    layer(child.weight[:1])  # a trial: it raises where the operator has changed
                    setattr(parent, name, layer)
    except Exception as error:  # nobody promises what private operators raise
        logger.warning("weights are not packed, which makes encoding slower (%s: %s)", type(error).__name__, error)
        return backbone
    return packed


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


@dataclass(frozen=True)
class _Tokens:
    """Token ids of many texts in one array: text i is ids[starts[i] : starts[i] + lengths[i]]."""

    ids: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, encoder: Encoder, texts: list[str], prefix: str) -> _Tokens:
        """Tokenise texts, each behind the prefix."""
        ids, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for start in range(0, len(texts), TOKENIZED_AT_ONCE):
            part = encoder.tokenize([prefix + text for text in texts[start : start + TOKENIZED_AT_ONCE]])
            lengths.append(np.array([len(tokens) for tokens in part]))
            ids.append(np.fromiter(chain.from_iterable(part), np.int32, int(lengths[-1].sum())))
        tokens = cls(np.concatenate(ids), np.concatenate(lengths), np.cumsum(np.concatenate(lengths)))
        if not tokens.lengths.all():
            empty = texts[int(np.argmin(tokens.lengths))]
            raise ValueError(f"the text {empty!r} has no tokens: leave it out or use a tokenizer with special tokens")
        return replace(tokens, starts=tokens.starts - tokens.lengths)

    def batch(self, rows: np.ndarray, pad: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Ids (B, T) of texts, the longest first, and their mask; no mask where all are equally long."""
        lengths = self.lengths[rows, None]
        place = np.arange(lengths[0, 0])
        mask = place < lengths  # (B, T)
        ids = np.where(mask, self.ids[self.starts[rows, None] + np.minimum(place, lengths - 1)], pad)
        return torch.from_numpy(ids.astype(np.int64)), None if mask.all() else torch.from_numpy(mask.astype(np.int64))


def _unique_rows(texts: Sequence[str]) -> dict[str, int]:
    """Different texts in their order -> 0, 1, 2, ..."""
    if isinstance(texts, str):
        raise ValueError("texts is one string: give a list of texts")
    rows: dict[str, int] = {}
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{place}] is of type {type(text).__name__}: every text must be a str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"texts[{place}] holds half a character ({error}): repair or leave it out") from error
        rows.setdefault(text, len(rows))
    return rows


def _check_finite(vectors: torch.Tensor, rows: dict[str, int]) -> None:
    """A vector that is not a number would be ranked as if it were right."""
    wrong = ~torch.isfinite(vectors).all(dim=1)
    if wrong.any():
        text = list(rows)[int(wrong.nonzero()[0])]
        raise ValueError(f"the vector of {text[:60]!r} is not finite: check the weights, or compute in float32")


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
    """Describe what decides a checkpoint's vectors, for the keys of runs: it changes whenever they may change.

    Args:
        name, revision: as for `Encoder.load`.

    Returns:
        JSON: of a folder the SHA-256 of every file in it, hidden ones left out; of a preset its settings and the
        commits of its repositories; of a repository its commit.

    Raises:
        CheckpointError: (a ValueError) there is no such checkpoint.
    """
    preset = _preset(name)
    if preset:
        commits = {preset.repository: _commit(preset.repository, revision)}
        if preset.tokenizer:
            commits[preset.tokenizer] = _commit(preset.tokenizer)
        return {"settings": preset.settings, "commits": commits}
    if not Path(name).is_dir():
        return {"commits": {str(name): _commit(name, revision)}}
    folder = local_folder(name, revision)
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    shown = [inside for inside in files if not any(part.startswith(".") for part in inside.parts)]
    return {"files": {inside.as_posix(): sha256_of(files[inside]) for inside in shown}}


def local_folder(name: str | Path, revision: str | None = None, *, weights: bool = True) -> Path:
    """Find the folder of that name, or that of the hub's repository in its cache, downloaded where it is lacking.

    weights: without them only configuration and tokenizer are fetched. Raises CheckpointError where there is neither.
    """
    if Path(name).is_dir():
        _require(revision is None, f"{name} is a folder, and only the hub has revisions: leave {revision!r} out")
        return Path(name)
    # A Dense is often left a pickle where the large weights have been converted.
    files = ["*.safetensors", "*Dense/pytorch_model.bin"] if weights else []
    folder = _snapshot(name, revision, ["*.json", "*.txt", "*.model", *files])
    if weights and not any(folder.glob("*.safetensors")):
        _snapshot(name, revision, ["*pytorch_model*.bin"])
    try:
        for path in folder.rglob("*"):
            verify(path, f"{name}, {path.relative_to(folder)}")
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return folder


def _commit(name: str | Path, revision: str | None = None) -> str:
    """The commit that a revision of a repository stands for; the hub's cache names its folders by it."""
    return _snapshot(name, revision, ["config.json"], tqdm_class=_NoBar).name


class _NoBar(tqdm):
    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options | {"disable": True})


def _snapshot(name: str | Path, revision: str | None, patterns: list[str], **options: object) -> Path:
    """Fetch the files of a repository that fit a pattern; the folder of the hub's cache that holds them."""
    name, place = str(name), Path(name)
    elsewhere = place.exists() or place.is_absolute() or len(place.parts) > 2 or name.startswith((".", "~"))
    _require(not elsewhere, f"{name} is not a folder: name the folder of a checkpoint or a repository of the hub")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, **options))
    except Exception as error:  # the hub's client raises its own errors, the network's and the file system's
        reason = explained(error, f"model {name} at {revision or 'main'}")
        presets = "" if "/" in name else f" and no preset ({', '.join(PRESETS)})"
        raise CheckpointError(f"{name} is no folder here{presets}, and as a repository of the hub: {reason}") from error


# ---- reading

# What a folder of sentence-transformers may consist of, and what the file of its Transformer may say.
LAYOUTS = [["Transformer", "Pooling", *d, *n] for d in ([], ["Dense"]) for n in ([], ["Normalize"])]
KNOWN = ("max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name", "unpad_inputs")


def _read_checkpoint(folder: Path, pooling: str | None, dropout: float | None) -> dict[str, Any]:
    """Read a folder as the arguments of `Encoder`, complete and checked. No code that comes with it is run."""
    with clear_errors(folder):
        root = _check_modules(folder)
        with quiet():
            parts = _load_modules(folder, _config_options(root, dropout))
            if pooling not in (None, parts["pooling"]):
                parts |= {"pooling": pooling, "dense": None}
            backbone, use_pooler = parts["backbone"], parts["pooling"] == "pooler" and parts["dense"] is None
            _check_weights(backbone, root, use_pooler)
        _check_tokenizer(parts["tokenizer"], root, backbone)
        if use_pooler:
            parts["dense"] = _own_pooler(backbone, root)
        if hasattr(backbone, "pooler"):
            backbone.pooler = None  # weights without gradients would stop training in several processes
    limits = (parts["max_length"], _positions(backbone) or UNLIMITED, UNLIMITED)
    return parts | {"max_length": int(min(limits))}


def _load_modules(folder: Path, config_options: dict[str, float]) -> dict[str, Any]:
    """Load a folder with sentence-transformers: the arguments of `Encoder` as the folder says, weights in float32.

    Only this function touches sentence-transformers, whose modules have moved between its versions; 5.2 to 6 are read.
    A folder without modules.json is a plain transformers checkpoint, and the mean is its pooling.
    """
    from sentence_transformers import SentenceTransformer  # takes a second, and only loading needs it

    options = {"device": "cpu", "local_files_only": True, "trust_remote_code": False, "config_kwargs": config_options}
    weights = {"dtype": torch.float32, "weights_only": True}
    model = SentenceTransformer(str(folder), model_kwargs=weights, **options)
    transformer, pool, *others = model
    backbone, tokenizer = transformer.auto_model, transformer.tokenizer
    kinds = getattr(pool, "pooling_mode", None) or pool.get_pooling_mode_str()  # a name or several; in 5.2 a name
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    kinds += [] if pool.include_prompt else ["without the prompt"]
    readable = kinds in (["mean"], ["cls"])
    _require(readable, f"{folder} pools by {', '.join(kinds)}: only mean and cls are read, use another checkpoint")
    dense = next((nn.Sequential(m.linear, m.activation_function) for m in others if hasattr(m, "linear")), None)
    fits = not dense or dense[0].in_features == backbone.config.hidden_size
    _require(fits, f"{folder}: its Dense does not take the pooled vector, use another checkpoint")
    if transformer.do_lower_case:  # 5.2 changes the texts, not the tokenizer
        steps = [normalizers.Lowercase(), tokenizer.backend_tokenizer.normalizer]
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([step for step in steps if step is not None])
    prompts = model.prompts  # passages go by three names; an empty "document" may be there by itself
    return {
        "backbone": backbone,
        "tokenizer": tokenizer,
        "pooling": "pooler" if kinds == ["cls"] and dense else kinds[0],
        "dense": dense,
        "query_prefix": prompts.get("query") or "",
        "passage_prefix": next(filter(None, map(prompts.get, ("document", "passage", "corpus"))), ""),
        "max_length": model.max_seq_length or tokenizer.model_max_length,
    }


def _check_modules(folder: Path) -> Path:
    """Refuse modules that bring code, leave the folder or are not read here; the folder of the transformers model."""
    known = any((folder / name).exists() for name in ("modules.json", "config.json"))
    _require(known, f"{folder} has no modules.json or config.json: name the folder of a checkpoint")
    if not (folder / "modules.json").exists():
        return _check_settings(folder)
    modules = _read_json(folder / "modules.json")
    for module in modules:
        kind, path = module["type"], PurePath(module["path"])
        ours = kind.startswith("sentence_transformers.")
        _require(ours, f"{folder} comes with code of its own ({kind}), never run here: use another checkpoint")
        inside = not path.is_absolute() and ".." not in path.parts
        _require(inside, f"{folder / 'modules.json'} points outside of its folder ({path}): use another checkpoint")
    names = [module["type"].rpartition(".")[2] for module in modules]
    what = f"{folder} consists of {', '.join(names)}: only Transformer, Pooling and after them Dense and Normalize"
    _require(names in LAYOUTS, f"{what} are read, use another checkpoint")
    places = {name: folder / module["path"] for name, module in zip(names, modules, strict=True)}
    if "Dense" in places:
        config = _read_json(places["Dense"] / "config.json")
        read = config.get("activation_function", TANH) in ACTIVATIONS and not config.get("use_residual")
        _require(read, f"{places['Dense']} is not Linear and Tanh or Identity: use another checkpoint")
        say_pickle(places["Dense"])
    return _check_settings(places["Transformer"])


def _check_settings(root: Path) -> Path:
    """Refuse what a model's folder sets that is not read here; some would run code or leave the folder."""
    for path in sorted(root.glob("sentence_*_config.json")):
        config = _read_json(path)
        task = config.get("transformer_task", "feature-extraction")
        texts = task == "feature-extraction" and "text" in config.get("modality_config", {"text": None})
        _require(texts, f"{path} describes no encoder of texts (task {task}): use another checkpoint")
        unknown = ", ".join(key for key, value in config.items() if key not in KNOWN and value)
        _require(not unknown, f"{path} sets {unknown}, which is not read here: use another checkpoint")
    whole = not (root / "adapter_config.json").exists()
    _require(whole, f"{root} is an adapter of another model: merge it into that model and save the whole")
    say_pickle(root)
    return root


def _read_json(path: Path) -> Any:
    return parse_json(path.read_bytes(), path)


def say_pickle(folder: Path) -> None:
    """Warn where the weights of a folder are a pickle."""
    if any(folder.glob("pytorch_model*.bin")) and not any(folder.glob("model*.safetensors")):
        logger.warning("%s: the weights are a pickle, read by torch.load(weights_only=True)", folder)


def _config_options(root: Path, dropout: float | None) -> dict[str, float]:
    """What is to change in a model's configuration, its dropouts. Refuses a decoder before it is loaded."""
    config = AutoConfig.from_pretrained(root, trust_remote_code=False)
    kind = config.model_type
    encodes = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    encodes = encodes and not getattr(config, "is_decoder", False)
    _require(encodes, f"{root} is no encoder ({kind}): name one such as BERT, XLM-R or LaBSE")
    names = [name for name in config.to_dict() if "dropout" in name and getattr(config, name) is not None]
    return {} if dropout is None else dict.fromkeys(names, dropout)


def _check_weights(backbone: PreTrainedModel, root: Path, use_pooler: bool) -> None:
    """Refuse a model with a decoder, and weights that no file holds: transformers fills them with random numbers."""
    kind = backbone.config.model_type
    alone = not hasattr(backbone, "decoder")
    _require(alone, f"{root} is no encoder ({kind}), nor is its encoder read alone: name one such as BERT or XLM-R")
    # Loaded once more, without its weights ("meta"): sentence-transformers does not pass the report on.
    options = {"trust_remote_code": False, "weights_only": True, "device_map": "meta", "output_loading_info": True}
    _, report = type(backbone).from_pretrained(root, config=backbone.config, **options)
    missing = sorted(name for name in report["missing_keys"] if use_pooler or not name.startswith("pooler."))
    what = f"{root} lacks {len(missing)} weights ({', '.join(missing[:1])}, ...)"
    _require(not missing, f"{what}: fetch the whole checkpoint")


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, root: Path, backbone: PreTrainedModel) -> None:
    made_up = set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens)  # by transformers, without a word
    _require(not made_up, f"{root} has no tokenizer: fetch tokenizer.json or the vocabulary as well")
    tokens, rows = len(tokenizer), backbone.get_input_embeddings().num_embeddings
    fits = f"{root} has {tokens} tokens but {rows} token vectors: fetch the tokenizer of this encoder"
    _require(tokens <= rows, fits)


def _own_pooler(backbone: PreTrainedModel, root: Path) -> nn.Sequential:
    """BERT's pooler: a Linear and tanh over the first token's vector. LaBSE was published with it."""
    pooler = getattr(backbone, "pooler", None)
    as_bert = isinstance(getattr(pooler, "dense", None), nn.Linear) and isinstance(pooler.activation, nn.Tanh)
    _require(as_bert, f"{root} has no pooler as BERT has: choose pooling mean or cls")
    return nn.Sequential(pooler.dense, nn.Tanh())


def _positions(backbone: PreTrainedModel) -> int | None:
    """How many tokens a text may have; RoBERTa and its heirs count positions from padding_idx + 1. None: no limit."""
    for module in backbone.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding):
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    return getattr(backbone.config, "max_position_embeddings", None)


@contextmanager
def _with_tokenizer(folder: Path, tokenizer: str) -> Iterator[Path]:
    """Give a temporary folder with the configuration and weights of one and the tokenizer of a repository."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as whole:
        for path in (folder / "config.json", *folder.glob("*.safetensors*"), *folder.glob("pytorch_model*")):
            shutil.copy(path, whole)
        with quiet():
            AutoTokenizer.from_pretrained(local_folder(tokenizer, weights=False)).save_pretrained(whole)
        yield Path(whole)


@contextmanager
def clear_errors(folder: Path, what: str = "encoder") -> Iterator[None]:
    """Turn what the libraries raise over missing, torn and locked files into one error that names the folder."""
    try:
        yield
    except Exception as error:  # OSError, RuntimeError, KeyError, SafetensorError, UnpicklingError and more
        locked = next((path for path in folder.rglob("*") if not os.access(path, os.R_OK)), None)
        if locked:
            raise CheckpointError(f"{locked} may not be read: change its permissions") from error
        if isinstance(error, CheckpointError):
            raise
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        advice = "install or update that package" if isinstance(error, ImportError) else "fetch the checkpoint again"
        pieces = [path.name for path in folder.rglob("*.model") if not (path.parent / "tokenizer.json").exists()]
        if pieces and not (is_sentencepiece_available() and is_protobuf_available()):  # what is raised does not say so
            advice = f"its tokenizer is a SentencePiece model ({pieces[0]}), pip install sentencepiece protobuf"
        raise CheckpointError(f"{folder} is no complete {what} ({reason}): {advice}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' progress bars and load reports: what they tell is checked here and raised."""
    bars, peer = transformers_logging.is_progress_bar_enabled(), logging.getLogger("sentence_transformers")
    verbosity, level = transformers_logging.get_verbosity(), peer.level
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    peer.setLevel(logging.ERROR)
    try:
        yield
    finally:
        peer.setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


# ---- writing


def _write_tokenizer(folder: Path, encoder: Encoder) -> None:
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.model_max_length = encoder.max_length
    if tokenizer.is_fast:  # every call leaves its settings behind; the file should not depend on the last one
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def _write_modules(folder: Path, encoder: Encoder) -> None:
    """Write what sentence-transformers reads beside the backbone, with class paths of its versions 2 to 6."""
    passage = encoder.passage_prefix
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
    kinds = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    chosen = "mean_tokens" if encoder.pooling == "mean" else "cls_token"
    flags = {f"pooling_mode_{kind}": kind == chosen for kind in kinds}
    width = encoder.backbone.config.hidden_size
    write_json(folder / paths[1] / "config.json", {"word_embedding_dimension": width, **flags})
    if encoder.dense:
        _write_dense(folder / paths[2], encoder.dense)
    (folder / paths[-1]).mkdir()


def _write_dense(folder: Path, dense: nn.Sequential) -> None:
    linear, activation = dense
    path = next(path for path, kind in ACTIVATIONS.items() if isinstance(activation, kind))
    shape = {"in_features": linear.in_features, "out_features": linear.out_features, "bias": linear.bias is not None}
    write_json(folder / "config.json", {**shape, "activation_function": path})
    state = {f"linear.{name}": weights for name, weights in linear.state_dict().items()}
    save_file(state, folder / "model.safetensors")
