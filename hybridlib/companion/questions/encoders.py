"""What does hybrid training cost in English, and does it beat encoders used as they are?

BEIR's average (Thakur et al. 2021, arXiv 2104.08663) is over data sets: CQADupStack, twelve collections, counts as one,
and MS MARCO is not in it. Other encoders are searched with untrained, beside those that a study trains: rows of both
have the column encoder, and "none" is the strategy of an encoder used as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hybridlib.companion.experiment.study import Run, Study
from hybridlib.companion.questions import shared
from hybridlib.companion.report.claims import MEASURES
from hybridlib.companion.report.drawing import GREY, INTERVAL, LOOKS, SPAN, Look, captioned, marks, require
from hybridlib.companion.search.collection import Collection
from hybridlib.encoder import PRESETS, CheckpointError

PARTED = "cqadupstack"
NOT_AVERAGED = ("msmarco",)  # what the models of BEIR's paper were trained on, and mMARCO translates
AVERAGE = "average"

OTHERS = ("xlm-r-base", "mbert", "labse", "mt5-base", "e5-base", "bge-m3", "gte-multilingual-base")
FOR_RETRIEVAL = ("e5-small", "e5-base", "e5-large", "bge-m3", "gte-multilingual-base")  # upper marks
KINDS = TRAINED, AS_IT_IS, UPPER = "trained here", "used as it is", "trained for retrieval"


def data_sets(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of searches by data set (the pool's name without its split, CQADupStack as one), and those of AVERAGE.

    BEIR averages over CQADupStack's parts whatever their sizes: each part's cell has the weight 1 / (number of parts).
    Where there is nothing but what the average leaves out, it is over that.
    """
    names = rows["pool"].astype(str).str.replace(r"-(test|dev|train)$", "", regex=True)
    parts = names.where(names.str.startswith(f"{PARTED}-"))
    rows = rows.assign(weight=parts.isna().map({True: 1.0, False: 1 / max(1, parts.nunique())}))
    names = names.where(parts.isna(), PARTED)
    averaged = rows[~names.isin(NOT_AVERAGED)]
    return dict(list(rows.groupby(names))) | {AVERAGE: averaged if len(averaged) else rows}


def beside(study: Study, names: Sequence[str] = OTHERS) -> dict[str, Study]:
    """Name -> a study whose run "none" is that encoder; they share the runs of `study`, of pretrained encoders.

    Pooling and prefixes are the encoder's own (its preset's or its folder's); prefixes that a preset has only because
    the paper trains with them are left out. All read texts up to the length of `study`.

    Args:
        names: of presets, folders or repositories of the hub.
    """
    studies = {}
    for name in names:
        prefix = "" if name in PRESETS and PRESETS[name].paper_prefixes else None
        change = {"checkpoint": name, "encoders": None, "pooling": None, "query_prefix": prefix}
        studies[name] = Study(replace(study.settings, **change, passage_prefix=prefix), study.root)
        studies[name].store = study.store
    return studies


def how_used(others: Mapping[str, Study]) -> pd.DataFrame:
    """How each encoder is used: encoder, kind, checkpoint, pooling, query_prefix, passage_prefix, max_length.

    "its own": what the folder or the repository says, which is not known before it is read.
    """
    lines = []
    for name, study in others.items():
        settings, preset = study.settings, PRESETS.get(name)
        line = {"encoder": name, "kind": kind(name, "none"), "checkpoint": preset.repository if preset else name}
        for part in ("pooling", "query_prefix", "passage_prefix"):
            given = getattr(settings, part)
            line[part] = given if given is not None else getattr(preset, part, "its own")
        limits = [length for length in (settings.max_length, getattr(preset, "max_length", None)) if length]
        lines.append(line | {"max_length": str(min(limits, default="its own"))})
    return pd.DataFrame(lines)


