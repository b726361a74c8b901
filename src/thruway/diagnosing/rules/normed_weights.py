"""Initial weights that are too large in spite of norms, as those of standard deviation 1 in a transformer.

A norm before each layer keeps the signal from growing, but not what softmax takes. The logits of the output have the
standard deviation sigma_w = rms(weight) * sqrt(fan_in), and a cross-entropy of about ln C + sigma_w^2 / 2 for C
classes. Scores of an attention have sigma_w^2, and leave each query one key. Both are seen at the first step.
"""

import math

import numpy as np
from numpy.typing import NDArray

from thruway.diagnosing.cures import CURES
from thruway.diagnosing.finding import Evidence, Finding
from thruway.diagnosing.reading import Layer, Reading
from thruway.diagnosing.rules.flow import modules_of
from thruway.diagnosing.rules.loss_graph import chance_loss, loss_nodes
from thruway.diagnosing.rules.wording import layer_text, number
from thruway.diagnosing.trunk import column, gain_of

__all__ = ["attention_peaks", "normed_weights"]

_LEAST = 4  # layers, so that a tied embedding or an output layer alone is not the network
_KEYS = 4  # the least number of keys
_ONE_HOT = 0.75  # mean sum of squares of the weights of a query: 1 for a single key, 1/2 for two


def attention_peaks(reading: Reading) -> NDArray[np.float64]:
    """Return the mean sum of squares of the weights of a query, for each softmax before the last layer, at first.

    The weights of a query sum to 1, so their mean over n keys is 1/n, and their sum of squares is the mean square over
    the mean: 1 for a single key, 1/n for equal weights. With a causal mask, equal weights have 0.52 for four keys, and
    less for more of them.
    """
    last = reading.layers[-1].name if reading.layers else ""
    names = [site.name for site in reading.outputs]
    before = reading.outputs[: names.index(last)] if last in names else ()
    sites = [site.name for site in before if site.activation == "softmax" and len(site.shape) >= 3]
    mean, std = (column(reading, quantity, sites, 0) for quantity in ("mean", "std"))
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = mean + std**2 / mean
    return found[np.isfinite(found) & (mean <= 1 / _KEYS)]


def normed_weights(reading: Reading, limit: float) -> tuple[Finding, ...]:
    """Return a finding if most weights of a network with norms are too large, and softmax suffers from it.

    Args:
        reading: the trace, from step 0 on.
        limit: largest sigma_w of the schemes in use.
    """
    layers = reading.layers
    gains = gain_of(reading, layers, 0)
    known = np.isfinite(gains)
    if known.sum() < _LEAST or not float(np.median(gains[known])) > limit:
        return ()
    peaks = attention_peaks(reading)
    harm = _harm(reading, layers[-1], peaks, limit)
    if harm is None:
        return ()
    order = [place for place in np.argsort(-np.where(known, gains, 0.0)).tolist() if gains[place] > limit]
    return (_finding(reading, [layers[place] for place in order], gains[order], harm, limit),)


def _harm(reading: Reading, last: Layer, peaks: NDArray[np.float64], limit: float) -> tuple[str, Evidence] | None:
    """Return the damage in words and the number that shows it; None without damage."""
    step = int(reading.steps[0])
    is_one_hot = len(peaks) > 0 and float(np.median(peaks)) > _ONE_HOT
    attention = ""
    if is_one_hot:
        attention = f"In attention, the sum of squares of a query's weights is {number(float(np.median(peaks)))}: one "
        attention += "key gets nearly everything, and the gradient of the scores is near 0."
    chance = chance_loss(loss_nodes(reading))
    if chance is None:
        if not is_one_hot:
            return None
        value = float(np.median(peaks))
        row = Evidence("softmax", "", step, value, attention.removesuffix("."), "theory", None, _ONE_HOT)
        return attention, row
    logits, first = float(column(reading, "std", [last.name], 0)[0]), math.nan
    if reading.loss is not None:
        first = float(reading.loss[0])
    expected = chance + limit**2 / 2
    # The standard deviation tells a large loss from one that is summed over the examples.
    if not (first > expected and logits > limit):
        return None
    text = f"The first loss is {number(first)}, and that of a constant guess {number(chance)}: the logits have a "
    text += f"standard deviation of {number(logits)}. {attention}"
    row = Evidence(
        "loss",
        "",
        step,
        first,
        f"Logits of standard deviation s have a cross-entropy of about ln C + s^2 / 2: at most {number(expected)} for "
        f"s up to {number(limit)}, and {number(first)} was measured",
        "theory",
        chance,
        expected,
    )
    return text.strip(), row


def _finding(
    reading: Reading,
    layers: list[Layer],
    gains: NDArray[np.float64],
    harm: tuple[str, Evidence],
    limit: float,
) -> Finding:
    step, middle = int(reading.steps[0]), float(np.median(gains))
    names = [layer.name for layer in reading.layers if layer in layers]
    text, row = harm
    return Finding(
        "poor_init",
        f"The initial weights of {len(layers)} layers are too large, although norms keep the signal from growing: "
        f"std(weight) * sqrt(fan_in) is {number(middle)} in the median, up to {number(float(gains[0]))} in "
        f"{layer_text(layers[0].name)}, where about 1 is usual. {text}",
        modules_of(reading, [layer.name for layer in layers]),
        since=(None, step),
        evidence=(
            Evidence(
                "sigma_w",
                layers[0].name,
                step,
                middle,
                f"std(weight) * sqrt(fan_in) is {number(middle)} in the median; the usual schemes lie between 0.58 "
                f"(PyTorch's default) and {number(math.sqrt(2))}, up to {number(limit)} is allowed.",
                "threshold",
                1.0,
                limit,
            ),
            row,
            Evidence(
                "sigma_w",
                layers[0].name,
                step,
                middle,
                "The norms do not make the scale harmless: softmax takes the results of layers after them.",
                "ruled out",
            ),
        ),
        cures=(CURES["critical_init"],),
        span=(names[0], names[-1]),
        margin=max(1.0, middle / limit),
        confidence=0.9,
    )
