"""Check at the end of a with block that something was recorded, and the reason if nothing was."""

from torch import nn

from thruway.watching.modules import parameter_versions
from thruway.watching.sites import Registry
from thruway.watching.trace.trace import Trace

__all__ = ["RecordingCheck"]


class RecordingCheck:
    """Check of one watch, made when its block begins.

    Args:
        model: the watched model.
        trace: its trace.
        registry: its sites.
        has_optimizer: If True, steps end at an optimizer's step.
    """

    def __init__(self, model: nn.Module, trace: Trace, registry: Registry, *, has_optimizer: bool) -> None:
        self._model = model
        self._trace = trace
        self._registry = registry
        self._has_optimizer = has_optimizer
        self._versions = parameter_versions(model)

    def warning(self, steps: range, sampled: int) -> str | None:
        """Return the warning if nothing, or no output, was recorded in `steps`, of which `sampled` were sampled."""
        was_trained = parameter_versions(self._model) != self._versions
        if not self._trace.steps and (self._trace.probe is None or not self._trace.probe.steps):
            cause = _cause(self._trace.model, steps, sampled, self._has_optimizer, was_trained)
            return f"nothing was recorded: {cause}"
        if self._registry.known_outputs or self._registry.stacks or not self._trace.steps or not was_trained:
            return None
        model = self._trace.model
        return (
            f"no outputs were recorded: {model} was trained, but none of its modules was called. "
            f"{_forward_called(model)}"
        )


def _cause(model: str, steps: range, sampled: int, has_optimizer: bool, was_trained: bool) -> str:
    if not steps and has_optimizer:
        return (
            f"no training step of {model} was completed: optimizer.step() was not called inside the with block. Watch "
            "the module that your training loop calls, or pass the optimizer of that loop."
        )
    if not steps and was_trained:
        return f"parameters of {model} were trained, but it was not called. {_forward_called(model)}"
    if not steps:
        return (
            f"no training step of {model} was completed: it was not called with gradients enabled inside the with "
            "block. Watch the module that your training loop calls, or pass optimizer=."
        )
    if not sampled:
        return (
            f"every= selected none of the {len(steps):,} steps from {steps.start} on. Pass a number, or a function of "
            "the step that returns True for some steps."
        )
    return f"no layer of {model} returned a dense floating-point tensor, and nothing else is measured."


def _forward_called(model: str) -> str:
    return (
        "A direct call of .forward() does not run hooks: call model(x) instead of model.forward(x). If the training "
        f"loop calls only parts of {model}, watch the part that it calls, or pass optimizer=."
    )
