"""Hooks of one watch on a model: full hooks until its calls are known, replayed hooks afterwards."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from thruway.watching.hooks.call_table import CallTable
from thruway.watching.hooks.capture import Capture
from thruway.watching.hooks.full_hooks import FullHooks
from thruway.watching.hooks.inputs import NOTHING
from thruway.watching.hooks.replayed_hooks import ReplayedHooks
from thruway.watching.quantities.collector import Collector
from thruway.watching.sites import Registry

__all__ = ["ModelHooks"]


class ModelHooks:
    """Captures the tensors computed by a model, between `attach` and `detach`.

    Args:
        names: path of every module to capture.
        registry: sites captured so far, to which new ones are added.
        collector: collector that measures the tensors.
        fail: function called with the first error in our code. Nothing is captured afterwards, and training continues.
        unscale: function that removes the factor of a loss scaler from a gradient; None without a scaler.
        captures_gradients: If True, also capture gradients.
    """

    def __init__(
        self,
        names: Mapping[nn.Module, str],
        registry: Registry,
        collector: Collector,
        fail: Callable[[Exception], None],
        unscale: Callable[[Tensor], Tensor] | None = None,
        *,
        captures_gradients: bool = True,
    ) -> None:
        self._registry = registry
        self.capture = self._capture = Capture(collector, fail, unscale, captures_gradients=captures_gradients)
        self._table = CallTable()
        self._full = FullHooks(names, registry, self._capture, self._table)
        self._replayed = ReplayedHooks(names, registry, self._capture, self._table)
        self._attached: FullHooks | ReplayedHooks = self._full
        self._passes = 0

    def attach(
        self, called: nn.Module | None = None, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] = NOTHING
    ) -> None:
        """Capture the following passes.

        Args:
            called: module whose call is just beginning. PyTorch has already collected its hooks, so a hook registered
                now would not run.
            arguments: positional arguments of that call.
            keywords: its keyword arguments.
        """
        self._passes += 1
        # Full hooks again at the 1st, 2nd, 4th, 8th ... pass: the model may by now call functions not in the table.
        is_full = self._passes & (self._passes - 1) == 0
        wanted = self._replayed if self._table.is_ready and not is_full else self._full
        if wanted is not self._attached:
            self._attached.detach()
            self._registry.with_lineage.clear()
            self._attached = wanted
        wanted.attach(called, arguments, keywords)

    def discard_pass(self) -> None:
        """Discard the latest pass, which was aborted. Its calls are incomplete, so the next pass is a full one."""
        self._table.is_ready = False
        self._registry.with_lineage.clear()
        self.remove_gradient_hooks()

    def detach(self) -> None:
        """Remove every hook from the modules and from the graphs captured so far."""
        self._attached.detach()
        self._capture.remove_gradient_hooks()

    def pause(self) -> None:
        """Capture nothing, although the hooks remain."""
        self._capture.is_paused = True

    def resume(self) -> None:
        """Capture again after `pause`."""
        self._capture.is_paused = False

    def remove_gradient_hooks(self) -> None:
        """Remove the gradient hooks from the graphs captured so far."""
        self._capture.remove_gradient_hooks()

    def is_watched_thread(self) -> bool:
        """Return True in the thread whose passes are captured."""
        return self._capture.is_watched_thread()

    def is_in_forward(self) -> bool:
        """Return True during a captured forward pass."""
        return self._attached.is_in_forward()
