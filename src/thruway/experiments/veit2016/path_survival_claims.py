"""What sec. 5 claims about deletions and path lengths, as statistics. The thresholds were set before any run."""

import math

from thruway.dissecting.ranking.rank_correlation import spearman
from thruway.experiments.claims import Claim
from thruway.experiments.veit2016.harm import Rows, only
from thruway.experiments.veit2016.lesion_claims import harm_by_k
from thruway.experiments.veit2016.path_survival import Config

__all__ = ["claims_for", "left_by_k"]

_PAPER = "Veit, Wilber & Belongie 2016"


def left_by_k(rows: Rows, key: str) -> dict[int, float]:
    """Modules deleted -> what is left "of_paths" or "of_contribution"."""
    return {row["k"]: float(row[key]) for row in only(rows, what="left")}


def _advantage(rows: Rows, k: int) -> float:
    carried, paths = (left_by_k(rows, key).get(k, math.nan) for key in ("of_contribution", "of_paths"))
    return carried / paths


def _follows(rows: Rows) -> float:
    left, harms = left_by_k(rows, "of_contribution"), harm_by_k(rows)
    ks = sorted(left.keys() & harms.keys())
    return spearman([left[k] for k in ks], [harms[k] for k in ks]) if len(ks) > 2 else math.nan


def claims_for(config: Config) -> tuple[Claim, ...]:
    """The claims, about the numbers of modules that are the paper's shares of this net."""
    ten = config.as_many_as(10)
    return (
        Claim(
            id="long-paths-die-first",
            text="Deleting modules spares the paths that matter more than the others.",
            source=f"{_PAPER}, sec. 5, fig. 7",
            statistic=f"share left of what paths carry over share left of the paths, without {ten} of {config.depth}",
            measure=lambda rows: _advantage(rows, ten),
            holds_if=">=",
            threshold=2.0,
        ),
        Claim(
            id="effective-paths-survive",
            text="Without 10 of 54 modules many of the paths that matter are still there.",
            source=f"{_PAPER}, sec. 5, fig. 7",
            statistic=f"share left of what paths carry, without {ten} of {config.depth}",
            measure=lambda rows: left_by_k(rows, "of_contribution").get(ten, math.nan),
            holds_if=">=",
            threshold=0.1,
        ),
        Claim(
            id="error-follows-paths",
            text="The fewer of them are left, the larger the error.",
            source="Ours; the paper sets figs. 5a and 7 side by side",
            statistic="rank correlation over the numbers of deletions, of what is left of the contribution with mean "
            "harm",
            measure=_follows,
            holds_if="<=",
            threshold=-0.9,
        ),
    )
