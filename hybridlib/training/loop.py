"""One short training loop: batches from the sampler, InfoNCE, AdamW, checkpoints that resume to the bit.

A checkpoint is one safetensors file (weights and optimizer; JSON in its header), replaced by rename: it is there whole
or not at all, and nothing in it is executable. It holds no random state: batches and dropout are functions of the seed
and the step. (With `compile` a resumed run may differ in rounding.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import gather, reduce
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from hybridlib.encoder import Encoder
from hybridlib.files import replace_file
from hybridlib.sampler import BatchSampler
from hybridlib.training.gradients import Gradients, PreparedBatch, prepare
from hybridlib.training.processes import all_processes
from hybridlib.training.settings import TrainingSettings
from hybridlib.training.tokens import TokenizedPairs


@dataclass
class _State:
    """Where training stands; `best` holds the weights of the lowest validation loss, if any was measured."""

    step: int = 0
    log: list[dict] | None = None
    best: dict[str, torch.Tensor] | None = None
    best_loss: float = float("inf")
    best_step: int = 0
    stale: int = 0

    def frame(self) -> pd.DataFrame:
        """The log, with the step whose weights are kept."""
        return pd.DataFrame(self.log).assign(best_step=self.best_step if self.best else self.step)


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
        checkpoint: file written every `checkpoint_every` steps and at the end.
        validation: batches whose mean loss chooses the weights.
        tokens: of the sampler's corpus, to share the work of tokenising between runs with the same tokenizer.
        device: where to compute; None: as Accelerate says (its process's GPU, if there is one).
        progress: a bar on stderr, of the first process.

    Returns the log: step, loss, mode, learning_rate, grad_norm of every step; validation_loss where it was measured.

    Raises:
        FloatingPointError: a loss is not finite; the text names the step.
        ValueError: no step, more processes than places in a batch, or the checkpoint is another run's or not on all
            machines.
    """
    processes = all_processes(device)
    _check(processes, sampler)
    encoder.to(device or processes.device)
    scaler = torch.amp.GradScaler(encoder.device.type, enabled=settings.precision == "fp16")
    optimizer = _optimizer(encoder, settings)
    identity = _identity(encoder, sampler, validation, settings)
    state = _resume(Path(checkpoint), encoder, optimizer, scaler, processes, identity)
    gradients = Gradients(encoder, settings, processes)
    tokens = tokens or TokenizedPairs(sampler.corpus, encoder)
    held_out = TokenizedPairs(validation.corpus, encoder) if validation else None
    encoder.train()
    batches = _prepared(tokens, sampler, settings, state.step, processes)
    shown = progress and processes.is_main_process
    for prepared in tqdm(batches, sampler.strategy, len(sampler), initial=state.step, disable=not shown):
        if _finished(state, settings):
            break
        entry = _update(gradients, prepared, optimizer, scaler, len(sampler))
        state.step += 1
        last = state.step == len(sampler)
        if validation is not None and (last or state.step % settings.validate_every == 0):
            _validate(gradients, validation, held_out, state, entry)
        state.log.append(entry)
        if last or state.step % settings.checkpoint_every == 0 or _finished(state, settings):
            if processes.is_main_process:
                _save(Path(checkpoint), encoder, optimizer, scaler, state, identity)
    processes.wait_for_everyone()
    encoder.eval().load_state_dict(state.best or encoder.state_dict())
    return state.frame()


def _prepared(
    tokens: TokenizedPairs, sampler: BatchSampler, settings: TrainingSettings, start: int, processes: PartialState
) -> Iterator[PreparedBatch]:
    """Batches from `start` on; the next one is drawn and tokenised while the present one is computed."""

    def one(step: int) -> PreparedBatch:
        return prepare(tokens, sampler.batch(step), settings, processes.process_index, processes.num_processes)

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(one, start) if start < len(sampler) else None
        for step in range(start, len(sampler)):
            prepared = coming.result()
            coming = ahead.submit(one, step + 1) if step + 1 < len(sampler) else None
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
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss} at step {step}; lower learning_rate, or raise temperature, and start afresh"
        )
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(gradients.encoder.parameters(), settings.max_grad_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return {"step": step, "mode": prepared.batch.mode, "loss": loss, "learning_rate": rate, "grad_norm": float(norm)}


def _check(processes: PartialState, sampler: BatchSampler) -> None:
    if not len(sampler):
        raise ValueError("steps must be above 0")
    if processes.num_processes > sampler.batch_size:
        raise ValueError(
            f"{processes.num_processes} processes share batches of {sampler.batch_size}: "
            "start fewer processes or raise batch_size"
        )


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


def _validate(
    gradients: Gradients, validation: BatchSampler, tokens: TokenizedPairs, state: _State, entry: dict
) -> None:
    entry["validation_loss"] = loss = validation_loss(gradients, validation, tokens)
    if loss < state.best_loss:
        weights = gradients.encoder.state_dict()
        state.best = {name: tensor.detach().clone() for name, tensor in weights.items()}
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


def _save(
    path: Path,
    encoder: Encoder,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    state: _State,
    identity: str,
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in (state.best or {}).items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
    about = {name: getattr(state, name) for name in ("step", "log", "best_loss", "best_step", "stale")}
    metadata = {"state": json.dumps(about), "scale": json.dumps(scaler.state_dict()), "identity": identity}
    with replace_file(path) as new:
        save_file(_apart(tensors), new, metadata=metadata)


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors on the CPU; only those that share memory with an earlier one, as tied weights do, are copied."""
    places: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        result[name] = tensor.clone() if tensor.data_ptr() in places else tensor
        places.add(tensor.data_ptr())
    return result


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: this checkpoint is torn ({error}); delete it and training starts afresh") from error


def _resume(
    path: Path,
    encoder: Encoder,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    processes: PartialState,
    identity: str,
) -> _State:
    processes.wait_for_everyone()
    state = _State(log=[])
    if path.exists():
        metadata, tensors = _read(path)
        if metadata["identity"] != identity:
            raise ValueError(
                f"{path}: this checkpoint is of another run (other settings, pairs or weights to start from); delete it"
            )
        encoder.load_state_dict(_part(tensors, "model."))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        scaler.load_state_dict(json.loads(metadata["scale"]))
        best = {name: tensor.to(encoder.device) for name, tensor in _part(tensors, "best.").items()}
        state = _State(**json.loads(metadata["state"]), best=best or None)
    steps = gather(torch.tensor([state.step], device=encoder.device)).tolist()
    if len(set(steps)) > 1:
        raise ValueError(f"{path}: not the same checkpoint on all machines (steps {steps}); use a shared folder")
    return state


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
