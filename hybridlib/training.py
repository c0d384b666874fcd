"""One short training loop: batches from the sampler, InfoNCE, AdamW, checkpoints that resume to the bit.

A checkpoint is one safetensors file (weights, optimizer and random state; JSON in its header), replaced by rename: it
is there whole or not at all, and nothing in it is executable.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from hybridlib.corpora.base import ParallelPairs
from hybridlib.encoder import Encoder
from hybridlib.loss import info_nce, not_negatives
from hybridlib.sampler import Batch, BatchSampler
from hybridlib.storage import replace_file
from hybridlib.tokens import TokenizedPairs


@dataclass(frozen=True)
class TrainingSettings:
    """What the loop needs to know.

    Attributes:
        learning_rate, weight_decay: AdamW (arXiv 1711.05101); the paper has 3e-5 and 1e-2. Vectors such as biases and
            LayerNorm weights are not decayed (usual practice; the paper is silent).
        warmup: share of the steps in which the rate rises linearly; then it falls linearly to 0 (paper silent).
        temperature: of the loss (paper silent).
        max_grad_norm: gradients are scaled down to this norm (paper silent).
        symmetric, mask_translations: see `hybridlib.loss` (paper silent).
        negatives: explicit negatives per pair, the first of those it has (paper silent).
        validate_every: steps between validation losses; the weights with the lowest are kept, as in the paper.
        patience: stop after this many validations without a new lowest loss; None trains all steps.
        checkpoint_every: steps between checkpoints.
        seed: of dropout, if there is any.
        precision: "no" (float32) or "bf16", as Accelerate has it; fp16's loss scale would not be in a checkpoint.
    """

    learning_rate: float = 3e-5
    weight_decay: float = 1e-2
    warmup: float = 0.1
    temperature: float = 0.05
    max_grad_norm: float = 1.0
    symmetric: bool = False
    mask_translations: bool = True
    negatives: int = 0
    validate_every: int = 100
    patience: int | None = None
    checkpoint_every: int = 500
    seed: int = 0
    precision: str = "no"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "temperature", "max_grad_norm", "validate_every", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.negatives < 0 or self.weight_decay < 0 or not 0 <= self.warmup <= 1:
            raise ValueError("negatives and weight_decay must be 0 or more, and warmup in [0, 1]")


@dataclass
class _State:
    """Where training stands; `best` holds the weights of the lowest validation loss, if any was measured."""

    step: int = 0
    log: list[dict] | None = None
    best: dict[str, torch.Tensor] | None = None
    best_loss: float = float("inf")
    best_step: int = 0
    stale: int = 0


def train(
    encoder: Encoder,
    sampler: BatchSampler,
    settings: TrainingSettings,
    checkpoint: Path,
    *,
    validation: BatchSampler | None = None,
    tokens: TokenizedPairs | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train the encoder in place, going on from `checkpoint` if that file exists.

    Args:
        encoder: starts from its weights; afterwards holds those of the lowest validation loss (else the last ones).
        sampler: the batches; its length is the number of steps.
        checkpoint: file written every `checkpoint_every` steps and at the end.
        validation: batches whose mean loss chooses the weights.
        tokens: of the sampler's corpus, to share the work of tokenising between runs with the same tokenizer.

    Returns:
        The log: step, loss, mode, learning_rate, grad_norm of every step; validation_loss where it was measured.

    Raises:
        FloatingPointError: a loss is not finite; the text names the step.
        ValueError: the checkpoint belongs to another run, there is no step, or several processes were started.
    """
    accelerator = Accelerator(mixed_precision=settings.precision)
    _check(accelerator, sampler)
    torch.manual_seed(settings.seed)
    optimizer = _optimizer(encoder, settings)
    model, prepared = accelerator.prepare(encoder, optimizer)
    identity = _identity(encoder, sampler, validation, settings)
    state = _resume(Path(checkpoint), encoder, optimizer, identity)
    tokens = tokens or TokenizedPairs(sampler.corpus, encoder)
    held_out = TokenizedPairs(validation.corpus, encoder) if validation else None
    encoder.train()
    bar = tqdm(total=len(sampler), initial=state.step, disable=not progress, desc=sampler.strategy)
    while state.step < len(sampler) and not _finished(state, settings):
        rate = _set_rate(optimizer, settings, state.step, len(sampler))
        batch = sampler.batch(state.step)
        with accelerator.autocast():
            loss = batch_loss(model, tokens, batch, settings)
        entry = {"step": state.step, "mode": batch.mode, "loss": _finite(loss, state.step), "learning_rate": rate}
        accelerator.backward(loss)
        entry["grad_norm"] = float(accelerator.clip_grad_norm_(model.parameters(), settings.max_grad_norm))
        prepared.step()
        prepared.zero_grad()
        state.step += 1
        last = state.step == len(sampler)
        if validation is not None and (last or state.step % settings.validate_every == 0):
            _validate(encoder, validation, held_out, settings, state, entry)
        state.log.append(entry)
        if last or state.step % settings.checkpoint_every == 0 or _finished(state, settings):
            _save(Path(checkpoint), encoder, optimizer, state, identity)
        bar.update()
    bar.close()
    encoder.load_state_dict(state.best or encoder.state_dict())
    encoder.eval()
    return pd.DataFrame(state.log).assign(best_step=state.best_step if state.best else state.step)


