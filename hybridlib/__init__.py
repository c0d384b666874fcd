"""Hybrid batches for monolingual, cross-lingual and multilingual retrieval: a companion to arXiv 2408.10536."""

__version__ = "0.1.0"
