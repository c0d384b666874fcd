"""Where a training stands, in one file from which it goes on to the bit.

The file is safetensors (weights and optimizer; JSON in its header), replaced by rename: it is there whole or not at
all, and nothing in it is executable. It holds no random state: batches and dropout are functions of the seed and the
step. (With `compile` a resumed run may differ in rounding.)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hybridlib.encoder import Encoder
from hybridlib.files import replace_file
from hybridlib.sampler import BatchSampler
from hybridlib.training.settings import TrainingSettings

Tensors = dict[str, torch.Tensor]


@dataclass
class State:
    """Where training stands.

    Attributes:
        step: steps done.
        log: an entry per step.
        best: the weights of the lowest validation loss, if any was measured; best_loss and best_step are theirs.
        stale: validations since then.
    """

    step: int = 0
    log: list[dict] = field(default_factory=list)
    best: Tensors | None = None
    best_loss: float = float("inf")
    best_step: int = 0
    stale: int = 0

    def frame(self) -> pd.DataFrame:
        """The log, with the step whose weights are kept."""
        return pd.DataFrame(self.log).assign(best_step=self.best_step if self.best else self.step)


@dataclass(frozen=True)
class StateFile:
    """The file of one training run; `identity` is what it must have in common with the run that goes on from it."""

    path: Path
    identity: str
    encoder: Encoder
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    def write(self, state: State) -> None:
        """Replace the file by the present weights, moments and state."""
        tensors = {f"model.{name}": tensor for name, tensor in self.encoder.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (state.best or {}).items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in moments.items()}
        about = {name: value for name, value in vars(state).items() if name != "best"}
        metadata = {"state": json.dumps(about), "scale": json.dumps(self.scaler.state_dict())}
        with replace_file(self.path) as new:
            save_file(_apart(tensors), new, metadata=metadata | {"identity": self.identity})

    def read(self) -> State:
        """Put what the file holds into encoder, optimizer and scaler; a new state where there is no file.

        Raises:
            ValueError: the file is torn, or another run's.
        """
        if not self.path.exists():
            return State()
        metadata, tensors = _read(self.path)
        if metadata["identity"] != self.identity:
            raise ValueError(
                f"{self.path}: this checkpoint is of another run (other settings, pairs or weights to start from); "
                "delete it"
            )
        self.encoder.load_state_dict(_part(tensors, "model."))
        moments: dict[int, Tensors] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            index, key = name.split(".")
            moments.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.scaler.load_state_dict(json.loads(metadata["scale"]))
        best = {name: tensor.to(self.encoder.device) for name, tensor in _part(tensors, "best.").items()}
        return State(**json.loads(metadata["state"]), best=best or None)


def identity(
    encoder: Encoder, sampler: BatchSampler, validation: BatchSampler | None, settings: TrainingSettings
) -> str:
    """All that decides how a training goes on: settings, batches, texts and the weights it started from, as JSON."""
    weights = hashlib.sha256()
    for tensor in encoder.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    about = {name: getattr(encoder, name) for name in ("pooling", "query_prefix", "passage_prefix", "max_length")}
    plans = {"sampler": _plan(sampler), "validation": validation and _plan(validation)}
    return json.dumps({**asdict(settings), **about, **plans, "start": weights.hexdigest()}, sort_keys=True)


def _plan(sampler: BatchSampler) -> dict:
    plan = ("strategy", "alpha", "batch_size", "steps", "seed", "mixture", "languages")
    return {name: getattr(sampler, name) for name in plan} | {"corpus": sampler.corpus.fingerprint}


def _apart(tensors: Tensors) -> Tensors:
    """The tensors on the CPU; only those that share memory with an earlier one, as tied weights do, are copied."""
    addresses: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        result[name] = tensor.clone() if tensor.data_ptr() in addresses else tensor
        addresses.add(tensor.data_ptr())
    return result


def _read(path: Path) -> tuple[dict[str, str], Tensors]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: this checkpoint is torn ({error}); delete it and training starts afresh") from error


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
