"""Readable text on light and dark pages, and the formatting of numbers."""

import numpy as np
import pytest
from color_vision import contrast, page_colors

from thruway.report.html import format_value


@pytest.mark.parametrize("text", ["ink", "soft"])
@pytest.mark.parametrize("ground", ["page", "card"])
def test_text_is_readable_on_light_and_dark(text, ground):
    pairs = zip(page_colors(text), page_colors(ground), strict=True)
    assert all(contrast(*pair) >= 4.5 for pair in pairs)  # WCAG 2.2, 1.4.3: text


@pytest.mark.parametrize("verdict", ["holds", "fails", "unclear"])
def test_verdicts_are_readable_on_light_and_dark(verdict):
    pairs = zip(page_colors(verdict), page_colors(f"{verdict}-back"), strict=True)
    assert all(contrast(*pair) >= 4.5 for pair in pairs)


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
def test_numbers_are_formatted_readably(value, text):
    assert format_value(value) == text
