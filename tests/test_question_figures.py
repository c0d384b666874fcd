"""Figures of the questions: what is drawn is what the frames say, inside the page, the same bytes each time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import test_figures
from test_by_language import FIFTEEN, rows
from test_figures import lines

from hybridlib.companion.questions import by_size, by_task, encoders, robustness, shared
from hybridlib.companion.report import drawing
from hybridlib.companion.report.drawing import LOOKS, WIDTH

STRATEGIES = ["x-x-mono", "x-y", "hybrid"]
TEXT = {"title": "A title that says what is seen", "note": "a note"}
TASKS = {"MIRACL": "ndcg@10", "LAReQA": "map@20", "Tatoeba": "precision@1", "Mewsli-X": "map@20"}
OTHERS = ["mbert", "xlm-r-base", "a/very/long/folder/of/somebody/encoder", "e5-base", "bge-m3"]


def frame_of(columns: list[str], *values: list) -> pd.DataFrame:
    """Every combination of values, a number for each, with an interval and the ends of its seeds."""
    frame = pd.MultiIndex.from_product(values, names=columns).to_frame(index=False)
    mean = np.random.default_rng(0).uniform(0.3, 0.7, len(frame))
    span = {"low": mean - 0.02, "high": mean + 0.03, "seed_min": mean - 0.01, "seed_max": mean + 0.01}
    return frame.assign(mean=mean, difference=mean, value=mean, **span)


@lru_cache
def gains() -> tuple[pd.DataFrame, pd.DataFrame]:
    return by_size.compare(rows([*FIFTEEN, "en"]))


@lru_cache
def losses() -> pd.DataFrame:
    groups, kinds = ["low-resource", "other"], ["typos", "letters"]
    columns = ["statistic", "group", "kind", "strategy", "rate"]
    return frame_of(columns, ["clean", "noisy", "share"], groups, kinds, STRATEGIES, [0.05, 0.1, 0.2])


def gaps() -> pd.DataFrame:
    panels = ["mean", "worst language", "largest - smallest"]
    frame = frame_of(["panel", "group", "a", "b"], panels, ["all", "other"], ["hybrid"], ["x-x-mono", "x-y"])
    return frame.drop(columns="value").rename(columns={"panel": "value"})


def curves(tasks: int = 4) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Means, seeds and best shares; of each task alpha .5 is the best, .25 as good."""
    shares = {0.0: "x-y", 0.25: "hybrid", 0.5: "hybrid", 1.0: "x-x-mono"}
    means = frame_of(["task", "monolingual_share"], list(TASKS)[:tasks], list(shares))
    means = means.assign(measure=means["task"].map(TASKS), strategy=means["monolingual_share"].map(shares))
    best = means.assign(among_the_best=means["monolingual_share"].isin([0.25, 0.5]))
    return means, pd.concat([means.assign(value=means["value"] + step) for step in (-0.01, 0.01)]), best


def measured_encoders() -> pd.DataFrame:
    measures = ["precision@1", "precision@10", "recall@10", "recall@100"]
    trained = frame_of(["strategy", "measure"], ["hybrid", "x-y"], measures).assign(encoder="labse")
    others = frame_of(["encoder", "measure"], OTHERS, measures).assign(strategy="none")
    frame = pd.concat([trained, others], ignore_index=True)
    kinds = [encoders.kind(name, strategy) for name, strategy in zip(frame["encoder"], frame["strategy"], strict=True)]
    return frame.assign(kind=kinds)


SIDES = {"mean": "right: better", "worst language": "right: better", "largest - smallest": "left: more even"}
MEASURES = ["precision@1", "precision@10", "recall@10", "recall@100"]
DRAW = {
    by_size.gain_by_size: gains,
    robustness.noise_rates: lambda: (losses(), "ndcg@10"),
    shared.differences: lambda: (gaps(), SIDES),
    by_task.ratio_by_task: lambda: curves(),
    encoders.encoders: lambda: (measured_encoders(), MEASURES),
}


@pytest.mark.parametrize("draw", DRAW)
def test_fits_the_page_says_what_it_shows_and_repeats(draw, tmp_path):
    figure = draw(*DRAW[draw](), **TEXT)
    below = figure.get_supxlabel().replace("\n", " ")
    assert draw.caption in below and below.endswith("a note") and figure.get_suptitle() == TEXT["title"]
    assert figure.get_size_inches()[0] == WIDTH
    test_figures.check_page(figure)
    first = [path.read_bytes() for path in drawing.save(figure, tmp_path / "a", "figure")]
    assert first == [path.read_bytes() for path in drawing.save(draw(*DRAW[draw](), **TEXT), tmp_path / "b", "figure")]


