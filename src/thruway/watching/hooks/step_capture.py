"""Capture of a sampled step beyond the outputs of the model and their gradients: its loss and its parameters."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thruway.watching.errors import warn
from thruway.watching.facts import LossNode
from thruway.watching.hooks.capture import Capture
from thruway.watching.hooks.loss import LossCapture
from thruway.watching.hooks.optimizer import GradientUnscaler
from thruway.watching.hooks.other_steps import OtherSteps
from thruway.watching.hooks.parameters import ParameterCapture
from thruway.watching.modules import unwrapped
from thruway.watching.quantities.collector import Measured
from thruway.watching.quantities.step_table import STEP_QUANTITIES
from thruway.watching.quantities.table import QUANTITIES
from thruway.watching.sites import Registry

__all__ = ["StepCapture"]

# Gradients are modified if their norm differs by more than this. The two norms are summed in different orders.
_TOLERANCE = 1e-3


_MIXED = (
    "another optimizer made a step between the calls of the model and its backward pass, and the gradients were zeroed "
    "in between. The outputs and gradients of both steps are merged into the same numbers; those of the parameters are "
    "right. Call the model after the other optimizer's step, so that the passes can be told apart."
)


class StepCapture:
    """Captures the loss and, with an optimizer, parameters, their gradients and updates, and norms of all gradients.

    Args:
        model: watched model, or a wrapper of it.
        optimizer: optimizer whose step ends a training step; None if a call of the model is a step.
        capture: capture of the model's outputs and gradients.
        registry: sites captured so far.
        unscale: removes the factor of a loss scaler; None without a scaler.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        capture: Capture,
        registry: Registry,
        unscale: GradientUnscaler | None,
    ) -> None:
        self._capture = capture
        self._collector = capture.collector
        self._parameters = self._others = None
        self._has_passes = self._has_warned = False
        if optimizer is not None:
            self._others = OtherSteps(optimizer)
            capture.before_pass = self._before_pass
            self._parameters = ParameterCapture(unwrapped(model), optimizer, registry, self._collector)
        self._loss = LossCapture(capture, model, self._parameters, unscale)
        self._registry = registry
        self._has_scaler = unscale is not None
        # Then the norm of all gradients follows from the numbers of each one.
        self._sums_norms = all(QUANTITIES[name] in self._collector.quantities for name in ("norm", "nan", "inf"))
        self._numbers: list[Measured] = []
        self._earlier: list[Measured] = []  # numbers of the passes before the last step of another optimizer

    @property
    def loss_graph(self) -> tuple[LossNode, ...]:
        """The operations of the loss of the first sampled step that has one."""
        return self._loss.graph

    def begin(self) -> None:
        """Begin a sampled step."""
        self._numbers, self._earlier = [], []
        self._has_passes = False
        self._loss.begin_step()
        if self._others is not None:
            self._others.begin()

    def end(self) -> None:
        """Capture nothing more, for a step that is not sampled."""
        self._loss.end()
        if self._others is not None:
            self._others.end()

    def discard(self) -> None:
        """Forget the losses of this step, whose call of the model was aborted."""
        self._loss.clear()

    def clear(self) -> None:
        """Release every tensor."""
        self._earlier = []
        self._loss.clear()
        if self._parameters is not None:
            self._parameters.clear()

    def _before_pass(self) -> None:
        """Set the passes so far apart if another optimizer has made a step since, which they may belong to.

        Those of the step of a generator also run through the discriminator, whose gradients are zeroed afterwards:
        before this pass, or between this pass and its backward pass.
        """
        try:
            assert self._parameters is not None
            assert self._others is not None
            if self._has_passes and self._others.were_made:
                measured = self._collector.finish(is_part=True)
                self._drop_zeroed()
                if self._parameters.has_no_gradients():
                    self._earlier = []
                    self._capture.remove_gradient_hooks()
                    self._loss.clear()
                else:
                    self._earlier += measured
            self._others.were_made = False
            self._has_passes = True
        except Exception as error:
            self._capture.fail(error)

    def _drop_zeroed(self) -> None:
        """Drop the passes that were set apart if their gradients have been zeroed."""
        if self._loss.was_zeroed:
            self._earlier, self._loss.was_zeroed = [], False

    def before_update(self) -> None:
        """Measure the parameters and gradients, once the gradients of the step exist."""
        assert self._parameters is not None
        if self._others is not None and self._others.were_made and self._loss.was_zeroed and not self._has_warned:
            self._has_warned = True
            warn(_MIXED, stacklevel=2)
        self._drop_zeroed()
        self._loss.before_update()
        self._numbers += self._parameters.before_update(self._loss.is_stale())
        if not self._sums_norms or not self._parameters.has_all_gradients:
            norm = self._parameters.gradient_norm()
            if norm is not None:
                self._add_number("gradient_norm", norm)

    def after_update(self) -> None:
        """Measure the updates of the parameters."""
        assert self._parameters is not None
        self._parameters.after_update()

    def finish(self) -> list[Measured]:
        """Return all numbers of the step; none if nothing of the model was measured."""
        if self._loss.loss is not None:
            self._add_number("loss", self._loss.loss)
        if self._loss.raw_norm is not None:
            self._add_number("raw_gradient_norm", self._loss.raw_norm)
        self._loss.clear()
        measured = [*self._earlier, *self._collector.finish()]
        self._earlier = []
        is_measured = any(site.kind != "step" for m in measured for site in m.sites[:1])
        return self._with_norms([*measured, *self._numbers]) if is_measured else []

    def _add_number(self, name: str, number: Tensor) -> None:
        self._collector.add_number(STEP_QUANTITIES[name], self._registry.step(name), number)

    def _with_norms(self, measured: list[Measured]) -> list[Measured]:
        """Add the norm of all gradients, and remove the raw norm if it is the same."""
        if self._parameters is None:
            return measured
        known = {m.quantity.name: m for m in measured if m.sites and m.sites[0].kind == "step"}
        if "gradient_norm" not in known and self._sums_norms and self._parameters.has_all_gradients:
            norm = _norm_of_norms(measured)
            if norm is not None:
                site = self._registry.step("gradient_norm")
                known["gradient_norm"] = Measured(STEP_QUANTITIES["gradient_norm"], (site,), 1, norm)
                measured.append(known["gradient_norm"])
        raw, final = known.get("raw_gradient_norm"), known.get("gradient_norm")
        if raw is not None:
            if final is not None and self._is_changed(float(raw.values[0]), float(final.values[0])):
                self._loss.measures_raw_norm = True
            else:
                measured.remove(raw)
        return measured

    def _is_changed(self, raw: float, final: float) -> bool:
        """Return True if the gradients were modified by other means than a loss scaler, whose factors are 2^n."""
        if not (math.isfinite(raw) and math.isfinite(final)):
            return False
        if abs(raw - final) <= _TOLERANCE * max(raw, final):
            return False
        if self._has_scaler or not final:
            return True
        mantissa = math.frexp(raw / final)[0]
        return raw < final or min(abs(mantissa - 0.5), abs(mantissa - 1.0)) > _TOLERANCE


def _norm_of_norms(measured: Sequence[Measured]) -> NDArray[np.floating] | None:
    """Return the norm of all gradients from the norms of each one, (1,); None without gradients."""
    found: dict[str, list[NDArray[np.floating]]] = {m.quantity.name: [] for m in measured}
    for m in measured:
        if m.sites and m.sites[0].kind == "parameter_gradient":
            found[m.quantity.name].append(m.values)
    if not found.get("norm"):
        return None
    norms = np.concatenate(found["norm"])
    bad = [name for name in ("nan", "inf") if any(values.any() for values in found.get(name, []))]
    total = float(bad[0]) if bad else math.sqrt(float(np.square(norms, dtype=np.float64).sum()))
    return np.array([total], dtype=norms.dtype)
