"""The frame of a notebook: it opens the study, writes figures and tables, and leaves a record for run_all.sh."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
import transformers
from matplotlib.figure import Figure

import hybridlib
from hybridlib.companion.experiment.runs import commit, device
from hybridlib.companion.experiment.study import open_study
from hybridlib.companion.report import drawing, tables
from hybridlib.files import write_json


class NeedsAnotherProfile(Exception):
    """Ends a notebook that has nothing to show in its profile; Jupyter prints no traceback for it."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Notebook:
    """The frame of one notebook: made at its start, `finish`ed at its end.

    Args:
        name: file name of the notebook, without its ending.
        profile: profile of the study; see `experiment.profiles`.
        settings: changes to the profile, name -> value.
        named: changes to the profile that are parameters of the notebook; None keeps the profile's value.

    Raises:
        ValueError: unknown profile or setting, a wrong value, or a setting given twice.
    """

    def __init__(self, name: str, profile: str = "demo", settings: Mapping[str, Any] | None = None, **named: Any):
        given = {key: value for key, value in named.items() if value is not None}
        if twice := given.keys() & (settings or {}).keys():
            raise ValueError(f"{min(twice)} is given twice, as a parameter and in `settings`: give it once")
        self.name, self.began = name, time.monotonic()
        self.study = open_study(profile, settings if not given else {**(settings or {}), **given})
        print(self._opening())

    def _opening(self) -> str:
        """One sentence that says what is run, and a line with the versions and the device."""
        s, described = self.study.settings, self.study.described
        seeds = " ".join(map(str, s.seeds))
        changed = "" if described.standard else ", with settings changed"
        what = f"Profile {s.profile}{changed}: {described.encoder}, {described.data}, seeds {seeds}, alpha {s.alpha:g}."
        return f"{what}\n{versions()}"

    def needs(self, what: str, profiles: Sequence[str]) -> None:
        """End the notebook with one line that says what it needs, unless its profile is one of `profiles`."""
        if self.study.settings.profile not in profiles:
            raise NeedsAnotherProfile(f"{self.name} needs {what}: choose the profile {' or '.join(profiles)}.")

    @property
    def judges(self) -> bool:
        """False in the smoke profile, which tests the code: it draws no figure and gives no verdict."""
        return self.study.settings.profile != "smoke"

    @property
    def note(self) -> str:
        """Source of the numbers in a figure: encoder, data, profile, steps and seeds."""
        s, described = self.study.settings, self.study.described
        seeds = f"{len(s.seeds)} seed" + ("s" if len(s.seeds) > 1 else "")
        encoder = Path(described.encoder)
        steps = "trained elsewhere" if getattr(s, "encoders", None) else f"{s.batches.steps} steps"
        return (
            f"{encoder.name if encoder.is_dir() else encoder}, {described.data} ({s.profile} profile), {steps}, {seeds}"
        )

    def figure(self, figure: Figure, name: str) -> Figure:
        """Write the figure as PNG and SVG (not in the smoke profile) and return it, to be shown."""
        if self.judges:
            drawing.save(figure, self.study.outputs("figures"), name)
        return figure

    def table(
        self, frame: pd.DataFrame, name: str, decimals: int = 4, *, seeds: Sequence[int] | None = None
    ) -> pd.DataFrame:
        """Write a table as Markdown, LaTeX and CSV, with labels; return the cells of the CSV as text, without labels.

        The labels are profile, encoder, batch_size and seeds. A label that is already a column of the frame (as in
        rows of several studies) keeps its values.

        Args:
            seeds: seeds from which the numbers come; None: all seeds of the settings.
        """
        s = self.study.settings
        labels = {"profile": s.profile, "encoder": self.study.described.encoder, "batch_size": s.batches.batch_size}
        labels["seeds"] = " ".join(map(str, s.seeds if seeds is None else seeds))
        labels = {label: value for label, value in labels.items() if label not in frame.columns}
        folder = self.study.outputs("results")
        tables.write_tables(frame.assign(**labels), folder, name, decimals)
        return tables.read_csv(folder / f"{name}.csv").drop(columns=list(labels))

    def finish(self, numbers: Mapping[str, float], claims: pd.DataFrame | None = None) -> dict:
        """Write the record of this notebook for run_all.sh to `path`, and return the record.

        Args:
            numbers: the notebook's results by name.
            claims: frame with the columns `claims.COLUMNS`; None if the notebook tests no claim.
        """
        store = self.study.store
        if claims is not None:  # a count on the paper's own benchmark is shown as measured too
            measured = claims["measured"].where(claims["measured"] != "", claims["same_benchmark"])
            claims = claims.assign(measured=measured)[["claim", "paper", "measured", "verdict"]]
        record = {
            "notebook": self.name,
            "profile": self.study.settings.profile,
            "seconds": round(time.monotonic() - self.began, 1),
            "peak_mb": round(peak_memory()),
            "numbers": {name: float(value) if value == value else None for name, value in numbers.items()},
            "runs": {"made": store.made, "reused": store.reused},
            "written": [str(self.study.outputs(kind)) for kind in ("figures", "results")],
            "claims": [] if claims is None else claims.to_dict("records"),
        }
        write_json(self.path, record)
        return record

    @property
    def path(self) -> Path:
        """Path of the record."""
        return self.study.root / "runs" / "records" / self.study.described.folder / f"{self.name}.json"


def versions() -> str:
    """The versions and the device on which the numbers of this notebook depend."""
    parts = (f"Python {platform.python_version()}", f"torch {torch.__version__}")
    parts += (f"transformers {transformers.__version__}", f"hybridlib {hybridlib.__version__} at {commit()}")
    return ", ".join((*parts, device()))


def peak_memory() -> float:
    """Peak resident memory of this process in MB."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
