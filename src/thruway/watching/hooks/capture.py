"""Handing a tensor and the gradient with respect to it to the collector."""

import itertools
import threading
from collections.abc import Callable
from functools import partial

from torch import Tensor

from thruway.watching.hooks.gradient_hook import tap
from thruway.watching.quantities.collector import Collector
from thruway.watching.sites import Site

__all__ = ["Filing"]

Ear = Callable[[Tensor], None]


_KEYS = itertools.count(-1, -1)  # several watches may listen to one tensor


class Filing:
    """Where heard tensors go. A mistake made here is reported once; after that nothing is taken any more.

    Args:
        collector: who measures.
        fail: told of a mistake.
        unscale: takes a loss scaler's factor out of a gradient; None where there is none.
        taps_gradients: file gradients too.
    """

    def __init__(
        self,
        collector: Collector,
        fail: Callable[[Exception], None],
        unscale: Callable[[Tensor], Tensor] | None = None,
        *,
        taps_gradients: bool = True,
    ) -> None:
        self.collector = collector
        self._key = next(_KEYS)
        self.is_deaf = False
        self._report = fail
        self._unscale = unscale
        self._taps_gradients = taps_gradients
        self._ears: dict[Site, Ear] = {}
        self._tapped: list[dict[int, Ear]] = []
        self._thread: threading.Thread | None = None

    def is_mine(self) -> bool:
        """Passes of one thread are heard, the first that comes; what others do meanwhile is let go."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.current_thread()
        return self._thread is threading.current_thread()

    def file(self, site: Site, gradient: Site, tensor: Tensor) -> None:
        """An output, and in the backward pass the gradient with respect to it."""
        self.collector.add(site, tensor)
        if self._taps_gradients and (node := tensor.grad_fn) is not None:
            ear = self._ears.get(gradient)
            if ear is None:
                ear = self._ears[gradient] = partial(self.file_gradient, gradient)
            self._tapped.append(tap(tensor, node, ear, self._key))

    def file_gradient(self, site: Site, gradient: Tensor) -> None:
        """Called from the backward pass."""
        if self.is_deaf:
            return
        try:
            self.collector.add(site, gradient if self._unscale is None else self._unscale(gradient))
        except Exception as error:
            self.fail(error)

    def file_gradient_block(self, sites: tuple[Site, ...], gradients: Tensor) -> None:
        """The same for (k, ...) gradients in one tensor."""
        self.collector.add_block(sites, gradients if self._unscale is None else self._unscale(gradients))

    def end_pass(self) -> None:
        """Measure what waits: activations must not outlive their forward pass."""
        if not self.is_deaf:
            try:
                self.collector.flush()
            except Exception as error:
                self.fail(error)

    def forget_gradients(self) -> None:
        """Hear no more of the graphs of the passes so far."""
        for hooks in self._tapped:
            hooks.pop(self._key, None)
        self._tapped.clear()

    def fail(self, error: Exception) -> None:
        """Take nothing from here on."""
        self.is_deaf = True
        self._report(error)
