"""Capture of the loss, and of the gradients between the backward passes of a step and the optimizer's step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thruway.watching.facts import LossNode
from thruway.watching.hooks.backward_calls import BackwardCalls
from thruway.watching.hooks.capture import Capture
from thruway.watching.hooks.gradient_marks import GradientMarks
from thruway.watching.hooks.loss_graph import loss_graph
from thruway.watching.hooks.optimizer import GradientUnscaler
from thruway.watching.hooks.parameters import ParameterCapture, total_norm

__all__ = ["LossCapture"]


class LossCapture:
    """Captures the losses of the backward calls that reach the model.

    A call reaches the model if the gradient of a captured output arrives during it; if no captured output has one, as
    in reentrant checkpoints, if it changes the gradient of a parameter. Calls of other threads, and the
    calls of a closure after the first evaluation, do not count. If the gradients are zeroed between two calls, the
    losses before are dropped, because the optimizer does not get their gradients: in a GAN, the loss of the generator
    also reaches the discriminator, which zeroes its gradients afterwards.

    Args:
        capture: capture of the model's outputs and gradients.
        model: model whose parameters these are.
        parameters: capture of the parameters; None without an optimizer.
        unscale: removes the factor of a loss scaler; None without a scaler.
    """

    def __init__(
        self, capture: Capture, model: nn.Module, parameters: ParameterCapture | None, unscale: GradientUnscaler | None
    ) -> None:
        self._capture = capture
        self._model = model
        self._parameters = parameters
        self._unscale = unscale
        self.graph: tuple[LossNode, ...] = ()
        self._graph_is_known = False
        self.measures_raw_norm = parameters is not None
        self._before_step: GradientMarks | None = None
        self._is_listening = False
        self._is_first = True
        self._zeroes_unseen: bool | None = None
        self.clear()

    def clear(self) -> None:
        """Forget the step."""
        self.loss: Tensor | None = None
        self.raw_norm: Tensor | None = None
        self._stale: list[bool] | None = None
        self._after_backward: GradientMarks | None = None
        self._at_call: tuple[list[bool] | None, bool] | None = None
        self.was_zeroed = False  # the gradients were zeroed between two backward calls of the step
        self._at_call_marks: GradientMarks | None = None

    def begin_step(self) -> None:
        """Note the gradients left by the previous step, and notice the backward calls of this one."""
        self.clear()
        if self._parameters is not None:
            self._before_step = GradientMarks(self._parameters.parameters)
        self._is_listening = True
        BackwardCalls.add(self)

    def end(self) -> None:
        """Notice no further calls."""
        self._is_listening = False
        BackwardCalls.remove(self)

    def before_update(self) -> None:
        """Notice no further calls in this step, whose gradients the optimizer is about to use."""
        self._is_listening = False
        if self._after_backward is not None:  # from the next step on, measured only where gradients are modified
            is_modified = any(self._changed(self._after_backward))
            self.measures_raw_norm = is_modified or (self.measures_raw_norm and not self._is_first)
            self._is_first = False

    def is_stale(self) -> Sequence[bool]:
        """Return True for each parameter whose gradient was that of the previous step when the backward pass began."""
        assert self._parameters is not None
        return self._stale or [False] * len(self._parameters.parameters)

    @staticmethod
    def _changed(marks: GradientMarks) -> list[bool]:
        return [had and not kept for had, kept in zip(marks.had(), marks.kept(), strict=True)]

    def _stale_ones(self, marks: GradientMarks) -> list[bool]:
        """Return True for each parameter that kept its gradient, which is read once: `.data.zero_()` leaves no mark."""
        assert self._parameters is not None
        kept = [*marks.kept()]
        if any(kept) and self._zeroes_unseen is not False:
            gradients = (p.grad for p, is_kept in zip(self._parameters.parameters, kept, strict=True) if is_kept)
            norm = total_norm([gradient for gradient in gradients if gradient is not None])
            self._zeroes_unseen = norm is not None and not bool(norm)
        return [False] * len(kept) if self._zeroes_unseen else kept

    # Called by BackwardCalls

    def before_backward(self) -> None:
        """Compare the gradients with those after the last call, or those of the previous step."""
        if not self._is_listening or self._capture.is_paused or self._capture.is_other_thread():
            return
        try:
            self._note_gradients()
        except Exception as error:
            self._capture.fail(error)

    def after_backward(self, tensors: Any, grad_tensors: Any) -> None:
        """Add the loss, if the call has reached the model."""
        if self._at_call is None or self._capture.is_paused or self._capture.is_other_thread():
            return
        at_call, self._at_call = self._at_call, None
        marks, self._at_call_marks = self._at_call_marks, None
        try:
            if self._capture.has_gradient or (marks is not None and marks.have_changed()):
                self._add(_tensors(tensors), _tensors(grad_tensors), *at_call)
        except Exception as error:
            self._capture.fail(error)

    def _note_gradients(self) -> None:
        self._capture.has_gradient = False
        if not self._capture.hooks_gradients():
            self._at_call_marks = GradientMarks([*self._model.parameters()])
        if self._unscale is not None:
            self._unscale.clear()  # the scale changes where a step was skipped
        is_zeroed = self._after_backward is not None and self._is_zeroed(self._after_backward)
        stale = self._stale
        if self._before_step is not None and (stale is None or is_zeroed):
            stale = self._stale_ones(self._before_step)
        self._at_call = stale, is_zeroed

    def _add(self, roots: list[Any], factors: list[Any], stale: list[bool] | None, is_zeroed: bool) -> None:
        self._stale = stale
        if is_zeroed:
            self.loss, self.was_zeroed = None, True
        with torch.no_grad():
            value = _value(roots, factors)
            if value is not None:
                value = value if self._unscale is None else self._unscale(value)
                self.loss = value if self.loss is None else self.loss + value.to(self.loss.device)
            if self._parameters is not None:
                self._after_backward = GradientMarks(self._parameters.parameters)
                if self.measures_raw_norm:
                    norm = total_norm([p.grad for p in self._parameters.optimized() if p.grad is not None])
                    self.raw_norm = norm if norm is None or self._unscale is None else self._unscale(norm)
        if value is not None and not self._graph_is_known:
            self._graph_is_known, self._capture.names_nodes = True, False
            self.graph = loss_graph(roots[0], self._capture.site_of_node)

    def _is_zeroed(self, marks: GradientMarks) -> bool:
        """Return True if all gradients have been removed, or set to zero, since a backward call."""
        assert self._parameters is not None
        changed = self._changed(marks)
        if not any(changed):
            return False
        now = [p.grad for p, is_changed in zip(self._parameters.parameters, changed, strict=True) if is_changed]
        left = [gradient for gradient in now if gradient is not None]
        norm = total_norm(left)
        return not left or (norm is not None and not bool(norm))


def _tensors(value: Any) -> list[Any]:
    return [] if value is None else [*value] if isinstance(value, (tuple, list)) else [value]


def _value(roots: list[Any], factors: list[Any]) -> Tensor | None:
    """Return the sum of the scalars, times the gradients passed for them; None if one is not a scalar."""
    if not roots or not all(isinstance(root, Tensor) and root.numel() == 1 for root in roots):
        return None
    total: Tensor | None = None
    for index, root in enumerate(roots):
        value = root.detach().reshape(())
        value = value.to(torch.promote_types(value.dtype, torch.float32), copy=True)  # it may be overwritten later
        factor = factors[index] if index < len(factors) else None
        if isinstance(factor, Tensor):
            value = value * factor.detach().reshape(())
        total = value if total is None else total + value.to(total.device)
    return total
