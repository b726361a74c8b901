"""The table of rules. To add one, write a function of a Reading that yields findings, and an entry."""

from thruway.diagnosing.rules.constant_output import CONSTANT_OUTPUT
from thruway.diagnosing.rules.diverging import DIVERGING
from thruway.diagnosing.rules.double_softmax import DOUBLE_SOFTMAX
from thruway.diagnosing.rules.frozen_parameters import FROZEN_PARAMETERS
from thruway.diagnosing.rules.gradients_accumulate import GRADIENTS_ACCUMULATE
from thruway.diagnosing.rules.lr_too_high import LR_TOO_HIGH
from thruway.diagnosing.rules.lr_too_low import LR_TOO_LOW
from thruway.diagnosing.rules.nan_or_inf import NAN_OR_INF
from thruway.diagnosing.rules.rule import Rule
from thruway.diagnosing.rules.unscaled_input import UNSCALED_INPUT

__all__ = ["RULES"]

_ROWS: tuple[Rule, ...] = (
    DOUBLE_SOFTMAX,
    FROZEN_PARAMETERS,
    GRADIENTS_ACCUMULATE,
    UNSCALED_INPUT,
    CONSTANT_OUTPUT,
    LR_TOO_HIGH,
    NAN_OR_INF,
    DIVERGING,
    LR_TOO_LOW,
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _ROWS}
