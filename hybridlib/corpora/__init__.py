"""Corpora: a loader per source; each returns ParallelPairs (to train on) or a Benchmark (to evaluate on)."""

from hybridlib.corpora.base import Benchmark, ParallelPairs, data_folder

__all__ = ["Benchmark", "ParallelPairs", "data_folder"]
