"""Figures: what is drawn is what the frames say, nothing is cut off, and files repeat byte for byte."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from hybridlib.companion.report import diagrams, drawing, figures
from hybridlib.companion.report.drawing import LOOKS, WIDTH, Look
from hybridlib.sampler import Batch

LANGUAGES = ["ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh"]
STRATEGIES = ["x-x-mono", "x-y", "hybrid"]
NOTE = "static-embedding encoder, embedded corpus, demo profile"


@functools.lru_cache
def made() -> pd.DataFrame:
    """A summary in which every number is different."""
    rng, lines = np.random.default_rng(0), []
    panels = [("mono", "map"), ("cross", "map"), ("multi", "map"), ("multi", "rank_distance")]
    for strategy, alpha in (("x-x-mono", np.nan), ("x-y", np.nan), ("hybrid", 0.25), ("hybrid", 0.5)):
        for setting, measure in panels:
            size = 2000 if strategy == "x-x-mono" else 100
            lines.append((strategy, alpha, setting, measure, rng.uniform(0.3, 0.9) * (size if measure != "map" else 1)))
    frame = pd.DataFrame(lines, columns=["strategy", "alpha", "setting", "measure", "mean"]).assign(subset="all")
    return frame.assign(low=frame["mean"] * 0.97, high=frame["mean"] * 1.04)


def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A summary and its seeds."""
    seeds = [made().assign(seed=seed, value=made()["mean"] * (0.99 + 0.01 * seed)) for seed in range(3)]
    return made().copy(), pd.concat(seeds, ignore_index=True)


def by_language() -> pd.DataFrame:
    cells = [(strategy, lang) for strategy in STRATEGIES for lang in LANGUAGES]
    frame = pd.DataFrame(cells, columns=["strategy", "query_lang"])
    means = np.random.default_rng(1).uniform(50, 3000, len(frame))
    return frame.assign(setting="multi", measure="rank_distance", mean=means, low=means * 0.8, high=means * 1.3)


def shares() -> dict[str, pd.DataFrame]:
    values = np.random.default_rng(2).dirichlet(np.ones(11), (3, 11))
    return {s: pd.DataFrame(v, LANGUAGES, LANGUAGES) for s, v in zip(STRATEGIES, values, strict=True)}


def log() -> pd.DataFrame:
    rng, parts = np.random.default_rng(3), []
    for strategy in STRATEGIES:
        for seed in range(2):
            mode = rng.choice(["x-x-mono", "x-y"], 100) if strategy == "hybrid" else strategy
            loss = rng.uniform(0.5, 1, 100)
            validation = np.where(np.arange(100) % 20 == 19, loss, np.nan)
            columns = {"step": range(100), "loss": loss, "validation_loss": validation, "mode": mode}
            parts.append(pd.DataFrame({**columns, "strategy": strategy, "seed": seed}))
    return pd.concat(parts)  # the index repeats, as in logs put together


def differences() -> pd.DataFrame:
    win, loss = ("de", "en", 0.02, 0.01, 0.03, "win"), ("en", "de", -0.04, -0.05, -0.03, "loss")
    columns = ["query_lang", "pool", "difference", "low", "high", "outcome"]
    return pd.DataFrame([win, loss, ("de", "th", 0.01, -1, 1, "tie")], columns=columns)


def script() -> pd.DataFrame:
    frame = pd.DataFrame({"strategy": STRATEGIES * 2, "group": ["different script"] * 3 + ["same script"] * 3})
    means = [0.2, 0.3, 0.4, 0.25, 0.35, 0.45]
    return frame.assign(mean=means, low=np.array(means) - 0.01, high=np.array(means) + 0.03)


def batch(query_lang: list[str], passage_lang: list[str]) -> Batch:
    return Batch(0, "x-y", np.arange(len(query_lang)), np.array(query_lang), np.array(passage_lang))


def table_10() -> pd.DataFrame:
    lines = [("xquad-r", "de", 1190, 1276), ("xquad-r", "el", 1190, 1234), ("mlqa-r", "de", 512, 2362)]
    return pd.DataFrame(lines, columns=["name", "language", "queries", "candidates"])


def table_9() -> pd.DataFrame:
    return pd.DataFrame({"name": ["small", "large"], "language": ["en", "en de"], "size": [10, 9990]})


