"""Probe: a fixed batch that the model evaluates at every sampled step, without effect on the training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from thruway.errors import ConfigError
from thruway.watching.hooks.model_hooks import ModelHooks
from thruway.watching.modules import call_model, evaluation_mode, plain_name
from thruway.watching.operations import ACTIVATION_MODULES
from thruway.watching.quantities.collector import Collector, Measured
from thruway.watching.quantities.table import Quantity
from thruway.watching.quantities.units import LastActive
from thruway.watching.sites import Registry, Site
from thruway.watching.trace.trace import Trace

__all__ = ["Probe"]


class Probe:
    """Runs the model on `inputs` and records its activations in `trace`.

    Args:
        names: path of every module.
        quantities: quantities to measure. Those with `of_model` are computed from the model and the inputs.
        memory: maximum size of the numbers kept by the trace, in bytes.
        fail: function called with an error raised while capturing.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        names: Mapping[nn.Module, str],
        quantities: Sequence[Quantity],
        memory: int,
        fail: Callable[[Exception], None],
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._registry = Registry()
        self._collector = Collector([q for q in quantities if q.of_model is None], LastActive())
        self._hooks = ModelHooks(names, self._registry, self._collector, fail, captures_gradients=False)
        self._of_model = [q for q in quantities if q.of_model is not None]
        self._runs = 0
        self._latest_step: int | None = None
        self.trace = Trace(type(model).__name__, self._registry, None, memory)

    def run(self, step: int) -> None:
        """Record the activations before `step`.

        The last record may be for a step that is never made, and then shows the model after training.
        """
        if step == self._latest_step:  # the step was begun before and not completed, so the model has not changed
            return
        self._latest_step = step
        self._hooks.attach()
        try:
            with evaluation_mode(self._model), torch.enable_grad():
                self._call()
        finally:
            self._hooks.detach()
        measured = self._collector.finish()
        self.trace.add(step, [*measured, *self._measure_model()])
        self._runs += 1

    def _call(self) -> None:
        try:
            call_model(self._model, self._inputs)
        except Exception as error:
            raise ConfigError(
                f"{type(self._model).__name__} cannot be called with the probe ({type(error).__name__}: "
                f"{str(error).rstrip('.')}). Pass the model's input as probe=: a tensor, a tuple of arguments, or a "
                "dict of keyword arguments."
            ) from error

    def stop(self) -> None:
        """Stop capturing and release the activations. Hooks may remain until the step ends."""
        self._hooks.pause()
        self._collector.release()

    def clear(self) -> None:
        """Remove all hooks and release all tensors, including the inputs."""
        self._hooks.detach()
        self._collector.release()
        self._inputs = None

    def _measure_model(self) -> Iterator[Measured]:
        for quantity in self._of_model:
            if quantity.of_model is not None and self._runs % quantity.stride == 0:
                numbers = quantity.of_model(self._model, self._inputs)
                modules = dict(self._model.named_modules())
                sites = tuple(self._site_of(path, type(modules.get(path, self._model))) for path in numbers)
                yield Measured(quantity, sites, 1, np.array([*numbers.values()], dtype=np.float64))

    def _site_of(self, path: str, kind: type[nn.Module]) -> Site:
        """Return the site of a module's output: a new one if the output, reshaped, was captured for another module."""
        name = plain_name(path) or "output"
        return self._registry.output(name, kind.__name__, ACTIVATION_MODULES.get(kind), torch.empty(1, 1))[0]