def batch_loss(
    model: torch.nn.Module, tokens: TokenizedPairs, batch: Batch, settings: TrainingSettings
) -> torch.Tensor:
    """Loss of one batch: tokens to vectors to InfoNCE with its masks."""
    corpus = tokens.corpus
    query, passage = corpus.query_rows[batch.pair], corpus.passage_rows[batch.pair]
    columns, column_lang = _with_negatives(corpus, batch, passage, settings.negatives)
    q = model(**tokens.queries(query, batch.query_lang))
    p = model(**tokens.passages(columns, column_lang))
    codes = {lang: i for i, lang in enumerate(corpus.languages)}
    lang = torch.tensor([codes[lang] for lang in column_lang.tolist()])
    columns = torch.from_numpy(columns)
    mask = not_negatives(
        _padded(corpus.positives(query)),
        columns[: len(batch)],
        lang[: len(batch)],
        columns,
        lang,
        mask_translations=settings.mask_translations,
    )
    return info_nce(
        q.float(), p.float(), mask=mask.to(q.device), temperature=settings.temperature, symmetric=settings.symmetric
    )


def _check(accelerator: Accelerator, sampler: BatchSampler) -> None:
    if not len(sampler):
        raise ValueError("steps must be above 0")
    if accelerator.num_processes > 1:
        raise ValueError("train runs on one process; start it without accelerate launch's --num_processes")


def _finite(loss: torch.Tensor, step: int) -> float:
    value = loss.item()
    if not np.isfinite(value):
        raise FloatingPointError(
            f"the loss is {value} at step {step}; lower learning_rate, or raise temperature, and start afresh"
        )
    return value


def _with_negatives(
    corpus: ParallelPairs, batch: Batch, passage: np.ndarray, negatives: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and languages of the score matrix's columns: the positives, then the explicit negatives."""
    if not negatives:
        return passage, batch.passage_lang
    lists = [rows[:negatives] for rows in corpus.negatives(batch.pair, batch.passage_lang)]
    rows = np.array([row for part in lists for row in part], dtype=np.int64)
    lang = np.repeat(batch.passage_lang, [len(part) for part in lists])
    return np.r_[passage, rows], np.r_[batch.passage_lang, lang]


def _padded(lists: list[np.ndarray]) -> torch.Tensor:
    out = torch.full((len(lists), max(map(len, lists))), -1)
    for i, rows in enumerate(lists):
        out[i, : len(rows)] = torch.from_numpy(rows)
    return out


def _optimizer(encoder: Encoder, settings: TrainingSettings) -> torch.optim.AdamW:
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _set_rate(optimizer: torch.optim.Optimizer, settings: TrainingSettings, step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to 0: a function of the step, so there is no scheduler state to save."""
    warm = max(1, round(settings.warmup * steps))
    share = (step + 1) / warm if step < warm else (steps - step) / (steps - warm + 1)
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * share
    return settings.learning_rate * share


def _finished(state: _State, settings: TrainingSettings) -> bool:
    return settings.patience is not None and state.stale >= settings.patience


@torch.no_grad()
def validation_loss(
    encoder: Encoder, validation: BatchSampler, tokens: TokenizedPairs, settings: TrainingSettings
) -> float:
    """Mean loss over the batches of `validation`, without dropout."""
    was_training = encoder.training
    encoder.eval()
    batches = (validation.batch(t) for t in range(len(validation)))
    losses = [batch_loss(encoder, tokens, batch, settings).item() for batch in batches]
    encoder.train(was_training)
    return float(np.mean(losses))


def _validate(
    encoder: Encoder,
    validation: BatchSampler,
    tokens: TokenizedPairs,
    settings: TrainingSettings,
    state: _State,
    entry: dict,
) -> None:
    entry["validation_loss"] = loss = validation_loss(encoder, validation, tokens, settings)
    if loss < state.best_loss:
        state.best = {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}
        state.best_loss, state.best_step, state.stale = loss, state.step, 0
    else:
        state.stale += 1


def _plan(sampler: BatchSampler) -> dict:
    plan = ("strategy", "alpha", "batch_size", "steps", "seed", "mixture", "languages")
    return {name: getattr(sampler, name) for name in plan} | {"corpus": sampler.corpus.fingerprint}


def _identity(
    encoder: Encoder, sampler: BatchSampler, validation: BatchSampler | None, settings: TrainingSettings
) -> str:
    """All that a checkpoint must have in common with the run that goes on from it."""
    weights = hashlib.sha256()
    for tensor in encoder.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    about = {name: getattr(encoder, name) for name in ("pooling", "query_prefix", "passage_prefix", "max_length")}
    plans = {"sampler": _plan(sampler), "validation": validation and _plan(validation)}
    return json.dumps({**asdict(settings), **about, **plans, "start": weights.hexdigest()}, sort_keys=True)


def _save(path: Path, encoder: Encoder, optimizer: torch.optim.Optimizer, state: _State, identity: str) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best or {}).items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    about = {"step": state.step, "log": state.log, "best_loss": state.best_loss, "best_step": state.best_step}
    about |= {"stale": state.stale}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replace_file(path) as new:
        save_file(tensors, new, metadata={"state": json.dumps(about), "identity": identity})


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: this checkpoint is torn ({error}); delete it and training starts afresh") from error


def _resume(path: Path, encoder: Encoder, optimizer: torch.optim.Optimizer, identity: str) -> _State:
    if not path.exists():
        return _State(log=[])
    metadata, tensors = _read(path)
    if metadata["identity"] != identity:
        raise ValueError(
            f"{path}: this checkpoint is of another run (other settings, pairs or weights to start from); delete it"
        )

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    encoder.load_state_dict(part("model."))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in part("optimizer.").items():
        index, key = name.split(".")
        moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return _State(**json.loads(metadata["state"]), best=part("best.") or None)
