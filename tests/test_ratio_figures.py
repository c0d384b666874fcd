"""The figure of the mixing ratio by task: what is drawn is what the frames say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_figures import NOTE, bars, drawn_texts, lines

from hybridlib.companion.questions import by_task_figures
from hybridlib.companion.report import figures
from hybridlib.companion.report.drawing import LOOKS, WIDTH

TASKS = {"MIRACL": "ndcg@10", "LAReQA": "map@20", "Tatoeba": "precision@1", "Mewsli-X": "map@20"}
ALPHAS = {0.0: "x-y", 0.25: "hybrid", 0.5: "hybrid", 1.0: "x-x-mono"}


def frames(tasks: int = 4) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A summary, its seeds and the best alphas, every mean different; the best of a task is alpha .5, .25 as good."""
    rng, means, singles, best = np.random.default_rng(0), [], [], []
    for task, measure in list(TASKS.items())[:tasks]:
        for alpha, strategy in ALPHAS.items():
            mean = rng.uniform(0.3, 0.9)
            means.append((task, measure, strategy, alpha, mean, mean - 0.02, mean + 0.03))
            singles += [(task, measure, strategy, alpha, mean + step) for step in (-0.01, 0.01)]
            best.append((task, alpha, alpha in (0.25, 0.5)))
    keys = ["task", "measure", "strategy", "alpha"]
    return (
        pd.DataFrame(means, columns=[*keys, "mean", "low", "high"]),
        pd.DataFrame(singles, columns=[*keys, "value"]),
        pd.DataFrame(best, columns=["task", "alpha", "among_the_best"]),
    )


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_a_panel_per_task_has_its_curve(tasks):
    summary, seeds, best = frames(tasks)
    figure = by_task_figures.ratio_by_task(summary, seeds, best, title="A title", note=NOTE)
    seen = [ax for ax in figure.axes if ax.get_visible()]
    titles = ["MIRACL: nDCG@10", "LAReQA: mAP@20", "Tatoeba: accuracy", "Mewsli-X: mAP@20"]
    assert [ax.get_title(loc="left") for ax in seen] == titles[:tasks]
    for ax, task in zip(seen, TASKS, strict=False):
        own = summary[summary["task"] == task]
        np.testing.assert_array_equal(lines(ax, "_curve"), own[["alpha", "mean"]])
        for strategy in ("x-y", "hybrid", "x-x-mono"):
            part = own[own["strategy"] == strategy]
            np.testing.assert_array_equal(lines(ax, LOOKS[strategy].label), part[["alpha", "mean"]])
            np.testing.assert_array_equal(bars(ax, strategy)[:, :, 1], part[["low", "high"]])
            single = seeds[(seeds["task"] == task) & (seeds["strategy"] == strategy)]["value"]
            np.testing.assert_array_equal(lines(ax, f"_seeds {strategy}")[:, 1], single)
        np.testing.assert_array_equal(lines(ax, "_best"), own[own["alpha"].isin([0.25, 0.5])][["alpha", "mean"]])


def test_it_fits_the_page_and_repeats(tmp_path):
    figure, again = (by_task_figures.ratio_by_task(*frames(), title="A title", note=NOTE) for _ in range(2))
    below = figure.get_supxlabel().replace("\n", " ")
    assert figures.caption("ratio_by_task") in below and below.endswith(NOTE)
    assert figure.get_size_inches()[0] == WIDTH
    assert all(text.get_fontsize() >= 7 for text in drawn_texts(figure))
    boxes = np.array([text.get_window_extent().extents for text in drawn_texts(figure)])
    low, high = (f(boxes[:, None, s], boxes[None, :, s]) for f, s in ((np.maximum, np.s_[:2]), (np.minimum, np.s_[2:])))
    assert not np.triu((high - low > 1).all(axis=2), k=1).any(), "texts overlap"
    first, second = figures.save(figure, tmp_path / "a", "f"), figures.save(again, tmp_path / "b", "f")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_panels_say_where_something_stands_in():
    figure = by_task_figures.ratio_by_task(*frames(3), stand_in=True)
    assert figure.axes[2].get_title(loc="left") == "as in Tatoeba: accuracy"


def test_small_differences_are_not_blown_up_and_mistakes_are_named():
    summary, seeds, best = frames(1)
    flat = summary.assign(mean=0.5, low=0.499, high=0.501), seeds.assign(value=0.5), best
    low, high = by_task_figures.ratio_by_task(*flat).axes[0].get_ylim()
    assert high - low >= 0.05 - 1e-9
    with pytest.raises(ValueError, match="summary has no rows"):
        by_task_figures.ratio_by_task(summary[:0], seeds, best)
    with pytest.raises(ValueError, match="best has no column 'among_the_best'"):
        by_task_figures.ratio_by_task(summary, seeds, best.drop(columns="among_the_best"))
