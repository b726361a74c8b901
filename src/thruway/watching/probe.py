"""A fixed batch seen by the model as it is now: evaluation mode, nothing left behind."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from thruway.errors import ConfigError
from thruway.watching.evaluation import as_it_is, call
from thruway.watching.hooks.model_hooks import Ears
from thruway.watching.operations import ACTIVATION_MODULES
from thruway.watching.quantities.collector import Collector, Measured
from thruway.watching.quantities.dead_units import LastActive
from thruway.watching.quantities.table import Quantity
from thruway.watching.registry import Registry
from thruway.watching.sites import Site
from thruway.watching.trace.trace import Trace
from thruway.watching.wrappers import plain_name

__all__ = ["Probe"]


class Probe:
    """Shows `inputs` to the model and writes what every layer answers into `trace`.

    Args:
        names: the path of every module.
        quantities: what to measure; those `of_model` take the model and the inputs themselves.
        memory: bytes of numbers that the trace keeps.
        fail: told of a mistake made while listening.
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
        self._listener = Ears(names, self._registry, self._collector, fail, taps_gradients=False)
        self._of_model = [q for q in quantities if q.of_model is not None]
        self._runs = 0
        self._seen_before: int | None = None
        self.trace = Trace(type(model).__name__, self._registry, None, memory)

    def run(self, step: int) -> None:
        """Take the model's answer before `step`; the last may be of a step that never comes: how training left it."""
        if step == self._seen_before:  # the step was begun and did not come through: nothing has changed
            return
        self._seen_before = step
        self._listener.attach()
        try:
            with as_it_is(self._model), torch.enable_grad():
                self._show()
        finally:
            self._listener.detach()
        measured = self._collector.finish()
        self.trace.add(step, [*measured, *self._take_of_model()])
        self._runs += 1

    def _show(self) -> None:
        try:
            call(self._model, self._inputs)
        except Exception as error:
            raise ConfigError(
                f"the probe did not go through {type(self._model).__name__} ({type(error).__name__}: "
                f"{str(error).rstrip('.')}). Pass as probe= what the model is called with: a tensor, a tuple of "
                "arguments, or a dict of keywords."
            ) from error

    def deafen(self) -> None:
        """Hear nothing more and hold no activation, though hooks may still be there."""
        self._listener.deafen()
        self._collector.forget()

    def forget(self) -> None:
        """Hold no tensor, not even the inputs."""
        self._listener.detach()
        self._collector.forget()
        self._inputs = None

    def _take_of_model(self) -> Iterator[Measured]:
        for quantity in self._of_model:
            if quantity.of_model is not None and self._runs % quantity.stride == 0:
                numbers = quantity.of_model(self._model, self._inputs)
                modules = dict(self._model.named_modules())
                sites = tuple(self._site_of(path, type(modules.get(path, self._model))) for path in numbers)
                yield Measured(quantity, sites, 1, np.array([*numbers.values()], dtype=np.float64))

    def _site_of(self, path: str, kind: type[nn.Module]) -> Site:
        """A module's output, which is no site yet if it is another one's in another shape."""
        name = plain_name(path) or "output"
        return self._registry.output(name, kind.__name__, ACTIVATION_MODULES.get(kind), torch.empty(1, 1))[0]
