"""Heat maps have the given values, and notes on grouped cells."""

import numpy as np
import pytest
import torch

from thruway.errors import ConfigError, ShapeError
from thruway.figures import heat_map

NAN, INF = float("nan"), float("inf")


def grid(layers, steps, seed=0):
    return np.random.default_rng(seed).lognormal(size=(layers, steps))


def notes(figure):
    return [text for each in figure.layout.annotations if each.yref == "paper" for text in each.text.split("<br>")]


def cells(figure):
    return figure.data[0].z


def test_small_maps_keep_every_number():
    values = grid(7, 30)
    figure = heat_map(values, np.arange(30) * 10, quantity="gradient norm", unit="nats")
    np.testing.assert_array_equal(cells(figure), values.astype(np.float32))
    np.testing.assert_array_equal(figure.data[0].x, np.arange(30) * 10)
    assert list(figure.data[0].y) == ["1", "2", "3", "4", "5", "6", "7"]
    assert notes(figure) == []


def test_first_layer_is_at_the_bottom_and_axes_have_names_and_units():
    figure = heat_map(grid(3, 4), range(4), ["a", "b", "c"], quantity="saturation", unit="share of units")
    assert list(figure.layout.yaxis.range) == [-0.5, 2.5]  # upwards
    assert list(figure.data[0].y) == ["a", "b", "c"]
    assert figure.layout.yaxis.title.text == "layer (first at the bottom)"
    assert figure.layout.xaxis.title.text == "training time (steps)"
    assert figure.layout.coloraxis.colorbar.title.text == "saturation (share of units)"
    assert "%{y}" in figure.data[0].hovertemplate
    assert "%{x}" in figure.data[0].hovertemplate
    assert list(figure.data[0].meta) == ["saturation", "share of units"]


def grouped(values, size, keep):
    """Slow reference: one cell after the other."""
    rows = []
    for row in values:
        rows.append([keep([v for v in row[i : i + size] if np.isfinite(v)]) for i in range(0, len(row), size)])
    return np.array(rows)


@pytest.mark.parametrize(
    ("keep", "twin"),
    [
        ("largest", lambda v: max(v, default=NAN)),
        ("smallest", lambda v: min(v, default=NAN)),
        ("farthest from 0", lambda v: max(v, key=abs, default=NAN)),
        ("mean", lambda v: sum(v) / len(v) if v else NAN),
    ],
)
def test_many_steps_share_cells_with_a_note(keep, twin):
    values = grid(3, 1501) - 1
    values[1, 10:40] = NAN
    values[2, 7] = INF
    figure = heat_map(values, np.arange(1501) * 5, quantity="x", keep=keep)
    # float32 of a mean of three
    np.testing.assert_allclose(cells(figure), grouped(values, 3, twin), rtol=1e-6, equal_nan=True)
    np.testing.assert_array_equal(figure.data[0].x, np.arange(0, 1501, 3) * 5)
    word = "number farthest from 0" if keep == "farthest from 0" else keep
    assert notes(figure) == [f"Each column: the {word} of 3 steps.", "Grey: no finite number."]


def test_a_spike_of_either_sign_stays_visible_in_a_signed_map():
    values = np.zeros((2, 5000))
    values[0, 1234], values[1, 4321] = -9, 9
    figure = heat_map(values, range(5000), quantity="mean", diverging=True)
    assert cells(figure).min() == -9
    assert cells(figure).max() == 9
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-9, 9)


def test_a_thousand_layers_of_ten_thousand_steps_stay_small_and_keep_the_extreme():
    values = grid(1000, 10_000).astype(np.float32)
    values[417, 7777] = 5e6
    values[3, 100:200] = NAN
    figure = heat_map(values, range(10_000), quantity="gradient norm", log=True)
    assert len(figure.to_json()) < 3.5e6
    assert cells(figure).shape == (1000, 589)
    row, column = np.unravel_index(np.nanargmax(cells(figure)), cells(figure).shape)
    assert figure.data[0].y[row] == "418"
    assert figure.data[0].x[column] <= 7777 < figure.data[0].x[column + 1]
    assert cells(figure)[row, column] == pytest.approx(5e6, rel=2**-13)
    assert np.isnan(cells(figure)).sum() == 5  # groups of 17 steps entirely between 100 and 200: 102 to 186
    assert len(figure.layout.yaxis.tickvals) == 15
    assert figure.layout.height - figure.layout.margin.t - figure.layout.margin.b == 1000  # a pixel per layer


