"""What the blocks accept from their user, and what they say when it is something else."""

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

# The maps of a highway layer in the order in which they lie in its weight.
CARRIES: dict[str, tuple[str, ...]] = {
    "coupled": ("transform", "transform_gate"),  # C = 1 - T
    "independent": ("transform", "transform_gate", "carry_gate"),
}


def check_carry(carry: str) -> str:
    """`carry`, if it is a key of CARRIES."""
    if not isinstance(carry, str) or carry not in CARRIES:
        raise ConfigError(unknown_name("carry", carry, CARRIES))
    return carry


def check_size(what: str, value: int, least: int = 1) -> int:
    """`value` as an int of at least `least`."""
    try:
        size = operator.index(value)
    except TypeError:
        size = least - 1
    if size < least or isinstance(value, bool):
        raise ConfigError(f"{what} must be a whole number of at least {least}, got {value!r}.")
    return size


def check_gate_bias(gate_bias: float) -> float:
    """`gate_bias` as a float; infinities are allowed (a gate that never opens, or never closes), NaN is not."""
    if isinstance(gate_bias, str):
        raise ConfigError(
            f"gate_bias={gate_bias!r}: a single layer does not know how deep its stack is. Pass a number, for example "
            "thruway.nn.gate_bias_for_depth(20); HighwayStack and networks.mlp know their depth and take 'depth'."
        )
    if isinstance(gate_bias, bool) or not isinstance(gate_bias, Real) or math.isnan(gate_bias):
        raise ConfigError(f"gate_bias must be a number, below 0 for a gate that starts closed, got {gate_bias!r}.")
    return float(gate_bias)


def check_probability(what: str, value: float) -> float:
    """`value` as a float in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise ConfigError(f"{what} must be a probability of at least 0 and below 1, got {value!r}.")
    return float(value)


def check_bool(what: str, value: bool, remedy: str = "Pass one of the two.") -> bool:
    """`value`, if it is True or False; 1 and 0 are neither, since 0.5 would be no flag."""
    if not isinstance(value, bool):
        raise ConfigError(f"{what} is True or False, got {value!r}. {remedy}")
    return value


def check_generator(what: str, value: torch.Generator | None) -> torch.Generator | None:
    """`value`, if it is a generator or None."""
    if value is not None and not isinstance(value, torch.Generator):
        raise ConfigError(
            f"{what} is a torch.Generator or None, got {value!r}. For a seed pass torch.Generator().manual_seed(0)."
        )
    return value


def check_tensor(what: str, value: Tensor) -> Tensor:
    """`value`, if it is a tensor."""
    if not isinstance(value, Tensor):
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise ShapeError(f"{what} takes a tensor, got a {kind}. Of an array or a list, torch.as_tensor(x) makes one.")
    return value


def check_dtype(block: str, x: Tensor, weight: Tensor) -> Tensor:
    """`x`, if it is a tensor of the type of the weight that it meets, or of one that autocast turns into it."""
    if check_tensor(block, x).dtype != weight.dtype and not (x.is_floating_point() and is_autocast(x)):
        raise ShapeError(
            f"{block} has {weight.dtype} parameters, got a {x.dtype} input. Convert one with .to(), for example "
            f"x.to({weight.dtype})."
        )
    return x


def check_not_inplace(what: str, module: nn.Module) -> nn.Module:
    """`module`, unless it begins by writing over its input, which its neighbours read as well."""
    first = next(layer for layer in module.modules() if next(layer.children(), None) is None)
    if getattr(first, "inplace", False) is True:
        raise ConfigError(
            f"the {what} begins with {first}, which writes over the input that is carried past it. "
            f"Build that layer with inplace=False."
        )
    return module


def features_error(block: str, x: Tensor, wanted: int, remedy: str) -> ShapeError:
    """The error for an input whose last axis is not `wanted` wide."""
    return ShapeError(f"{block} works on (..., {wanted}), got an input of shape {tuple(x.shape)}. {remedy}")
