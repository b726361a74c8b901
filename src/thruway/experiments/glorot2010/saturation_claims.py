"""Results of the saturation study: one row per trained network, and the claims of figs. 2, 3, 4 and 10."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from thruway.experiments.glorot2010.saturation import Config
from thruway.experiments.glorot2010.saturation_training import (
    KNEES,
    MIDDLE,
    Course,
    Numbers,
    read_courses,
    read_ends,
)
from thruway.experiments.machinery import Claim, Rows
from thruway.runs import RunReader

__all__ = ["CLAIMS", "late_layers", "layer_numbers", "read_rows", "top_numbers"]

Row = dict[str, Any]

# A sigmoid layer has fallen when its mean output is at most this.
_FALLEN = 0.1
# A layer counts as saturated, or as free again, from this share of its values on.
_SATURATED = 0.1

# Shares of values in these parts of the range if a layer's values were spread evenly over [-1, 1].
_EVEN_ENDS, _EVEN_KNEES, _EVEN_MIDDLE = 0.1, KNEES[1] - KNEES[0], MIDDLE


def read_rows(reader: RunReader, config: Config) -> list[Row]:
    """Return one row per network that was completely trained and recorded."""
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
    """Return statistics of the fall of the top layer of a sigmoid network to 0, and of its recovery.

    Returns:
        early_top_mean: lowest mean of the top layer in the first tenth of the updates.
        falls_at: first update at which its mean is at most 0.1; None if there is no such update.
        escapes_at: first update at which a tenth of its values is above 0.05 again, after nine tenths were not.
        freed: largest share of its values above 0.05 after nine tenths were not; None if it never fell that far.
        lowest_below: lowest mean of any other layer while the top layer is down.
        smallest_rise: smallest difference of the mean between one of the other layers and the one below it, in that
        time. first_layer_saturates: increase of the saturated share of layer 1 from the fall to the escape.
    """
    mean, low, top = course["mean"], course["saturation_low"], course["mean"][-1]
    early = course.steps <= 0.1 * course.case.updates
    down = np.flatnonzero(low[-1] >= 1 - _SATURATED)
    free = np.flatnonzero((low[-1] < 1 - _SATURATED) & (course.steps > course.steps[down[0]])) if down.size else down
    fell = np.flatnonzero(top <= _FALLEN)
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
    """Return statistics of the saturation of each layer of a tanh or softsign network, starting with the first.

    Returns:
        saturates_at: first update at which a tenth of the layer's values is at the flat ends; None if there is none.
        saturated: share of the values at the flat ends, at the end of training.
        std: standard deviation at the end of training.
        unevenness: difference between the largest and the smallest of these standard deviations, over their mean.
        ends, knees, middle: shares of the final values with |z| of at least 0.9, from 0.6 to 0.8, and up to 0.1,
        relative to a uniform distribution.
    """
    saturated, std = course.saturated, course["std"][:, -1]
    return {
        "saturates_at": [_at(course, np.flatnonzero(layer >= _SATURATED)) for layer in saturated],
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


# --- claims

_FIG_2 = "Glorot & Bengio 2010, sec. 3.1, fig. 2"
_FIG_3 = "Glorot & Bengio 2010, sec. 3.2 and 3.3, fig. 3"
_FIG_4 = "Glorot & Bengio 2010, sec. 3.3, fig. 4"
_FIG_10 = "Glorot & Bengio 2010, sec. 4.3, fig. 10"

# With fewer updates than these, a network that stays saturated cannot be told from one that was stopped too early: at
# the rate of the laptop scale networks of width 100 needed about half of them.
_ENOUGH = 100_000


def _of(measure: Callable[..., float], *nets: str) -> Callable[[Rows], float]:
    """Return a statistic of the rows of these networks; NaN if one is missing or has diverged."""

    def measured(rows: Rows) -> float:
        found = {row["net"]: row for row in rows if not row["diverged"]}
        return measure(*(found[net] for net in nets)) if set(nets) <= set(found) else math.nan

    return measured


def _number(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda row: math.nan if row[name] is None else float(row[name])


def _freed_in_time(row: Mapping[str, Any]) -> float:
    if row["freed"] is None or (row["escapes_at"] is None and row["updates"] < _ENOUGH):
        return math.nan
    return float(row["freed"])


def _freed_meanwhile(deep: Mapping[str, Any], shallow: Mapping[str, Any]) -> float:
    # That the deep network stays saturated is an effect of depth only if the shallower one escapes.
    return math.nan if deep["freed"] is None or shallow["escapes_at"] is None else float(deep["freed"])


def late_layers(saturates_at: Sequence[int | None]) -> float:
    """Return the number of layers that saturate no later than the one below; NaN if fewer than three saturate.

    >>> late_layers([100, 300, 200, None, None]), late_layers([None, 100, 200])
    (1.0, nan)
    """
    known = [math.inf if at is None else at for at in saturates_at]
    if sum(math.isfinite(at) for at in known) < 3:
        return math.nan
    return float(sum(upper <= lower and math.isfinite(upper) for lower, upper in itertools.pairwise(known)))


def _peaks(row: Mapping[str, Any]) -> float:
    return min(float(row["ends"][0]), float(row["middle"][-1]))


CLAIMS = (
    Claim(
        id="top-sigmoid-falls",
        text="The outputs of the top layer of a deep sigmoid network are driven to 0 early in training.",
        source=_FIG_2,
        statistic="4 hidden layers: lowest mean output of the top layer in the first tenth of the updates",
        measure=_of(_number("early_top_mean"), "sigmoid-4"),
        holds_if="<=",
        threshold=0.1,
    ),
    Claim(
        id="other-sigmoids-stay",
        text="Meanwhile the mean outputs of the other layers stay at 0.5 or above.",
        source=_FIG_2,
        # They begin within a few hundredths of 0.5, on either side.
        statistic="4 hidden layers: lowest mean output of another layer while the top layer is down",
        measure=_of(_number("lowest_below"), "sigmoid-4"),
        holds_if=">=",
        threshold=0.45,
    ),
    Claim(
        id="lower-towards-the-input",
        text="Among these layers, those closer to the input have lower mean outputs.",
        source=_FIG_2,
        statistic="4 hidden layers: smallest increase of the mean output from one of the other layers to the next",
        measure=_of(_number("smallest_rise"), "sigmoid-4"),
        holds_if=">=",
        threshold=0,
    ),
    Claim(
        id="four-sigmoids-escape",
        text="With 4 hidden layers, the top layer leaves saturation after a long time.",
        source=_FIG_2,
        statistic="4 hidden layers: largest share of the top layer's values that is above 0.05 after the fall",
        measure=_of(_freed_in_time, "sigmoid-4"),
        holds_if=">=",
        threshold=0.1,
    ),
    Claim(
        id="first-layer-saturates-then",
        text="At that time the first layer begins to saturate.",
        source=_FIG_2,
        statistic="4 hidden layers: increase of the saturated share of layer 1 from the fall to the escape",
        measure=_of(_number("first_layer_saturates"), "sigmoid-4"),
        holds_if=">=",
        threshold=0.05,
    ),
    Claim(
        id="five-sigmoids-do-not",
        text="With 5 hidden layers, the top layer never leaves saturation, in runs in which it does with 4.",
        source="Glorot & Bengio 2010, sec. 3.1",
        statistic="5 hidden layers: largest share of the top layer's values that is above 0.05 after the fall",
        measure=_of(_freed_meanwhile, "sigmoid-5", "sigmoid-4"),
        holds_if="<",
        threshold=0.1,
    ),
    Claim(
        id="tanh-layer-by-layer",
        text="With tanh and standard initialization, layer 1 saturates first, then layer 2, then layer 3, and so on.",
        source=_FIG_3 + ", top",
        statistic="number of layers that saturate no later than the one below (saturated: a tenth of values at the "
        "ends)",
        measure=_of(lambda row: late_layers(row["saturates_at"]), "tanh"),
        holds_if="<=",
        threshold=0,
    ),
    Claim(
        id="softsign-saturates-less",
        text="Softsign saturates less than tanh.",
        source=_FIG_3,
        statistic="saturated share of the most saturated layer at the end, softsign / tanh",
        measure=_of(lambda s, tanh: max(s["saturated"]) / max(max(tanh["saturated"]), 1e-9), "softsign", "tanh"),
        holds_if="<=",
        threshold=0.5,
    ),
    Claim(
        id="softsign-together",
        text="The layers of softsign networks saturate together, those of tanh networks at different times.",
        source=_FIG_3,
        statistic="unevenness of the layers' standard deviations at the end, softsign / tanh",
        measure=_of(lambda softsign, tanh: softsign["unevenness"] / tanh["unevenness"], "softsign", "tanh"),
        holds_if="<",
        threshold=1,
    ),
    Claim(
        id="tanh-at-ends-and-zero",
        text="At the end the values of tanh units concentrate at -1 and 1 in the lowest layer, and at 0 in the top "
        "one.",
        source=_FIG_4 + ", top",
        statistic="values with |z| >= 0.9 in layer 1, |z| <= 0.1 in layer 5, relative to a uniform distribution; the "
        "smaller",
        measure=_of(_peaks, "tanh"),
        holds_if=">=",
        threshold=2,
    ),
    Claim(
        id="softsign-at-the-knees",
        text="The values of softsign units concentrate at |z| from 0.6 to 0.8, between the linear part and the flat "
        "ends.",
        source=_FIG_4 + ", bottom",
        statistic="values with |z| from 0.6 to 0.8 relative to a uniform distribution, layer with most of them",
        measure=_of(lambda row: max(row["knees"]), "softsign"),
        holds_if=">=",
        threshold=1.5,
    ),
    Claim(
        id="normalized-tanh-together",
        text="With normalized initialization the layers of tanh networks saturate together too.",
        source=_FIG_10,
        statistic="unevenness of the layers' standard deviations at the end, normalized / standard initialization",
        measure=_of(lambda n, standard: n["unevenness"] / standard["unevenness"], "tanh-n", "tanh"),
        holds_if="<",
        threshold=1,
    ),
)
"""The claims in the order of the report."""