TEXT = {"title": "A title that says what is seen", "note": NOTE}
DRAW = {
    "quality": lambda: figures.quality(*at_alpha(), **TEXT),
    "mixing_ratio": lambda: figures.mixing_ratio(*frames(), **TEXT),
    "language_bias": lambda: figures.language_bias(by_language(), **TEXT),
    "by_language": lambda: figures.by_language(by_language(), measure="rank_distance", **TEXT),
    "first_ranked": lambda: diagrams.first_ranked(shares(), **TEXT),
    "training_curves": lambda: figures.training_curves(log(), **TEXT),
    "win_matrix": lambda: diagrams.win_matrix(differences(), "hybrid", "x-y", **TEXT),
    "shared_script": lambda: figures.shared_script(script(), **TEXT),
    "settings_diagram": lambda: diagrams.settings_diagram(**TEXT),
    "batches": lambda: diagrams.batches({"one": batch(["de"] * 9, ["en"] * 9), "two": batch(["th"], ["zh"])}, **TEXT),
    "negatives": lambda: diagrams.negatives(np.eye(2, 3), ["de", "en"], ["en", "de", "th"], **TEXT),
    "corpus_sizes": lambda: diagrams.corpus_sizes(table_10(), **TEXT),
    "training_sizes": lambda: diagrams.training_sizes(table_9(), **TEXT),
}
FUNCTIONS = {name: f for room in (figures, diagrams) for name, f in vars(room).items() if hasattr(f, "caption")}


def lines(ax, label: str) -> np.ndarray:
    """Points (n, 2) of all lines with that label."""
    found = [line.get_xydata() for line in ax.get_lines() if line.get_label() == label]
    return np.concatenate(found) if found else np.empty((0, 2))


def bars(ax, label: str) -> np.ndarray:
    """Ends (n, 2, 2) of the intervals of markers with that label."""
    found = [c.get_segments() for c in ax.collections if c.get_label() == f"_interval {label}"]
    return np.array([segment for segments in found for segment in segments if len(segment) == 2])


