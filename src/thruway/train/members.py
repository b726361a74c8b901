"""Models as tensors with an axis of members: names, copies with other tensors, and comparison of architectures."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["architecture", "over", "tensors_of", "with_tensors"]

# Attributes that determine only the initial weights of a member, not its computation.
_MAY_DIFFER = {"gate_bias"}


def architecture(model: nn.Module) -> tuple[Any, ...]:
    """Return what must be equal in all members: shapes, frozen and tied parameters, modules and their settings."""
    shapes = {name: (t.shape, t.dtype) for name, t in model.state_dict().items()}
    trained = {name: p.requires_grad for name, p in model.named_parameters()}  # tied parameters once
    return (shapes, trained), [(name, type(module), _settings(module)) for name, module in model.named_modules()]


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers, tied ones once, with names as in `torch.func.stack_module_state`."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def with_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of `model` with the given tensors. Unlike `.to("meta")`, it keeps tied parameters tied."""
    memo: dict[int, Any] = {}
    for name, own in tensors_of(model).items():
        is_parameter = isinstance(own, nn.Parameter)
        memo[id(own)] = nn.Parameter(tensors[name], own.requires_grad) if is_parameter else tensors[name]
    return copy.deepcopy(model, memo)


def over(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values of shape (members,) so that they broadcast over a parameter with a members axis."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that affect the output of a module.

    They must be equal, since one template computes all members.
    """
    plain = (bool, int, float, str, tuple)
    return {n: v for n, v in vars(module).items() if (isinstance(v, plain) or callable(v)) and n not in _MAY_DIFFER}
