"""Diagnosis of a watched training run, `tw.diagnose(trace)`, or of a model before training."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

from torch import Tensor, nn

from thruway.diagnosing.before_training import trace_first_step
from thruway.diagnosing.diagnosis import Diagnosis
from thruway.diagnosing.finding import Finding
from thruway.diagnosing.folding import fold_effects
from thruway.diagnosing.model_facts import findings_of_model
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.table import RULES
from thruway.errors import ConfigError
from thruway.watching.trace.trace import Trace

__all__ = ["diagnose"]


@overload
def diagnose(
    trace: Trace,
    /,
    *,
    model: nn.Module | None = None,
    losses: Sequence[float] | None = None,
    rules: Iterable[Rule] | None = None,
) -> Diagnosis: ...
@overload
def diagnose(
    model: nn.Module,
    batch: Any,
    loss: Callable[[Any, Any], Tensor] | None = None,
    /,
    *,
    rules: Iterable[Rule] | None = None,
) -> Diagnosis: ...
def diagnose(
    trace: Trace | nn.Module,
    batch: Any = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    *,
    model: nn.Module | None = None,
    losses: Sequence[float] | None = None,
    rules: Iterable[Rule] | None = None,
) -> Diagnosis:
    """Find out why a network does not train, from the trace of its training, or from one batch before training.

    `diagnose(model, batch, loss)` runs one step on a copy of the model. What needs more steps is then in
    `Diagnosis.unseen`.

    Args:
        trace: trace of a watched training run, with one step or more; or a model.
        batch: for a model, a pair of inputs and targets. Inputs are a tensor, a tuple of arguments or a dict of keyword
            arguments. Without `loss`, the inputs alone.
        loss: for a model, function of (outputs, targets). Default: the model returns its loss.
        model: for a trace, the model that was watched, if its parameters were not (no `optimizer=`).
        losses: losses of the recorded steps, or of all steps, if the trace has none.
        rules: rules to apply. Default: those of RULES.
    Returns:
        The findings, causes first. Neither the trace nor the model is changed.
    Raises:
        ConfigError: if the trace is empty, the number of losses does not match it, the model is not the one that was
            watched, or cannot be run.

    A rule of your own is a function of a Reading that yields findings; `rules=[*RULES.values(), mine]` adds it to the
    others:

    >>> import torch, thruway as tw
    >>> from thruway.diagnosing import Finding, Rule
    >>> def find_negative_loss(reading):
    ...     if reading.loss is not None and reading.loss[-1] < 0:
    ...         yield Finding("negative_loss", "The last loss is below 0.", since=(None, int(reading.steps[-1])))
    >>> mine = Rule("negative_loss", find_negative_loss, needs=(("loss", "step"),))
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    >>> batch = torch.randn(8, 3), torch.randn(8, 1)
    >>> diagnosis = tw.diagnose(net, batch, lambda out, y: -1 - (out - y).square().mean(), rules=[mine])
    >>> [finding.rule for finding in diagnosis]
    ['negative_loss']
    """
    if isinstance(trace, nn.Module):
        if losses is not None or model is not None:
            raise ConfigError("losses= and model= belong to a trace. For a model, pass diagnose(model, batch, loss).")
        if batch is None:
            raise ConfigError(
                "to diagnose a model before training, pass a batch and a loss: diagnose(net, (inputs, targets), loss)."
            )
        trace = trace_first_step(trace, batch, loss)
    elif not isinstance(trace, Trace):
        raise ConfigError(
            f"diagnose takes a Trace or a model, got {type(trace).__name__}. Record a trace with tw.watch(model)."
        )
    elif batch is not None or loss is not None:
        raise ConfigError("batch and loss belong to a model. For a trace, pass diagnose(trace, losses=...).")
    if not trace.steps:
        raise ConfigError("the trace is empty: no step was recorded. Train inside the with block of tw.watch.")
    reading = Reading(trace, losses)
    _ = reading.loss  # checks the number of losses
    table = {rule.name: rule for rule in (RULES.values() if rules is None else rules)}
    found: list[Finding] = [] if model is None else list(findings_of_model(model, reading))
    unseen: dict[str, str] = {}
    for rule in table.values():
        try:
            reason = _why_unseen(rule, reading)
            if reason:
                unseen[rule.name] = reason
            found += list(rule.find(reading))
        except Exception as error:
            # One rule that fails, such as a user's own, must not hide the findings of the others.
            unseen[rule.name] = f"the rule failed: {type(error).__name__}: {error}"
    return Diagnosis(fold_effects(found, table), unseen, trace, losses)


def _why_unseen(rule: Rule, reading: Reading) -> str:
    """Return the reason why a trace cannot show the symptom of a rule, and how to record it; "" if it can."""
    if not rule.concerns(reading):
        return ""
    missing = [f"{quantity} of {kind}s" for quantity, kind in rule.needs if not _has(reading, quantity, kind)]
    if missing:
        return f"not recorded: {', '.join(missing)}. {rule.advice}".rstrip()
    steps = len(reading.steps)
    if steps < rule.least_steps:
        return f"needs {rule.least_steps} recorded steps, and the trace has {steps}. Watch more steps of training."
    span = int(reading.steps[-1] - reading.steps[0]) + 1
    if span < rule.least_span:
        return f"needs {rule.least_span} steps of training, and the trace spans {span}. Watch more steps of training."
    if rule.needs_start and reading.steps[0] != 0:
        return f"needs the first step of training, and the trace begins at step {int(reading.steps[0]):,}."
    return ""


def _has(reading: Reading, quantity: str, kind: Any) -> bool:
    if (quantity, kind) == ("loss", "step"):
        return reading.loss is not None
    return reading.values(quantity, kind) is not None
