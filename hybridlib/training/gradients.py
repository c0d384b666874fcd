"""Loss and gradients of a global batch: texts cut into length-sorted parts, over several processes, cached or not.

Each process encodes the texts of its slice of the batch. The vectors of all are gathered, every process computes the
loss of the whole batch from them, and sends the gradient of its own vectors back through the encoder. So a batch has
the same loss and, summed over the processes, the same gradients however it is spread.

Cached (Gao et al. 2021, arXiv 2101.06983): vectors are first computed without a graph, then part by part again with
one, so the memory is that of one part, for a third more computing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import gather

from hybridlib.corpora.base import ParallelPairs
from hybridlib.encoder import Encoder, plan_batches
from hybridlib.loss import info_nce, not_negatives
from hybridlib.sampler import Batch
from hybridlib.training.settings import TrainingSettings
from hybridlib.training.tokens import TokenizedPairs, padded

CPU_TOKENS, GPU_TOKENS = 1536, 32768  # of a part where the settings leave it open
MULTIPLE = 8  # tokens: lengths are padded to it, since oneDNN keeps a kernel for each, and tensor cores like it
MAX_WASTE = 0.2  # share of a part's tokens that may be padding: less makes so many parts that their start costs more
DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}  # by `TrainingSettings.precision`
WHOLE = float("inf")  # all queries together, and all passages


@dataclass(frozen=True, eq=False)
class PreparedBatch:
    """Token ids of one process's texts, and all of the global batch that its loss needs.

    Attributes:
        batch: the global batch, B pairs.
        ids: token ids of this process's texts: the queries of its pairs, their passages, their explicit negatives.
        queries: number of them among these.
        sizes: number of texts of each process.
        query, column: places of the B queries and of the P columns (passages, then negatives) among the texts of all
            processes, one after the other.
        mask: (B, P) True where a column is no negative of the query.
    """

    batch: Batch
    ids: list[np.ndarray]
    queries: int
    sizes: list[int]
    query: torch.Tensor
    column: torch.Tensor
    mask: torch.Tensor


def prepare(
    tokens: TokenizedPairs, batch: Batch, settings: TrainingSettings, process: int = 0, processes: int = 1
) -> PreparedBatch:
    """Tokenise a process's slice of the batch, and find out which passages are no negatives of which queries."""
    corpus, share = tokens.corpus, batch.slice(process, processes)
    slices = [batch.slice(i, processes) for i in range(processes)]
    negatives = [_negatives(corpus, part, settings.negatives) for part in slices]
    ids = tokens.query_ids(corpus.query_rows[share.pair], share.query_lang)
    ids += tokens.passage_ids(corpus.passage_rows[share.pair], share.passage_lang)
    ids += tokens.passage_ids(*negatives[process])
    counts = np.array([(len(part), len(part), len(rows)) for part, (rows, _) in zip(slices, negatives, strict=True)])
    places = torch.arange(counts.sum()).split(counts.flatten().tolist())
    query, column = torch.cat(places[0::3]), torch.cat(places[1::3] + places[2::3])
    mask = _mask(corpus, batch, *map(np.concatenate, zip(*negatives, strict=True)), settings.mask_translations)
    return PreparedBatch(batch, ids, len(share), counts.sum(axis=1).tolist(), query, column, mask)


