"""Histograms, surfaces and curves of runs compared with slow reference implementations."""

import numpy as np
import pytest

from thruway.errors import ConfigError, ShapeError
from thruway.figures import layer_histograms, run_curves, surface
from thruway.figures.theme import BLOCK_STYLES, GREY

NAN = float("nan")
RNG = np.random.default_rng(0)


def notes(figure):
    return [text for each in figure.layout.annotations if each.yref == "paper" for text in each.text.split("<br>")]


# --- histograms


def test_histograms_equal_numpys():
    samples = [RNG.normal(size=1000) * scale for scale in (0.2, 0.5, 1.0)]
    edges = np.concatenate([np.linspace(-2, 0, 30), np.linspace(0.1, 2, 10)])
    counts = [np.histogram(each, edges)[0] for each in samples]
    figure = layer_histograms(edges, counts, quantity="activation", unit="V")
    for trace, each in zip(figure.data, samples, strict=True):
        density, _ = np.histogram(each, edges, density=True)
        np.testing.assert_allclose(trace.y, density, rtol=1e-12)  # the same quotients in another order
        np.testing.assert_allclose(trace.x, (edges[1:] + edges[:-1]) / 2, rtol=1e-12, atol=1e-15)
    assert figure.layout.xaxis.title.text == "activation (V)"
    assert figure.layout.yaxis.title.text == "density (share of values / V)"


def test_each_layer_may_have_its_own_bins():
    figure = layer_histograms([[0, 1, 2], [0, 0.1, 0.2]], [[1, 1], [1, 1]], quantity="gradient")
    assert [trace.y.tolist() for trace in figure.data] == [[0.5, 0.5], [5.0, 5.0]]


def test_initialisers_are_panels_on_the_same_axes():
    counts = {"standard": [[1, 3], [4, 0]], "normalized": [[2, 2], [2, 2]]}
    figure = layer_histograms({"standard": [0, 1, 2], "normalized": [0, 2, 4]}, counts, ["in", "out"], quantity="x")
    assert [(trace.name, trace.xaxis, trace.showlegend) for trace in figure.data] == [
        ("in", "x", True),
        ("out", "x", True),
        ("in", "x2", False),
        ("out", "x2", False),
    ]
    assert [trace.y.tolist() for trace in figure.data] == [[0.25, 0.75], [1, 0], [0.25, 0.25], [0.25, 0.25]]
    assert [each.text for each in figure.layout.annotations] == ["<b>standard</b>", "<b>normalized</b>"]
    assert figure.data[0].line.color == figure.data[2].line.color != figure.data[1].line.color


def test_a_layer_without_counts_has_no_line_and_a_log_axis_no_empty_bins():
    figure = layer_histograms([0, 1, 2], [[0, 0], [0, 4]], quantity="x", log=True)
    assert np.isnan(figure.data[0].y).all()
    np.testing.assert_array_equal(figure.data[1].y, [NAN, 1])
    assert figure.layout.yaxis.type == "log"


def test_twelve_of_many_histograms_are_drawn():
    figure = layer_histograms([0, 1, 2], np.ones((50, 2)), quantity="x")
    assert len(figure.data) == 12
    assert (figure.data[0].name, figure.data[-1].name) == ("layer 1", "layer 50")
    assert notes(figure) == ["12 of 50 layers, evenly spaced."]


@pytest.mark.parametrize(
    ("edges", "counts", "error", "message"),
    [
        ([0, 1], [[1, 1]], ShapeError, r"edges of shape \(3,\) or \(1, 3\)"),
        ([0, 1, 1], [[1, 1]], ConfigError, "edges must be finite and strictly increasing"),
        ([0, 1, NAN], [[1, 1]], ConfigError, "edges must be finite and strictly increasing"),
        ([0, 1, 2], [[1, -1]], ConfigError, "counts must be 0 or more, got -1"),
        ([0, 1, 2], [1, 1], ShapeError, r"must have shape \(layers, bins\)"),
        ([0, 1, 2], {}, ConfigError, "empty mapping"),
        ([0, 1, 2], {"a": [[1, 1]], "b": [[1, 1], [1, 1]]}, ShapeError, "different numbers of layers"),
        ({"a": [0, 1, 2]}, {"b": [[1, 1]]}, ConfigError, "for the same panels"),
    ],
)
def test_inconsistent_histograms_raise(edges, counts, error, message):
    with pytest.raises(error, match=message):
        layer_histograms(edges, counts, quantity="x")


# --- surfaces

NAMES = {"x_name": "W1 (weight)", "y_name": "W2 (weight)", "z_name": "cost (nats)"}


def test_surfaces_have_the_given_values_and_different_colours():
    x, y = np.linspace(-1, 1, 5), np.linspace(0, 1, 4)
    tables = {"cross-entropy": RNG.normal(size=(4, 5)), "quadratic": RNG.normal(size=(4, 5))}
    tables["quadratic"][1, 1] = NAN
    figure = surface(x, y, tables, **NAMES)
    for trace, (name, table) in zip(figure.data, tables.items(), strict=True):
        assert trace.name == name
        np.testing.assert_array_equal(trace.z, table.astype(np.float32))
        np.testing.assert_array_equal(trace.x, x)
        np.testing.assert_array_equal(trace.y, y)
        assert trace.showlegend
    middle = [each.colorscale[4][1] for each in figure.data]
    assert middle == [BLOCK_STYLES["highway"].color, BLOCK_STYLES["plain"].color]  # distinguishable: see theme
    scene = figure.layout.scene
    assert [scene[axis].title.text for axis in ("xaxis", "yaxis", "zaxis")] == list(NAMES.values())


