"""Claims of a paper as objects, and their verdicts on the rows of a run."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thruway.report import ClaimVerdict

__all__ = ["Claim", "Rows", "judge"]

Rows = Sequence[Mapping[str, Any]]
"""Results of a run: one mapping of plain numbers and words per result, each with its `seed`."""

# A verdict needs this many independent seeds; with fewer, a note says so.
_SEEDS_NEEDED = 3

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


@dataclass(frozen=True)
class Claim:
    """One claim. It holds for a seed if `measure(rows of that seed)` meets the threshold.

    Attributes:
        id: short name, unique within the study.
        text: the claim in one sentence.
        source: paper, section or figure.
        statistic: description of the number that `measure` returns, with its unit.
        measure: rows of one seed -> the statistic; NaN if the rows do not determine it.
        holds_if: how the statistic is compared with the threshold.
        threshold: set before the run.
    """

    id: str
    text: str
    source: str
    statistic: str
    measure: Callable[[Rows], float]
    holds_if: Literal["<=", ">=", "<"]
    threshold: float


def judge(claim: Claim, rows: Rows) -> ClaimVerdict:
    """Return the verdict of these rows on a claim.

    The claim holds if it holds for every seed and fails if it holds for none. It is unclear otherwise, or if the
    statistic of any seed is NaN. With fewer than three seeds the verdict carries a note.
    """
    seeds = sorted({row["seed"] for row in rows})
    values = [claim.measure([row for row in rows if row["seed"] == seed]) for seed in seeds]
    meets = [not math.isnan(v) and _COMPARE[claim.holds_if](v, claim.threshold) for v in values]
    verdict: Literal["holds", "fails", "unclear"] = "unclear"
    notes = []
    if not values or any(math.isnan(v) for v in values):
        notes.append("the run lacks results that this claim needs")
    elif all(meets):
        verdict = "holds"
    elif not any(meets):
        verdict = "fails"
    else:
        notes.append(f"{sum(meets)} of {len(meets)} seeds meet it")
    if len(seeds) < _SEEDS_NEEDED:
        notes.append(f"only {len(seeds)} seed{'s' * (len(seeds) != 1)}; a sure verdict needs {_SEEDS_NEEDED}")
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
