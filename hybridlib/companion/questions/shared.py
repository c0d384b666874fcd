"""What the notebooks on the wider questions (07 to 12) share: collections, groups of languages, answers by rule.

The questions are about MIRACL, TyDi QA, BEIR and XTREME-R. On the embedded corpus the notebooks show the method alone:
their collections are named after what they stand in for, their answers read "not run: needs ...".
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hybridlib.companion.experiment.study import Study
from hybridlib.companion.report import paper, summaries
from hybridlib.companion.search import sources

LOW_RESOURCE = ("bn", "sw", "te")  # of TyDi QA
COLAB_LANGUAGES = ("bn", "en", "es", "fr", "sw", "te")  # of MIRACL, three of each group, to spare a free GPU's hours
COLAB_BEIR = ("nfcorpus", "scifact", "fiqa")  # three small ones
BENCHMARKS = ("miracl", "tydiqa", "beir", "tatoeba")
NDCG, RECALL = "ndcg@10", "recall@100"


def corpus_sizes() -> pd.Series:
    """Passages of each language's MIRACL corpus as the paper's Table 11 has them: language -> number, largest first."""
    sizes = paper.reported(11, measure="candidates").set_index("language")["value"].astype(int)
    return sizes.sort_values(ascending=False)


def high_resource() -> tuple[str, ...]:
    """Languages above the median of Table 11's corpus sizes."""
    sizes = corpus_sizes()
    return tuple(sizes.index[sizes > sizes.median()])


def names(study: Study, benchmark: str, languages: Sequence[str] | None = None) -> list[str]:
    """Names of the collections of one of BENCHMARKS, for `Study.search_rows`; of the embedded corpus what stands in.

    In profile colab MIRACL is that with hard negatives, in fewer languages, and BEIR has three data sets.

    Args:
        languages: None: all that the benchmark and (of the embedded corpus) the study have.

    Raises:
        ValueError: no such benchmark, or none of the languages is there.
    """
    if benchmark not in BENCHMARKS:
        raise ValueError(f"benchmark must be one of {', '.join(BENCHMARKS)}, not {benchmark!r}")
    colab = study.settings.profile == "colab"
    if study.stand_in:
        there = (
            ["en"]
            if benchmark == "beir"
            else [lang for lang in study.settings.languages if lang in (languages or study.settings.languages)]
        )
        return [("embedded-sentences-{}" if benchmark == "tatoeba" else "embedded-{}").format(lang) for lang in there]
    if colab and benchmark == "beir":
        return list(COLAB_BEIR)
    if colab and benchmark == "miracl":
        return sources.names("miracl-hard-negatives", languages or COLAB_LANGUAGES)
    return sources.names(benchmark, languages)


def title(study: Study, text: str) -> str:
    """A figure's title, which says where the collections only stand in."""
    return f"{text} ({study.data})" if study.stand_in else text


def note(study: Study, text: str, names: Sequence[str]) -> str:
    """`Notebook.note` with the collections searched in the place of the benchmark."""
    if study.stand_in:
        return text
    few = ", ".join(names[:3]) + (f" and {len(names) - 3} more collections" if len(names) > 3 else "")
    return text.replace(f", {study.data} (", f", {few} (")


def compare(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], measures: Sequence[str] = (NDCG,)) -> pd.DataFrame:
    """`summaries.compare` of those pairs of strategies whose rows are there; no line where there are none."""
    there = set(rows["strategy"])
    pairs = [pair for pair in pairs if set(pair) <= there]
    if not pairs:
        return pd.DataFrame(columns=["setting", "measure", "a", "b", "difference", "low", "high", "p", "p_holm"])
    return summaries.compare(rows, (), pairs=pairs, measures=measures)


def answer(question: str, found: pd.DataFrame, *, needs: str, study: Study, yes: int, what: str) -> dict[str, str]:
    """The answer to a question as a line for `claims` tables: claim, paper, same_benchmark, measured, verdict.

    "yes" if the 95 % interval of the difference and the differences of all seeds lie on the side that `yes` names, "no"
    if they lie on the other, else "undecided"; "not run: needs ..." on a stand-in or where nothing was compared.

    Args:
        found: no line, or one with difference, low, high, seed_min, seed_max.
        needs: what the question is about, such as "MIRACL".
        yes: the sign of a difference that answers the question with yes.
        what: the difference in words, such as "nDCG@10 hybrid - X-X-mono".
    """
    if study.stand_in or found.empty:
        return dict.fromkeys(("paper", "same_benchmark", "measured"), "") | {
            "claim": question,
            "verdict": f"not run: needs {needs}" if study.stand_in else "not run: needs encoders of these strategies",
        }
    row = found.iloc[0]
    low, high = min(row["low"], row["seed_min"]), max(row["high"], row["seed_max"])
    sides = {1: low > 0, -1: high < 0}
    verdict = "yes" if sides[yes] else "no" if sides[-yes] else "undecided"
    measured = f"{what} {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    return {"claim": question, "paper": "", "same_benchmark": "", "measured": measured, "verdict": verdict}
