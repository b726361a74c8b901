"""What sec. 5 claims about recurrence depth, as statistics. The thresholds were set before any run."""

import math

from thruway.dissecting.ranking.rank_correlation import spearman
from thruway.experiments.claims import Claim
from thruway.experiments.rhn2017.depth_rows import Rows, by_depth

__all__ = ["CLAIMS", "PAPER", "ratio_to_shallowest"]

_SOURCE = "Zilly, Srivastava, Koutník & Schmidhuber 2017, sec. 5; the authors' repository, README"

PAPER = {1: 90.6, 2: 75.1, 3: 70.6, 4: 68.6, 5: 67.7, 6: 66.6, 7: 66.4, 8: 66.1, 9: 66.0, 10: 65.4}
"""Recurrence depth -> test perplexity per word on the Penn Treebank, tied weights. Of depth 10 the paper's abstract
gives 65.4, the repository's table 66.0."""


def ratio_to_shallowest(rows: Rows, key: str = "test_bits") -> dict[int, float]:
    """depth -> mean bits over those of the shallowest net; without one seed's, NaN.

    >>> ratio_to_shallowest([{"depth": 1, "test_bits": 2.0}, {"depth": 5, "test_bits": 1.5}])
    {1: 1.0, 5: 0.75}
    """
    means = {depth: sum(values) / len(values) for depth, values in by_depth(rows, key).items()}
    first = next(iter(means.values()), math.nan)
    return {depth: mean / first for depth, mean in means.items()}


def _deepest(rows: Rows, key: str) -> float:
    ratios = list(ratio_to_shallowest(rows, key).values())
    return ratios[-1] if len(ratios) > 1 else math.nan


def _falls(rows: Rows) -> float:
    ratios = ratio_to_shallowest(rows)
    if len(ratios) < 3 or any(map(math.isnan, ratios.values())):
        return math.nan
    return spearman(list(ratios), list(ratios.values()))


def _first_share(rows: Rows) -> float:
    ratios = list(ratio_to_shallowest(rows).values())
    if len(ratios) < 3 or not min(ratios) < 1:
        return math.nan
    return (1 - ratios[1]) / (1 - min(ratios))


CLAIMS = (
    Claim(
        id="deeper-is-better",
        text="With as many parameters, the deepest transition reads text better than the shallowest.",
        source=_SOURCE,
        # Of the paper's perplexities per word: log2 65.4 / log2 90.6 = 0.928.
        statistic="test bits per character, deepest / shallowest",
        measure=lambda rows: _deepest(rows, "test_bits"),
        holds_if="<=",
        threshold=0.98,
    ),
    Claim(
        id="every-step-helps",
        text="The deeper, the better, all the way from 1 to 10.",
        source=_SOURCE,
        statistic="rank correlation of recurrence depth with test bits per character",
        measure=_falls,
        holds_if="<=",
        threshold=-0.9,
    ),
    Claim(
        id="first-steps-help-most",
        text="Most of what depth gives comes with the first step beyond the shallowest.",
        source=_SOURCE,
        # Of the paper's: log(90.6 / 75.1) / log(90.6 / 65.4) = 0.58 at depth 2.
        statistic="share of the largest gain that the second depth of the run has already",
        measure=_first_share,
        holds_if=">=",
        threshold=0.5,
    ),
    Claim(
        id="deeper-fits-better",
        text="The deeper transition is not harder to train: it fits the text it learns from at least as well.",
        source="Ours; the paper shows validation and test",
        statistic="training bits per character in the last epoch, deepest / shallowest",
        measure=lambda rows: _deepest(rows, "train_bits"),
        holds_if="<=",
        threshold=1.0,
    ),
)
"""In the order of the report."""
