"""Checks and conversions of the user's arguments: the model, its inputs, and callbacks."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thruway.dissecting.tracing.structure import reachable_tensors
from thruway.errors import ConfigError

__all__ = ["accepts", "as_call", "call_signature", "check_model"]


def check_model(model: Any) -> None:
    """Raise an error for models whose calls cannot be recorded.

    Raises:
        ConfigError: for anything but an eager module.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"dissect takes a torch.nn.Module, got {type(model).__name__}. Pass the model itself.")
    for path, module in model.named_modules():
        name = path or type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise ConfigError(
                f"{name} is a ScriptModule, whose calls cannot be recorded. Dissect the model it was scripted from."
            )
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise ConfigError(
                f"{name} was compiled, and the calls of compiled code cannot be recorded. Dissect the model as it was "
                "before torch.compile: the weights are the same."
            )


def as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Convert a tensor, a tuple of arguments or a dict of keyword arguments to args and kwargs.

    >>> as_call((1, 2)), as_call({"a": 1}), as_call([3])
    (((1, 2), {}), ((), {'a': 1}), (([3],), {}))
    """
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def accepts(function: Any, arguments: int) -> bool:
    """Return True if `function` can be called with this many arguments, or has no signature to check.

    >>> accepts(len, 1), accepts(torch.nn.functional.cross_entropy, 1), accepts(3, 1)
    (True, False, False)
    """
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # some functions in C have no signature
        return True
    return True


def call_signature(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the key of a tape: all that determines the calls of a pass (shapes, flags, modes), except the data."""
    modes = tuple(module.training for module in model.modules())
    device = next((tensor.device.type for tensor in reachable_tensors((args, dict(kwargs)))), "cpu")
    autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return (
        hash(modes),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        autocast,
        _form((args, dict(kwargs))),
    )


def _form(value: Any) -> Any:
    """Return a hashable description of a value, without the contents of its tensors."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.device
    if isinstance(value, Mapping):
        return tuple((key, _form(item)) for key, item in value.items())
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_form(item) for item in value)
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    return type(value), tuple(_form(tensor) for tensor in reachable_tensors(value))
