"""The share of ReLU units that are zero for every input by chance, and units that are dead by more than chance."""

import math
from functools import cache

import numpy as np

from thruway.diagnosing.reading import Layer, Matrix, Reading
from thruway.diagnosing.theory import dead_share, student_tail

__all__ = ["are_shifted", "expected_shares"]

_BIAS = 0.05  # of the differences between inputs are left by a layer whose bias is much larger than its other inputs
_UNEQUAL = 4  # units are active unequally often: a sample of n tells as much as n / 4 of equal units

_expected = cache(dead_share)  # the same likeness is asked for at many steps


def expected_shares(
    share: Matrix,
    zeros: Matrix | None,
    alike: tuple[Matrix | None, Matrix | None],
    per_pass: float,
    *,
    is_shifted: bool,
) -> Matrix:
    """Return the share of units that are zero in all samples by chance: at random weights, or because active units are
    rarely so.

    Theory takes the differences of inputs for independent. In deep layers,
    where more than half of the signal is common, many are differences of size, which change no sign, and inputs differ
    in few directions: a quarter of the differences and eight independent inputs are assumed there.

    Args:
        share: measured shares of dead units, (steps,).
        zeros: measured shares of zeros, (steps,).
        alike: likeness of the outputs of the rectifier before, and of the pre-activations, (steps,).
        per_pass: number of samples.
        is_shifted: the means of the units are below 0 by more than chance allows.
    """
    likeness, of_layer = alike
    is_of_bias = False
    if likeness is not None and of_layer is not None:
        if is_shifted:
            is_of_bias = _is_of_bias(of_layer, likeness)
        else:  # what lies between the layers, such as pooling or a constant, makes inputs alike as well
            likeness = np.fmax(likeness, of_layer)
    expected = np.full(len(share), 0.5)
    if likeness is not None and np.isfinite(likeness).any():
        places = np.maximum.accumulate(np.where(np.isfinite(likeness), np.arange(len(likeness)), 0))
        held = likeness[places]
        held = np.round(held, 2)
        for value in np.unique(held[np.isfinite(held)]).tolist():
            close = 1 - (1 - value) / 4, min(per_pass, 8.0)
            expected[held == value] = _expected(*(close if value >= 0.5 else (value, per_pass)))
    if zeros is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            of_living = np.clip((zeros - share) / (1 - share), 0.0, 1.0)
        rare = np.nan_to_num(of_living) ** max(1.0, per_pass / _UNEQUAL)
        expected = np.maximum(expected, np.where(share < 1, rare, 0.0))
    return np.zeros(len(share)) if is_of_bias else expected


def are_shifted(reading: Reading, layer: Layer, likeness: Matrix | None, units: int, rarely: float) -> bool:
    """Return True if the means of the units over the inputs lie below 0 by more than chance allows, at the first place.

    Random weights are as often negative as positive, and so are random biases: these means are symmetric about 0,
    however alike the inputs are. Their mean over n units, divided by its standard error, has Student's distribution.
    Units that a bias keeps dead have a mean far below 0.

    Args:
        reading: the trace.
        layer: a layer.
        likeness: that of the pre-activations, (steps,).
        units: number of units.
        rarely: probability of chance.
    """
    values = [reading.values("mean"), reading.values("std")]
    series = [None if one is None else one.of(layer.pre_activation) for one in values] + [likeness]
    if not units or any(one is None for one in series):
        return True  # not known: the likeness of the inputs decides
    moments = np.array(series, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(moments).all(0))
    if not len(known):
        return True
    mean, std, alike = moments[:, known[0]].tolist()
    between = math.sqrt(max(std * std - (1 - alike) * (mean * mean + std * std), 0.0))
    error = max(between, 1e-30) / math.sqrt(max(units - 1, 1))
    return student_tail(-mean / error, units - 1) < rarely


def _is_of_bias(of_layer: Matrix, of_source: Matrix) -> bool:
    """Return True if a layer makes its inputs alike by its bias: weights alone keep the likeness of inputs."""
    known = np.flatnonzero(np.isfinite(of_layer) & np.isfinite(of_source))
    if not len(known) or 1 - of_source[known[0]] < _BIAS**2:  # inputs that are alike already leave nothing to compare
        return False
    return bool(1 - of_layer[known[0]] < _BIAS * (1 - of_source[known[0]]))
