"""Diagnosis of a watched training run: `tw.diagnose(trace)`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from thruway.diagnosing.diagnosis import Diagnosis
from thruway.diagnosing.finding import Finding
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.table import RULES
from thruway.errors import ConfigError
from thruway.watching.trace.trace import Trace

__all__ = ["diagnose", "fold_effects"]


def diagnose(trace: Trace, *, losses: Sequence[float] | None = None, rules: Iterable[Rule] | None = None) -> Diagnosis:
    """Find out what is wrong with a training run, from its trace.

    Args:
        trace: trace of a watched training run, with one step or more.
        losses: losses of the recorded steps, or of all steps, if the trace has none.
        rules: rules to apply. Default: those of RULES.
    Returns:
        The findings, causes first. The trace is not changed.
    Raises:
        ConfigError: if the trace is empty, or the number of losses does not match it.
    """
    if not isinstance(trace, Trace):
        raise ConfigError(f"diagnose takes a Trace, got {type(trace).__name__}. Record one with tw.watch(model).")
    if not trace.steps:
        raise ConfigError("the trace is empty: no step was recorded. Train inside the with block of tw.watch.")
    reading = Reading(trace, losses)
    found: list[Finding] = []
    unseen: dict[str, str] = {}
    table = {rule.name: rule for rule in (RULES.values() if rules is None else rules)}
    for rule in table.values():
        missing = [f"{quantity} of {kind}s" for quantity, kind in rule.needs if reading.values(quantity, kind) is None]
        if missing:
            unseen[rule.name] = f"not recorded: {', '.join(missing)}. {rule.advice}".rstrip()
        found += rule.find(reading)
    return Diagnosis(fold_effects(found, table), unseen, trace, losses)


def fold_effects(findings: Sequence[Finding], rules: dict[str, Rule]) -> tuple[Finding, ...]:
    """Return the causes, the surest first, with the findings that follow from them as their effects.

    A finding follows from another one if the table says so and it begins no earlier.
    """
    ranked = sorted(findings, key=lambda f: (f.onset, -f.confidence, -f.margin))
    causes: list[Finding] = []
    effects: dict[int, list[Finding]] = {}
    for finding in ranked:
        cause = next((other for other in ranked if other is not finding and _explains(other, finding, rules)), None)
        if cause is None:
            causes.append(finding)
        else:
            effects.setdefault(id(cause), []).append(finding)

    def filled(finding: Finding) -> Finding:
        below = tuple(filled(effect) for effect in effects.get(id(finding), ()))
        return replace(finding, effects=below) if below else finding

    return tuple(filled(cause) for cause in causes)


def _explains(cause: Finding, effect: Finding, rules: dict[str, Rule]) -> bool:
    rule = rules.get(cause.rule)
    return rule is not None and effect.rule in rule.explains and cause.onset <= effect.onset
