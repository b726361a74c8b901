"""The table of rules. To add one, write a function of a Reading that yields findings, and an entry."""

from thruway.diagnosing.rules.rule import Rule

__all__ = ["RULES"]

_ROWS: tuple[Rule, ...] = ()

RULES: dict[str, Rule] = {rule.name: rule for rule in _ROWS}
