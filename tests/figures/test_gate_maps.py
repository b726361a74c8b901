"""Gate maps have the given values and the right scales."""

import itertools

import numpy as np
import pytest
import torch

from thruway.errors import ConfigError, ShapeError
from thruway.figures import gate_maps

NAN, INF = float("nan"), float("inf")


def grid(layers, units, seed=0):
    return np.random.default_rng(seed).normal(size=(layers, units))


def notes(figure):
    return [text for each in figure.layout.annotations if each.yref == "paper" for text in each.text.split("<br>")]


def bars(figure):
    """Name, minimum and maximum of every scale."""
    axes = [figure.layout[trace.coloraxis] for trace in figure.data]
    return [(axis.colorbar.title.text, axis.cmin, axis.cmax) for axis in axes]


def test_every_map_has_its_numbers_its_layers_and_its_own_scale():
    maps = {"gate bias": grid(7, 5) - 2, "mean gate": abs(grid(7, 5, 1)), "output": grid(7, 5, 2)}
    figure = gate_maps(maps, [f"layer {i}" for i in range(2, 9)], diverging=["output"])
    for trace, table in zip(figure.data, maps.values(), strict=True):
        np.testing.assert_array_equal(trace.z, table.astype(np.float32))
        assert list(trace.y) == [f"layer {i}" for i in range(2, 9)]
        assert list(trace.x) == [1, 2, 3, 4, 5]
    most = np.abs(maps["output"].astype(np.float32)).max()
    assert bars(figure) == [
        ("<b>gate bias</b>", maps["gate bias"].astype(np.float32).min(), maps["gate bias"].astype(np.float32).max()),
        ("<b>mean gate</b>", maps["mean gate"].astype(np.float32).min(), maps["mean gate"].astype(np.float32).max()),
        ("<b>output</b>", -most, most),
    ]
    assert list(figure.layout.yaxis.range) == [-0.5, 6.5]  # the first layer at the bottom
    assert notes(figure) == []


def test_limits_make_two_maps_comparable():
    tables = {"0": [[-0.1, 0.2]], "7": [[0.5, 0.0]]}
    figure = gate_maps(tables, diverging=tables, limits=dict.fromkeys(tables, (-0.5, 0.5)))
    assert [bar[1:] for bar in bars(figure)] == [(-0.5, 0.5)] * 2


def test_maps_of_one_number_still_have_a_scale():
    figure = gate_maps({"a": [[3.0]], "b": [[0.0]], "c": [[NAN]]}, diverging=["b"])
    assert [bar[1:] for bar in bars(figure)] == [(2.5, 3.5), (-1, 1), (0, 1)]
    assert notes(figure) == ["Grey: no finite number."]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "per_row"), [("wide", None), ("narrow", 1)])
def test_maps_are_in_one_row_and_on_a_phone_in_one_column(count, kind, per_row):
    figure = gate_maps({str(i): grid(49, 50) for i in range(count)})
    arrangement = figure.layout.meta[kind]
    suffixes = ["", *(str(i) for i in range(2, count + 1))]
    across = [arrangement[f"xaxis{suffix}.domain"] for suffix in suffixes]
    along = [arrangement[f"yaxis{suffix}.domain"] for suffix in suffixes]
    if per_row is None:
        assert all(right[0] > left[1] for left, right in itertools.pairwise(across))
        np.testing.assert_allclose(along, [[0, 1]] * count, atol=1e-12)
    else:
        assert across == [[0, 1]] * count
        assert all(below[1] < above[0] for above, below in itertools.pairwise(along))
    inner = arrangement["height"] - arrangement["margin.t"] - arrangement["margin.b"]
    pixels = [(high - low) * inner / 49 for low, high in along]
    # An integer number of pixels per row, otherwise the browser would skip rows.
    np.testing.assert_allclose(pixels, [8.0] * count, rtol=1e-9)
    for suffix, x, y in zip(suffixes, across, along, strict=True):
        bar = f"coloraxis{suffix}.colorbar"
        found = [arrangement[f"{bar}.{side}"] for side in ("x", "y", "len")]
        np.testing.assert_allclose(found, [x[0], y[1], x[1] - x[0]], rtol=1e-9, atol=1e-12)
        is_first = x[0] == 0
        assert arrangement[f"yaxis{suffix}.showticklabels"] == is_first
        assert arrangement[f"yaxis{suffix}.title.text"] == ("layer (first at the bottom)" if is_first else "")


