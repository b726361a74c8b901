"""The nets of the study as rows: when their layers saturated, and what became of them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thruway.experiments.glorot2010.saturation import Config
from thruway.experiments.glorot2010.saturation_courses import Course, Numbers, read_courses, read_ends
from thruway.experiments.glorot2010.saturation_watching import KNEES, MIDDLE
from thruway.runs import RunReader

__all__ = ["FALLEN", "SATURATED", "Row", "layer_numbers", "read_rows", "top_numbers"]

Row = dict[str, Any]

FALLEN = 0.1
"""A sigmoid layer whose mean output is at most this has fallen."""
SATURATED = 0.1
"""A layer counts as saturated, or as freed again, when this share of its values is."""

# What these parts of the range would hold if a layer's values were spread evenly over [-1, 1].
_EVEN_ENDS, _EVEN_KNEES, _EVEN_MIDDLE = 0.1, KNEES[1] - KNEES[0], MIDDLE


def read_rows(reader: RunReader, config: Config) -> list[Row]:
    """One row per net that was trained and watched to the end."""
    courses = {course.case: course for course in read_courses(reader, config) if course.is_whole}
    rows = []
    for case, end in read_ends(reader, config).items():
        net, course = case.net, courses[case]
        row = {
            "net": case.name,
            "activation": net.activation,
            "scheme": net.scheme,
            "depth": net.depth,
            "width": config.width,
            "seed": case.seed,
            "learning_rate": case.rate,
            "updates": case.updates,
            "training_loss": end["training_loss"],
            "diverged": not math.isfinite(end["training_loss"]),
            "seconds": end["seconds"],
        }
        numbers = top_numbers(course) if net.activation == "sigmoid" else layer_numbers(course)
        rows.append(row | numbers)
    return rows


def top_numbers(course: Course) -> Row:
    """How the top layer of a sigmoid net fell to 0, what the others did meanwhile, and whether it came back.

    Returns:
        early_top_mean: the lowest mean of the top layer in the first tenth of the updates.
        falls_at: the update at which its mean is at most 0.1; None if it never is.
        escapes_at: the update at which a tenth of its values is above 0.05 again, after nine tenths were not.
        freed: the largest share of its values that was above 0.05 after that; None if it never fell so far.
        lowest_below: the lowest mean of any other layer while the top one is down.
        smallest_rise: of the others' means in that time, the smallest step from one layer to the next above it.
        first_layer_saturates: by how much layer 1's saturated share grows from the fall to the escape.
    """
    mean, low, top = course["mean"], course["saturation_low"], course["mean"][-1]
    early = course.steps <= 0.1 * course.case.updates
    down = np.flatnonzero(low[-1] >= 1 - SATURATED)
    free = np.flatnonzero((low[-1] < 1 - SATURATED) & (course.steps > course.steps[down[0]])) if down.size else down
    fell = np.flatnonzero(top <= FALLEN)
    numbers: Row = {
        "early_top_mean": float(np.nanmin(top[early])),
        "falls_at": _at(course, fell),
        "escapes_at": _at(course, free),
        "freed": float(1 - np.nanmin(low[-1, down[0] :])) if down.size else None,
        "lowest_below": None,
        "smallest_rise": None,
        "first_layer_saturates": None,
    }
    if fell.size:
        until = free[0] if free.size else len(top)
        others = mean[:-1, fell[0] : until]
        numbers["lowest_below"] = float(others.min())
        numbers["smallest_rise"] = float(np.diff(others.mean(axis=1)).min())
    if fell.size and free.size:
        numbers["first_layer_saturates"] = float(course.saturated[0, free[0]] - course.saturated[0, fell[0]])
    return numbers


def layer_numbers(course: Course) -> Row:
    """When each layer of another net saturated, and how its values are spread in the end, the first layer first.

    Returns:
        saturates_at: the update at which a tenth of the layer's values is at the flat ends; None if it never is.
        saturated: that share at the end.
        std: the standard deviation at the end.
        unevenness: how far the layers' standard deviations lie apart at the end, largest - smallest over their mean.
        ends, knees, middle: how many values have |z| from 0.9 on, from 0.6 to 0.8, and up to 0.1 at the end, as
            multiples of what they would be if they were spread evenly.
    """
    saturated, std = course.saturated, course["std"][:, -1]
    return {
        "saturates_at": [_at(course, np.flatnonzero(layer >= SATURATED)) for layer in saturated],
        "saturated": _list(saturated[:, -1]),
        "std": _list(std),
        "unevenness": float((std.max() - std.min()) / std.mean()),
        "ends": _list(saturated[:, -1] / _EVEN_ENDS),
        "knees": _list(course["knees"][:, -1] / _EVEN_KNEES),
        "middle": _list(course["middle"][:, -1] / _EVEN_MIDDLE),
    }


def _at(course: Course, looks: Sequence[int] | np.ndarray[Any, Any]) -> int | None:
    return int(course.steps[looks[0]]) if len(looks) else None


def _list(values: Numbers) -> list[float]:
    return [float(value) for value in values]
