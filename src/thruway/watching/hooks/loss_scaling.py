"""Gradients of a scaled loss, as they would be without the scale."""

import warnings
from typing import Any, Protocol

import torch
from torch import Tensor

from thruway.watching.errors import WatchWarning

__all__ = ["Scaler", "Unscaling", "warn_of_unknown_scale"]


class Scaler(Protocol):
    """A loss scaler, as torch.amp.GradScaler."""

    def scale(self, outputs: Tensor) -> Any:
        """`outputs` times the scale."""


class Unscaling:
    """Divides by the scale, which may be another in every step."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._inverse: dict[torch.device, Tensor] = {}

    def __call__(self, gradient: Tensor) -> Tensor:
        """The gradient of the loss itself, in float32 or wider: what the scale had saved must not vanish again."""
        inverse = self._inverse.get(gradient.device)
        if inverse is None:
            one = torch.ones((), device=gradient.device)
            inverse = self._inverse[gradient.device] = 1.0 / self._scaler.scale(one)
        return gradient.to(torch.promote_types(gradient.dtype, torch.float32)) * inverse

    def forget(self) -> None:
        """The next gradient may be of another scale."""
        self._inverse.clear()


def warn_of_unknown_scale() -> bool:
    """Whether float16 gradients are at work, which underflow unless the loss is scaled; said aloud."""
    half = any(
        torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16
        for device in ("cuda", "cpu")
    )
    if half:
        warnings.warn(
            "float16 autocast is on: if a GradScaler scales the loss, pass it as scaler=, or the gradients of "
            "activations are reported times its scale.",
            WatchWarning,
            stacklevel=2,
        )
    return half
