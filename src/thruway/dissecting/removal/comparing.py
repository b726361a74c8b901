"""Comparison of a smaller model with the lesioned one, on the example inputs, in other sizes and in the other mode."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thruway.dissecting.finding.branches import Branch
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.tracing.arguments import as_call
from thruway.dissecting.tracing.model_state import RandomStates, restored_buffers
from thruway.dissecting.tracing.structure import map_structure, reachable_tensors

__all__ = ["run_once", "why_different"]

_TOLERANCE = 1e-5  # of the output's size: other kernels may sum in another order


def why_different(engine: Engine, model: nn.Module, branches: Sequence[Branch]) -> str:
    """Return how a smaller model differs from the model without these branches; "" if it does not.

    Other sizes and the other mode are only tried where the model itself runs with them, the mode only if it draws no
    random numbers there.
    """
    lesioned = Lesioned(engine, {branch.index: None for branch in branches})
    reason = _compare(run_once(model, engine.example_inputs), run_once(lesioned, engine.example_inputs))
    if reason:
        return reason
    for what, inputs in _other_sizes(engine.example_inputs):
        is_possible = _attempt(partial(run_once, engine.model, inputs)) is not None
        expected = _attempt(partial(run_once, lesioned, inputs)) if is_possible else None
        if expected is not None:
            try:
                reason = _compare(run_once(model, inputs), expected)
            except Exception as error:
                reason = f"it fails: {(str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')}"
            if reason:
                return f"with {what}, {reason}"
    return _why_different_in_other_mode(engine, model, lesioned)


def _why_different_in_other_mode(engine: Engine, model: nn.Module, lesioned: Lesioned) -> str:
    mode = not engine.model.training
    modes = {module: module.training for each in (engine.model, model) for module in each.modules()}
    try:
        engine.model.train(mode)
        states = RandomStates(engine.model)
        intact = _attempt(partial(run_once, engine.model, engine.example_inputs, restores=False))
        draws = states.have_changed()
        states.restore()
        if intact is None or draws:
            return ""
        expected = _attempt(partial(run_once, lesioned, engine.example_inputs))
        if expected is None:
            return ""
        reason = _compare(run_once(model.train(mode), engine.example_inputs), expected)
        return f"in {'training' if mode else 'evaluation'} mode, {reason}" if reason else ""
    finally:
        for module, was_training in modes.items():
            module.training = was_training


def run_once(model: nn.Module, inputs: Any, *, restores: bool = True) -> Any:
    """Return the output without gradients. Buffers are restored, and random states if `restores` is True."""
    args, kwargs = as_call(inputs)
    states = RandomStates(model)
    try:
        with torch.no_grad(), restored_buffers(model):
            return model(*args, **kwargs)
    finally:
        if restores:
            states.restore()


def _attempt(run: Callable[[], Any]) -> Any:
    """Return the output, or None if the model does not run."""
    try:
        return run()
    except Exception:  # sizes that the model does not take, or batch norm of a single example
        return None


def _other_sizes(inputs: Any) -> Iterator[tuple[str, Any]]:
    """Yield inputs with twice as many examples, twice the length of sequences of indices, and images twice as large."""
    tensors = list(reachable_tensors(inputs))
    if not tensors or not tensors[0].dim():
        return
    first = tensors[0]

    def changed(dim: int, fits: Callable[[Tensor], bool]) -> Any:
        def twice(leaf: Any) -> Any:
            return torch.cat([leaf, leaf], dim) if isinstance(leaf, Tensor) and fits(leaf) else leaf

        made = map_structure(dict(inputs) if isinstance(inputs, Mapping) else inputs, twice)
        return made

    yield "twice as many examples", changed(0, lambda t: t.dim() > 0 and t.shape[0] == first.shape[0])
    if first.dim() == 2 and not first.is_floating_point():
        yield "twice the length", changed(1, lambda t: t.dim() > 1 and t.shape[1] == first.shape[1])
    if first.dim() >= 4:
        yield "twice the height", changed(2, lambda t: t.dim() >= 4 and t.shape[2] == first.shape[2])
        yield "twice the width", changed(3, lambda t: t.dim() >= 4 and t.shape[3] == first.shape[3])


def _compare(ours: Any, expected: Any) -> str:
    if _form(ours) != _form(expected):
        return "the output has another structure"
    for a, b in zip(reachable_tensors(ours), reachable_tensors(expected), strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"it returns {a.dtype} {tuple(a.shape)} in place of {b.dtype} {tuple(b.shape)}"
        a, b = a.double(), b.double()
        finite = torch.isfinite(b)
        if not torch.equal(torch.isfinite(a), finite) or not torch.equal(
            a[~finite].nan_to_num(nan=0.0), b[~finite].nan_to_num(nan=0.0)
        ):
            return "other values are NaN or infinite"
        if finite.any():
            size = float(b[finite].abs().max()) or 1.0
            difference = float((a - b)[finite].abs().max()) / size
            if not difference <= _TOLERANCE:
                return f"the output differs by {difference:.2g} of its size"
    return ""


def _form(output: Any) -> Any:
    """Return the nested types and lengths of an output."""
    if isinstance(output, Mapping):
        return {key: _form(item) for key, item in output.items()}
    if isinstance(output, (tuple, list)):
        return [type(output).__name__, *map(_form, output)]
    return type(output).__name__
