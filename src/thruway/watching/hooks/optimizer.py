"""Parameters, their gradients and their updates, read round the optimiser's step."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thruway.watching.quantities.collector import Collector
from thruway.watching.registry import Registry
from thruway.watching.wrappers import plain_name

__all__ = ["ParametersWatched", "read_before_update"]


class ParametersWatched:
    """The parameters of `model` that `optimizer` updates."""

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
        """Measure parameters and gradients as the step finds them.

        A loss scaler has unscaled the gradients by now, or has left the scale for the optimizer to divide by.
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
        """Measure what the step changed."""
        for parameter, before in self._before:
            update = parameter.detach() - before
            self._collector.add(self._registry.parameter(self._names[parameter], "update"), update)
        self.forget()

    def forget(self) -> None:
        """Hold no copy."""
        self._before = []


def read_before_update(
    read: Callable[[], None], arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Call `read` when the gradients of the step are there: now, or inside the closure that step() was given.

    Until the closure has run, what lies in .grad is the step before's.

    Returns:
        What a step hook of an optimizer returns: other arguments for step(), or None to leave them.
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
        if runs == 1:  # some optimizers evaluate it again at other parameters
            read()
        return loss

    if len(arguments) > 1:
        return (arguments[0], evaluate, *arguments[2:]), keywords
    return arguments, keywords | {"closure": evaluate}
