"""Corpora: a loader per source; each returns ParallelPairs (to train on) or a Benchmark (to evaluate on)."""

from hybridlib.corpora.base import Benchmark, ParallelPairs

__all__ = ["Benchmark", "ParallelPairs"]
