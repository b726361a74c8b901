"""Lines and bands of layers: values, gaps, and notes on omitted layers."""

import numpy as np
import pytest
import torch

from thruway.errors import ConfigError, ShapeError
from thruway.figures import mean_and_spread, percentile_bands, std_intervals
from thruway.figures.lines import band
from thruway.figures.scales import layer_color

NAN = float("nan")
STEPS = np.arange(20) * 100


def table(layers, steps=20, seed=0):
    return np.random.default_rng(seed).normal(size=(layers, steps))


def of_layer(figure, name, fill=None):
    return [trace for trace in figure.data if trace.name == name and trace.fill == fill]


def notes(figure):
    return [text for each in figure.layout.annotations if each.yref == "paper" for text in each.text.split("<br>")]


def outline(x, low, high):
    return np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])


DRAWN = {
    "percentiles": percentile_bands(-table(4), table(4), 3 + table(4), STEPS, quantity="activation", unit="1"),
    "mean": mean_and_spread(table(4), table(4) ** 2, STEPS, quantity="activation", unit="1"),
    "std": std_intervals({"a": table(4) ** 2, "b": table(4) ** 2}, STEPS, quantity="activation", unit="1"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_axis_has_name_and_unit(name):
    axes = [DRAWN[name].layout[key] for key in DRAWN[name].layout if key.startswith(("xaxis", "yaxis"))]
    assert len(axes) == (4 if name == "std" else 2)
    assert all(axis.title.text.endswith(("activation (1)", "training time (steps)")) for axis in axes)


@pytest.mark.parametrize("name", DRAWN)
def test_every_layer_has_its_colour_and_one_entry_in_the_legend(name):
    for number in range(4):
        traces = [trace for trace in DRAWN[name].data if trace.name == f"layer {number + 1}"]
        assert [trace.showlegend for trace in traces].count(True) == 1
        assert {trace.fillcolor or trace.line.color for trace in traces} == {layer_color(number, 4)}
        assert len({trace.legendgroup for trace in traces}) == 1
        assert all("%{x}" in trace.hovertemplate for trace in traces if trace.fill is None)


def test_percentiles_have_the_given_values():
    low, mid, high, spread = (table(3, seed=seed) for seed in range(4))
    figure = percentile_bands(low, mid, high, STEPS, ["a", "b", "c"], spread=spread, quantity="activation")
    for row, name in enumerate("abc"):
        middle, top, bottom, dashed = of_layer(figure, name)
        for trace, given in ((middle, mid), (top, high), (bottom, low), (dashed, spread)):
            np.testing.assert_array_equal(trace.x, STEPS)
            np.testing.assert_array_equal(trace.y, given[row])
        assert "markers" in top.mode
        assert dashed.line.dash == "dash"
        assert [trace.meta[0] for trace in (middle, top)] == [f"{name}, median", f"{name}, 98th percentile"]
        (area,) = of_layer(figure, name, fill="toself")
        x, y = outline(STEPS, low[row], high[row])
        np.testing.assert_array_equal(area.x, x)
        np.testing.assert_array_equal(area.y, y)
    keys = [trace.name for trace in figure.data if trace.x[0] is None]
    assert keys == ["98th percentile", "median", "2nd percentile", "standard deviation"]


def test_the_band_is_one_standard_deviation_wide():
    mean, std = table(2), table(2) ** 2
    figure = mean_and_spread(torch.tensor(mean), torch.tensor(std), STEPS, quantity="activation")
    (line,) = of_layer(figure, "layer 2")
    np.testing.assert_array_equal(line.y, mean[1])
    (area,) = of_layer(figure, "layer 2", fill="toself")
    np.testing.assert_array_equal(area.y, outline(STEPS, mean[1] - std[1], mean[1] + std[1])[1])


def test_intervals_lie_about_zero_in_a_panel_each():
    panels = {"standard": table(2) ** 2, "normalized": table(2, seed=1) ** 2}
    figure = std_intervals(panels, STEPS, quantity="gradient", unit="nats")
    assert [each.text for each in figure.layout.annotations] == ["<b>standard</b>", "<b>normalized</b>"]
    for axis, std in zip(("x", "x2"), panels.values(), strict=True):
        upper, lower = (trace for trace in of_layer(figure, "layer 1") if trace.xaxis == axis)
        np.testing.assert_array_equal(upper.y, std[0])
        np.testing.assert_array_equal(lower.y, -std[0])
    assert figure.layout.yaxis2.matches == "y"


def test_nan_is_a_gap_in_line_and_band():
    mean = table(1)
    mean[0, 5:8] = NAN
    figure = mean_and_spread(mean, np.ones((1, 20)), STEPS, quantity="x")
    (line,), (area,) = of_layer(figure, "layer 1"), of_layer(figure, "layer 1", fill="toself")
    assert line.connectgaps is False
    np.testing.assert_array_equal(np.isnan(line.y), np.isnan(mean[0]))
    assert np.flatnonzero(np.isnan(area.x)).tolist() == [10]  # one closed outline of five steps, then the other
    assert not set(STEPS[5:8]) & set(area.x)


def test_a_band_without_numbers_is_empty():
    assert len(band(np.arange(2.0), np.full(2, NAN), np.ones(2), color="#000000").x) == 0


def test_twelve_of_many_layers_are_drawn_with_a_note():
    values = table(1000)
    figure = mean_and_spread(values, np.ones_like(values), STEPS, quantity="x")
    names = [trace.name for trace in figure.data if trace.fill is None and trace.x[0] is not None]
    assert names[0] == "layer 1"
    assert names[-1] == "layer 1000"
    assert len(names) == 12
    assert notes(figure) == ["12 of 1,000 layers, evenly spaced."]
    np.testing.assert_array_equal(of_layer(figure, "layer 1000")[0].y, values[999])
    assert of_layer(figure, "layer 1000")[0].line.color == layer_color(999, 1000)


def test_many_steps_are_reduced_to_extremes_and_means():
    low, mid, high = (table(1, 2500, seed=seed) for seed in range(3))
    high[0, 1111] = 50
    figure = percentile_bands(low, mid, high, range(2500), quantity="x")
    middle, top, bottom = of_layer(figure, "layer 1")
    starts = range(0, 2500, 3)
    np.testing.assert_array_equal(top.x, starts)
    np.testing.assert_array_equal(top.y, [high[0, i : i + 3].max() for i in starts])
    np.testing.assert_array_equal(bottom.y, [low[0, i : i + 3].min() for i in starts])
    np.testing.assert_allclose(
        middle.y, [mid[0, i : i + 3].mean() for i in starts], rtol=1e-12
    )  # another order of sums
    assert max(top.y) == 50
    assert notes(figure) == ["Each point: 3 steps, with their extremes."]


def test_a_log_axis_omits_numbers_without_a_logarithm():
    figure = percentile_bands([[0.0, 1e-4]], [[1e-3, 1e-2]], [[-1.0, 1.0]], [0, 1], quantity="x", log=True)
    middle, top, bottom = of_layer(figure, "layer 1")
    np.testing.assert_array_equal(bottom.y, [NAN, 1e-4])
    np.testing.assert_array_equal(top.y, [NAN, 1.0])
    np.testing.assert_array_equal(middle.y, [1e-3, 1e-2])
    assert figure.layout.yaxis.type == "log"


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: mean_and_spread([1.0], [1.0], [0], quantity="x"), ShapeError, r"must have shape \(layers, steps\)"),
        (lambda: mean_and_spread([[1.0]], [[1.0, 2.0]], [0], quantity="x"), ShapeError, r"std has shape \(1, 2\)"),
        (lambda: percentile_bands([[1.0]], [[1.0]], [[1.0], [1.0]], [0], quantity="x"), ShapeError, "high has shape"),
        (
            lambda: percentile_bands([[1.0]], [[1.0]], [[1.0]], [0], spread=[[1.0, 1.0]], quantity="x"),
            ShapeError,
            "spread has shape",
        ),
        (lambda: std_intervals([[1.0]], [0, 1], quantity="x"), ShapeError, "steps has shape"),
        (
            lambda: std_intervals({"a": [[1.0]], "b": [[1.0], [1.0]]}, [0], quantity="x"),
            ShapeError,
            "the table of 'b' has shape",
        ),
        (lambda: std_intervals({}, [0], quantity="x"), ConfigError, "empty mapping"),
        (
            lambda: std_intervals([[1.0, 2.0]], [1, 1], quantity="x"),
            ConfigError,
            "steps must be finite and strictly increasing",
        ),
    ],
)
def test_inconsistent_arguments_raise(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


def test_no_data_gives_an_empty_figure():
    figure = mean_and_spread(np.empty((3, 0)), np.empty((3, 0)), [], quantity="x")
    assert "no layer has values" in figure.layout.annotations[0].text