def test_gains_are_drawn_where_the_frame_says():
    by_language, by_group = gains()
    figure = by_size.gain_by_size(by_language, by_group)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["hybrid minus X-X-mono", "hybrid minus X-Y"]
    languages = [label.get_text().split("\n")[0] for label in figure.axes[-1].get_xticklabels()]
    assert languages == list(by_size.corpus_sizes().index)[::-1], "the smallest corpus first"
    for ax, b, ahead in zip(figure.axes, ("x-x-mono", "x-y"), ("X-X-mono", "hybrid"), strict=True):
        part = by_language[by_language["b"] == b].set_index("language")["difference"]
        for place, difference in lines(ax, f"{ahead} ahead"):
            assert part[languages[int(place)]] == difference
        mean = by_group[(by_group["b"] == b) & (by_group["group"] == "high-resource")]["difference"].item()
        assert set(lines(ax, "_mean high-resource")[:, 1]) == {mean}


def test_a_gain_that_is_not_clear_is_grey_and_printed_numbers_have_no_bar():
    ax = by_size.gain_by_size(gains()[0].assign(low=-1.0, high=1.0), gains()[1]).axes[0]
    assert len(lines(ax, "interval holds 0")) == 16
    printed = by_size.gain_by_size(*by_size.printed("labse")).axes[0]
    assert printed.get_title(loc="left") == "LaBSE: hybrid minus X-X-mono" and printed.get_legend() is None
    for languages in (["sw", "te"], ["en"]):
        assert by_size.gain_by_size(*by_size.compare(rows(languages))).axes, "one group alone can be drawn"


def test_noise_rates_draws_the_means_from_clean_on():
    figure, frame = robustness.noise_rates(losses(), measure="ndcg@10"), losses()
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["0 %", "5 %", "10 %", "20 %"]
    panels = [(group, kind) for group in ("low-resource", "other") for kind in ("typos", "letters")]
    for ax, (group, kind) in zip(figure.axes, panels, strict=True):
        assert ax.get_title(loc="left").startswith(f"{group}\n{kind}")
        for strategy in STRATEGIES:
            part = frame[(frame[["group", "kind", "strategy"]] == [group, kind, strategy]).all(axis=1)]
            values = part.set_index("statistic")["value"]
            points = lines(ax, LOOKS[strategy].label)
            np.testing.assert_array_equal(points[:, 1], [values["clean"].iloc[0], *values["noisy"]])
            np.testing.assert_allclose(points[:, 0], [0, 0.05, 0.1, 0.2], atol=0.005)


def test_differences_draws_a_row_per_pair_and_group():
    figure = shared.differences(gaps(), sides=SIDES)
    frame = gaps()[gaps()["value"] == "worst language"].reset_index()
    for place, line in frame.iterrows():
        points = lines(figure.axes[1], LOOKS[line["b"]].label)
        assert [line["difference"], place] in points.tolist()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "all: hybrid - X-X-mono" and labels[-1] == "other: hybrid - X-Y"
    turned = shared.differences(gaps().rename(columns={"a": "b", "b": "a"}), sides=SIDES)
    assert len(lines(turned.axes[0], "X-Y")) == 2, "the marker is of the strategy that is not in all rows"


def test_ratio_by_task_has_a_panel_with_the_curve_of_each_task():
    means, seeds, best = curves(3)
    figure = by_task.ratio_by_task(means, seeds, best)
    titles = ["MIRACL: nDCG@10", "LAReQA: mAP@20", "Tatoeba: accuracy"]
    assert [ax.get_title(loc="left") for ax in figure.axes] == titles
    for ax, task in zip(figure.axes, TASKS, strict=False):
        own = means[means["task"] == task]
        np.testing.assert_array_equal(lines(ax, "_curve"), own[["monolingual_share", "mean"]])
        good = own[own["monolingual_share"].isin([0.25, 0.5])]
        np.testing.assert_array_equal(lines(ax, "_best"), good[["monolingual_share", "mean"]])
        single = seeds[(seeds["task"] == task) & (seeds["strategy"] == "x-y")]["value"]
        np.testing.assert_array_equal(lines(ax, "_seeds X-Y")[:, 1], single)


def test_encoders_stand_in_their_groups_by_the_last_measure():
    frame = measured_encoders()
    axes = encoders.encoders(frame, MEASURES).axes
    labels = [tick.get_text() for tick in axes[0].get_yticklabels()]
    assert set(labels[:2]) == {"hybrid", "X-Y"} and set(labels[2:5]) == {"mbert", "xlm-r-base", "encoder"}
    last = frame[frame["measure"] == "recall@100"].set_index("encoder")["mean"]
    assert labels[5:] == sorted(["e5-base", "bge-m3"], key=last.get, reverse=True)
    assert lines(axes[3], "mbert").tolist() == [[last["mbert"], labels.index("mbert")]]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: by_size.gain_by_size(gains()[0][:0], gains()[1]), "by_language has no rows"),
        (lambda: by_size.gain_by_size(gains()[0], pd.DataFrame()), "by_group has no column 'a'"),
        (lambda: robustness.noise_rates(losses()[:0], measure="map"), "losses has no rows"),
        (lambda: shared.differences(gaps().drop(columns="group"), sides=SIDES), "frame has no column 'group'"),
        (lambda: by_task.ratio_by_task(*curves()[:2], curves()[2][["task"]]), "best has no column 'monolingual_share'"),
        (lambda: encoders.encoders(measured_encoders(), ["map"]), "no rows with measure 'map'"),
    ],
)
def test_errors_name_what_is_wrong(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