def test_many_units_and_layers_share_cells_that_keep_the_farthest():
    wide, tall = grid(3, 700) * 0.01, grid(1500, 2) * 0.01
    wide[1, 401], tall[1200, 1] = -9, 9
    figure = gate_maps({"a": wide, "b": wide})  # 300 columns for each of the two
    assert figure.data[0].z.shape == (3, 234)
    assert figure.data[0].z.min() == -9
    row, column = np.argwhere(figure.data[0].z == -9)[0]
    assert (row, figure.data[0].x[column]) == (1, 400)  # units 400 to 402, counted from 1
    assert notes(figure) == ["Each column: 3 units, the number farthest from 0."]
    figure = gate_maps({"a": tall})
    assert figure.data[0].z.shape == (750, 2)
    assert figure.data[0].z[600, 1] == 9
    assert notes(figure) == ["Each row: 2 layers, the number farthest from 0."]


def test_non_finite_numbers_are_gaps():
    figure = gate_maps({"a": [[1.0, INF], [NAN, 3.0]]})
    np.testing.assert_array_equal(np.isnan(figure.data[0].z), [[False, True], [True, False]])
    assert bars(figure) == [("<b>a</b>", 1, 3)]


def test_names_are_escaped_and_tensors_are_accepted():
    figure = gate_maps({"<i>T</i>": torch.tensor([[0.5, 0.25]], requires_grad=True)}, ["<b>&"], x_name="<u>")
    assert bars(figure)[0][0] == "<b>&lt;i&gt;T&lt;/i&gt;</b>"
    assert list(figure.data[0].y) == ["&lt;b&gt;&amp;"]
    assert figure.layout.xaxis.title.text == "&lt;u&gt;"
    assert figure.data[0].z.tolist() == [[0.5, 0.25]]


def test_no_data_gives_an_empty_figure():
    assert "no layer has units" in gate_maps({}).layout.annotations[0].text


@pytest.mark.parametrize(
    ("maps", "options", "error", "message"),
    [
        ({"a": [1.0, 2.0]}, {}, ShapeError, r"the map of 'a' must have shape \(layers, units\), got \(2,\)"),
        ({"a": [[1.0]], "b": [[1.0, 2.0]]}, {}, ShapeError, r"'a' has shape \(1, 1\) and that of 'b' \(1, 2\)"),
        ({str(i): [[1.0]] for i in range(5)}, {}, ConfigError, "got 5 maps, and at most 4 fit"),
        ({"bias": [[1.0]]}, {"diverging": ["bais"]}, ConfigError, "unknown map 'bais'; did you mean 'bias'"),
        ({"bias": [[1.0]]}, {"limits": {"gate": (0, 1)}}, ConfigError, "unknown map 'gate'"),
        ({"bias": [[1.0]]}, {"limits": {"bias": (1, 1)}}, ConfigError, r"must be \(lowest, highest\).*, got \(1, 1\)"),
        ({"bias": [[1.0]]}, {"layers": ["x", "y"]}, ShapeError, "got 2 layer names for 1 rows"),
    ],
    ids=["one row", "two shapes", "five", "unknown sign", "unknown limits", "flat limits", "names"],
)
def test_inconsistent_arguments_raise(maps, options, error, message):
    with pytest.raises(error, match=message):
        gate_maps(maps, **options)
