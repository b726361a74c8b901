"""Capture of a tensor: its current values, and the gradient with respect to it in the backward pass."""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from thruway.watching.quantities.collector import Collector
from thruway.watching.sites import Site

__all__ = ["Capture", "Hook", "is_measurable", "is_training_pass", "register_gradient_hook"]

GradientHook = Callable[[Tensor], None]


class Hook:
    """A module or optimizer hook that calls `callback`; copied or pickled, it does nothing.

    A watched model can therefore be copied and saved; copies and loaded models are not watched.

    >>> import copy
    >>> calls = []
    >>> hook = Hook(calls.append)
    >>> hook(1), copy.deepcopy(hook)(2)
    (None, None)
    >>> calls
    [1]
    """

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[..., Any]) -> None:
        self._callback = callback

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._callback(*arguments, **keywords)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_do_nothing,)


def _do_nothing(*_arguments: Any, **_keywords: Any) -> None:
    """Do nothing: the callback of a copied hook."""


def register_gradient_hook(tensor: Tensor, node: Any, hook: GradientHook, key: int) -> "OrderedDict[int, GradientHook]":
    """Call `hook(gradient)` when the backward pass reaches `tensor`, which must not be a leaf.

    The hook belongs to the current autograd node of the tensor. A later in-place operation (ReLU(inplace=True), x +=
    skip) makes a new node with its own gradient, so this hook stays correct.

    Args:
        node: `tensor.grad_fn`, passed because looking it up takes time.
        key: negative number, unique to one watch. PyTorch numbers its own handles from 0.
    Returns:
        The dictionary of the tensor's hooks. Delete `key` from it to remove this hook.
    """
    hooks: OrderedDict[int, GradientHook] | None = tensor._backward_hooks  # type: ignore[assignment]
    if hooks is None:
        # As in Tensor.register_hook, but without the handle, which costs more than everything else.
        hooks = OrderedDict()
        tensor._backward_hooks = hooks  # type: ignore[assignment]
        node._register_hook_dict(tensor)
    hooks[key] = hook
    return hooks


def is_training_pass() -> bool:
    """Return True in a forward pass that a backward pass may follow.

    It is False in evaluation (no_grad), in the recomputation of a checkpointed block, which runs inside a backward
    pass, and under the transforms of torch.func, whose tensors have no plain values.
    """
    return (
        torch.is_grad_enabled()
        and torch._C._current_graph_task_id() == -1
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def is_measurable(tensor: Tensor) -> bool:
    """Return True for a dense floating-point tensor with values."""
    return tensor.is_floating_point() and tensor.layout is torch.strided and not tensor.is_meta and tensor.numel() > 0


_KEYS = itertools.count(-1, -1)  # one key per watch, as several may put hooks on one tensor


class Capture:
    """Passes outputs and their gradients to a collector, and stops at the first error.

    Args:
        collector: collector that measures the tensors.
        fail: function called with the first error.
        unscale: function that removes the factor of a loss scaler from a gradient; None without a scaler.
        captures_gradients: If True, also capture gradients.
    """

    def __init__(
        self,
        collector: Collector,
        fail: Callable[[Exception], None],
        unscale: Callable[[Tensor], Tensor] | None = None,
        *,
        captures_gradients: bool = True,
    ) -> None:
        self.collector = collector
        self._key = next(_KEYS)
        self.is_paused = False
        self._report = fail
        self._unscale = unscale
        self._captures_gradients = captures_gradients
        self._gradient_hooks: dict[Site, GradientHook] = {}
        self._hooked: list[dict[int, GradientHook]] = []
        self.has_gradient = False  # a gradient has arrived since this was last set to False
        self.names_nodes = captures_gradients  # autograd nodes get the name of the site, for the graph of the loss
        self.before_pass: Callable[[], None] | None = None  # called when a forward pass begins
        self._thread: threading.Thread | None = None

    def is_watched_thread(self) -> bool:
        """Return True in the thread whose passes are captured, which is the first that runs one.

        Other threads are ignored.
        """
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.current_thread()
        return self._thread is threading.current_thread()

    def is_other_thread(self) -> bool:
        """Return True in a thread other than the one whose passes are captured."""
        return self._thread not in (None, threading.current_thread())

    def can_begin_pass(self) -> bool:
        """Return True if a forward pass that begins now is to be captured."""
        if self.is_paused or not is_training_pass() or not self.is_watched_thread():
            return False
        if self.before_pass is not None:
            self.before_pass()
        return not self.is_paused

    def add_output(self, site: Site, gradient: Site, tensor: Tensor) -> None:
        """Capture an output, and its gradient when the backward pass reaches it."""
        self.collector.add(site, tensor)
        if self._captures_gradients and (node := tensor.grad_fn) is not None:
            hook = self._gradient_hooks.get(gradient)
            if hook is None:
                hook = self._gradient_hooks[gradient] = partial(self.add_gradient, gradient)
            self._hooked.append(register_gradient_hook(tensor, node, hook, self._key))
            if self.names_nodes:
                node.metadata[self._key] = site.name  # type: ignore[index]

    def add_gradient(self, site: Site, gradient: Tensor) -> None:
        """Capture a gradient; called in the backward pass."""
        self.has_gradient = True
        if self.is_paused:
            return
        try:
            self.collector.add(site, gradient if self._unscale is None else self._unscale(gradient))
        except Exception as error:
            self.fail(error)

    def add_gradient_block(self, sites: tuple[Site, ...], gradients: Tensor) -> None:
        """Capture (k, ...) gradients that lie in one tensor."""
        self.has_gradient = True
        self.collector.add_block(sites, gradients if self._unscale is None else self._unscale(gradients))

    def hooks_gradients(self) -> bool:
        """Return True if a backward pass that reaches the captured outputs will be noticed."""
        return bool(self._hooked)

    def site_of_node(self, node: Any) -> str | None:
        """Return the name of the output that an autograd node computed, if it was captured while nodes were named."""
        name: str | None = node.metadata.get(self._key)
        return name

    def end_pass(self) -> None:
        """Measure the tensors that are still held, since activations must not be kept beyond their forward pass."""
        if not self.is_paused:
            try:
                self.collector.flush()
            except Exception as error:
                self.fail(error)

    def remove_gradient_hooks(self) -> None:
        """Remove the gradient hooks from the graphs captured so far."""
        for hooks in self._hooked:
            hooks.pop(self._key, None)
        self._hooked.clear()

    def fail(self, error: Exception) -> None:
        """Stop capturing and report the error."""
        self.is_paused = True
        self._report(error)
