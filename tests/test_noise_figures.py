"""Figures of notebook 09: what is drawn is what the frames say, inside the page, the same bytes each time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.questions import robustness_figures
from hybridlib.companion.report import figures
from hybridlib.companion.report.drawing import CAPTIONS, LOOKS, WIDTH

STRATEGIES = ["x-x-mono", "x-y", "hybrid"]
TEXT = {"title": "A title", "note": "a note"}


def rates() -> pd.DataFrame:
    cells = [
        (group, kind, strategy, rate)
        for group in ("low-resource (bn sw te)", "all (bn en sw te)")
        for kind in ("typos", "letters")
        for strategy in STRATEGIES
        for rate in (0, 0.05, 0.1, 0.2)
    ]
    frame = pd.DataFrame(cells, columns=["group", "kind", "strategy", "rate"])
    means = 0.8 - frame["rate"] - 0.05 * frame["strategy"].map(STRATEGIES.index)
    return frame.assign(mean=means, low=means - 0.02, high=means + 0.03)


def gaps() -> pd.DataFrame:
    cells = [
        (value, group, "hybrid", b)
        for value in ("mean", "worst language", "largest - smallest")
        for group in ("one language", "pooled")
        for b in ("x-x-mono", "x-y")
    ]
    frame = pd.DataFrame(cells, columns=["value", "group", "a", "b"])
    size = np.linspace(-0.1, 0.1, len(frame))
    return frame.assign(difference=size, low=size - 0.02, high=size + 0.01, seed_min=size - 0.04, seed_max=size + 0.04)


DRAW = {
    "noise_rates": lambda: robustness_figures.noise_rates(rates(), **TEXT),
    "differences": lambda: robustness_figures.differences(gaps(), labels={"mean": "more is better"}, **TEXT),
}


@pytest.mark.parametrize("name", DRAW)
def test_fits_the_page_says_what_it_shows_and_repeats(name, tmp_path):
    figure = DRAW[name]()
    below = figure.get_supxlabel().replace("\n", " ")
    assert CAPTIONS[name] in below and below.endswith("a note") and figure.get_suptitle() == "A title"
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width == WIDTH and box.x0 > 0 and box.y0 > 0 and box.x1 < width + 0.01 and box.y1 < height + 0.01
    first = [path.read_bytes() for path in figures.save(figure, tmp_path / "a", name)]
    assert first == [path.read_bytes() for path in figures.save(DRAW[name](), tmp_path / "b", name)]


def test_noise_rates_draws_the_means_and_intervals():
    figure = DRAW["noise_rates"]()
    frame, panels = rates(), figure.axes
    assert len(panels) == 4
    titles = [(group, kind) for group in frame["group"].unique() for kind in ("typos", "letters")]
    for ax, (group, kind) in zip(panels, titles, strict=True):
        assert ax.get_title("left").startswith(group) and kind in ax.get_title("left")
        for container in ax.containers:
            strategy = next(s for s in STRATEGIES if LOOKS[s].label == container.get_label())
            own = frame[(frame["group"] == group) & (frame["kind"] == kind) & (frame["strategy"] == strategy)]
            x, y = np.array(container[0].get_data(), dtype=float)
            np.testing.assert_allclose(y, own["mean"])
            np.testing.assert_allclose(x, own["rate"], atol=0.005)
            ends = np.array(container[2][0].get_segments(), dtype=float)[:, :, 1]
            np.testing.assert_allclose(ends, own[["low", "high"]].to_numpy())
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == ["0 %", "5 %", "10 %", "20 %"]


def test_differences_draws_a_row_per_pair_and_group():
    ax = DRAW["differences"]().axes[1]
    frame = gaps()[gaps()["value"] == "worst language"].reset_index()
    for place, line in frame.iterrows():
        (marker,) = [m for m in ax.get_lines() if m.get_label() == f"_{line['b']}" and m.get_ydata()[0] == place]
        assert (
            marker.get_xdata()[0] == pytest.approx(line["difference"]) and marker.get_color() == LOOKS[line["b"]].color
        )
    labels = [label.get_text() for label in DRAW["differences"]().axes[0].get_yticklabels()]
    assert labels[0] == "one language: hybrid - X-X-mono" and labels[-1] == "pooled: hybrid - X-Y"
    assert 0 in [m.get_xdata()[0] for m in ax.get_lines()], "the line of no difference"


def test_nothing_to_draw_is_an_error():
    for draw, frame in ((robustness_figures.noise_rates, rates()), (robustness_figures.differences, gaps())):
        with pytest.raises(ValueError, match="no rows"):
            draw(frame[:0])
        with pytest.raises(ValueError, match="no column"):
            draw(frame.drop(columns="group"))
