"""Hearing the layers of a HighwayStack or a RecurrentHighway, which lie in one tensor."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thruway.nn.recurrent import RecurrentHighway
from thruway.nn.stack import GradientsTap, HighwayStack, LayerStates, StatesTap
from thruway.watching.hooks.capture import Filing
from thruway.watching.registry import Registry

__all__ = ["StackEars"]


class StackEars:
    """The hooks for the taps of every stack among the modules; they act while `is_inside()` says so.

    `stacks` are those modules, and `inner` what they are made of, which has no outputs of its own to be heard: a
    recurrent highway whose cell has a hook runs step by step, and the last bits of its gradients would be others.
    """

    def __init__(
        self, names: Mapping[nn.Module, str], registry: Registry, filing: Filing, is_inside: Callable[[], bool]
    ) -> None:
        self._names = names
        self._registry = registry
        self._filing = filing
        self._is_inside = is_inside
        self.stacks = {module for module in names if isinstance(module, (HighwayStack, RecurrentHighway))}
        self.inner = {part for stack in self.stacks for part in stack.modules() if part is not stack}
        self._recurrent = {names[module] for module in self.stacks if isinstance(module, RecurrentHighway)}
        self._activations = {names[module]: _activation_of(module) for module in self.stacks}

    def hooks(self) -> Iterator[tuple[nn.Module, Callable[..., None]]]:
        """Each tap with its hook."""
        for module in self._names:
            if isinstance(module, StatesTap):
                yield module, self._hear_states
            elif isinstance(module, GradientsTap):
                yield module, self._hear_gradients

    def _hear_states(self, module: nn.Module, _inputs: Any, states: LayerStates) -> None:
        if not self._is_inside() or self._filing.is_deaf or states.x.numel() == 0:
            return
        try:
            path = _parent(self._names[module])
            activation, is_recurrent = self._activations.get(path), path in self._recurrent
            layers = self._registry.stack_layers(path, len(states.x), activation, is_recurrent=is_recurrent)
            with torch._C.DisableTorchFunction():
                for sites, values in zip(layers.outputs, (states.h, states.t, states.x[1:]), strict=True):
                    if sites:
                        self._filing.collector.add_block(sites, values)
        except Exception as error:
            self._filing.fail(error)

    def _hear_gradients(self, module: nn.Module, _inputs: Any, gradients: Tensor) -> None:
        if self._filing.is_deaf or gradients.numel() == 0:
            return
        try:
            layers = self._registry.stacks.get(_parent(self._names[module]))
            if layers is not None and layers.gradients:
                # Where the last layer's output is the stack's own, it is heard like any other.
                self._filing.file_gradient_block(layers.gradients, gradients[: len(layers.gradients)])
        except Exception as error:
            self._filing.fail(error)


def _activation_of(stack: nn.Module) -> str | None:
    return stack.cell.activation_name if isinstance(stack, RecurrentHighway) else str(stack.activation)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
