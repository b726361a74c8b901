"""The paper's figures, from the numbers of a run."""

from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go

from thruway.experiments.glorot2010.saturation import Case
from thruway.experiments.glorot2010.saturation_courses import Course, histograms
from thruway.figures import layer_histograms, mean_and_spread, percentile_bands
from thruway.runs import RunReader

__all__ = ["end_histograms", "over_time"]

_X = "training time (updates)"


def over_time(course: Course) -> go.Figure:
    """Fig. 2 for a sigmoid net; fig. 3 or 10, with the lower percentile and the median beside the upper, for others."""
    draw: Mapping[bool, Callable[[Course], go.Figure]] = {True: _means, False: _percentiles}
    return draw[course.case.net.activation == "sigmoid"](course)


def _means(course: Course) -> go.Figure:
    return mean_and_spread(course["mean"], course["std"], course.steps, quantity="mean output", x_name=_X)


def _percentiles(course: Course) -> go.Figure:
    low, middle, high = course["p2"], course["p50"], course["p98"]
    return percentile_bands(low, middle, high, course.steps, spread=course["std"], quantity="activation", x_name=_X)


def end_histograms(reader: RunReader, cases: Sequence[Case]) -> go.Figure | None:
    """Fig. 4: the layers of each net, one panel per net; None if none has come to its end."""
    found = {case.net.title: histograms(reader, case) for case in cases}
    panels = {title: each for title, each in found.items() if each is not None}
    if not panels:
        return None
    edges = {title: each[0] for title, each in panels.items()}
    shares = {title: each[1] for title, each in panels.items()}
    # Tanh's peaks are ten times as high as softsign's hills: only a logarithmic axis shows both.
    return layer_histograms(edges, shares, quantity="activation", log=True)