def test_large_surfaces_are_downsampled_with_a_note():
    table = RNG.normal(size=(3, 900))
    figure = surface(np.arange(900), [0, 1, 2], table, **NAMES)
    kept = figure.data[0].x.astype(int)
    assert (kept[0], kept[-1], len(kept)) == (0, 899, 200)
    np.testing.assert_array_equal(figure.data[0].z, table[:, kept].astype(np.float32))
    assert notes(figure) == ["200 x 3 of 900 x 3 points, evenly spaced."]


@pytest.mark.parametrize(
    ("x", "y", "z", "error", "message"),
    [
        ([0, 1], [0], [[1.0]], ShapeError, "x has shape"),
        ([0], [0, 1], [[1.0]], ShapeError, "y has shape"),
        ([0], [0], [1.0], ShapeError, "z must have shape"),
        ([0], [0], {str(i): [[1.0]] for i in range(5)}, ConfigError, "got 5 surfaces"),
        ([1, 0], [0], [[1.0, 2.0]], ConfigError, "x must be finite and strictly increasing"),
    ],
)
def test_inconsistent_surfaces_raise(x, y, z, error, message):
    with pytest.raises(error, match=message):
        surface(x, y, z, **NAMES)


# --- curves of runs

AXES = {"x_name": "examples seen", "y_name": "test error (%)"}


def test_curves_have_the_given_values():
    x = np.arange(5) * 1e5
    y = RNG.uniform(10, 50, size=5)
    y[2] = NAN
    figure = run_curves({"tanh": (x, y), "highway": (x, y + 1)}, bands={"tanh": (x, y - 2, y + 2)}, **AXES)
    area, tanh, highway, key = figure.data
    np.testing.assert_array_equal(tanh.x, x)
    np.testing.assert_array_equal(tanh.y, y)
    assert tanh.connectgaps is False
    there_and_back = [*(y[:2] - 2), *(y[1::-1] + 2), NAN, *(y[3:] - 2), *(y[:2:-1] + 2)]
    np.testing.assert_array_equal(area.y, there_and_back)
    assert area.fillcolor == tanh.line.color
    assert highway.line.color == BLOCK_STYLES["highway"].color
    assert key.name == "range"
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("examples seen", "test error (%)")


def test_every_run_has_its_own_style_and_references_are_grey():
    names = [f"run {i}" for i in range(14)]
    figure = run_curves({name: ([0, 1], [2, 1]) for name in names}, references=["run 3"], **AXES)
    drawn = {trace.name: (trace.line.color, trace.line.dash) for trace in figure.data}
    assert len(set(drawn.values())) == len(names)
    assert drawn["run 3"] == (GREY, "dash")
    assert [name for name, (color, _) in drawn.items() if color == GREY] == ["run 3"]


def test_long_curves_are_means_of_neighbours_and_bands_their_extremes():
    y = RNG.uniform(1, 2, size=2001)
    figure = run_curves({"a": (range(2001), y)}, bands={"a": (range(2001), y - 1, y + 1)}, **AXES)
    area, line, _ = figure.data
    starts = range(0, 2001, 3)
    np.testing.assert_allclose(line.y, [y[i : i + 3].mean() for i in starts], rtol=1e-12)  # another order of sums
    np.testing.assert_array_equal(area.y[: len(starts)], [y[i : i + 3].min() - 1 for i in starts])
    np.testing.assert_array_equal(area.y[len(starts) :][::-1], [y[i : i + 3].max() + 1 for i in starts])
    assert notes(figure) == ["Each point: the mean of several neighbours."]


def test_a_log_axis_has_gaps_where_there_is_no_logarithm():
    figure = run_curves({"a": ([0, 1, 2], [1.0, 0.0, 0.1])}, log=True, **AXES)
    np.testing.assert_array_equal(figure.data[0].y, [1.0, NAN, 0.1])
    assert figure.layout.yaxis.type == "log"


@pytest.mark.parametrize(
    ("curves", "options", "error", "message"),
    [
        ({"a": ([0, 1], [1.0])}, {}, ShapeError, r"y of 'a' has shape \(1,\)"),
        ({"a": ([1, 0], [1.0, 2.0])}, {}, ConfigError, "x of 'a' must be finite and strictly increasing"),
        ({"tanh": ([0], [1.0])}, {"references": ["tahn"]}, ConfigError, "did you mean 'tanh'"),
        (
            {"tanh": ([0], [1.0])},
            {"bands": {"b": ([0], [1.0], [1.0])}},
            ConfigError,
            "every band and reference needs a curve",
        ),
        ({"a": ([0], [1.0])}, {"bands": {"a": ([0], [1.0], [1.0, 2.0])}}, ShapeError, "edge of the band of 'a'"),
    ],
)
def test_inconsistent_curves_raise(curves, options, error, message):
    with pytest.raises(error, match=message):
        run_curves(curves, **options, **AXES)


def test_no_runs_give_an_empty_figure():
    assert "no run has been evaluated" in run_curves({}, **AXES).layout.annotations[0].text
