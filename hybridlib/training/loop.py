"""One short training loop: batches from the sampler, InfoNCE, AdamW, the weights of the lowest validation loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import gather, reduce
from tqdm import tqdm

import hybridlib
from hybridlib.encoder import Encoder
from hybridlib.sampler import BatchSampler
from hybridlib.training.card import write_labels
from hybridlib.training.gradients import Gradients, PreparedBatch, prepare
from hybridlib.training.processes import all_processes
from hybridlib.training.settings import BatchSettings, TrainingSettings
from hybridlib.training.state import State, StateFile, identity
from hybridlib.training.tokens import TokenizedPairs


def train_encoder(
    folder: Path,
    encoder: Encoder,
    sampler: BatchSampler,
    settings: TrainingSettings,
    *,
    validation: BatchSampler | None = None,
    tokens: TokenizedPairs | None = None,
    labels: Mapping | None = None,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train an encoder as `train` does and save it with its model card and log; a killed run goes on when called again.

    Args:
        folder: gets `encoder`, a sentence-transformers checkpoint, and `log.parquet`; while it trains, its checkpoints
            are in `training.safetensors`.
        labels: what the model card says beside batches and settings: `start`, the name of the checkpoint that the
            encoder was loaded from, and further facts. The other arguments, and what is returned, are those of `train`.
    """
    folder = Path(folder)
    options = {"validation": validation, "tokens": tokens, "device": device, "progress": progress}
    log = train(encoder, sampler, settings, folder / "training.safetensors", **options)
    processes = all_processes(device)
    if processes.is_main_process:
        log.to_parquet(folder / "log.parquet")
        encoder.save(folder / "encoder")
        facts = asdict(BatchSettings.of(sampler)) | {"pairs": sampler.corpus.name}
        facts |= {name: getattr(settings, name) for name in ("learning_rate", "temperature", "negatives", "precision")}
        facts |= {name: getattr(encoder, name) for name in ("pooling", "max_length", "query_prefix", "passage_prefix")}
        facts |= {"validation": validation and validation.corpus.name, "kept_step": int(log["best_step"].iloc[0])}
        write_labels(folder / "encoder", facts | {"version": hybridlib.__version__} | dict(labels or {}))
        (folder / "training.safetensors").unlink()
    processes.wait_for_everyone()
    return log


