"""Text to vectors: a transformers encoder, a pooling, prefixes and a fast `encode()`.

Shapes: B texts of a batch, T its tokens, H the backbone's width, D the width of the vectors, N texts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm
from transformers import BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerBase

from hybridlib.encoder_checkpoint import Parts, positions, read_checkpoint, write_checkpoint

MAX_WASTE = 0.05  # share of a batch's tokens that may be padding
TOKENIZED_AT_ONCE = 8192  # texts; a tokenizer's own lists take ten times the memory of the ids kept
PACKED_FROM = 8192  # tokens; for fewer, laying out the weights anew takes longer than it saves


class Encoder(nn.Module):
    """A backbone whose token vectors are pooled, brought through `dense` if there is one, and normalised.

    Attributes: backbone (transformers' model without its pooler), dense (Linear and activation, or None), tokenizer,
    pooling ("mean" over the tokens; "cls", the first token; "pooler", the first token and `dense`, as LaBSE was
    published), query_prefix and passage_prefix (`encode` adds only the prefix it is given), max_length in tokens,
    codes (of mBART, M2M-100 and NLLB-200, which want each text's language; else None).
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.backbone, self.dense, self.tokenizer = parts.backbone, parts.dense, parts.tokenizer
        self.pooling, self.max_length = parts.pooling, parts.max_length
        self.query_prefix, self.passage_prefix = parts.query_prefix, parts.passage_prefix
        self.codes = parts.codes
        shortest = 1 + self.tokenizer.num_special_tokens_to_add()
        longest = positions(self.backbone) or self.max_length
        if not shortest <= self.max_length <= longest:
            raise ValueError(f"max_length is {self.max_length}: this encoder takes {shortest} to {longest} tokens")

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        pooling: str | None = None,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        max_length: int | None = None,
        dropout: float | None = None,
        revision: str | None = None,
        tokenizer: str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> Encoder:
        """A sentence-transformers or transformers checkpoint, from a folder or from the hub at `revision`.

        What is None is as the checkpoint says: without a pooling of its own "mean", without prompts no prefix. The
        device is then a GPU if there is one. `dropout` is a probability, the same for all layers and in training only.
        `tokenizer` names another folder or repository to take it from. Of mBART, M2M-100, NLLB-200 and mT5 the encoder
        is loaded; all but mT5 want each text's language, see `encode`.
        Raises CheckpointError (a ValueError) for anything else than a complete encoder.
        """
        parts = read_checkpoint(
            name_or_folder, pooling=pooling, dropout=dropout, revision=revision, tokenizer=tokenizer
        )
        given = {"query_prefix": query_prefix, "passage_prefix": passage_prefix, "max_length": max_length}
        encoder = cls(replace(parts, **{name: value for name, value in given.items() if value is not None}))
        return encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

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
        """A BertModel with random weights. No layers: the static-embedding encoder (embeddings, LayerNorm, mean)."""
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
        return cls(Parts(backbone, tokenizer, "mean", max_length=max_length)).eval()

    def save(self, folder: str | Path) -> None:
        """Write a sentence-transformers folder, whole or not at all; an older checkpoint there is replaced.

        Raises CheckpointError if `folder` holds something else or the encoder wants language codes, which such a folder
        cannot say, OSError where it cannot be written.
        """
        prefixes = {"query_prefix": self.query_prefix, "passage_prefix": self.passage_prefix}
        about = {"max_length": self.max_length, "codes": self.codes, **prefixes}
        parts = Parts(self.backbone, self.tokenizer, self.pooling, self.dense, **about)
        write_checkpoint(folder, parts)

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

    def tokenize(self, texts: Sequence[str], languages: Sequence[str] | None = None) -> list[list[int]]:
        """Token ids with the special tokens, cut to max_length. No prefix is added. `languages` as in `encode`."""
        kept = {"padding": False, "return_attention_mask": False, "return_token_type_ids": False}
        spoken = self._spoken(texts, languages)
        if not len(texts):  # transformers has no answer to none
            return []
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.max_length, **kept)["input_ids"]
        if self.codes:
            self.codes.put(ids, spoken)
        return ids

    def _spoken(self, texts: Sequence[str], languages: Sequence[str] | None) -> Sequence[str | None]:
        """The language of each text; None for all where the encoder does not ask for it."""
        if self.codes is None:
            return [None] * len(texts)
        self.codes.check(languages, texts)
        return languages

    def encode(
        self,
        texts: Sequence[str],
        *,
        prefix: str = "",
        languages: Sequence[str] | None = None,
        batch_tokens: int = 1024,
        dtype: torch.dtype | None = None,
        progress: bool = False,
    ) -> torch.Tensor:
        """Vectors (N, D) in float32 on the CPU, in the order of `texts`; equal texts are encoded once.

        prefix: put before each text. languages: of each text (ISO 639-1); encoders with language codes must have them,
        others take no notice. batch_tokens: tokens of a batch, padding included (a GPU wants more, 16,384 say). dtype:
        the backbone computes in it (torch.bfloat16: faster, less exact); None: in that of its weights. Memory beside
        the vectors: the token ids, 4 bytes each. Raises ValueError naming a bad text or language, or a text whose
        vector is not finite.
        """
        spoken = self._spoken(texts, languages)
        rows = _unique_rows(texts, spoken)  # text and language -> row of `vectors`
        vectors = torch.empty(len(rows), self.dimension)
        was_training = self.training
        self.eval()
        try:
            for places, batch in self._encode_batches(list(rows), prefix, batch_tokens, dtype, progress):
                vectors[torch.from_numpy(places)] = batch
        finally:
            self.train(was_training)
        _check_finite(vectors, rows)
        if len(rows) == len(texts):
            return vectors
        return vectors[torch.tensor([rows[key] for key in zip(texts, spoken, strict=True)], dtype=torch.long)]

    def _encode_batches(
        self,
        texts: list[tuple[str, str | None]],
        prefix: str,
        batch_tokens: int,
        dtype: torch.dtype | None,
        progress: bool,
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
    """The same backbone for inference on a CPU, its linear layers packed; itself where torch cannot do so."""
    dtype = backbone.dtype
    supported = dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled and supported):
        return backbone
    shared = {id(tensor): tensor for tensor in chain(backbone.parameters(), backbone.buffers())}
    packed = copy.deepcopy(backbone, shared)
    for parent in list(packed.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, _PackedLinear(child))
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
    def of(cls, encoder: Encoder, texts: list[tuple[str, str | None]], prefix: str) -> _Tokens:
        """Those of texts, each with its language."""
        ids, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for start in range(0, len(texts), TOKENIZED_AT_ONCE):
            some = texts[start : start + TOKENIZED_AT_ONCE]
            part = encoder.tokenize([prefix + text for text, _ in some], [lang for _, lang in some])
            lengths.append(np.array([len(tokens) for tokens in part]))
            ids.append(np.fromiter(chain.from_iterable(part), np.int32, int(lengths[-1].sum())))
        tokens = cls(np.concatenate(ids), np.concatenate(lengths), np.cumsum(np.concatenate(lengths)))
        if not tokens.lengths.all():
            empty, _ = texts[int(np.argmin(tokens.lengths))]
            raise ValueError(f"the text {empty!r} has no tokens: leave it out or use a tokenizer with special tokens")
        return replace(tokens, starts=tokens.starts - tokens.lengths)

    def batch(self, rows: np.ndarray, pad: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Ids (B, T) of texts, the longest first, and their mask; no mask where all are equally long."""
        lengths = self.lengths[rows, None]
        place = np.arange(lengths[0, 0])
        mask = place < lengths  # (B, T)
        ids = np.where(mask, self.ids[self.starts[rows, None] + np.minimum(place, lengths - 1)], pad)
        return torch.from_numpy(ids.astype(np.int64)), None if mask.all() else torch.from_numpy(mask.astype(np.int64))


def _unique_rows(texts: Sequence[str], spoken: Sequence[str | None]) -> dict[tuple[str, str | None], int]:
    """Different texts, each with its language, in their order -> 0, 1, 2, ..."""
    if isinstance(texts, str):
        raise ValueError("texts is one string: give a list of texts")
    rows: dict[tuple[str, str | None], int] = {}
    for place, (text, lang) in enumerate(zip(texts, spoken, strict=True)):
        if not isinstance(text, str):
            raise ValueError(f"texts[{place}] is of type {type(text).__name__}: every text must be a str")
        if not text.isascii():
            _check_unicode(place, text)
        rows.setdefault((text, lang), len(rows))
    return rows


def _check_finite(vectors: torch.Tensor, rows: dict[tuple[str, str | None], int]) -> None:
    """A vector that is not a number would be ranked as if it were right."""
    wrong = ~torch.isfinite(vectors).all(dim=1)
    if wrong.any():
        text, _ = list(rows)[int(wrong.nonzero()[0])]
        raise ValueError(f"the vector of {text[:60]!r} is not finite: check the weights, or compute in float32")


def _check_unicode(place: int, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"texts[{place}] holds half a character ({error}): repair or leave out this text") from error
