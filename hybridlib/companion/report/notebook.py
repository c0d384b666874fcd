"""What every notebook does around its own question: write figures and tables, and leave a record for run_all.sh."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import psutil
import torch
import transformers
from matplotlib.figure import Figure

import hybridlib
from hybridlib.companion.experiment.runs import commit, device
from hybridlib.companion.experiment.study import Study
from hybridlib.companion.report import drawing, tables
from hybridlib.files import write_json


def versions() -> str:
    """The versions and the device that the numbers of this session depend on."""
    parts = (f"Python {platform.python_version()}", f"torch {torch.__version__}")
    parts += (f"transformers {transformers.__version__}", f"hybridlib {hybridlib.__version__} at {commit()}")
    return ", ".join((*parts, device()))


class Notebook:
    """The frame of one notebook: made at its start, `finish`ed at its end.

    Args:
        name: of the notebook, without its ending.
        study: where its runs come from and its outputs go to.
    """

    def __init__(self, name: str, study: Study):
        self.name, self.study, self.began = name, study, time.monotonic()

    @property
    def judges(self) -> bool:
        """False in the smoke profile, which tests the code: it draws no figure and gives no verdict."""
        return self.study.settings.profile != "smoke"

    @property
    def note(self) -> str:
        """What numbers in a figure come from."""
        settings = self.study.settings
        seeds = f"{len(settings.seeds)} seed" + ("s" if len(settings.seeds) > 1 else "")
        where = f"{self.study.data} ({settings.profile} profile)"
        what = Path(self.study.checkpoint)
        steps = "trained elsewhere" if getattr(settings, "encoders", None) else f"{settings.steps} steps"
        return f"{what.name if what.is_dir() else what}, {where}, {steps}, {seeds}"

    def figure(self, figure: Figure, name: str) -> Figure:
        """Write the figure as PNG and SVG (not in the smoke profile) and give it back to be shown."""
        if self.judges:
            drawing.save(figure, self.study.outputs("figures"), name)
        return figure

    def table(self, frame: pd.DataFrame, name: str, decimals: int = 4) -> pd.DataFrame:
        """Write a table as Markdown, LaTeX and CSV, its rows labelled, and give back what the CSV now holds.

        A label that is a column already (rows of several studies) stays as it is.
        """
        s = self.study.settings
        labels = {"profile": s.profile, "encoder": self.study.checkpoint, "seeds": " ".join(map(str, s.seeds))}
        commits, devices = zip(*(sorted(self.study.store.sources) or [(commit(), device())]), strict=True)
        labels |= {"batch_size": s.batch_size, "commit": ", ".join(dict.fromkeys(commits))}
        labels |= {"device": ", ".join(dict.fromkeys(devices))}
        labels = {name: label for name, label in labels.items() if name not in frame.columns}
        folder = self.study.outputs("results")
        tables.write_tables(frame.assign(**labels), folder, name, decimals)
        return tables.read_csv(folder / f"{name}.csv").drop(columns=list(labels))

    def finish(self, numbers: Mapping[str, float], claims: pd.DataFrame | None = None) -> dict:
        """Write runs/records/<place>/<name>.json for run_all.sh and give it back; see `Study.place`.

        Args:
            numbers: the notebook's results by name.
            claims: columns of `claims.COLUMNS`; None if the notebook tests no claim.
        """
        store = self.study.store
        if claims is not None:  # what was counted on the paper's own benchmark is a measurement too
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
        """Where the record lies."""
        return self.study.root / "runs" / "records" / self.study.place / f"{self.name}.json"


def peak_memory() -> float:
    """Peak resident memory of this process in MB."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
