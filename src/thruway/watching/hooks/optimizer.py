"""The optimizer's step: when its gradients exist, and the loss scale of mixed precision."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from thruway.watching.errors import warn

__all__ = ["GradientUnscaler", "Scaler", "read_before_update", "warn_if_scale_unknown"]


def read_before_update(
    read: Callable[[], None], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Call `read` once the gradients of the step exist: immediately, or inside the closure that was passed to step().

    Before the closure runs, .grad still holds the gradients of the previous step.

    Returns:
        The return value of an optimizer's step pre-hook: new arguments for step(), or None to keep them.
    """
    closure = arguments[1] if len(arguments) > 1 else keywords.get("closure")
    if closure is None:
        read()
        return None
    runs = 0

    @functools.wraps(closure)
    def evaluate() -> Any:
        nonlocal runs
        loss = closure()
        runs += 1
        if runs == 1:  # some optimizers evaluate the closure again at other parameters
            read()
        return loss

    if len(arguments) > 1:
        return (arguments[0], evaluate, *arguments[2:]), keywords
    return arguments, keywords | {"closure": evaluate}


class Scaler(Protocol):
    """A loss scaler such as torch.amp.GradScaler."""

    def scale(self, outputs: Tensor) -> Any:
        """Return `outputs` times the scale."""


class GradientUnscaler:
    """Divides gradients by the loss scale, which may change from step to step."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._inverse: dict[torch.device, Tensor] = {}

    def __call__(self, gradient: Tensor) -> Tensor:
        """Return the unscaled gradient, in float32 or wider, since it could underflow again in float16."""
        inverse = self._inverse.get(gradient.device)
        if inverse is None:
            one = torch.ones((), device=gradient.device)
            inverse = self._inverse[gradient.device] = 1.0 / self._scaler.scale(one)
        return gradient.to(torch.promote_types(gradient.dtype, torch.float32)) * inverse

    def clear(self) -> None:
        """Read the scale again at the next gradient."""
        self._inverse.clear()


def warn_if_scale_unknown() -> bool:
    """Warn and return True if float16 autocast is on, whose gradients are usually those of a scaled loss."""
    half = any(
        torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16
        for device in ("cuda", "cpu")
    )
    if half:
        warn(
            "float16 autocast is on: if a GradScaler scales the loss, pass it as scaler=. Otherwise the gradients of "
            "activations are reported multiplied by its scale.",
            stacklevel=2,
        )
    return half