def search_rows(
    others: Mapping[str, Study], collections: Sequence[Collection], measures: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Search with encoders as they are, of `beside`.

    Each is searched with once; its rows stand there for every seed, so that they pair with those of trained ones.

    Returns:
        rows as `Study.search_rows` gives them, their strategy "none"; and encoder -> why it cannot be had and was left
        out.
    """
    frames, left_out = [], {}
    for name, study in others.items():
        seeds = study.settings.seeds
        try:
            rows = study.search_rows([Run("none", seeds[0])], collections, measures=measures)
        except CheckpointError as error:
            left_out[name] = f"{error}. Fetch it where there is a network, or leave it out of `others`"
            continue
        frames += [rows.assign(encoder=name, seed=seed) for seed in seeds]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(), left_out


def kind(encoder: str, strategy: str) -> str:
    """TRAINED for a strategy, UPPER for an encoder that was trained for retrieval elsewhere, else AS_IT_IS."""
    if strategy != "none":
        return TRAINED
    return UPPER if encoder in FOR_RETRIEVAL else AS_IT_IS


def summary(rows: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """`shared.means` of each encoder, with its kind."""
    frame = shared.means(dict(list(rows.groupby("encoder", observed=True))), "encoder", measures)
    frame.insert(1, "kind", list(map(kind, frame["encoder"], frame["strategy"])))
    return frame


def compare(trained: pd.DataFrame, others: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Compare hybrid with each encoder used as it is; Holm's correction is over all tests of the frame.

    Returns:
        encoder (what hybrid is compared with), and what `shared.compare` returns, without a and b.
    """
    hybrid = trained[trained["strategy"] == "hybrid"]
    parts = {} if others.empty else {name: pd.concat([hybrid, part]) for name, part in others.groupby("encoder")}
    return shared.compare(parts, "encoder", [("hybrid", "none")], measures).drop(columns=["a", "b"])


@captioned(
    f"Marker: macro mean over languages. {INTERVAL} Green line: hybrid. Grey: used as it is; black: trained for "
    "retrieval elsewhere. Each panel has its own scale."
)
def encoders(frame: pd.DataFrame, measures: Sequence[str]) -> Figure:
    """Draw each encoder in each measure, a panel per measure, a row per encoder, in groups by `kind`.

    Encoders in a group are sorted by the last measure.

    Args:
        frame: of `summary`.
        measures: which, from left to right.
    """
    require(frame, "frame", ["encoder", "kind", "strategy", "measure", *SPAN])
    if missing := [measure for measure in measures if measure not in set(frame["measure"])]:
        raise ValueError(f"frame has no rows with measure {missing[0]!r}; measure it first or choose others")
    last = frame[frame["measure"] == measures[-1]].sort_values("mean", ascending=False)
    order = last.sort_values("kind", key=lambda kinds: kinds.map(KINDS.index), kind="stable")
    keys, kinds = pd.MultiIndex.from_frame(order[["encoder", "strategy"]]), order["kind"].to_numpy()
    looks, edges = [_look(*key) for key in keys], np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
    panels, labels = [MEASURES.get(measure, measure) for measure in measures], [look.label for look in looks]
    figure, axes = shared.row_panels(panels, labels, edges)
    style = {"textcoords": "offset points", "ha": "center", "fontsize": 7, "color": GREY}
    for ax, measure in zip(axes, measures, strict=True):
        rows = frame[frame["measure"] == measure].set_index(["encoder", "strategy"]).loc[keys]
        for place, (look, mean) in enumerate(zip(looks, rows["mean"], strict=True)):
            marks(ax, rows.iloc[[place]], [place], look)
            ax.annotate(f"{mean:.3f}", (mean, place), (0, 4.5), **style)
            if look == LOOKS["hybrid"]:
                ax.axvline(mean, color=look.color, linewidth=0.8, zorder=1)
        ax.set_xlim(0, 1.15 * rows["high"].max())
    return figure


def _look(encoder: str, strategy: str) -> Look:
    if strategy != "none":
        return LOOKS[strategy]
    label = encoder.rstrip("/").rpartition("/")[2] if len(encoder) > 28 else encoder
    return Look(label, "#000000", "P") if kind(encoder, strategy) == UPPER else Look(label, "0.45", "X")
