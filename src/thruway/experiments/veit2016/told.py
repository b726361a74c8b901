"""What the reports of the five studies say alike."""

from collections.abc import Mapping
from typing import Any

from thruway.experiments.image_study import ImageStudy
from thruway.experiments.veit2016.harm import Rows, mean_of, only
from thruway.experiments.veit2016.protocol import ResNetStudy

__all__ = ["ALWAYS_DIFFERENT", "HARM", "NAMES", "boundaries", "interval_in_words", "net_in_words", "over_seeds"]

NAMES = {
    "resnet": "residual net",
    "subset": "trained on subsets",
    "stochastic": "stochastic depth",
    "vgg": "VGG",
    "vgg-norm": "VGG with batch norm",
}
"""Nets as the reports call them."""

HARM = "Harm: 0 where the error stays that of the intact net, 1 where it is that of guessing."

ALWAYS_DIFFERENT = (
    "the paper's training recipe is not known to us; at paper scale it is that of He et al. 2016 for ResNet-110",
    "where the size changes, the shortcut takes every second point and fills new channels with zeros",
    "verdicts rest on harm, the error between that of the intact net and that of guessing: the paper shows errors, of "
    "better nets",
    "thresholds are ours, set before any run",
)


def net_in_words(config: ResNetStudy) -> str:
    """The residual net of a study.

    >>> from thruway.experiments.veit2016.paths import SCALES
    >>> net_in_words(SCALES["paper"])
    'ResNet-110: 54 pre-activation modules of 16, 32, 64 channels'
    """
    widths = ", ".join(map(str, config.widths))
    return f"ResNet-{2 * config.depth + 2}: {config.depth} pre-activation modules of {widths} channels"


def boundaries(config: ResNetStudy) -> tuple[int, int]:
    """The modules, from 0, with which the second and the third stage begin."""
    return config.modules, 2 * config.modules


def over_seeds(rows: Rows, key: str, value: str = "error") -> dict[Any, tuple[float, float, float]]:
    """key -> (mean over seeds, lowest, highest); of a single seed the interval that its row has.

    >>> over_seeds([{"index": 0, "error": 0.25}, {"index": 0, "error": 0.75}], "index")
    {0: (0.5, 0.25, 0.75)}
    """
    found: dict[Any, tuple[float, float, float]] = {}
    for each in sorted({row[key] for row in rows}):
        mine: list[Mapping[str, Any]] = only(rows, **{key: each})
        values = [row[value] for row in mine]
        low, high = min(values), max(values)
        if len(mine) == 1 and "low" in mine[0]:
            low, high = mine[0]["low"], mine[0]["high"]
        found[each] = mean_of(values), low, high
    return found


def interval_in_words(config: ImageStudy) -> str:
    """What the error bars of `over_seeds` are."""
    return "95 % bootstrap intervals over the test examples" if config.seeds == 1 else "the range over seeds"
