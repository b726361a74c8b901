"""What sec. 5 claims about training on short paths, as statistics of the rows. Thresholds were set before any run."""

import math

from thruway.experiments.claims import Claim
from thruway.experiments.veit2016.harm import Rows, only

__all__ = ["CLAIMS", "difference", "standard_errors"]

_PAPER = "Veit, Wilber & Belongie 2016"


def difference(rows: Rows) -> float:
    """Test error of the net trained on subsets, less that of its twin."""
    both = [only(rows, what="tested", net=net) for net in ("subset", "resnet")]
    return float(both[0][0]["error"] - both[1][0]["error"]) if all(both) else math.nan


def standard_errors(rows: Rows) -> float:
    """That difference in standard errors, of examples that one net gets right and the other wrong.

        (b - c) / sqrt(b + c)

    Source:
        McNemar 1947.

    >>> one, other = ({"what": "tested", "net": net, "wrong": w} for net, w in (("subset", [1, 2, 3]), ("resnet", [3])))
    >>> round(standard_errors([one, other]), 3)
    1.414
    """
    both = [only(rows, what="tested", net=net) for net in ("subset", "resnet")]
    if not all(both):
        return math.nan
    subset, full = (set(found[0]["wrong"]) for found in both)
    b, c = len(subset - full), len(full - subset)
    return (b - c) / math.sqrt(b + c) if b + c else 0.0


CLAIMS = (
    Claim(
        id="as-good-on-short-paths",
        text="A net trained with a random 23 of 54 modules in each batch is as good as one trained with all.",
        source=f"{_PAPER}, sec. 5 (5.96 % against 6.10 %)",
        statistic="test error of the net trained on subsets, less that of its twin",
        measure=difference,
        holds_if="<=",
        threshold=0.01,
    ),
    Claim(
        id="no-significant-difference",
        text="It is not significantly worse.",
        source=f"{_PAPER}, sec. 5",
        statistic="the same in standard errors, from the test examples on which the two disagree (McNemar)",
        measure=standard_errors,
        holds_if="<=",
        threshold=2.0,
    ),
)
