"""New diagnosis of a cured run: a few watched steps from snapshots of its training."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from thruway.diagnosing.diagnose import diagnose
from thruway.diagnosing.finding import Finding
from thruway.diagnosing.prescribing.setup import Setup, scaled, seeded
from thruway.diagnosing.prescribing.snapshot import Snapshot, load
from thruway.watching import watch
from thruway.watching.modules import call_model

__all__ = ["WATCHED", "diagnose_again", "every_rule"]

WATCHED = 4  # steps from each snapshot


def diagnose_again(
    setup: Setup,
    snapshots: dict[int, Snapshot],
    batches: Sequence[tuple[Any, Any]],
    loss: Callable[[Any, Any], Tensor],
) -> tuple[Finding, ...]:
    """Train a few steps from each snapshot under `watch`, and return the findings in their trace.

    Args:
        setup: a setup of the same architecture, whose values are overwritten.
        snapshots: training state by step.
        batches: the batches of all steps, repeated if there are fewer.
        loss: function of (outputs, targets).
    """
    losses: list[float] = []
    with seeded(0, "diagnosis"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with watch(setup.model, optimizer=setup.optimizer) as trace:
            for start, snapshot in sorted(snapshots.items()):
                load(setup, snapshot)
                for step in range(start, start + WATCHED):
                    batch = batches[step % len(batches)]
                    inputs, targets = batch if setup.scaling is None else scaled(batch, setup.scaling)
                    if setup.zero_grad:
                        setup.optimizer.zero_grad(set_to_none=True)
                    value = loss(call_model(setup.model, inputs), targets)
                    losses.append(float(value.detach()))
                    if value.requires_grad:
                        value.backward()  # type: ignore[no-untyped-call]
                    if setup.clip is not None:
                        nn.utils.clip_grad_norm_(setup.model.parameters(), setup.clip)
                    setup.optimizer.step()
        if not trace.steps:
            return ()
        return diagnose(trace, losses=losses if len(losses) == len(trace.steps) else None).findings


def every_rule(findings: Sequence[Finding]) -> set[str]:
    """Return the rules of findings and their effects."""
    return {rule for finding in findings for rule in {finding.rule} | every_rule(finding.effects)}
