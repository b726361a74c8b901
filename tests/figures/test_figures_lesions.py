"""Figures of lesions, paths and wiring: values, labels and errors."""

import itertools
from math import comb

import numpy as np
import pytest

from thruway.errors import ConfigError, ShapeError
from thruway.figures import (
    Wire,
    deletion_bars,
    deletion_boxes,
    deletion_comparison,
    order_scatter,
    path_lengths,
    path_survival,
    residual_stream,
    unravelled,
)
from thruway.figures.lesions import KIND_STYLES

ERROR = {"quantity": "test error", "unit": "%"}


def titles(figure):
    layout = figure.to_plotly_json()["layout"]
    return [layout[axis]["title"]["text"] for axis in layout if axis.startswith(("xaxis", "yaxis"))]


def bars(figure):
    return [trace for trace in figure.data if trace.type == "bar"]


def test_bars_range_from_the_intact_value_to_the_lesion():
    values, low, high = [5.0, 40.0, 7.0], [4.0, 30.0, 7.0], [6.5, 50.0, 9.0]
    figure = deletion_bars(
        values, ["a", "b", "c"], intact=6.0, low=low, high=high, kinds=["identity", "projection", "identity"], **ERROR
    )
    ends = {int(x): bar.base + y for bar in bars(figure) for x, y in zip(bar.x, bar.y, strict=True)}
    assert ends == {1: 5.0, 2: 40.0, 3: 7.0}
    reach = {
        int(x): (end - minus, end + plus)
        for bar in bars(figure)
        for x, end, minus, plus in zip(bar.x, bar.base + bar.y, bar.error_y.arrayminus, bar.error_y.array, strict=True)
    }
    assert reach == {1: (4.0, 6.5), 2: (30.0, 50.0), 3: (7.0, 9.0)}
    assert {bar.name: bar.marker.color for bar in bars(figure)} == {
        kind: KIND_STYLES[kind].color for kind in ("identity", "projection")
    }
    assert [shape.y0 for shape in figure.layout.shapes] == [6.0]
    assert titles(figure) == ["deleted branch, in order of depth", "test error (%)"]


def test_a_stage_boundary_is_drawn_before_its_first_branch():
    figure = deletion_bars([1, 2, 3], intact=0, boundaries=[1], **ERROR)
    assert [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1] == [1.5]
    assert "new shape" in [trace.name for trace in figure.data]


def test_a_comparison_draws_each_net_with_its_intact_value():
    figure = deletion_comparison({"a": [1, 2], "b": [3, np.nan]}, intact={"b": 0.5}, **ERROR)
    lines = {trace.name: (trace.y.tolist(), trace.line.color) for trace in figure.data if trace.mode == "lines+markers"}
    assert lines["a"][0] == [1, 2]
    assert np.array_equal(lines["b"][0], [3, np.nan], equal_nan=True)
    (dashed,) = figure.layout.shapes
    assert (dashed.y0, dashed.line.color) == (0.5, lines["b"][1])
    assert lines["a"][1] != lines["b"][1]


def test_boxes_hold_every_draw_in_order_of_their_number():
    figure = deletion_boxes({10: [0.5, 0.6], 1: [0.1]}, intact=0.05, **ERROR)
    boxes = [trace for trace in figure.data if trace.type == "box"]
    assert [(box.x[0], box.y.tolist(), box.boxpoints) for box in boxes] == [(1, [0.1], "all"), (10, [0.5, 0.6], "all")]
    assert titles(figure) == ["deleted branches (number)", "test error (%)"]


def test_the_scatter_has_a_colour_per_number_of_swaps_and_damage_grows_to_the_right():
    figure = order_scatter([0.9, 0.5, 0.8], [1, 2, 3], swaps=[1, 4, 1], intact=0.5, **ERROR)
    points = {trace.name: (trace.x.tolist(), trace.y.tolist()) for trace in figure.data if trace.mode == "markers"}
    assert points == {"1 swap": ([0.9, 0.8], [1, 3]), "4 swaps": ([0.5], [2])}
    assert figure.layout.xaxis.autorange == "reversed"


def test_three_panels_of_paths_each_on_its_own_scale():
    x = np.arange(4)
    gradient = np.array([1, 0.1, 0, 1e-4])
    figure = path_lengths(x, [0.125, 0.375, 0.375, 0.125], gradient, [0.7, 0.2, 0.0, 0.1], effective=(0, 1))
    share, along, total = figure.data[:3]
    assert share.y.tolist() == [0.125, 0.375, 0.375, 0.125]
    assert np.array_equal(along.y, [1, 0.1, np.nan, 1e-4], equal_nan=True)  # 0 cannot be shown on a logarithmic axis
    assert total.y.tolist() == [0.7, 0.2, 0.0, 0.1]
    assert [trace.yaxis for trace in figure.data[:3]] == ["y", "y2", "y3"]
    axes = figure.layout.yaxis, figure.layout.yaxis2, figure.layout.yaxis3
    assert [(axis.type, axis.matches) for axis in axes] == [(None, None), ("log", None), (None, None)]
    assert [(shape.x0, shape.x1, shape.xref) for shape in figure.layout.shapes] == [
        (-0.5, 1.5, axis) for axis in ("x", "x2", "x3")
    ]
    # In one row on a wide screen, in one column on a narrow one.
    meta = figure.layout.meta
    assert len({tuple(meta["wide"][f"yaxis{n}.domain"]) for n in ("", 2, 3)}) == 1
    assert len({tuple(meta["narrow"][f"yaxis{n}.domain"]) for n in ("", 2, 3)}) == 3


