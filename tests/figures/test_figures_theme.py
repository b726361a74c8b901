"""Colours that all readers can distinguish, on a light and on a dark background."""

from itertools import combinations

import numpy as np
import pytest
from color_vision import VISION, contrast, lab, linear, page_colors

from thruway import figures
from thruway.figures.panels import block_styles, label, log_axis
from thruway.figures.scales import DIVERGING, LAYERS, SEQUENTIAL, layer_color, log_scale, log_ticks, ramp
from thruway.figures.theme import BLOCK_STYLES, GREY, TEMPLATE


@pytest.mark.parametrize("vision", VISION)
def test_blocks_are_distinguishable_for_every_colour_vision(vision):
    for one, other in combinations(BLOCK_STYLES.values(), 2):
        distance = np.linalg.norm(lab(VISION[vision] @ linear(one.color)) - lab(VISION[vision] @ linear(other.color)))
        assert distance > 20, (one, other, distance)  # CIE76: about 2 is just noticeable, 10 is perceived at a glance


@pytest.mark.parametrize("color", [*(style.color for style in BLOCK_STYLES.values()), GREY])
def test_marks_are_visible_on_light_and_dark(color):
    assert all(contrast(color, page) >= 3 for page in page_colors("page"))  # WCAG 2.2, 1.4.11: graphics


def test_blocks_also_differ_by_marker():
    assert len({style.symbol for style in BLOCK_STYLES.values()}) == len(BLOCK_STYLES)


def test_a_block_has_the_same_style_in_every_figure():
    assert (
        block_styles(["residual", "mine"])["residual"]
        == block_styles(["plain", "residual"])["residual"]
        == BLOCK_STYLES["residual"]
    )
    assert list(block_styles(["zz", "residual", "aa", "plain"])) == ["plain", "residual", "aa", "zz"]


def test_the_former_name_of_the_block_styles_is_deprecated():
    with pytest.warns(DeprecationWarning, match="use BLOCK_STYLES"):
        assert figures.BLOCK_LOOKS is BLOCK_STYLES
    with pytest.raises(AttributeError, match="no attribute 'BLOCK'"):
        _ = figures.BLOCK


def test_labels_are_literal():
    assert label('<a href="x">&amp;') == '&lt;a href="x"&gt;&amp;amp;'


@pytest.mark.parametrize(
    ("values", "dtick"),
    [([1e-5, 2.0], 1), ([0.03, 3.0], "D2"), ([0.5, 2.0], None), ([], None), ([1e-12, 10.0, float("nan"), 0.0], 2)],
    ids=["decades", "two decades", "short", "empty", "very long"],
)
def test_log_axis_labels_decades(values, dtick):
    assert log_axis("loss", values)["dtick"] == dtick


def perceived(vision, colors):
    return np.array([lab(VISION[vision] @ linear(color)) for color in colors])


@pytest.mark.parametrize("count", [2, 5, 8])
@pytest.mark.parametrize("vision", VISION)
def test_few_layers_are_distinguishable_for_every_colour_vision(vision, count):
    for one, other in combinations(perceived(vision, [layer_color(i, count) for i in range(count)]), 2):
        assert np.linalg.norm(one - other) > 12  # CIE76: 10 is perceived at a glance


@pytest.mark.parametrize("vision", ["typical", "protan", "deutan"])
def test_layer_colours_are_monotonic(vision):
    away = np.linalg.norm(perceived(vision, ramp(LAYERS, 12)) - perceived(vision, LAYERS[:1]), axis=1)
    assert (np.diff(away) > 0).all()


def test_every_layer_shows_on_light_and_dark():
    for color in ramp(LAYERS, 100):
        assert all(contrast(color, page) >= 3 for page in page_colors("page"))  # WCAG 2.2, 1.4.11


@pytest.mark.parametrize("vision", VISION)
def test_magnitudes_get_lighter_for_every_colour_vision(vision):
    assert (np.diff(perceived(vision, ramp(SEQUENTIAL, 64))[:, 0]) > 0).all()


def test_signs_are_symmetric_about_the_lightest_colour():
    rgb = [[int(part) / 255 for part in color[4:-1].split(",")] for color in DIVERGING]
    lightness = [np.mean(color) for color in rgb]
    assert len(rgb) % 2 == 1
    assert int(np.argmax(lightness)) == len(rgb) // 2
    assert rgb[0][2] > rgb[0][0]  # blue is negative
    assert rgb[-1][0] > rgb[-1][2]


def test_log_scale_gives_every_value_the_colour_of_its_logarithm():
    low, high = 1e-12, 30.0
    places, colors = zip(*log_scale(low, high, SEQUENTIAL), strict=True)
    assert (places[0], places[-1]) == (0, 1)
    assert (np.diff(places) > 0).all()
    table = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in colors])
    fine = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in ramp(SEQUENTIAL, 1001)])
    for value in np.geomspace(low, high, 23):
        drawn = [np.interp((value - low) / (high - low), places, channel) for channel in table.T]  # as Plotly does
        share = np.log(value / low) / np.log(high / low)
        # Out of 255: segments are linear, and stops are rounded to integers.
        assert np.abs(drawn - fine[round(1000 * share)]).max() < 3


@pytest.mark.parametrize(("low", "high"), [(1e-30, 1.0), (0.02, 0.05), (3.0, 3.1), (1e-3, 1e4)])
def test_log_ticks_are_few_and_within_the_range(low, high):
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert ticks[0] >= low
    assert ticks[-1] <= high


def test_a_3d_scene_has_the_figures_greys():
    assert TEMPLATE.layout.scene.zaxis.color == GREY
    assert TEMPLATE.layout.scene.xaxis.showbackground is False
