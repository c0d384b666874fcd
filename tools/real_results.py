"""Tables of a real training: quality per strategy with intervals, differences with tests, curves of validation loss.

    python tools/real_results.py --runs OUT ... --start ROWS --trained en de ... --output results/real/NAME

Each OUT is a folder that `train --output OUT` and `evaluate --rows OUT/rows` wrote; ROWS are those of the checkpoint
that they started from. Writes NAME_quality.csv, NAME_tests.csv and NAME_curves.csv, and prints them as Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from hybridlib.companion.report import summaries
from hybridlib.companion.report.tables import render
from hybridlib.training.card import read_labels

MEASURES = ["map", "recall@1", "rank_distance"]
SUBSETS = ("all", "trained", "zero-shot")


def labelled(rows: Path, **labels: object) -> pd.DataFrame:
    """The rows that `evaluate --rows` wrote, with label columns."""
    return pd.read_parquet(rows / "rows.parquet").assign(**labels)


def read(runs: list[Path], start: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of all runs and of their start; validation losses by step."""
    rows, curves = [labelled(start, strategy="start", alpha=None, seed=0)], []
    for run in runs:
        about = read_labels(run / "encoder")
        labels = {name: about[name] for name in ("strategy", "alpha", "seed")}
        rows.append(labelled(run / "rows", **labels))
        log = pd.read_parquet(run / "log.parquet")
        log = log[log["validation_loss"].notna()]
        step = log["step"] + 1
        curves.append(
            pd.DataFrame({**labels, "step": step, "loss": log["validation_loss"], "kept": about["kept_step"]})
        )
    return pd.concat(rows, ignore_index=True), pd.concat(curves, ignore_index=True)


def compact(quality: pd.DataFrame) -> str:
    """A line per strategy: mean and interval of mAP in each setting and of the rank distance."""
    cells = {}
    for row in quality.itertuples():
        if row.measure in ("map", "rank_distance"):
            places = 3 if row.measure == "map" else 0
            what = f"mAP {row.setting}" if row.measure == "map" else "rank distance"
            text = f"{row.mean:,.{places}f} [{row.low:,.{places}f}, {row.high:,.{places}f}]"
            cells.setdefault(what, {})[row.strategy] = text
    return pd.DataFrame(cells).rename_axis("strategy").to_markdown()


def main() -> None:
    """Read, compare, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--runs", nargs="+", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--trained", nargs="+", required=True, help="languages of the benchmark that were trained on")
    parser.add_argument("--output", type=Path, required=True, help="beginning of the files' names")
    options = parser.parse_args()
    rows, curves = read(options.runs, options.start)
    quality = summaries.summary(rows, options.trained, measures=MEASURES).drop(columns=["alpha", "n_queries"])
    subsets = [name for name in SUBSETS if name in set(quality["subset"])]
    tests = summaries.compare(rows, options.trained, measures=["map", "rank_distance"], subsets=subsets)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for name, frame in (("quality", quality), ("tests", tests), ("curves", curves)):
        path = options.output.with_name(f"{options.output.name}_{name}.csv")
        frame.round(6).to_csv(path, index=False)
        print(f"{path}\n")
    for name in subsets:
        print(f"{name} languages\n\n{compact(quality[quality['subset'] == name])}\n")
    print(render(tests[tests["subset"] == "all"].round(4), "md"))
    losses = curves.pivot_table(index="step", columns=["strategy", "seed"], values="loss").round(3)
    print(losses.set_axis([f"{strategy} {seed}" for strategy, seed in losses], axis=1).to_markdown())


if __name__ == "__main__":
    main()
