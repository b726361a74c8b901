"""Checks of the arguments and inputs of blocks, of hooks on them, and of the state of PyTorch.

A function `check_*` returns the value, if it takes one, or raises an error that says what to pass.
"""

import math
import operator
from numbers import Real

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, ShapeError, unknown_name

__all__ = [
    "CARRIES",
    "check_bool",
    "check_carry",
    "check_dtype",
    "check_gate_bias",
    "check_generator",
    "check_not_inplace",
    "check_not_recomputing",
    "check_probability",
    "check_scale",
    "check_size",
    "check_tensor",
    "features_error",
    "has_forward_hooks",
    "has_hooks",
    "is_autocast",
    "is_batched",
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
    """Return `gate_bias` as a float. Infinity is allowed (a gate that never opens or closes), NaN is not."""
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


def check_scale(scale: float) -> float:
    """Return `scale` as a float if it is a finite number."""
    if isinstance(scale, bool) or not isinstance(scale, Real) or not math.isfinite(scale):
        raise ConfigError(f"scale must be a finite number, or Learnt(start) to train it, got {scale!r}.")
    return float(scale)


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
            f"{block} has {weight.dtype} parameters, got a {x.dtype} input. Convert one of them, for example with "
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


def check_not_recomputing(block: str, argument: str) -> None:
    """Raise an error if a block is about to draw from its own generator during a backward pass.

    torch.utils.checkpoint restores PyTorch's global generators before it recomputes a part of the network, but no
    other generators. The second pass would draw other random numbers, and the gradients would be wrong.

    Raises:
        ConfigError: during a backward pass.

    >>> check_not_recomputing("Dropout", "generator")  # in a forward pass
    """
    if torch._C._current_graph_task_id() != -1:
        raise ConfigError(
            f"{block} draws from its own generator and was called in training during a backward pass, as "
            "torch.utils.checkpoint does to recompute a part of the network. A checkpoint restores only PyTorch's "
            "global generators, so this layer would draw other random numbers than before, and the gradients would be "
            f"wrong. Keep the layer out of the checkpoint, or build it without {argument}= to use PyTorch's global "
            "generator."
        )


def features_error(block: str, x: Tensor, wanted: int, remedy: str) -> ShapeError:
    """Return the error for an input whose last dimension is not `wanted`."""
    return ShapeError(f"{block} takes inputs of shape (..., {wanted}), got {tuple(x.shape)}. {remedy}")


def is_autocast(x: Tensor) -> bool:
    """Return True if autocast is enabled for the device of x; False on devices without autocast, such as "meta".

    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     is_autocast(torch.ones(1)), is_autocast(torch.ones(1, device="meta"))
    (True, False)
    """
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def is_batched(gradient: Tensor) -> bool:
    """Return True if vmap hides a dimension of this gradient. Writing with `out=` fails then.

    torch.func.vmap uses one kind of batched tensors, torch.autograd.grad(..., is_grads_batched=True) an older one.

    >>> found = []
    >>> x = torch.ones(2, requires_grad=True)
    >>> handle = x.register_hook(lambda gradient: found.append(is_batched(gradient)))
    >>> for g, more in ((torch.ones(2), False), (torch.eye(2), True)):
    ...     _ = torch.autograd.grad(2 * x, x, g, is_grads_batched=more)
    >>> found
    [False, True]
    """
    kinds = torch._C._functorch
    return kinds.is_batchedtensor(gradient) or kinds.is_legacy_batchedtensor(gradient)


def has_forward_hooks(module: nn.Module) -> bool:
    """Return True if a forward hook or forward pre-hook is registered on the module."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def has_hooks(module: nn.Module) -> bool:
    """Return True if a forward or backward hook of any kind is registered on the module."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)
