"""Figures of a search: values, axes and labels."""

import itertools
import math

import numpy as np
import pytest

from thruway.errors import ConfigError, ShapeError
from thruway.figures import BLOCK_STYLES
from thruway.report import Hyperparameter, final_loss_by_depth, loss_curves, search_scatter
from thruway.report.search import LOSS_FLOOR

NAN = float("nan")
HOSTILE = "<b>x</b>&amp;%{y}"


def trial(block, depth, loss, **more):
    return {"block": block, "depth": depth, "final_loss": loss, "diverged": not math.isfinite(loss), **more}


def strings(value):
    """All texts in a figure."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list | tuple | np.ndarray):
        for each in value:
            yield from strings(each)


def axes(figure):
    return {key: figure.layout[key] for key in figure.layout if key.startswith(("xaxis", "yaxis"))}


def drawn(figure, **wanted):
    """Traces with points and with the given attributes."""
    full = [trace for trace in figure.data if trace.x is not None and len(trace.x) and trace.x[0] is not None]
    return [trace for trace in full if all(trace[key.replace("__", ".")] == value for key, value in wanted.items())]


EVERY_FIGURE = {
    "curves": loss_curves({("plain", 10): ([1, 2], [1.0, 0.5]), ("highway", 20): ([1, 2], [1.0, 0.5])}),
    "curves by block": loss_curves(
        {("plain", 10): ([1, 2], [1.0, 0.5]), ("mine", 20): ([1, 2], [1.0, 0.5])}, panel="block"
    ),
    "by depth": final_loss_by_depth([trial("plain", 10, 0.5), trial("plain", 20, NAN)]),
    "search": search_scatter([trial("plain", 10, 0.5, learning_rate=0.1, activation="tanh", momentum=0.9)]),
}


@pytest.mark.parametrize("name", EVERY_FIGURE)
def test_every_axis_has_name_and_unit(name):
    for key, axis in axes(EVERY_FIGURE[name]).items():
        unit = axis.title.text.endswith(")")
        assert unit or axis.title.text == "activation of H", key  # a categorical axis has no unit


@pytest.mark.parametrize("name", EVERY_FIGURE)
def test_losses_are_logarithmic(name):
    assert all(axis.type == "log" for key, axis in axes(EVERY_FIGURE[name]).items() if key.startswith("yaxis"))


@pytest.mark.parametrize("name", EVERY_FIGURE)
@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_panels_do_not_overlap(name, kind):
    """Panels are inside the figure and do not overlap, on a wide and on a narrow screen."""
    figure = EVERY_FIGURE[name]
    paths = figure.layout.meta[kind]
    boxes = []
    for key in (key for key in axes(figure) if key.startswith("xaxis")):
        (left, right), (low, high) = paths[f"{key}.domain"], paths[f"y{key[1:]}.domain"]
        assert 0 <= left < right <= 1
        assert 0 <= low < high <= 1
        assert kind == "wide" or (left, right) == (0, 1)
        boxes.append((left, right, low, high))
    for a, b in itertools.combinations(boxes, 2):
        assert a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2]


def test_curves_keep_their_values_and_gaps():
    figure = loss_curves({("highway", 50): ([1, 2, 3, 4, 5], [2.0, NAN, 0.5, math.inf, 0.0])})
    (line,) = drawn(figure)
    np.testing.assert_array_equal(line.x, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(line.y, [2.0, NAN, 0.5, NAN, LOSS_FLOOR])
    assert line.connectgaps is False
    assert line.line.color == BLOCK_STYLES["highway"].color


def test_curves_have_a_panel_per_depth():
    curves = {(block, depth): ([1, 2], [1.0, 1.0 / depth]) for block in ("highway", "plain") for depth in (20, 10)}
    figure = loss_curves(curves)
    assert [note.text for note in figure.layout.annotations] == ["<b>depth 10</b>", "<b>depth 20</b>"]
    assert [(trace.name, trace.xaxis, trace.y[-1]) for trace in figure.data] == [
        ("plain", "x", 0.1),
        ("plain", "x2", 0.05),
        ("highway", "x", 0.1),
        ("highway", "x2", 0.05),
    ]
    assert [trace.showlegend for trace in figure.data] == [True, False, True, False]  # each block once


def test_curves_have_a_panel_per_block():
    curves = {(block, depth): ([1, 2], [1.0, 0.5]) for block in ("plain", "highway") for depth in (10, 20)}
    figure = loss_curves(curves, panel="block")
    lines = drawn(figure)
    assert [(line.xaxis, line.name) for line in lines] == [
        ("x", "depth 10"),
        ("x", "depth 20"),
        ("x2", "depth 10"),
        ("x2", "depth 20"),
    ]
    assert lines[0].marker.symbol != lines[1].marker.symbol
    assert lines[0].marker.symbol == lines[2].marker.symbol


def test_means_are_dashed_and_bands_have_gaps():
    key = ("plain", 10)
    figure = loss_curves(
        {key: ([1, 2, 3], [3.0, 2.0, 1.0])},
        means={key: ([1, 2, 3], [4.0, 3.0, 2.0])},
        bands={key: ([1, 2, 3, 4, 5], [4.0, 3.0, NAN, 1.0, 1.0], [5.0, 5.0, 4.0, 3.0, 2.0])},
    )
    (mean,) = drawn(figure, line__dash="dash")
    np.testing.assert_array_equal(mean.y, [4.0, 3.0, 2.0])
    (band,) = drawn(figure, fill="toself")
    np.testing.assert_array_equal(band.x, [1, 2, 2, 1, NAN, 4, 5, 5, 4])
    np.testing.assert_array_equal(band.y, [4.0, 3.0, 5.0, 5.0, NAN, 1.0, 1.0, 2.0, 3.0])
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == [
        "plain",
        "mean of the best few",
        "range",
    ]


def test_curves_of_unequal_length_raise():
    with pytest.raises(ShapeError, match=r"plain at depth 10 has epochs of shape \(3,\) and losses of shape \(2,\)"):
        loss_curves({("plain", 10): ([1, 2, 3], [1.0, 2.0])})


def test_unknown_panel_raises():
    with pytest.raises(ConfigError, match="did you mean 'depth'"):
        loss_curves({}, panel="depht")


def test_depth_line_is_the_best_of_the_search():
    rows = [trial("plain", d, loss) for d, loss in ((10, 0.3), (10, 0.1), (50, 2.0), (50, NAN))]
    (line,) = drawn(final_loss_by_depth(rows), mode="lines+markers")
    assert (list(line.x), list(line.y)) == ([10, 50], [0.1, 2.0])
    assert line.error_y.array is None  # one seed has no range


def test_depth_line_is_the_median_over_seeds_with_their_range():
    losses = {0: (0.5, 0.1), 1: (0.7, 0.9), 2: (0.2, 0.8)}
    rows = [trial("highway", 10, loss, seed=seed) for seed, pair in losses.items() for loss in pair]
    (line,) = drawn(final_loss_by_depth(rows), mode="lines+markers")
    assert list(line.y) == [0.2]
    assert line.error_y.array[0] == pytest.approx(0.5)  # up to 0.7, the worst seed's best
    assert line.error_y.arrayminus[0] == pytest.approx(0.1)  # down to 0.1


def test_depth_bars_stay_on_the_log_axis():
    rows = [trial("highway", 10, loss, seed=seed) for seed, loss in enumerate((0.0, 1e-3, 1e-2))]
    (line,) = drawn(final_loss_by_depth(rows), mode="lines+markers")
    assert line.y[0] - line.error_y.arrayminus[0] == pytest.approx(LOSS_FLOOR, rel=1e-6)  # a difference of floats


def test_blocks_stand_side_by_side_at_each_depth():
    rows = [trial(block, depth, 0.1) for block in BLOCK_STYLES for depth in (10, 20)]
    lines = drawn(final_loss_by_depth(rows), mode="lines+markers")
    tens = [line.x[0] for line in lines]
    assert [line.name for line in lines] == ["plain", "highway", "residual"]
    assert tens == sorted(set(tens))
    assert max(abs(x / 10 - 1) for x in tens) < 0.05
    assert all(list(line.customdata) == [10, 20] for line in lines)  # the hover text shows the true depth


def test_depth_line_has_a_gap_where_all_diverged():
    rows = [trial("plain", 10, 0.1), trial("plain", 50, NAN), trial("plain", 100, 2.0)]
    (line,) = drawn(final_loss_by_depth(rows), mode="lines+markers")
    np.testing.assert_array_equal(line.y, [0.1, NAN, 2.0])
    assert line.connectgaps is False


@pytest.mark.parametrize("draw", [final_loss_by_depth, search_scatter])
def test_no_trial_is_dropped_and_diverged_ones_are_crosses_above(draw):
    rows = [trial("plain", 10, loss, learning_rate=0.1) for loss in (0.5, NAN, 0.01, math.inf)]
    figure = draw(rows)
    (points,) = drawn(figure, mode="markers")
    assert list(points.marker.symbol) == ["circle", "x", "circle", "x"]
    assert (points.y[0], points.y[2]) == (0.5, 0.01)
    assert points.y[1] == points.y[3] > 0.5 * 1.4
    assert "diverged" in points.customdata[1][-1]
    assert "diverged" in [trace.name for trace in figure.data]
    assert "diverged" not in [trace.name for trace in draw(rows[:1]).data]


def test_a_search_that_only_diverged_is_still_drawn():
    (points,) = drawn(final_loss_by_depth([trial("plain", 10, NAN)]), mode="markers")
    assert list(points.y) == [1.0]


def test_search_has_a_panel_per_hyperparameter_that_varied_over_rows():
    rows = [
        trial("highway", 10, 0.1, learning_rate=0.02, activation="tanh", gate_bias=-3.0),
        trial("plain", 10, 0.2, learning_rate=0.1, activation="relu", gate_bias=None),
    ]
    figure = search_scatter(rows)
    assert [figure.layout[key].title.text for key in ("xaxis", "xaxis2", "xaxis3")] == [
        "learning rate (per step)",
        "activation of H",
        "initial gate bias (pre-activation)",
    ]
    assert [figure.layout[key].type for key in ("xaxis", "xaxis3")] == ["log", None]
    assert list(figure.layout.xaxis2.ticktext) == ["relu", "tanh"]
    found = {(trace.name, trace.xaxis): (list(trace.x), list(trace.y)) for trace in drawn(figure)}
    assert found["highway", "x"] == ([0.02], [0.1])
    assert found["highway", "x3"] == ([-3.0], [0.1])
    # A plain network has no gate bias, so it is not in that panel.
    assert sum(len(trace.x) for trace in figure.data if (trace.name, trace.xaxis) == ("plain", "x3")) == 0
    assert round(found["plain", "x2"][0][0]) == 0
    assert round(found["highway", "x2"][0][0]) == 1


def test_search_can_show_one_depth():
    rows = [trial("plain", 10, 0.1, momentum=0.9), trial("plain", 50, 0.7, momentum=0.5)]
    (points,) = drawn(search_scatter(rows, depth=50))
    assert (list(points.x), list(points.y)) == ([0.5], [0.7])


def test_search_accepts_other_hyperparameters():
    figure = search_scatter(
        [trial("plain", 10, 0.1, width=50)], hyperparameters=[Hyperparameter("width", "width (units)")]
    )
    assert list(drawn(figure)[0].x) == [50]


@pytest.mark.parametrize("draw", [lambda: loss_curves({}), lambda: final_loss_by_depth([]), lambda: search_scatter([])])
def test_no_data_gives_an_empty_figure(draw):
    figure = draw()
    assert len(figure.data) == 0
    assert figure.layout.annotations[0].text.startswith("No ")


def test_names_are_literal_in_every_label():
    """Plotly interprets tags, entities and %{...} in texts; the name of a block is shown literally."""
    rows = [trial(HOSTILE, 10, 0.1, activation=HOSTILE, trial=HOSTILE)]
    curve = {(HOSTILE, 10): ([1], [1.0])}
    figures = [loss_curves(curve), loss_curves(curve, panel="block"), final_loss_by_depth(rows), search_scatter(rows)]
    for figure in figures:
        texts = list(strings(figure.to_plotly_json()))
        assert any("&lt;b&gt;x" in text for text in texts)
        assert not any("<b>x" in text for text in texts)
        assert not any("&lt;" in trace.hovertemplate for trace in figure.data if trace.hovertemplate)