class Gradients:
    """Computes the loss of prepared batches and leaves its gradients in the encoder's parameters.

    Args:
        encoder: on the device of its process.
        settings: of the training run.
        processes: those that share a batch.

    Raises:
        ValueError: the settings ask for torch.compile, which does not work on this machine.
    """

    def __init__(self, encoder: Encoder, settings: TrainingSettings, processes: PartialState) -> None:
        self.encoder, self.settings, self.processes = encoder, settings, processes
        self._compiled = _compiled(encoder) if settings.compile else encoder
        self.part_tokens = settings.part_tokens or _usual_tokens(encoder)

    def backward(self, prepared: PreparedBatch, scale: float = 1.0) -> float:
        """Loss of the batch; adds `scale` times its gradients to the parameters', the same on every process."""
        parts = self._parts(prepared)
        graphs = None if self.settings.cached else self._encode(prepared, parts)
        with torch.no_grad():
            local = torch.cat(graphs or self._encode(prepared, parts))
        vectors = self._gathered(prepared, _in_order(local, parts)).requires_grad_()
        loss = self._info_nce(prepared, vectors)
        loss.backward()
        start = sum(prepared.sizes[: self.processes.process_index])
        wanted = [scale * vectors.grad[start + torch.from_numpy(places)] for places in parts]
        if graphs is not None:
            torch.autograd.backward(graphs, wanted)
        else:
            for i in range(len(parts)):
                self._encode(prepared, parts, only=i)[0].backward(wanted[i])
        if self.processes.num_processes > 1:
            gradients = [p.grad for p in self.encoder.parameters() if p.grad is not None]
            for work in [torch.distributed.all_reduce(gradient, async_op=True) for gradient in gradients]:
                work.wait()
        return loss.item()

    @torch.no_grad()
    def loss(self, prepared: PreparedBatch) -> float:
        """Loss of a batch that was prepared whole, for one process, without gradients."""
        parts = self._parts(prepared)
        vectors = _in_order(torch.cat(self._encode(prepared, parts)), parts)
        return self._info_nce(prepared, vectors).item()

    def _parts(self, prepared: PreparedBatch) -> list[np.ndarray]:
        """Places of the texts that are computed together."""
        if self.part_tokens == WHOLE:
            return [places for places in np.split(np.arange(len(prepared.ids)), [prepared.queries]) if len(places)]
        lengths = np.array([self._length(len(ids)) for ids in prepared.ids])
        return plan_batches(lengths, self.part_tokens, MAX_WASTE)

    def _length(self, tokens: int) -> int:
        """What a text of so many tokens is padded to."""
        return min(-(-tokens // MULTIPLE) * MULTIPLE, max(self.encoder.max_length, tokens))

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        """The precision asked for. On a CPU half precision takes plain attention: fused, its backward is far slower."""
        dtype, device, backbone = DTYPES[self.settings.precision], self.encoder.device.type, self.encoder.backbone
        plain = dtype is not None and device == "cpu" and backbone.config._attn_implementation == "sdpa"
        if plain:
            backbone.set_attn_implementation("eager")
        try:
            with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
                yield
        finally:
            if plain:
                backbone.set_attn_implementation("sdpa")

    def _encode(self, prepared: PreparedBatch, parts: list[np.ndarray], only: int | None = None) -> list[torch.Tensor]:
        """Vectors of the parts, or of one. Weights are cast once for all; cast without gradients, not used again."""
        with self._autocast():
            return [self._vectors(prepared, i, places) for i, places in enumerate(parts) if only in (None, i)]

    def _vectors(self, prepared: PreparedBatch, i: int, places: np.ndarray) -> torch.Tensor:
        """Vectors of one part, (texts, D) float32; dropout depends on seed, step, process and part only."""
        seeds = (self.settings.seed, prepared.batch.step, self.processes.process_index, i)
        _seed(self.encoder.device, int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]))
        ids = [prepared.ids[place] for place in places]
        length = None if self.part_tokens == WHOLE else self._length(max(map(len, ids)))
        pad = self.encoder.tokenizer.pad_token_id or 0
        compute = self._compiled if self.encoder.training else self.encoder  # a second translation would cost as much
        return compute(**padded(ids, pad, self.encoder.device, length)).float()

    def _gathered(self, prepared: PreparedBatch, local: torch.Tensor) -> torch.Tensor:
        """Vectors of all processes' texts, one process after the other."""
        if len(prepared.sizes) == 1:
            return local
        most = max(prepared.sizes)
        blocks = gather(F.pad(local, (0, 0, 0, most - len(local)))).split(most)
        return torch.cat([block[:size] for block, size in zip(blocks, prepared.sizes, strict=True)])

    def _info_nce(self, prepared: PreparedBatch, vectors: torch.Tensor) -> torch.Tensor:
        query, column, mask = (part.to(vectors.device) for part in (prepared.query, prepared.column, prepared.mask))
        options = {"temperature": self.settings.temperature, "symmetric": self.settings.symmetric}
        return info_nce(vectors.index_select(0, query), vectors.index_select(0, column), mask, **options)


