"""Training: the loop, gradients of a global batch, token ids, model cards, processes.

Offers `train`, `train_encoder`, `BatchSettings` and `TrainingSettings`, each imported when it is first asked for:
whoever wants the settings alone does not wait for torch.
"""

from importlib import import_module

_ROOMS = {"train": "loop", "train_encoder": "loop", "BatchSettings": "settings", "TrainingSettings": "settings"}
__all__ = list(_ROOMS)


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
