"""Checks of the arguments of `prescribe`."""

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from thruway.diagnosing.diagnosis import Diagnosis
from thruway.diagnosing.finding import Finding
from thruway.errors import ConfigError

__all__ = ["check_batches", "check_findings", "check_loss", "check_seeds"]


def check_findings(findings: Any) -> tuple[Finding, ...]:
    """Return the findings of a Diagnosis, a sequence of findings, or a single one."""
    if isinstance(findings, Finding):
        return (findings,)
    if isinstance(findings, Diagnosis):
        return findings.findings
    if not isinstance(findings, Sequence) or not all(isinstance(f, Finding) for f in findings):
        raise ConfigError(
            f"findings must be a Diagnosis or a sequence of Findings, got {type(findings).__name__}. "
            "Pass tw.diagnose(trace)."
        )
    return tuple(findings)


def check_batches(batches: Any, steps: int) -> list[tuple[Any, Any]]:
    """Return the first `steps` batches as pairs of inputs and targets."""
    if not isinstance(batches, Iterable) or isinstance(batches, Tensor | Mapping | str):
        raise ConfigError(
            f"batches must be an iterable of (inputs, targets), got {type(batches).__name__}. Pass a list of batches "
            "or a DataLoader."
        )
    taken = list(itertools.islice(batches, steps))
    if not taken:
        raise ConfigError("batches is empty: pass at least one pair (inputs, targets).")
    for number, batch in enumerate(taken):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            what = f"{len(batch)} items" if isinstance(batch, tuple | list) else type(batch).__name__
            raise ConfigError(
                f"batch {number} must be a pair (inputs, targets), got {what}. Several inputs are passed as a tuple "
                "or a dict: ((x, mask), targets). Without targets, pass (inputs, None) and a loss that ignores them."
            )
    return [(inputs, targets) for inputs, targets in taken]


def check_loss(loss: Any) -> None:
    """Raise an error unless `loss` is a function."""
    if not callable(loss):
        raise ConfigError(
            f"loss must be a function of (outputs, targets) that returns a scalar, got {type(loss).__name__}. "
            "Pass for example torch.nn.functional.cross_entropy."
        )


def check_seeds(seeds: Any) -> tuple[int, ...]:
    """Return the seeds: `seeds` of them from 0, or those of a sequence."""
    try:
        chosen = (
            tuple(map(operator.index, seeds)) if isinstance(seeds, Sequence) else tuple(range(operator.index(seeds)))
        )
    except TypeError:
        chosen = ()
    if isinstance(seeds, bool) or len(set(chosen)) < 2 or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"seeds must be a number of at least 2, or a sequence of different integers, got {seeds!r}. An interval "
            "needs two runs or more."
        )
    return chosen
