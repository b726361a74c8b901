"""Hearing the layers of a HighwayStack, which lie in one tensor."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thruway.nn.stack import GradientsTap, HighwayStack, LayerStates, StatesTap
from thruway.watching.filing import Filing
from thruway.watching.registry import Registry

__all__ = ["StackEars"]


class StackEars:
    """The hooks for the taps of every HighwayStack among the modules; they act while `is_inside()` says so."""

    def __init__(
        self, names: Mapping[nn.Module, str], registry: Registry, filing: Filing, is_inside: Callable[[], bool]
    ) -> None:
        self._names = names
        self._registry = registry
        self._filing = filing
        self._is_inside = is_inside
        self._activations = {
            path: module.activation for module, path in names.items() if isinstance(module, HighwayStack)
        }

    def hooks(self) -> Iterator[tuple[nn.Module, Callable[..., None]]]:
        """Each tap with its hook."""
        for module in self._names:
            if isinstance(module, StatesTap):
                yield module, self._hear_states
            elif isinstance(module, GradientsTap):
                yield module, self._hear_gradients

    def _hear_states(self, module: nn.Module, _inputs: Any, states: LayerStates) -> None:
        if not self._is_inside() or self._filing.is_deaf:
            return
        try:
            path = _parent(self._names[module])
            layers = self._registry.stack_layers(path, len(states.x), self._activations.get(path))
            with torch._C.DisableTorchFunction():
                for sites, values in zip(layers.outputs, (states.h, states.t, states.x[1:]), strict=True):
                    if sites:
                        self._filing.collector.add_block(sites, values)
        except Exception as error:
            self._filing.fail(error)

    def _hear_gradients(self, module: nn.Module, _inputs: Any, gradients: Tensor) -> None:
        if self._filing.is_deaf:
            return
        try:
            layers = self._registry.stacks.get(_parent(self._names[module]))
            if layers is not None and layers.gradients:
                # The last layer's output is the stack's own, heard like any other.
                self._filing.file_gradient_block(layers.gradients, gradients[:-1])
        except Exception as error:
            self._filing.fail(error)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
