"""Capture of the parameters: their values, gradients and updates, and the state of each one, trained or not."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from thruway.watching.facts import ParameterState
from thruway.watching.modules import plain_name
from thruway.watching.quantities.collector import Collector, Measured
from thruway.watching.quantities.step_table import STEP_QUANTITIES
from thruway.watching.sites import Registry, Site

__all__ = ["ParameterCapture", "total_norm"]


class ParameterCapture:
    """Captures the parameters of `model`, and their updates by `optimizer`.

    A parameter without an update, because it is frozen or not part of the loss, is measured once. One that is frozen
    and in the optimizer is measured again after 1, 2, 4, 8 ... sampled steps, which shows if it is changed without
    gradients, as an average of other weights is. One that has a gradient and is not in the optimizer is measured in
    every sampled step: another optimizer may update it.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, registry: Registry, collector: Collector
    ) -> None:
        self._optimizer = optimizer
        self._registry = registry
        self._collector = collector
        self._names = {p: plain_name(name) for name, p in model.named_parameters() if p.is_floating_point()}
        self.parameters = [*self._names]
        self._measured: set[nn.Parameter] = set()
        self._sampled = 0
        self._before: list[tuple[nn.Parameter, Tensor]] = []
        self._state_sites: tuple[Site, ...] = ()
        self.has_all_gradients = False  # every gradient that the optimizer gets was measured in this step

    def optimized(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters of the model that are in the optimizer."""
        for group in self._optimizer.param_groups:
            yield from (parameter for parameter in group["params"] if parameter in self._names)

    def before_update(self, is_stale: Sequence[bool]) -> list[Measured]:
        """Measure parameters and gradients before the optimizer's step, and return their states and learning rates.

        At this point a loss scaler has either unscaled the gradients, or passed the scale to the optimizer as
        `grad_scale`.

        Args:
            is_stale: True for each of `parameters` whose gradient was not zeroed before the backward pass.
        """
        scale = getattr(self._optimizer, "grad_scale", None)
        optimized = dict.fromkeys(self.optimized())
        states = self._states(optimized, is_stale)  # creates the sites of the parameters, in the model's order
        self._before = [(p, p.detach().clone()) for p in optimized if _is_readable(p) and _is_readable(p.grad)]
        self.has_all_gradients = len(self._before) == sum(p.grad is not None for p in optimized)
        for parameter, before in self._before:
            self._measured.add(parameter)
            self._add(parameter, "parameter", before)
            gradient = parameter.grad
            assert gradient is not None
            if isinstance(scale, Tensor):
                gradient = gradient.float() / scale
            self._add(parameter, "parameter_gradient", gradient)
        if self._sampled & (self._sampled - 1) == 0:  # 0 and the powers of two
            self._measured -= {p for p in optimized if not p.requires_grad}
        self._sampled += 1
        if len(self._measured) < len(self.parameters):
            for parameter in self.parameters:
                if parameter not in self._measured and _is_readable(parameter):
                    self._add(parameter, "parameter", parameter.detach())
                # One with a gradient may be updated by another optimizer, so it is measured again in the next step.
                if parameter in optimized or parameter.grad is None:
                    self._measured.add(parameter)
        self._collector.flush()  # the step may overwrite gradients
        return [*states, *self._learning_rates()]

    def _add(self, parameter: nn.Parameter, kind: str, tensor: Tensor) -> None:
        self._collector.add(self._registry.parameter(self._names[parameter], kind, parameter), tensor)  # type: ignore[arg-type]

    def _states(self, optimized: Collection[nn.Parameter], is_stale: Sequence[bool]) -> list[Measured]:
        known = [not is_lazy(p) for p in self.parameters]
        if len(self._state_sites) != sum(known):
            self._state_sites = tuple(
                self._registry.parameter(self._names[p], "parameter", p)
                for p, is_known in zip(self.parameters, known, strict=True)
                if is_known
            )
        states = [
            ParameterState.TRAINABLE * p.requires_grad
            | ParameterState.OPTIMIZED * (p in optimized)
            | ParameterState.HAS_GRADIENT * (p.grad is not None)
            | ParameterState.STALE * stale
            for p, stale, is_known in zip(self.parameters, is_stale, known, strict=True)
            if is_known
        ]
        quantity = STEP_QUANTITIES["state"]
        return [Measured(quantity, self._state_sites, 1, np.array(states, dtype=np.float32))] if states else []

    def _learning_rates(self) -> Iterator[Measured]:
        quantity = STEP_QUANTITIES["learning_rate"]
        sites, rates = [], []
        for index, group in enumerate(self._optimizer.param_groups):
            rate = group.get("lr")
            if isinstance(rate, Tensor) and rate.device.type != "cpu":
                self._collector.add_number(quantity, self._registry.step(f"group.{index}"), rate)
            elif rate is not None:  # Adafactor can be without one
                sites.append(self._registry.step(f"group.{index}"))
                rates.append(float(rate))
        if sites:
            yield Measured(quantity, tuple(sites), 1, np.array(rates, dtype=np.float32))

    def has_no_gradients(self) -> bool:
        """Return True if the gradients of all parameters in the optimizer are None or zero."""
        gradients = [parameter.grad for parameter in self.optimized() if parameter.grad is not None]
        norm = total_norm(gradients)
        return not gradients or (norm is not None and not bool(norm))

    def gradient_norm(self) -> Tensor | None:
        """Return the norm of all gradients that the optimizer gets; None if it cannot be read."""
        norm = total_norm([p.grad for p in self.optimized() if p.grad is not None])
        scale = getattr(self._optimizer, "grad_scale", None)
        return norm / scale.to(norm.device) if norm is not None and isinstance(scale, Tensor) else norm

    def after_update(self) -> None:
        """Measure the change of the parameters in the step."""
        for parameter, before in self._before:
            self._add(parameter, "update", parameter.detach() - before)
        self._before = []

    def clear(self) -> None:
        """Release the copies of the parameters."""
        self._before = []


def total_norm(gradients: Sequence[Tensor]) -> Tensor | None:
    """Return the L2 norm of all gradients together, in float32 or wider.

    Returns:
        A tensor of one element; None without gradients, or if one of them is distributed over processes.

    >>> total_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
    tensor(5.)
    """
    values = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
    if not values or not all(map(_is_readable, values)):
        return None
    wide = [v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for v in values]
    return nn.utils.get_total_norm([value.detach() for value in wide])


def _is_readable(tensor: Tensor | None) -> bool:
    """Return True for a dense tensor whose values are all in this process."""
    return (
        tensor is not None
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and not is_lazy(tensor)
        and type(tensor).__torch_dispatch__ == Tensor.__torch_dispatch__  # DTensor has a method of its own
    )
