"""Capture at the optimizer: parameters, their gradients and updates, and the loss scale of mixed precision."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from thruway.watching.errors import warn
from thruway.watching.modules import plain_name
from thruway.watching.quantities.collector import Collector
from thruway.watching.sites import Registry

__all__ = ["GradientUnscaler", "ParameterCapture", "Scaler", "read_before_update", "warn_if_scale_unknown"]


class ParameterCapture:
    """Captures the parameters of `model` that are updated by `optimizer`."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, registry: Registry, collector: Collector
    ) -> None:
        self._optimizer = optimizer
        self._registry = registry
        self._collector = collector
        self._names = {
            parameter: plain_name(name) for name, parameter in model.named_parameters() if parameter.is_floating_point()
        }
        self._before: list[tuple[nn.Parameter, Tensor]] = []

    def before_update(self) -> None:
        """Measure parameters and gradients before the optimizer's step.

        At this point a loss scaler has either unscaled the gradients, or passed the scale to the optimizer as
        `grad_scale`.
        """
        scale = getattr(self._optimizer, "grad_scale", None)
        self._before = [
            (parameter, parameter.detach().clone())
            for group in self._optimizer.param_groups
            for parameter in group["params"]
            if parameter in self._names and parameter.grad is not None and parameter.grad.layout is torch.strided
        ]
        for parameter, before in self._before:
            name = self._names[parameter]
            self._collector.add(self._registry.parameter(name, "parameter"), before)
            gradient = parameter.grad
            assert gradient is not None
            if isinstance(scale, Tensor):
                gradient = gradient.float() / scale
            self._collector.add(self._registry.parameter(name, "parameter_gradient"), gradient)
        self._collector.flush()  # the step may overwrite gradients

    def after_update(self) -> None:
        """Measure the change of the parameters in the step."""
        for parameter, before in self._before:
            update = parameter.detach() - before
            self._collector.add(self._registry.parameter(self._names[parameter], "update"), update)
        self.clear()

    def clear(self) -> None:
        """Release the copies of the parameters."""
        self._before = []


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