def _negatives(corpus: ParallelPairs, batch: Batch, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and languages of the first explicit negatives of each pair, in the language of its passage."""
    if not most:
        return np.empty(0, np.int64), np.empty(0, str)
    lists = [rows[:most] for rows in corpus.negatives(batch.pair, batch.passage_lang)]
    languages = np.repeat(batch.passage_lang, [len(rows) for rows in lists])
    return np.array(list(chain.from_iterable(lists)), dtype=np.int64), languages


def _mask(
    corpus: ParallelPairs, batch: Batch, rows: np.ndarray, languages: np.ndarray, mask_translations: bool
) -> torch.Tensor:
    """(B, P) True where a column is no negative of the query: by its id, or because its text is an equal one.

    rows, languages: of the explicit negatives.
    """
    pairs, query_rows = len(batch), corpus.query_rows[batch.pair]
    rows = np.concatenate([corpus.passage_rows[batch.pair], rows])
    languages = np.concatenate([batch.passage_lang, languages])
    lang, column = _codes(languages.tolist()), torch.from_numpy(rows)
    positives = [torch.from_numpy(rows) for rows in corpus.positives(query_rows)]
    known = torch.nn.utils.rnn.pad_sequence(positives, batch_first=True, padding_value=-1)
    mask = not_negatives(known, column[:pairs], lang[:pairs], column, lang, mask_translations=mask_translations)
    if any(corpus.repeats.values()):
        mask |= _equal_texts(corpus.passage_texts(rows, languages), languages, pairs)
        # What answers a question answers it under the question's other ids too.
        mask[:, :pairs] |= _equal_texts(corpus.query_texts(query_rows, batch.query_lang), batch.query_lang, pairs)
    return mask


def _equal_texts(texts: list[str], languages: np.ndarray, rows: int) -> torch.Tensor:
    """(rows, texts) True where a text equals one of the first `rows` texts, and both are in one language."""
    codes = _codes(zip(texts, languages.tolist(), strict=True))
    return codes[:rows, None] == codes


def _codes(values: Iterable[Hashable]) -> torch.Tensor:
    """A number for each value, equal for equal values."""
    known: dict[Hashable, int] = {}
    return torch.tensor([known.setdefault(value, len(known)) for value in values])


def _in_order(vectors: torch.Tensor, parts: list[np.ndarray]) -> torch.Tensor:
    """Vectors of the parts, one part after the other, in the order of the texts."""
    ordered = torch.empty_like(vectors)
    ordered[torch.from_numpy(np.concatenate(parts)).to(vectors.device)] = vectors
    return ordered


def _seed(device: torch.device, seed: int) -> None:
    """torch.manual_seed of one device: that of all takes a millisecond, and notes a traceback for each idle one."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.get_device_module(device).manual_seed(seed)


def _compiled(encoder: Encoder) -> Callable[..., torch.Tensor]:
    """The encoder, translated when it is first called, for parts of any shape; random numbers are those of torch."""
    torch.compiler.reset()  # an earlier encoder's translations count against the limit of one function's
    try:
        torch.compile(torch.neg)(torch.ones(1, device=encoder.device))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"compile: torch.compile does not work on this machine ({reason}); leave it off") from error
    return torch.compile(encoder, dynamic=True, options={"fallback_random": True})


def _usual_tokens(encoder: Encoder) -> float:
    """Without layers there is nothing to save; a processor likes what its cache holds, a GPU large products."""
    if not getattr(encoder.backbone.config, "num_hidden_layers", 1):
        return WHOLE
    return CPU_TOKENS if encoder.device.type == "cpu" else GPU_TOKENS
