"""Hybrid batches for monolingual, cross-lingual and multilingual retrieval: a companion to arXiv 2408.10536.

`from hybridlib import BatchSampler` and its like work without naming a module; each is imported when it is first asked
for, so that `import hybridlib` costs nothing. Import hybridlib before torch: threads that spin while they wait bring a
transformer layer to a crawl, so this sets OMP_WAIT_POLICY=PASSIVE, which torch's OpenMP reads once, when torch is
imported. A value of your own stays.
"""

import importlib
import os
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"

_MODULES = {
    "BatchSampler": "sampler",
    "Benchmark": "corpora.base",
    "Encoder": "encoder",
    "ParallelPairs": "corpora.base",
    "evaluate": "evaluation",
    "info_nce": "loss",
    "load_lareqa": "corpora.lareqa",
    "load_pairs": "corpora.own",
    "measure": "metrics",
    "rank_distance": "metrics",
    "train": "training.loop",
}

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"hybridlib.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
