"""Names are escaped, so that Plotly shows them literally."""

import numpy as np
import pytest

from thruway.figures import (
    heat_map,
    layer_histograms,
    mean_and_spread,
    percentile_bands,
    run_curves,
    std_intervals,
    surface,
)

NAME = "<i>x</i>&amp;%{y}"
LITERAL = "&lt;i&gt;x&lt;/i&gt;&amp;amp;%{y}"
ONE = np.ones((1, 2))
SAID = {"quantity": NAME, "unit": NAME}

FIGURES = {
    "map": heat_map(ONE, [0, 1], [NAME], **SAID, title=NAME, x_name=NAME),
    "log map": heat_map(ONE, [0, 1], [NAME], **SAID, log=True),
    "joined map": heat_map(np.ones((1500, 2)), [0, 1], [f"{NAME}{i}" for i in range(1500)], **SAID),
    "percentiles": percentile_bands(
        ONE, ONE, ONE, [0, 1], [NAME], spread=ONE, names=(NAME, NAME, NAME), title=NAME, x_name=NAME, **SAID
    ),
    "mean": mean_and_spread(ONE, ONE, [0, 1], [NAME], title=NAME, x_name=NAME, **SAID),
    "std": std_intervals({NAME: ONE, "b": ONE}, [0, 1], [NAME], x_name=NAME, **SAID),
    "histograms": layer_histograms([0, 1, 2], {NAME: ONE, "b": ONE}, [NAME], **SAID),
    "surface": surface([0, 1], [0], {NAME: ONE, "b": ONE}, x_name=NAME, y_name=NAME, z_name=NAME),
    "curves": run_curves(
        {NAME: ([0, 1], [1, 2])}, bands={NAME: ([0], [1], [2])}, references=[NAME], x_name=NAME, y_name=NAME, title=NAME
    ),
}


def strings(value, key=""):
    """Yield (key, text) of every text in a figure."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from strings(each, name)
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype.kind in "UO"):
        for each in value:
            yield from strings(each, key)


@pytest.mark.parametrize("name", FIGURES)
def test_names_are_literal_in_every_label(name):
    texts = list(strings(FIGURES[name].to_plotly_json()))
    assert any(LITERAL in text for _, text in texts)
    assert [text for _, text in texts if "<i>" in text] == []
    # There Plotly would replace %{y} by a value.
    assert [text for key, text in texts if key == "hovertemplate" and LITERAL in text] == []