def test_beyond_a_thousand_layers_rows_are_grouped_and_named_by_both_ends():
    values = grid(2001, 2)
    figure = heat_map(values, [0, 1], quantity="x")
    np.testing.assert_array_equal(cells(figure)[0], values[:3].max(axis=0).astype(np.float32))
    assert figure.data[0].y[0] == "1 – 3"
    assert figure.data[0].y[-1] == "1999 – 2001"
    assert notes(figure) == ["Each row: the largest of 3 layers."]


def test_large_maps_round_to_four_digits():
    values = grid(300, 300)
    np.testing.assert_allclose(cells(heat_map(values, range(300), quantity="x")), values, rtol=2**-13)


@pytest.mark.parametrize("missing", [NAN, INF, -INF])
def test_non_finite_numbers_are_gaps(missing):
    figure = heat_map([[1.0, missing], [2.0, 3.0]], [0, 1], quantity="x")
    np.testing.assert_array_equal(np.isnan(cells(figure)), [[False, True], [False, False]])
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (1, 3)
    assert figure.data[0].hoverongaps is False


def test_a_map_of_gaps_only_is_still_a_map():
    figure = heat_map([[NAN, NAN]], [0, 1], quantity="x", log=True)
    assert np.isnan(cells(figure)).all()
    assert notes(figure) == ["Grey: no finite number."]


def test_a_log_map_keeps_the_values_and_labels_decades():
    figure = heat_map([[0.0, 1e-6], [1e-3, 10.0]], [0, 1], quantity="norm", unit="nats", log=True)
    np.testing.assert_array_equal(cells(figure), np.array([[0.0, 1e-6], [1e-3, 10.0]], dtype=np.float32))
    bar = figure.layout.coloraxis2.colorbar
    assert bar.title.text == "norm (nats)"
    assert list(bar.ticktext) == ["10<sup>−6</sup>", "10<sup>−4</sup>", "0.01", "1"]
    np.testing.assert_allclose(bar.tickvals, [-6, -4, -2, 0], atol=1e-9)  # the colour bar is in decades
    assert figure.layout.coloraxis.cmin == pytest.approx(1e-6)  # 0 is below the scale and has the lowest colour


@pytest.mark.parametrize("number", [1e-60, 1e60])
def test_numbers_beyond_float32_survive(number):
    assert cells(heat_map([[number, 1.0]], [0, 1], quantity="x", log=True)).tolist() == [[number, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_are_accepted(dtype):
    values = torch.tensor([[0.5, 2.0]], dtype=dtype, requires_grad=True)
    assert cells(heat_map(values, torch.tensor([1, 2]), quantity="x")).tolist() == [[0.5, 2.0]]


def test_long_names_stay_distinguishable():
    names = [f"{'very.' * 50}{i}.module" for i in range(40)]
    figure = heat_map(grid(40, 2), [0, 1], names, quantity="x")
    assert list(figure.data[0].y) == names
    assert figure.layout.meta["narrow"]["yaxis.ticktext"][:2] == ["…0…", "…3…"]


def test_no_data_gives_an_empty_figure():
    assert "no layer has values" in heat_map(np.empty((0, 0)), [], quantity="x").layout.annotations[0].text


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1.0, 2.0], [0, 1]), {}, ShapeError, r"must have shape \(layers, steps\), got \(2,\)"),
        (([[1.0, 2.0]], [0, 1, 2]), {}, ShapeError, "Pass one number per column"),
        (([[1.0, 2.0]], [1, 0]), {}, ConfigError, "steps must be finite and strictly increasing"),
        (([[1.0, 2.0]], [0, NAN]), {}, ConfigError, "steps must be finite and strictly increasing"),
        (([[1.0], [2.0]], [0], ["a"]), {}, ShapeError, "got 1 layer names for 2 rows"),
        (([[1.0], [2.0]], [0], ["a", "a"]), {}, ConfigError, "two layers are called 'a'"),
        (([[1.0], [2.0, 3.0]], [0]), {}, ConfigError, "must be numbers in rows of one length"),
        (([["x"]], [0]), {}, ConfigError, "must be numbers"),
        (([[-1.0]], [0]), {"log": True}, ConfigError, "log=True needs values of 0 or more, got -1"),
        (([[1.0]], [0]), {"log": True, "diverging": True}, ConfigError, "negative numbers have no logarithm"),
        ((grid(1, 700), range(700)), {"keep": "bigest"}, ConfigError, "did you mean"),
    ],
)
def test_inconsistent_arguments_raise(arguments, options, error, message):
    with pytest.raises(error, match=message):
        heat_map(*arguments, quantity="x", **options)
