"""Folding of findings: causes first, each with the findings that follow from it as its effects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from thruway.diagnosing.finding import Finding
from thruway.diagnosing.rules.rule import Rule

__all__ = ["fold_effects"]


def fold_effects(findings: Sequence[Finding], rules: Mapping[str, Rule]) -> tuple[Finding, ...]:
    """Return the causes, the earliest and surest first, with the findings that follow from them as their effects.

    A finding follows from another one if the table says so and it begins no earlier than `Rule.effects_begin` allows.
    Of several causes, the one nearest in time is taken. Of two findings that could each cause the other, the earlier
    and surer one is the cause.
    """
    ranked = sorted(findings, key=lambda f: (f.onset, -f.confidence, -f.margin))
    parent: dict[int, int] = {}
    for place, finding in enumerate(ranked):
        causes = [
            other
            for other, cause in enumerate(ranked)
            if other != place
            and explains(cause, finding, rules)
            and (other < place or not explains(finding, cause, rules))
            and place not in _ancestors(other, parent)
        ]
        if causes:
            parent[place] = max(causes, key=lambda other: (ranked[other].onset, -other))

    def filled(place: int) -> Finding:
        below = tuple(filled(child) for child in range(len(ranked)) if parent.get(child) == place)
        return replace(ranked[place], effects=(*ranked[place].effects, *below)) if below else ranked[place]

    return tuple(filled(place) for place in range(len(ranked)) if place not in parent)


def _ancestors(place: int, parent: Mapping[int, int]) -> list[int]:
    """Return the causes of a finding, the causes of these, and so on, with the finding itself."""
    found = [place]
    while found[-1] in parent:
        found.append(parent[found[-1]])
    return found


def explains(cause: Finding, effect: Finding, rules: Mapping[str, Rule]) -> bool:
    """Return True if an effect may follow from a cause."""
    rule = rules.get(cause.rule)
    if rule is None or effect.rule not in rule.explains:
        return False
    if rule.effects_begin == "next step":
        return cause.onset < effect.onset
    return rule.effects_begin == "any step" or cause.onset <= effect.onset
