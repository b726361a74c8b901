"""Claims of a paper as objects: what was claimed, the number that decides, and what the run says to it."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thruway.report import ClaimVerdict

__all__ = ["Claim", "judge"]

Rows = Sequence[Mapping[str, Any]]

# A verdict needs this many independent seeds; with fewer the note says that it rests on less.
_SEEDS_NEEDED = 3

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


@dataclass(frozen=True)
class Claim:
    """One claim: it holds for a seed when `measure(rows of that seed)` meets the threshold."""

    id: str
    text: str
    source: str
    statistic: str  # what `measure` returns, in words, with its unit
    measure: Callable[[Rows], float]  # NaN where the rows cannot tell
    holds_if: Literal["<=", ">=", "<"]
    threshold: float


def judge(claim: Claim, rows: Rows) -> ClaimVerdict:
    """What these rows say to the claim.

    It holds if it does so for every seed, fails if it does for none, and is unclear between, or where
    a seed cannot tell. Fewer than three seeds give the same words with a note.

    Args:
        claim: the claim.
        rows: one mapping per trial, with its `seed`.
    """
    seeds = sorted({row["seed"] for row in rows})
    values = [claim.measure([row for row in rows if row["seed"] == seed]) for seed in seeds]
    meets = [not math.isnan(v) and _COMPARE[claim.holds_if](v, claim.threshold) for v in values]
    verdict: Literal["holds", "fails", "unclear"] = "unclear"
    notes = []
    if not values or any(math.isnan(v) for v in values):
        notes.append("the run has not what this claim needs")
    elif all(meets):
        verdict = "holds"
    elif not any(meets):
        verdict = "fails"
    else:
        notes.append(f"{sum(meets)} of {len(meets)} seeds meet it")
    if len(seeds) < _SEEDS_NEEDED:
        notes.append(f"{len(seeds)} seed{'s' * (len(seeds) != 1)} only, {_SEEDS_NEEDED} are needed to be sure")
    return ClaimVerdict(
        id=claim.id,
        text=claim.text,
        statistic=claim.statistic,
        value=values,
        threshold=f"{claim.holds_if} {claim.threshold:g}",
        verdict=verdict,
        source=claim.source,
        note="; ".join(notes),
    )
