"""Checks of the arguments and inputs of blocks; each returns the value or raises an error that says what to pass."""

import math
import operator
from numbers import Real

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError, unknown_name
from thruway.nn.torch_state import is_autocast

__all__ = [
    "CARRIES",
    "check_bool",
    "check_carry",
    "check_dtype",
    "check_gate_bias",
    "check_generator",
    "check_not_inplace",
    "check_probability",
    "check_size",
    "check_tensor",
    "features_error",
]

# The maps of a highway layer, in the order of their rows in its weight.
CARRIES: dict[str, tuple[str, ...]] = {
    "coupled": ("transform", "transform_gate"),  # C = 1 - T
    "independent": ("transform", "transform_gate", "carry_gate"),
}


def check_carry(carry: str) -> str:
    """Return `carry` if it is a key of CARRIES."""
    if not isinstance(carry, str) or carry not in CARRIES:
        raise ConfigError(unknown_name("carry", carry, CARRIES))
    return carry


def check_size(what: str, value: int, least: int = 1) -> int:
    """Return `value` as an int of at least `least`."""
    try:
        size = operator.index(value)
    except TypeError:
        size = least - 1
    if size < least or isinstance(value, bool):
        raise ConfigError(f"{what} must be an integer of at least {least}, got {value!r}.")
    return size


def check_gate_bias(gate_bias: float) -> float:
    """Return `gate_bias` as a float; infinities are allowed (a gate that never opens or closes), NaN is not."""
    if isinstance(gate_bias, str):
        raise ConfigError(
            f"gate_bias must be a number here, got {gate_bias!r}: only HighwayStack and networks.mlp accept 'depth'. "
            "Pass, for example, thruway.nn.gate_bias_for_depth(20)."
        )
    if isinstance(gate_bias, bool) or not isinstance(gate_bias, Real) or math.isnan(gate_bias):
        raise ConfigError(f"gate_bias must be a number, below 0 for a gate that starts closed, got {gate_bias!r}.")
    return float(gate_bias)


def check_probability(what: str, value: float) -> float:
    """Return `value` as a float in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise ConfigError(f"{what} must be a probability of at least 0 and below 1, got {value!r}.")
    return float(value)


def check_bool(what: str, value: bool, remedy: str = "Pass a bool.") -> bool:
    """Return `value` if it is True or False; the numbers 1 and 0 are not accepted."""
    if not isinstance(value, bool):
        raise ConfigError(f"{what} must be True or False, got {value!r}. {remedy}")
    return value


def check_generator(what: str, value: torch.Generator | None) -> torch.Generator | None:
    """Return `value` if it is a generator or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise ConfigError(
            f"{what} must be a torch.Generator or None, got {value!r}. To seed, pass torch.Generator().manual_seed(0)."
        )
    return value


def check_tensor(what: str, value: Tensor) -> Tensor:
    """Return `value` if it is a tensor."""
    if not isinstance(value, Tensor):
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise ShapeError(f"{what} takes a tensor, got a {kind}. Convert an array or a list with torch.as_tensor(x).")
    return value


def check_dtype(block: str, x: Tensor, weight: Tensor) -> Tensor:
    """Return `x` if it is a tensor of the weight's dtype, or of a dtype that autocast converts to it."""
    if check_tensor(block, x).dtype != weight.dtype and not (x.is_floating_point() and is_autocast(x)):
        raise ShapeError(
            f"{block} has {weight.dtype} parameters, got a {x.dtype} input. Convert one with .to(), for example "
            f"x.to({weight.dtype})."
        )
    return x


def check_not_inplace(what: str, module: nn.Module) -> nn.Module:
    """Return `module` unless its first layer works in place: its input is also used by other branches."""
    first = next(layer for layer in module.modules() if next(layer.children(), None) is None)
    if getattr(first, "inplace", False) is True:
        raise ConfigError(
            f"the {what} begins with {first}, which overwrites its input in place, but the input is also carried "
            f"past it. Build that layer with inplace=False."
        )
    return module


def features_error(block: str, x: Tensor, wanted: int, remedy: str) -> ShapeError:
    """Return the error for an input whose last dimension is not `wanted`."""
    return ShapeError(f"{block} takes inputs of shape (..., {wanted}), got {tuple(x.shape)}. {remedy}")
