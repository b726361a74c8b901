"""A fixed batch seen by the model as it is now: evaluation mode, nothing left behind."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from thruway.watching.collector import Collector
from thruway.watching.ears import Ears
from thruway.watching.trace import Trace

__all__ = ["Probe"]


class Probe:
    """Shows `inputs` to the model and writes what every layer answers into `trace`."""

    def __init__(self, model: nn.Module, inputs: Any, listener: Ears, collector: Collector, trace: Trace) -> None:
        self._model = model
        self._inputs = inputs
        self._listener = listener
        self._collector = collector
        self.trace = trace

    def run(self, step: int) -> None:
        """Take the model's answer before `step`; the last may be of a step that never comes: how training left it."""
        self._listener.attach()
        try:
            with as_it_is(self._model), torch.enable_grad():
                call(self._model, self._inputs)
        finally:
            self._listener.detach()
        self.trace.add(step, self._collector.finish())

    def deafen(self) -> None:
        """Hear nothing more and hold no activation, though hooks may still be there."""
        self._listener.deafen()
        self._collector.forget()

    def forget(self) -> None:
        """Hold no tensor, not even the inputs."""
        self._listener.detach()
        self._collector.forget()
        self._inputs = None


@contextlib.contextmanager
def as_it_is(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards modes and random numbers are as before."""
    modes = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=[d.index for d in devices if d.index is not None]):
        model.eval()
        try:
            yield
        finally:
            for module, was_training in modes.items():
                module.training = was_training


def call(model: nn.Module, inputs: Any) -> Any:
    """The model on a tensor, on a tuple of arguments, or on a dict of keywords."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)
