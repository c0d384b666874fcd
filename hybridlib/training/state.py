"""Where a training stands, in one file from which it goes on to the bit.

The file is safetensors (weights and moments of the optimizer; JSON in its header), replaced by rename: it is there
whole or not at all, and nothing in it is executable. It holds no random state: batches and dropout are functions of the
seed and the step. (With `compile` a resumed run may differ in rounding.)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hybridlib.encoder import Encoder
from hybridlib.files import replace_file
from hybridlib.sampler import BatchSampler
from hybridlib.training.settings import BatchSettings, TrainingSettings

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

    def note(self, loss: float, encoder: Encoder) -> None:
        """Note a validation loss, and keep the weights if there was no lower one."""
        self.stale += 1
        if loss < self.best_loss:
            self.best = {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}
            self.best_loss, self.best_step, self.stale = loss, self.step, 0


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
        groups = {"model": self.encoder.state_dict(), "best": state.best or {}}
        groups |= {f"optimizer {i}": moments for i, moments in self.optimizer.state_dict()["state"].items()}
        tensors = {f"{group}/{name}": tensor for group, part in groups.items() for name, tensor in part.items()}
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
        groups: dict[str, Tensors] = {}
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                for key in file.keys():
                    group, _, name = key.partition("/")
                    groups.setdefault(group, {})[name] = file.get_tensor(key)
        except SafetensorError as error:
            reason = f"this checkpoint is torn ({error}); delete it and training starts afresh"
            raise ValueError(f"{self.path}: {reason}") from error
        if metadata["identity"] != self.identity:
            reason = "this checkpoint is of another run (other settings, pairs or weights to start from); delete it"
            raise ValueError(f"{self.path}: {reason}")
        self.encoder.load_state_dict(groups.pop("model"))
        best = {name: tensor.to(self.encoder.device) for name, tensor in groups.pop("best", {}).items()}
        moments = {int(group.removeprefix("optimizer ")): part for group, part in groups.items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.scaler.load_state_dict(json.loads(metadata["scale"]))
        return State(**json.loads(metadata["state"]), best=best or None)


def identity(
    encoder: Encoder, sampler: BatchSampler, validation: BatchSampler | None, settings: TrainingSettings
) -> str:
    """All that decides how a training goes on: settings, batches, texts and the weights it started from, as JSON."""
    weights = hashlib.sha256()
    for tensor in encoder.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    about = {name: getattr(encoder, name) for name in ("pooling", "query_prefix", "passage_prefix", "max_length")}
    for name, batches in {"sampler": sampler, "validation": validation}.items():
        about[name] = batches and {**asdict(BatchSettings.of(batches)), "corpus": batches.corpus.fingerprint}
    return json.dumps({**asdict(settings), **about, "start": weights.hexdigest()}, sort_keys=True)


def _apart(tensors: Tensors) -> Tensors:
    """The tensors on the CPU; only those that share memory with an earlier one, as tied weights do, are copied."""
    addresses: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        tensors[name] = tensor.clone() if tensor.data_ptr() in addresses else tensor
        addresses.add(tensor.data_ptr())
    return tensors
