"""Colours that every reader can tell apart, and numbers that read well."""

import re
from itertools import combinations

import numpy as np
import pytest

from thruway.report import BLOCK_LOOKS
from thruway.report.assets import page_style
from thruway.report.look import GREY, label, log_axis, looks
from thruway.report.numbers import shown

# Machado, Oliveira & Fernandes 2009, table 1, severity 1.0; they act on linear RGB.
EYES = {
    "typical": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(color):
    part = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    """WCAG 2.2, relative luminance."""
    light, dark = sorted((linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(rgb):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_blocks_stay_apart_for_every_eye(eyes):
    for one, other in combinations(BLOCK_LOOKS.values(), 2):
        distance = np.linalg.norm(lab(EYES[eyes] @ linear(one.color)) - lab(EYES[eyes] @ linear(other.color)))
        assert distance > 20, (one, other, distance)  # CIE76: about 2 is just noticeable, 10 is seen at a glance


def page_colors(name):
    colors = re.findall(rf"--{name}: (#[0-9a-f]{{6}})", page_style())
    assert len(colors) == 2  # light, dark
    return colors


@pytest.mark.parametrize("color", [*(look.color for look in BLOCK_LOOKS.values()), GREY])
def test_marks_show_on_light_and_dark(color):
    assert all(contrast(color, page) >= 3 for page in page_colors("page"))  # WCAG 2.2, 1.4.11: graphics


@pytest.mark.parametrize("text", ["ink", "soft"])
@pytest.mark.parametrize("ground", ["page", "card"])
def test_text_reads_on_light_and_dark(text, ground):
    pairs = zip(page_colors(text), page_colors(ground), strict=True)
    assert all(contrast(*pair) >= 4.5 for pair in pairs)  # WCAG 2.2, 1.4.3: text


@pytest.mark.parametrize("verdict", ["holds", "fails", "unclear"])
def test_verdicts_read_on_light_and_dark(verdict):
    pairs = zip(page_colors(verdict), page_colors(f"{verdict}-back"), strict=True)
    assert all(contrast(*pair) >= 4.5 for pair in pairs)


def test_blocks_also_differ_by_marker():
    assert len({look.symbol for look in BLOCK_LOOKS.values()}) == len(BLOCK_LOOKS)


def test_a_block_wears_the_same_look_in_any_company():
    assert (
        looks(["residual", "mine"])["residual"] == looks(["plain", "residual"])["residual"] == BLOCK_LOOKS["residual"]
    )
    assert list(looks(["zz", "residual", "aa", "plain"])) == ["plain", "residual", "aa", "zz"]


def test_labels_are_literal():
    assert label('<a href="x">&amp;') == '&lt;a href="x"&gt;&amp;amp;'


@pytest.mark.parametrize(
    ("values", "dtick"),
    [([1e-5, 2.0], 1), ([0.03, 3.0], "D2"), ([0.5, 2.0], None), ([], None), ([1e-12, 10.0, float("nan"), 0.0], 2)],
    ids=["decades", "two decades", "short", "empty", "very long"],
)
def test_log_axis_labels_decades(values, dtick):
    assert log_axis("loss", values)["dtick"] == dtick


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (np.int64(-3), "-3"),
        (0.1, "0.1"),
        (0.00123, "0.00123"),
        (1 / 3, "0.3333"),
        (999.96, "1,000"),
        (123.456, "123.5"),
        (12345.6, "12,346"),
        (np.float32(0.5), "0.5"),
        (9.99999e-5, "0.0001"),
        (1.5e-9, "1.5e-09"),
        (2.5e7, "2.5e+07"),
        (0.0, "0"),
        (float("inf"), "∞"),
        (float("-inf"), "−∞"),
        (np.bool_(False), "no"),
        (100.0, "100"),
        (50000.0, "50,000"),
    ],
)
def test_numbers_read_well(value, text):
    assert shown(value) == text
