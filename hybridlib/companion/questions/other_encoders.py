"""Other encoders, used as they are, beside those that a study trains, on the same collections.

On the embedded corpus, where published encoders do not fit, STAND_INS take their place: what every strategy starts
from, and random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from hybridlib.companion.experiment.study import Run, Study
from hybridlib.companion.search.collection import Collection
from hybridlib.encoder import PRESETS, CheckpointError

OTHERS = ("xlm-r-base", "mbert", "labse", "mt5-base", "e5-base", "bge-m3", "gte-multilingual-base")
FOR_RETRIEVAL = ("e5-small", "e5-base", "e5-large", "bge-m3", "gte-multilingual-base")  # upper marks
STAND_INS = {"dictionary stage": {}, "random weights": {"dictionary": "none"}}  # name -> settings that change
AS_IT_IS, UPPER, TRAINED = "used as it is", "trained for retrieval", "trained here"
EVERYWHERE = "all"


def studies(study: Study, names: Sequence[str] | None = None) -> dict[str, Study]:
    """Name -> a study whose run "none" is that encoder; they share the runs of `study`.

    Pooling and prefixes are the encoder's own (its preset or its folder); prefixes that a preset has only
    because the paper trains with them are left out. All read texts up to the length of `study`.

    Args:
        names: of presets, folders or repositories of the hub; None: OTHERS. On the embedded corpus STAND_INS.

    Raises:
        ValueError: names on the embedded corpus that are not among STAND_INS.
    """
    if study.stand_in:
        changes = {name: STAND_INS.get(name) for name in names or STAND_INS}
        if unknown := [name for name, change in changes.items() if change is None]:
            raise ValueError(
                f"others: on the embedded corpus they are {', '.join(STAND_INS)}, not {unknown[0]!r}; others "
                "go with the profiles colab and paper"
            )
    else:
        changes = {name: _own_use(name) for name in names or OTHERS}
    return {name: _beside(study, change) for name, change in changes.items()}


def _own_use(name: str) -> dict:
    change = {"checkpoint": name, "encoders": None, "pooling": None, "query_prefix": None, "passage_prefix": None}
    preset = PRESETS.get(name)
    if preset and preset.paper_prefixes:
        change |= {"query_prefix": "", "passage_prefix": ""}
    return change


def _beside(study: Study, change: dict) -> Study:
    one = type(study)(replace(study.settings, **change), study.root)
    one.store, one.corpus = study.store, study.corpus
    return one


def kind(name: str) -> str:
    """TRAINED for a strategy, UPPER for an encoder that was trained for retrieval elsewhere, else AS_IT_IS."""
    if name in ("x-x-mono", "x-y", "hybrid", "x-x", "en-en"):
        return TRAINED
    return UPPER if name in FOR_RETRIEVAL else AS_IT_IS


def how_used(others: dict[str, Study]) -> pd.DataFrame:
    """How each encoder is used: encoder, kind, checkpoint, pooling, query_prefix, passage_prefix, max_length.

    "its own": what the folder or the repository says, which is not known before it is read.
    """
    lines = []
    for name, one in others.items():
        s, preset = one.settings, PRESETS.get(name)
        line = {"encoder": name, "kind": kind(name), "checkpoint": preset.repository if preset else one.checkpoint}
        for part in ("pooling", "query_prefix", "passage_prefix"):
            given = getattr(s, part, None)
            line[part] = given if given is not None else getattr(preset, part) if preset else "its own"
        limits = [length for length in (getattr(s, "max_length", None), preset and preset.max_length) if length]
        lines.append(line | {"max_length": str(min(limits)) if limits else "its own"})
    return pd.DataFrame(lines)


def search_rows(
    others: dict[str, Study], collections: Sequence[Collection]
) -> tuple[pd.DataFrame, dict[tuple[str, str], str]]:
    """Rows as `Study.search_rows` gives them, the encoder's name in `strategy`, and what was left out.

    An encoder that is the same for every seed is searched with once, and its rows stand there for every seed, so that
    they pair with those of trained ones.

    Returns:
        rows, and (encoder, EVERYWHERE) -> why it was left out: the encoder cannot be had.
    """
    frames, left_out = [], {}
    for name, one in others.items():
        try:
            for collection in collections:
                frames.append(_rows(one, collection).assign(strategy=name, alpha=np.nan))
        except CheckpointError as error:
            frames = [frame for frame in frames if frame["strategy"].iloc[0] != name]
            left_out[name, EVERYWHERE] = f"{error}. Fetch it where there is a network, or leave it out of `others`"
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(), left_out


def _rows(one: Study, collection: Collection) -> pd.DataFrame:
    """Rows of an encoder as it is."""
    frames, first = [], {}
    for seed in one.settings.seeds:
        run = Run("none", first.setdefault(one.start_key(seed), seed))
        frames.append(one.search_rows([run], [collection]).assign(seed=seed))
    return pd.concat(frames, ignore_index=True)


def common(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the collections that every encoder (column strategy) was measured on.

    Raises:
        ValueError: there is none.
    """
    having = rows.groupby(rows["strategy"].astype(str))["candidate_lang"].agg(lambda names: set(names.astype(str)))
    shared = set.intersection(*having)
    if not shared:
        raise ValueError("others: no collection was measured with all of them; leave out those that lack languages")
    return rows[rows["candidate_lang"].isin(shared)]