def drawn_texts(figure: Figure) -> list[Text]:
    """All texts but the labels of ticks outside the axes, which matplotlib keeps and does not draw."""
    outside = set()
    for axis in [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        shown = [axis.axes.axison and low <= tick.get_loc() <= high for tick in axis.get_major_ticks()]
        outside.update(tick.label1 for tick, inside in zip(axis.get_major_ticks(), shown, strict=True) if not inside)
    return [t for t in figure.findobj(Text) if t.get_text() and t.get_visible() and t not in outside]


def words(ax) -> list[str]:
    return [t.get_text() for t in ax.texts]


def at_alpha(alpha: float = 0.5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`frames` with hybrid at one alpha."""
    return tuple(frame[frame["alpha"].isna() | (frame["alpha"] == alpha)] for frame in frames())


def check_page(figure: Figure) -> None:
    """Everything is inside, in letters that can be read, and no text lies on another."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 > 0 and box.y0 > 0 and box.x1 < width + 0.01 and box.y1 < height + 0.01
    shown = drawn_texts(figure)
    assert all(text.get_fontsize() >= 7 for text in shown)
    boxes = np.array([text.get_window_extent().extents for text in shown])
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = np.triu((high - low > 1).all(axis=2), k=1)  # by more than a pixel in both directions
    assert not [(shown[i].get_text(), shown[j].get_text()) for i, j in np.argwhere(overlap)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_fits_the_page_says_what_it_shows_and_repeats_byte_for_byte(name, tmp_path):
    first, again = DRAW[name](), DRAW[name]()
    below = first.get_supxlabel().replace("\n", " ")
    assert FUNCTIONS[name].caption in below and below.endswith(NOTE) and first.get_suptitle() == TEXT["title"]
    assert first.get_size_inches()[0] == WIDTH
    check_page(first)
    paths = drawing.save(first, tmp_path / "a", name)
    again.draw_without_rendering()  # as a notebook shows it, before it is saved
    drawing.save(again, tmp_path / "b", name)
    assert [p.name for p in paths] == [f"{name}.png", f"{name}.svg"]
    before = [path.read_bytes() for path in paths]
    assert before == [(tmp_path / "b" / path.name).read_bytes() for path in paths]
    assert b"<dc:date>" not in before[1]


def test_files_do_not_depend_on_the_process_or_the_callers_style(tmp_path):
    code = (
        "import matplotlib as m, sys; m.rcParams.update({'font.size': 20, 'savefig.dpi': 30, 'svg.hashsalt': None});"
        "import test_figures as t; t.drawing.save(t.DRAW['quality'](), sys.argv[1], 'other')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MPLBACKEND": "agg", "PYTHONPATH": os.path.dirname(__file__)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    for path in drawing.save(DRAW["quality"](), tmp_path, "here"):
        assert path.read_bytes() == (tmp_path / f"other{path.suffix}").read_bytes()


def test_a_strategy_has_its_own_colour_and_marker():
    assert list(LOOKS) == ["x-x-mono", "x-y", "hybrid", "x-x", "en-en", "none"]
    for what in ("label", "color", "marker"):
        assert len({getattr(look, what) for look in LOOKS.values()}) == len(LOOKS)
    seen = {}
    for name in ("quality", "mixing_ratio", "language_bias", "by_language", "shared_script"):
        for ax in DRAW[name]().axes:
            for line in ax.get_lines():
                if not line.get_label().startswith("_"):
                    seen.setdefault(line.get_label(), set()).add((line.get_color(), line.get_marker()))
    assert seen == {LOOKS[s].label: {(LOOKS[s].color, LOOKS[s].marker)} for s in STRATEGIES}


@pytest.mark.parametrize("upright", [False, True])
def test_marks_draw_a_marker_an_interval_with_ends_and_seeds(upright):
    ax = Figure().add_subplot()
    rows = pd.DataFrame({"gap": [0.3, 0.5], "low": [0.2, np.nan], "high": [0.45, np.nan], "a": [0.25, 0.4], "b": 0.6})
    look = Look("hybrid", "#009E73", "D")
    seeds = ([1.2, 2.2], rows[["a", "b"]])
    drawing.marks(ax, rows, [1, 2], look, value="gap", seeds=seeds, upright=upright)
    turn = slice(None, None, -1) if upright else slice(None)
    np.testing.assert_array_equal(lines(ax, "hybrid")[:, turn], [[0.3, 1], [0.5, 2]])
    np.testing.assert_array_equal(bars(ax, "hybrid")[:, :, turn], [[[0.2, 1], [0.45, 1]]])
    for name, end in (("low", 0.2), ("high", 0.45)):
        np.testing.assert_array_equal(lines(ax, f"_{name} hybrid")[:, turn], [[end, 1], [np.nan, 2]])
    dots = [[0.25, 1.2], [0.4, 2.2], [0.6, 1.2], [0.6, 2.2]]
    np.testing.assert_array_equal(lines(ax, "_seeds hybrid")[:, turn], dots)
    assert {line.get_color() for line in ax.get_lines()} == {look.color}
    drawing.marks(ax, rows[["gap"]], [3, 4], Look("printed", "0.2", "o"), value="gap", hollow=True)
    assert len(bars(ax, "printed")) == 0 and len(lines(ax, "printed")) == 2


def test_quality_draws_means_intervals_and_seeds():
    summary, seeds = at_alpha(0.25)
    figure = figures.quality(summary, seeds)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["X-X-mono", "X-Y", "hybrid\nalpha 0.25"]
    assert len({ax.get_xlim() for ax in figure.axes}) == 1
    for ax, setting in zip(figure.axes, ["mono", "cross", "multi"], strict=True):
        assert ax.get_title(loc="left").startswith(setting) and ax.get_xlabel() == "mAP"
        for place, strategy in enumerate(STRATEGIES):
            query = "strategy == @strategy and setting == @setting and measure == 'map'"
            row, dots = summary.query(query).iloc[0], seeds.query(query)["value"]
            label = LOOKS[strategy].label
            np.testing.assert_array_equal(lines(ax, label), [[row["mean"], place]])
            np.testing.assert_array_equal(bars(ax, label), [[[row["low"], place], [row["high"], place]]])
            np.testing.assert_array_equal(lines(ax, f"_seeds {label}")[:, 0], dots)
            assert f"{row['mean']:.3f}" in words(ax)


def test_missing_numbers_are_blank():
    summary, seeds = at_alpha()
    summary.loc[summary["strategy"] == "x-y", ["mean", "low", "high"]] = np.nan
    ax = figures.quality(summary, seeds).axes[0]
    assert np.isnan(lines(ax, "X-Y")[:, 0]).all() and not bars(ax, "X-Y").size
    assert len(words(ax)) == 2

    matrices = shares()
    matrices["x-y"].iloc[2, 5] = np.nan
    ax = diagrams.first_ranked(matrices).axes[1]
    assert ax.collections[0].get_array().mask.sum() == 1 and len(words(ax)) == 120

    ax = diagrams.corpus_sizes(table_10()).axes[1]
    assert [t for t in words(ax) if t] == ["512", "2,362"]


def test_mixing_ratio_runs_from_x_y_to_x_x_mono():
    summary, seeds = frames()
    figure = figures.mixing_ratio(summary, seeds)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["mono: mAP", "cross: mAP", "multi: mAP", "multi: rank distance (lower is less biased)"]
    cross = summary.query("setting == 'cross'")
    own = cross.query("strategy == 'hybrid'")
    np.testing.assert_array_equal(lines(figure.axes[1], "hybrid"), own[["alpha", "mean"]])
    for strategy, share in (("x-y", 0), ("x-x-mono", 1)):  # the ends of the curve look as they do everywhere
        mean = cross.loc[cross["strategy"] == strategy, "mean"].item()
        np.testing.assert_array_equal(lines(figure.axes[1], LOOKS[strategy].label), [[share, mean]])
    dots = seeds.query("strategy == 'hybrid' and setting == 'cross'")["value"]
    np.testing.assert_array_equal(lines(figure.axes[1], "_seeds hybrid")[:, 1], dots)
    labels = [t.get_text() for t in figure.axes[3].get_xticklabels()]
    assert labels == ["0\nX-Y", "0.25", "0.5\nhybrid", "0.75", "1\nX-X-mono"]
    assert figure.axes[3].get_yscale() == "log" and figure.axes[1].get_yscale() == "linear"


def test_measures_by_language_stand_in_the_order_asked_for_with_marks():
    asked = {"measure": "rank_distance", "languages": ["zh", "ar", "en", "xx"], "marks": {"ar": "little"}}
    ax = figures.by_language(by_language(), **asked).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["zh", "en", "ar (little)"]
    own = by_language().query("strategy == 'hybrid'").set_index("query_lang")["mean"]
    np.testing.assert_array_equal(lines(ax, "hybrid")[:, 0], own.loc[own.index.isin(["zh", "en", "ar"])])


def test_language_bias_puts_each_mean_on_its_language():
    frame = by_language()
    ax = figures.language_bias(frame).axes[0]
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels[-2:] in (["el (zero-shot)", "vi (zero-shot)"], ["vi (zero-shot)", "el (zero-shot)"])
    trained = frame.groupby("query_lang")["mean"].mean().drop(["el", "vi"])
    assert labels[:9] == list(trained.sort_values(ascending=False).index)
    for strategy in STRATEGIES:
        own = frame[frame["strategy"] == strategy].set_index("query_lang")
        for x, y in lines(ax, LOOKS[strategy].label):
            assert own.loc[labels[round(y)][:2], "mean"] == x


def test_first_ranked_marks_no_bias_on_a_shared_scale():
    matrices = shares()
    figure = diagrams.first_ranked(matrices)
    meshes = [ax.collections[0] for ax in figure.axes[:3]]
    for mesh, matrix in zip(meshes, matrices.values(), strict=True):
        np.testing.assert_array_equal(mesh.get_array().reshape(11, 11), matrix)
        assert mesh.get_clim() == (0, max(m.to_numpy().max() for m in matrices.values()))
    assert lines(figure.axes[3], "_no bias")[:, 0].tolist() == [1 / 11, 1 / 11]
    assert words(figure.axes[3]) == ["no bias: 1/11 = 9 %"]
    own = np.diag(matrices["x-y"]).mean()
    assert figure.axes[1].get_title(loc="left") == f"X-Y\nown language {100 * own:.0f} %"
    assert words(figure.axes[0])[1] == f"{100 * matrices['x-x-mono'].loc['ar', 'de']:.0f}"


def test_training_curves_keep_kinds_of_batches_apart_and_ring_the_best_step():
    frame = log().reset_index(drop=True)
    left, right = figures.training_curves(log()).axes
    shown = [t.get_text() for t in left.get_legend().get_texts()]
    assert shown == ["X-X-mono", "X-Y", "hybrid, X-X-mono batches", "hybrid, X-Y batches"]
    own = frame[(frame["strategy"] == "hybrid") & (frame["mode"] == "x-y")]
    first = own[own["step"].between(8, 9)].groupby("seed")["loss"].mean().mean()
    assert [9, pytest.approx(first)] in lines(left, "hybrid, X-Y batches").tolist()
    for strategy in STRATEGIES:
        measured = frame[(frame["strategy"] == strategy) & frame["validation_loss"].notna()]
        table = measured.pivot(index="step", columns="seed", values="validation_loss")
        np.testing.assert_allclose(lines(right, LOOKS[strategy].label)[:, 1], table.mean(axis=1))
        np.testing.assert_array_equal(bars(right, LOOKS[strategy].label)[:, :, 1], table.agg(["min", "max"], axis=1))
        best = sorted(zip(table.idxmin(), table.min(), strict=True))
        assert sorted(map(tuple, lines(right, f"_best {strategy}"))) == best


def test_win_matrix_marks_ties_and_counts_outcomes():
    ax = diagrams.win_matrix(differences(), "hybrid", "x-y").axes[0]
    assert words(ax) == ["+.020", "(+.010)", "\N{MINUS SIGN}.040"]
    assert ax.get_title(loc="left") == "hybrid against X-Y: wins 1, ties 1, loses 1 of 3"
    mesh = ax.collections[0]
    assert mesh.get_clim() == (-0.04, 0.04)
    np.testing.assert_allclose(mesh.cmap(1.0)[:3], to_rgb(LOOKS["hybrid"].color))
    np.testing.assert_allclose(mesh.cmap(0.0)[:3], to_rgb(LOOKS["x-y"].color))


def test_shared_script_has_a_panel_for_each_group():
    figure = figures.shared_script(script())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["same script", "different script"]
    np.testing.assert_allclose([lines(ax, "hybrid")[0, 0] for ax in figure.axes], [0.45, 0.4])


def test_batches_write_the_codes_of_the_first_places():
    figure = diagrams.batches({"one": batch(["de", "en", "th"] * 3, ["en", "th", "de"] * 3)})
    assert words(figure.axes[0])[:4] == ["de", "en", "en", "th"] and len(words(figure.axes[0])) == 16
    assert figure.axes[0].get_xlabel() == "and 1 more" and figure.axes[0].get_title(loc="left") == "one"
    colours = figure.axes[0].collections[0].get_facecolors()
    assert len({tuple(colour) for colour in colours}) == 3, "a language has its own colour"


def test_negatives_tell_positive_negative_and_masked_apart():
    mask = np.array([[True, False, False, True], [False, True, False, False]])
    ax = diagrams.negatives(mask, ["de", "en"], ["en", "de", "th", "zh"]).axes[0]
    plus, minus, masked = "+", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
    assert words(ax) == [plus, minus, minus, masked, minus, plus, minus, minus]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["en", "de", "th", "zh"]
    large = diagrams.negatives(np.eye(50, dtype=bool), ["de"] * 50, ["en"] * 50).axes[0]
    assert set(words(large)) == {""} and not len(large.get_xticks())


def test_settings_diagram_counts_settings():
    counts = [words(ax)[-1] for ax in diagrams.settings_diagram().axes]
    assert counts == [f"{n} settings with 11 languages" for n in (11, 110, 11)]


def test_corpus_sizes_as_bars_and_as_shares():
    first = diagrams.corpus_sizes(table_10()).axes[0]
    assert [bar.get_width() for bar in first.patches] == [1190, 1190, 1276, 1234]
    ax = diagrams.training_sizes(table_9()).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["large (2 languages)", "small (en only)"]
    assert words(ax) == ["9,990  (99.9 %)", "10  (0.1 %)"] and ax.get_xscale() == "log"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: figures.quality(frames()[0].drop(columns="low"), frames()[1]), "summary has no column 'low'"),
        (lambda: figures.quality(*frames()), "hybrid with several alphas"),
        (lambda: figures.by_language(by_language(), measure="mrr"), "frame has no rows with measure 'mrr'"),
        (lambda: figures.quality(frames()[0].assign(strategy="y-x"), frames()[1]), "no strategy 'y-x'; choose from"),
        (lambda: figures.mixing_ratio(frames()[0].assign(alpha=np.nan), frames()[1]), "an alpha in those of hybrid"),
        (lambda: figures.training_curves(log().drop(columns="mode")), "log has no column 'mode'"),
        (lambda: diagrams.first_ranked({}), "matrices is empty"),
        (lambda: diagrams.first_ranked({"x-y": shares()["x-y"].drop(columns="th")}), r"\['x-y'\] has no column 'th'"),
        (lambda: diagrams.first_ranked({"x-y": shares()["x-y"] * np.nan}), "matrices has no number"),
        (lambda: diagrams.batches({}), "batches is empty"),
        (lambda: diagrams.negatives(np.eye(2)[:, :1], ["de", "en"], ["en"]), "for 2 queries and 1 passages"),
    ],
)
def test_errors_name_what_is_wrong(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
