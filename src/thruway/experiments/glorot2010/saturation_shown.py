"""Which of the seeds the figures show, and why."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Shown", "shown_seed"]

_SHOWS_ESCAPE = "sigmoid-4"  # the net whose escape fig. 2 shows


class Shown(NamedTuple):
    """The seed, and a sentence for the caption that says why it is this one."""

    seed: int
    why: str


def shown_seed(rows: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> Shown:
    """The seed whose sigmoid net of 4 layers leaves its saturation nearest to the median; the first if none does.

    A net that stays is later than any that leaves: where most stay, the last one to leave is nearest.

    Args:
        rows: those of read_rows; nets that have not come to their end are not among them.
        seeds: all seeds of the run.

    >>> rows = [{"net": "sigmoid-4", "seed": seed, "escapes_at": at} for seed, at in ((0, None), (1, 90), (2, 40))]
    >>> shown_seed(rows, [0, 1, 2]).why
    'Seed 1: its sigmoid net of 4 layers leaves its saturation at update 90, nearest to the median; 2 of 3 leave it.'
    """
    if len(seeds) == 1:
        return Shown(seeds[0], f"Seed {seeds[0]}, the only one.")
    found = {row["seed"]: row["escapes_at"] for row in rows if row["net"] == _SHOWS_ESCAPE}
    escapes = {seed: at for seed, at in found.items() if at is not None}
    if not found:
        return Shown(seeds[0], f"Seed {seeds[0]}, the first of {len(seeds)}.")
    if not escapes:
        none = f"the first, as the sigmoid net of 4 layers leaves its saturation in none of {len(found)}"
        return Shown(seeds[0], f"Seed {seeds[0]}: {none}.")
    median = statistics.median(math.inf if at is None else at for at in found.values())
    if math.isinf(median):
        seed = max(escapes, key=lambda each: (escapes[each], -each))
    else:
        seed = min(escapes, key=lambda each: (abs(escapes[each] - median), each))
    which = "nearest to the median" if math.isfinite(median) else "the last to do so, as most do not"
    leaves = f"its sigmoid net of 4 layers leaves its saturation at update {escapes[seed]:,}"
    return Shown(seed, f"Seed {seed}: {leaves}, {which}; {len(escapes)} of {len(found)} leave it.")
