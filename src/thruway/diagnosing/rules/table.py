"""The table of rules. To add one, write a function of a Reading that yields findings, and an entry."""

from thruway.diagnosing.rules.constant_output import CONSTANT_OUTPUT
from thruway.diagnosing.rules.dead_units import DEAD_UNITS, DYING_RELU
from thruway.diagnosing.rules.diverging import DIVERGING
from thruway.diagnosing.rules.double_softmax import DOUBLE_SOFTMAX
from thruway.diagnosing.rules.exploding_activation import EXPLODING_ACTIVATION
from thruway.diagnosing.rules.exploding_gradient import EXPLODING_GRADIENT
from thruway.diagnosing.rules.frozen_parameters import FROZEN_PARAMETERS
from thruway.diagnosing.rules.gates import GATE_BIAS_NOT_NEGATIVE, GATES_OPEN, GATES_SHUT
from thruway.diagnosing.rules.gradients_accumulate import GRADIENTS_ACCUMULATE
from thruway.diagnosing.rules.lr_too_high import LR_TOO_HIGH
from thruway.diagnosing.rules.lr_too_low import LR_TOO_LOW
from thruway.diagnosing.rules.nan_or_inf import NAN_OR_INF
from thruway.diagnosing.rules.poor_init import POOR_INIT
from thruway.diagnosing.rules.rank_collapse import RANK_COLLAPSE
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.saturated import SATURATED
from thruway.diagnosing.rules.symmetric_init import SYMMETRIC_INIT
from thruway.diagnosing.rules.unscaled_input import UNSCALED_INPUT
from thruway.diagnosing.rules.vanishing_gradient import VANISHING_GRADIENT

__all__ = ["RULES"]

_ROWS: tuple[Rule, ...] = (
    DOUBLE_SOFTMAX,
    FROZEN_PARAMETERS,
    GRADIENTS_ACCUMULATE,
    UNSCALED_INPUT,
    SYMMETRIC_INIT,
    POOR_INIT,
    GATE_BIAS_NOT_NEGATIVE,
    CONSTANT_OUTPUT,
    LR_TOO_HIGH,
    EXPLODING_ACTIVATION,
    EXPLODING_GRADIENT,
    VANISHING_GRADIENT,
    SATURATED,
    DEAD_UNITS,
    DYING_RELU,
    RANK_COLLAPSE,
    GATES_OPEN,
    GATES_SHUT,
    NAN_OR_INF,
    DIVERGING,
    LR_TOO_LOW,
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _ROWS}
