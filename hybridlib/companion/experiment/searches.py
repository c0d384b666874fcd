"""Which collections a profile searches where a whole benchmark is named."""

from __future__ import annotations

from collections.abc import Sequence

from hybridlib.companion.search import sources

BENCHMARKS = ("miracl", "tydiqa", "beir", "tatoeba")
COLAB_LANGUAGES = ("bn", "en", "es", "fr", "sw", "te")  # of MIRACL, half of them high-resource, to spare a free GPU
COLAB_BEIR = ("nfcorpus", "scifact", "fiqa")  # three small ones


def names(benchmark: str, profile: str, languages: Sequence[str] | None = None) -> list[str]:
    """Names of a benchmark's collections for a profile: in colab fewer, and MIRACL with hard negatives.

    Args:
        benchmark: a group of `sources.names`: "miracl", "tydiqa", "beir" or "tatoeba".
        languages: None: all that the benchmark has for this profile.

    Raises:
        ValueError: no such benchmark, or it has none of the languages.
    """
    if profile == "colab" and benchmark == "beir":
        return list(COLAB_BEIR)
    if profile == "colab" and benchmark == "miracl":
        return sources.names("miracl-hard-negatives", languages or COLAB_LANGUAGES)
    return sources.names(benchmark, languages)
