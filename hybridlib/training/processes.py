"""The processes of one launch by `accelerate launch` or torchrun."""

from __future__ import annotations

from datetime import timedelta

import torch
from accelerate import PartialState

WAIT = timedelta(days=1)  # of processes while one writes a corpus; the launcher notices a dead one itself


def all_processes(device: str | torch.device | None = None) -> PartialState:
    """The processes that `accelerate launch` or torchrun started, or this one alone; on CPUs without an accelerator."""
    on_cpu = torch.device(device or "cuda").type == "cpu" or not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu, timeout=WAIT)
