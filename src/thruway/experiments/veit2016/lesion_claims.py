"""What sec. 4 claims about lesions, as statistics of the rows. The thresholds were set before any run."""

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from thruway.dissecting.ranking.rank_correlation import spearman
from thruway.experiments.claims import Claim
from thruway.experiments.veit2016.harm import Rows, harm, mean_of, only
from thruway.experiments.veit2016.lesion import Config

__all__ = ["claims_for", "harm_by_k"]

_PAPER = "Veit, Wilber & Belongie 2016"


def harm_by_k(rows: Rows, net: str = "resnet") -> dict[int, float]:
    """How many modules are missing -> the mean harm over the draws, from none on; empty without draws."""
    drawn = only(rows, what="delete_k", net=net)
    ks = sorted({row["k"] for row in drawn})
    return {0: 0.0} | {k: mean_of(harm(row) for row in only(drawn, k=k)) for k in ks} if ks else {}


def _spared(rows: Rows) -> float:
    """The median module that keeps its size."""
    found = [harm(row) for row in only(rows, what="delete_one", net="resnet", resizes=False)]
    return median(found) if found else math.nan


def _resizing_over_others(rows: Rows) -> float:
    resizing, others = (
        mean_of(harm(row) for row in only(rows, what="delete_one", net="resnet", resizes=resizes))
        for resizes in (True, False)
    )
    return resizing - others


def _layers_of(net: str) -> Callable[[Rows], float]:
    def measure(rows: Rows) -> float:
        found = [harm(row) for row in only(rows, what="delete_one", net=net)]
        return median(found) if found else math.nan

    return measure


def _steepest(rows: Rows) -> float:
    """The largest rise of the mean harm from one number of deletions to the next, per module."""
    means = harm_by_k(rows)
    return max(((after - before) / (m - k) for (k, before), (m, after) in pairwise(means.items())), default=math.nan)


def _tau(rows: Rows) -> float:
    drawn = only(rows, what="reorder", net="resnet")
    return spearman([row["tau"] for row in drawn], [row["error"] for row in drawn])


def claims_for(config: Config) -> tuple[Claim, ...]:
    """The claims, about the numbers of modules that are the paper's shares of this net."""
    ten, twenty = config.as_many_as(10), config.as_many_as(20)
    plain = {"vgg": "a VGG", "vgg-norm": "a VGG with batch norm"}
    return (
        Claim(
            id="one-module-is-spared",
            text="Deleting a typical module of a residual net that keeps its size hardly changes the error.",
            source=f"{_PAPER}, sec. 4.1, fig. 3",
            statistic="harm of deleting the median module that keeps its size (0 none, 1 as bad as guessing)",
            measure=_spared,
            holds_if="<=",
            threshold=0.05,
        ),
        Claim(
            id="resizing-modules-matter",
            text="Modules that change the size matter more than the others on average.",
            source=f"{_PAPER}, sec. 4.1, fig. 3",
            statistic="mean harm of deleting a module that changes the size, less that of the others",
            measure=_resizing_over_others,
            holds_if=">=",
            threshold=0.02,
        ),
        *(
            Claim(
                id=f"one-layer-is-all-{name}",
                text=f"Deleting a typical layer of {plain[name]} leaves it about as good as guessing.",
                source=f"{_PAPER}, sec. 4.1, fig. 3",
                statistic="harm of deleting the median layer",
                measure=_layers_of(name),
                holds_if=">=",
                threshold=0.8,
            )
            for name in config.plain
        ),
        Claim(
            id="several-deleted-smooth",
            text="As more modules are deleted at random, the error grows smoothly.",
            source=f"{_PAPER}, sec. 4.2, fig. 5a",
            statistic="steepest rise of the mean harm, per further module",
            measure=_steepest,
            holds_if="<=",
            threshold=0.25,
        ),
        Claim(
            id="ten-of-54",
            text="Without 10 of 54 modules most of its skill is left.",
            source=f"{_PAPER}, sec. 4.2, fig. 5a (error about 0.2: harm about 0.17)",
            statistic=f"mean harm without {ten} of {config.depth}",
            measure=lambda rows: harm_by_k(rows).get(ten, math.nan),
            holds_if="<=",
            threshold=0.3,
        ),
        Claim(
            id="twenty-of-54",
            text="Without 20 it has fallen far.",
            source=f"{_PAPER}, sec. 4.2, fig. 5a",
            statistic=f"mean harm without {twenty} of {config.depth}, less that without {ten}",
            measure=lambda rows: harm_by_k(rows).get(twenty, math.nan) - harm_by_k(rows).get(ten, math.nan),
            holds_if=">=",
            threshold=0.1,
        ),
        Claim(
            id="reordering-smooth",
            text="The error grows smoothly as the order of the modules departs from the one they were trained in.",
            source=f"{_PAPER}, sec. 4.3, fig. 5b",
            statistic="rank correlation of the error with Kendall's tau, over all draws",
            measure=_tau,
            holds_if="<=",
            threshold=-0.8,
        ),
    )