def test_survival_has_a_line_for_every_number_of_deletions():
    n, x = 6, np.arange(7)
    left = {d: [comb(n - d, k) / comb(n, k) for k in x] for d in (2, 0)}
    figure = path_survival(x, left)
    assert {trace.name: trace.y.tolist() for trace in figure.data} == {f"{d} deleted": left[d] for d in (0, 2)}


def chain(count):
    return [Wire(f"block {i}", shortcut=i - 1 if i else None, source=i - 1 if i else None) for i in range(count)]


def said(figure):
    return [note.text for note in figure.layout.annotations]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_chain_unravels_into_all_subsets_of_its_branches(count):
    figure = unravelled(chain(count))
    lengths = sorted(int(text) for text in said(figure) if text.isdigit())
    assert lengths == sorted(sum(subset) for subset in itertools.product((0, 1), repeat=count))
    boxes = [text for text in said(figure) if text.startswith("<b>")]
    # Branch i has one copy per path after it: 2^(n - i) copies.
    assert {i: boxes.count(f"<b>{i}</b>") for i in range(1, count + 1)} == {
        i: 2 ** (count - i) for i in range(1, count + 1)
    }
    assert said(figure)[-1].startswith(f"{2**count} paths")


def test_parallel_branches_share_no_path():
    # y = x + a(x) + b(x), then c: (1 + t + t)(1 + t) = 1 + 3t + 2t².
    wires = [Wire("a"), Wire("b", shortcut=0), Wire("c", shortcut=1, source=1)]
    lengths = sorted(int(text) for text in said(unravelled(wires)) if text.isdigit())
    assert lengths == [0, 1, 1, 1, 2, 2]


def test_the_stream_names_every_branch_and_where_shapes_change():
    wires = [Wire("stem", shape="8 x 4"), Wire("<b>wide</b>", "projection", 0, 0, "12 parameters", 0, "16 x 2")]
    figure = residual_stream(wires)
    assert said(figure)[:5] == ["input", "output", "stem", "&lt;b&gt;wide&lt;/b&gt;", "16 x 2"]
    texts = [text for trace in figure.data if trace.customdata is not None for text in trace.customdata]
    assert texts == ["stem<br>identity", "&lt;b&gt;wide&lt;/b&gt;<br>projection<br>12 parameters"]


NAME = "<i>x</i>&amp;%{y}"
NAMED = {
    "bars": deletion_bars([1], [NAME], intact=0, quantity=NAME, unit=NAME, title=NAME, x_name=NAME),
    "comparison": deletion_comparison({NAME: [1]}, intact={NAME: 1}, quantity=NAME, title=NAME, x_name=NAME),
    "boxes": deletion_boxes({1: [1]}, quantity=NAME, unit=NAME, title=NAME),
    "order": order_scatter([1], [1], quantity=NAME, unit=NAME, title=NAME),
    "paths": path_lengths([0], [1], [1], [1], unit=NAME, contribution_name=NAME, titles=[NAME] * 3),
    "survival": path_survival([0], {0: [1]}, title=NAME),
    "stream": residual_stream([Wire(NAME, said=NAME)], title=NAME),
    "tree": unravelled([Wire(NAME)], title=NAME),
}


@pytest.mark.parametrize("name", NAMED)
def test_names_are_literal_in_every_label(name):
    drawn = str(NAMED[name].to_plotly_json())
    assert "&lt;i&gt;x&lt;/i&gt;&amp;amp;%{y}" in drawn
    assert "<i>" not in drawn
    # There Plotly would replace %{y} by a value.
    assert not any("&lt;i&gt;" in str(trace.hovertemplate) for trace in NAMED[name].data)


def test_no_data_gives_an_empty_figure():
    empty = [
        deletion_bars([], intact=0, **ERROR),
        deletion_comparison({}, **ERROR),
        deletion_boxes({}, **ERROR),
        order_scatter([], [], **ERROR),
        path_lengths([], [], [], []),
        path_survival([], {}),
        residual_stream([]),
        unravelled([]),
    ]
    assert all(len(figure.layout.annotations) == 1 and not figure.data for figure in empty)


REFUSED = {
    "one edge": (lambda: deletion_bars([1], intact=0, low=[1], **ERROR), ConfigError, "needs both ends"),
    "kind": (lambda: deletion_bars([1], intact=0, kinds=["gate"], **ERROR), ConfigError, "did you mean 'gated'"),
    "kinds": (lambda: deletion_bars([1], intact=0, kinds=[], **ERROR), ShapeError, "got 0 kinds for 1"),
    "boundary": (lambda: deletion_bars([1], intact=0, boundaries=[1], **ERROR), ConfigError, "0 to 0, got 1"),
    "table": (lambda: deletion_bars([[1]], intact=0, **ERROR), ShapeError, r"\(1, 1\)"),
    "net": (lambda: deletion_comparison({"a": [1]}, intact={"b": 1}, **ERROR), ConfigError, "unknown net 'b'"),
    "nets": (lambda: deletion_comparison({"a": [1], "b": [1, 2]}, **ERROR), ShapeError, r"\(2,\)"),
    "tau": (lambda: order_scatter([2], [1], **ERROR), ConfigError, "got 2"),
    "count": (lambda: deletion_boxes({-1: [1]}, **ERROR), ConfigError, "got -1"),
    "lengths": (lambda: path_lengths([1, 0], [1, 1], [1, 1], [1, 1]), ConfigError, "strictly increasing"),
    "interval": (
        lambda: path_lengths([0], [1], [1], [1], gradient_low=[1]),
        ConfigError,
        "gradient_low and gradient_high",
    ),
    "many": (lambda: unravelled(chain(7)), ConfigError, r"2\^7"),
    "later": (lambda: unravelled([Wire("a", source=0)]), ConfigError, "connected to earlier branches only"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_arguments_raise(name):
    make, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        make()
