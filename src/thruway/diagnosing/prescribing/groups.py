"""Groups of runs that are trained together, and their division among processes."""

import math
from collections.abc import Sequence
from typing import Any

from thruway.diagnosing.prescribing.run import Group, Run
from thruway.diagnosing.prescribing.together import group_key, reason_against

__all__ = ["divided", "group_runs"]

# Members that are trained together hold at most this many numbers in their parameters.
_MOST_NUMBERS = 2**26
# Time of one step of a group, in that of one more member: each call of a function costs about as much as the arithmetic
# of one member of 50 units. A run alone has this cost, too.
_CALLS = 1


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Return groups of runs of one architecture, and the runs that must be trained alone, with the reason."""
    together: list[tuple[list[Any], list[Run]]] = []
    alone: list[Group] = []
    for run in runs:
        reason = reason_against(run.setup)
        if reason:
            alone.append(Group([run], reason))
            continue
        size = sum(p.numel() for p in run.setup.model.parameters())
        key = group_key(run.setup)
        group = next((g for k, g in together if _is_equal(k, key) and (len(g) + 1) * size <= _MOST_NUMBERS), None)
        if group is None:
            together.append((key, [run]))
        else:
            group.append(run)
    single = "no other run has its architecture"
    return [Group(group, "" if len(group) > 1 else single) for _, group in together] + alone


def _is_equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except (RuntimeError, ValueError):  # settings that hold tensors or arrays
        return False


def divided(groups: Sequence[Group], processes: int) -> list[Group]:
    """Return groups that take at most the fair share of one process, the longest first.

    Runs that are trained alone are groups of their own; others stay in groups of at least two.
    """
    fair = sum(map(_cost, groups)) / processes
    pieces: list[Group] = []
    for group in groups:
        runs = list(group.runs)
        size = 1 if group.reason else max(2, math.ceil(fair) - _CALLS)
        while len(runs) >= size + (1 if group.reason else 2):
            pieces.append(Group(runs[:size], group.reason))
            runs = runs[size:]
        pieces.append(Group(runs, group.reason))
    return sorted(pieces, key=_cost, reverse=True)


def _cost(group: Group) -> int:
    return _CALLS + len(group.runs) if not group.reason else (_CALLS + 1) * len(group.runs)
