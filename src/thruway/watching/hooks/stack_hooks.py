"""Hooks for the layers of a HighwayStack or a RecurrentHighway, which are computed as one tensor."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thruway.nn.hook_points import GradientsHookPoint, LayerStates, StatesHookPoint
from thruway.nn.recurrent import RecurrentHighway
from thruway.nn.stack import HighwayStack
from thruway.watching.hooks.capture import Capture
from thruway.watching.sites import Registry

__all__ = ["StackHooks"]


class StackHooks:
    """Hooks on the hook points of all stacks, active while `is_capturing()` is True.

    `stacks` are the HighwayStack and RecurrentHighway modules. `inner` are the modules inside them, which get no hooks:
    a recurrent highway layer whose cell has a hook runs step by step, which changes the last bits of its gradients.
    """

    def __init__(
        self, names: Mapping[nn.Module, str], registry: Registry, capture: Capture, is_capturing: Callable[[], bool]
    ) -> None:
        self._names = names
        self._registry = registry
        self._capture = capture
        self._is_capturing = is_capturing
        self.stacks = {module for module in names if isinstance(module, (HighwayStack, RecurrentHighway))}
        self.inner = {part for stack in self.stacks for part in stack.modules() if part is not stack}
        self._recurrent = {names[module] for module in self.stacks if isinstance(module, RecurrentHighway)}
        self._activations = {names[module]: _activation_of(module) for module in self.stacks}

    def hooks(self) -> Iterator[tuple[nn.Module, Callable[..., None]]]:
        """Iterate over the hook points, each with its forward hook."""
        for module in self._names:
            if isinstance(module, StatesHookPoint):
                yield module, self._capture_states
            elif isinstance(module, GradientsHookPoint):
                yield module, self._capture_gradients

    def _capture_states(self, module: nn.Module, _inputs: Any, states: LayerStates) -> None:
        if not self._is_capturing() or self._capture.is_paused or states.x.numel() == 0:
            return
        try:
            path = _parent(self._names[module])
            activation, is_recurrent = self._activations.get(path), path in self._recurrent
            shape = tuple(states.x.shape[1:])
            layers = self._registry.stack_layers(
                path, len(states.x), activation, is_recurrent=is_recurrent, shape=shape
            )
            with torch._C.DisableTorchFunction():
                for sites, values in zip(layers.outputs, (states.h, states.t, states.x[1:]), strict=True):
                    if sites:
                        self._capture.collector.add_block(sites, values)
        except Exception as error:
            self._capture.fail(error)

    def _capture_gradients(self, module: nn.Module, _inputs: Any, gradients: Tensor) -> None:
        if self._capture.is_paused or gradients.numel() == 0:
            return
        try:
            layers = self._registry.stacks.get(_parent(self._names[module]))
            if layers is not None and layers.gradients:
                # A last layer without a site here is the stack's own output, which has an ordinary hook.
                self._capture.add_gradient_block(layers.gradients, gradients[: len(layers.gradients)])
        except Exception as error:
            self._capture.fail(error)


def _activation_of(stack: nn.Module) -> str | None:
    return stack.cell.activation_name if isinstance(stack, RecurrentHighway) else str(stack.activation)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]