def train(
    encoder: Encoder,
    sampler: BatchSampler,
    settings: TrainingSettings,
    checkpoint: Path,
    *,
    validation: BatchSampler | None = None,
    tokens: TokenizedPairs | None = None,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Train the encoder in place, going on from `checkpoint` if that file exists.

    Started by `accelerate launch` on several processes, each takes its slice of every batch; the weights are the same
    on all of them, and the first writes the checkpoint, which all must be able to read.

    Args:
        encoder: starts from its weights; afterwards holds those of the lowest validation loss (else the last ones).
        sampler: the batches; its length is the number of steps.
        checkpoint: file written every `checkpoint_every` steps and at the end; see `hybridlib.training.state`.
        validation: batches whose mean loss chooses the weights.
        tokens: of the sampler's corpus, to share the work of tokenising between runs with the same tokenizer.
        device: where to compute; None: as Accelerate says (its process's GPU, if there is one).
        progress: a bar on stderr, of the first process.

    Returns:
        The log: step, loss, mode, learning_rate, grad_norm of every step; validation_loss where it was measured.

    Raises:
        FloatingPointError: a loss is not finite; the text names the step.
        ValueError: no step, more processes than places in a batch, or the checkpoint is another run's or not on all
            machines.
    """
    processes, settings, steps = all_processes(device), settings.resolved(), len(sampler)
    _check(processes, sampler)
    encoder.to(device or processes.device)
    scaler = torch.amp.GradScaler(encoder.device.type, enabled=settings.precision == "fp16")
    optimizer = make_optimizer(encoder, settings)
    same = identity(encoder, sampler, validation, settings)
    file = StateFile(Path(checkpoint), same, encoder, optimizer, scaler)
    state = _resume(file, processes)
    gradients = Gradients(encoder, settings, processes)
    tokens = tokens or TokenizedPairs(sampler.corpus, encoder)
    held_out = TokenizedPairs(validation.corpus, encoder) if validation else None
    encoder.train()
    batches = _prepared(tokens, sampler, settings, state.step, processes)
    shown = progress and processes.is_main_process
    for prepared in tqdm(batches, sampler.strategy, steps, initial=state.step, disable=not shown):
        if settings.patience is not None and state.stale >= settings.patience:
            break
        entry = _update(gradients, prepared, optimizer, scaler, steps)
        state.step += 1
        if validation is not None and (state.step == steps or state.step % settings.validate_every == 0):
            entry["validation_loss"] = validation_loss(gradients, validation, held_out)
            state.note(entry["validation_loss"], encoder)
        state.log.append(entry)
        if processes.is_main_process and state.step < steps and state.step % settings.checkpoint_every == 0:
            file.write(state)
    if processes.is_main_process:
        file.write(state)
    processes.wait_for_everyone()
    encoder.eval().load_state_dict(state.best or encoder.state_dict())
    return pd.DataFrame(state.log).assign(best_step=state.best_step if state.best else state.step)


def _check(processes: PartialState, sampler: BatchSampler) -> None:
    if not len(sampler):
        raise ValueError("steps must be above 0")
    if processes.num_processes > sampler.batch_size:
        shared = f"{processes.num_processes} processes share batches of {sampler.batch_size}"
        raise ValueError(f"{shared}: start fewer processes or raise batch_size")


def _resume(file: StateFile, processes: PartialState) -> State:
    """Where the run stands, which every process reads for itself."""
    processes.wait_for_everyone()
    state = file.read()
    steps = gather(torch.tensor([state.step], device=file.encoder.device)).tolist()
    if len(set(steps)) > 1:
        raise ValueError(f"{file.path}: not the same checkpoint on all machines (steps {steps}); use a shared folder")
    return state


def _prepared(
    tokens: TokenizedPairs, sampler: BatchSampler, settings: TrainingSettings, start: int, processes: PartialState
) -> Iterator[PreparedBatch]:
    """Batches from `start` on; the next one is drawn and tokenised while the present one is computed."""

    def prepare_step(step: int) -> PreparedBatch | None:
        if step < len(sampler):
            return prepare(tokens, sampler.batch(step), settings, processes.process_index, processes.num_processes)

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(prepare_step, start)
        for step in range(start, len(sampler)):
            prepared = coming.result()
            coming = ahead.submit(prepare_step, step + 1)
            yield prepared


def _update(
    gradients: Gradients,
    prepared: PreparedBatch,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    steps: int,
) -> dict:
    """One step of the optimizer, and its line of the log."""
    settings, step = gradients.settings, prepared.batch.step
    rate = _set_rate(optimizer, settings, step, steps)
    scale = scaler.scale(torch.ones((), device=gradients.encoder.device))
    loss = gradients.backward(prepared, scale=float(scale))
    if not math.isfinite(loss):
        remedy = "lower learning_rate, or raise temperature, and start afresh"
        raise FloatingPointError(f"the loss is {loss} at step {step}; {remedy}")
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(gradients.encoder.parameters(), settings.max_grad_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return {"step": step, "mode": prepared.batch.mode, "loss": loss, "learning_rate": rate, "grad_norm": float(norm)}


def make_optimizer(encoder: Encoder, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW, which decays matrices only."""
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


def validation_loss(gradients: Gradients, validation: BatchSampler, tokens: TokenizedPairs) -> float:
    """Mean loss over the batches of `validation`, without dropout; the processes share them."""
    processes, encoder = gradients.processes, gradients.encoder
    was_training = encoder.training
    encoder.eval()
    losses = torch.zeros(len(validation), device=encoder.device)
    for t in range(processes.process_index, len(validation), processes.num_processes):
        losses[t] = gradients.loss(prepare(tokens, validation.batch(t), gradients.settings))
    encoder.train(was_training)
    return float(reduce(losses, "sum").cpu().double().mean())
