"""The table of rules. To add one, write a function of a Reading that yields findings, and an entry."""

from thruway.diagnosing.rules.dead_units import DEAD_UNITS, DYING_RELU
from thruway.diagnosing.rules.exploding_activation import EXPLODING_ACTIVATION
from thruway.diagnosing.rules.exploding_gradient import EXPLODING_GRADIENT
from thruway.diagnosing.rules.gates import GATE_BIAS_NOT_NEGATIVE, GATES_OPEN, GATES_SHUT
from thruway.diagnosing.rules.poor_init import POOR_INIT
from thruway.diagnosing.rules.rank_collapse import RANK_COLLAPSE
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.saturated import SATURATED
from thruway.diagnosing.rules.symmetric_init import SYMMETRIC_INIT
from thruway.diagnosing.rules.vanishing_gradient import VANISHING_GRADIENT

__all__ = ["RULES"]

_ROWS: tuple[Rule, ...] = (
    SYMMETRIC_INIT,
    POOR_INIT,
    EXPLODING_ACTIVATION,
    EXPLODING_GRADIENT,
    VANISHING_GRADIENT,
    SATURATED,
    DEAD_UNITS,
    DYING_RELU,
    RANK_COLLAPSE,
    GATE_BIAS_NOT_NEGATIVE,
    GATES_OPEN,
    GATES_SHUT,
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _ROWS}
