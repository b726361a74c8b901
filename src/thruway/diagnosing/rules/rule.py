"""Rule of the diagnosis: a function that looks for one symptom in a trace.

>>> from thruway.diagnosing.finding import Finding
>>> def loss_is_negative(reading):
...     if reading.loss is not None and reading.loss[-1] < 0:
...         yield Finding("loss_is_negative", "The loss is below 0.", since=(None, int(reading.steps[-1])))
>>> Rule("loss_is_negative", loss_is_negative, needs=(("loss", "step"),)).name
'loss_is_negative'
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from thruway.diagnosing.finding import Finding
from thruway.diagnosing.reading import Reading
from thruway.watching.sites import Kind

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """A function that looks for one symptom.

    Attributes:
        name: name of the rule, unique in the table.
        find: function of a Reading that yields findings, none if the symptom is absent.
        needs: (quantity, kind) pairs without which the symptom cannot be seen.
        explains: names of rules whose findings follow from this one, if they begin no earlier.
        advice: how to record what is needed; part of the reason in `Diagnosis.unseen`.
        effects_begin: earliest beginning of the findings that follow: in the same step; in the next step, for what an
            update does; or at any step, if the symptom is exact and may be seen later than its effects.
        least_steps: number of recorded steps below which the symptom cannot be seen with certainty.
        least_span: number of training steps, recorded or not, that the trace must span.
        needs_start: If True, the symptom can only be seen if step 0 was recorded.
        concerns: function of a Reading that returns False for networks which cannot have the symptom, such as dead
            ReLUs for a network without ReLU. The symptom is then not listed in `Diagnosis.unseen`.
    """

    name: str
    find: Callable[[Reading], Iterator[Finding]]
    needs: tuple[tuple[str, Kind], ...] = ()
    explains: frozenset[str] = frozenset()
    advice: str = ""
    effects_begin: Literal["same step", "next step", "any step"] = "same step"
    least_steps: int = 1
    least_span: int = 1
    needs_start: bool = False
    concerns: Callable[[Reading], bool] = lambda reading: True
