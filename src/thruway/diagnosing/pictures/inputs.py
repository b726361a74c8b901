"""Mean and standard deviation of the inputs of a model, beside those of standardised inputs."""

import numpy as np
import plotly.graph_objects as go

from thruway.diagnosing.pictures.case import EXPECTED, SICK, Case, Picture, last_known
from thruway.figures.panels import fit_legend, label, legend_key, small_multiples
from thruway.figures.ticks import shortened

__all__ = ["input_ranges"]

MOST = 12  # tensors


def input_ranges(case: Case) -> Picture | None:
    """Draw mean ± standard deviation of every input, or of the first outputs if inputs were not recorded."""
    reading = case.reading
    kind = next((kind for kind in ("input", "output") if any(site.kind == kind for site in reading.trace.sites)), None)
    if kind is None:
        return None
    mean, std = (reading.values(quantity, kind) for quantity in ("mean", "std"))  # type: ignore[arg-type]
    if mean is None or std is None or mean.sites != std.sites:
        return None
    rows = list(range(len(mean.sites)))[: MOST if kind == "input" else 1]
    middle, spread = (last_known(values.values, case.column)[rows] for values in (mean, std))
    if not np.isfinite(middle).any():
        return None
    names = [case.names(mean.sites)[row] for row in rows]
    whole = [label(name, longest=len(name)) for name in names]
    y_axis = {
        "type": "category",
        "tickvals": whole,
        "ticktext": shortened(names, 20),
        "automargin": True,
        "range": [-0.6, len(rows) - 0.4],
    }
    figure = small_multiples([""], [{"title": {"text": "value"}}], y_axis, height=44 * len(rows) + 60)
    figure.add_shape(
        type="rect", xref="x", yref="y domain", x0=-1, x1=1, y0=0, y1=1, fillcolor=EXPECTED, opacity=0.3, line_width=0
    )
    figure.add_trace(
        go.Scatter(
            x=middle,
            y=whole,
            mode="markers",
            name="mean ± standard deviation",
            marker={"color": SICK, "size": 9},
            error_x={"array": spread, "color": SICK, "thickness": 2.4, "width": 7},
            hovertemplate="%{y}<br>mean %{x:.4g}, standard deviation %{error_x.array:.4g}<extra></extra>",
        )
    )
    expected = legend_key("standardised: 0 ± 1", mode="markers")
    figure.add_trace(expected.update(marker={"symbol": "square", "size": 13, "color": EXPECTED, "opacity": 0.5}))
    figure.update_layout(showlegend=True)
    what = "inputs of the model" if kind == "input" else "first layer's output (the inputs were not recorded)"
    caption = f"The {what} at step {case.finding.onset:,}, beside the range of standardised inputs."
    return Picture("inputs", "Scale of the inputs", caption, fit_legend(figure), is_wide=True)
