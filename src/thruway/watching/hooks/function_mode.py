"""Capture of functions called in a model's own code: activations, additions, blends, and maps outside PyTorch's layers.

These calls are visible to a TorchFunctionMode, but not to module hooks.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.watching.hooks.lineage import Lineage
from thruway.watching.operations import (
    ACTIVATION_FUNCTIONS,
    ADDS,
    BLENDS,
    MAPS,
    PRODUCTS,
    Role,
    activation_of_call,
    role_of,
)

__all__ = [
    "ACTIONS",
    "Action",
    "FunctionMode",
    "FunctionObserver",
    "Result",
    "action_of",
    "operands_of",
    "weight_of",
    "written_by",
]


class Result(NamedTuple):
    """The result of a function, or the output of a module, before it is captured under a name."""

    tensor: Tensor
    operation: str
    activation: str | None = None
    operands: tuple[Tensor, Tensor] | None = None  # of an add
    branch: int | None = None  # the operand that is a residual branch; found in the first pass
    weight: Tensor | None = None  # identifies the call
    module: str | None = None  # the class of the layer that returned it
    is_function: bool = True  # the result of a captured function; False for the output of a module
    layer: str | None = None  # of an activation: the name of the layer whose output it was applied to


class FunctionObserver(Protocol):
    """Receives the calls that a FunctionMode captures.

    `pending` is the latest result, whose name depends on whether a module returns it as its output.
    """

    pending: Result | None

    def capture_pending(self) -> None:
        """Capture the pending result under the name of the running module, before another function runs."""

    def layer_of(self, tensor: Any) -> str | None:
        """Return the name of the layer in the running module that returned `tensor`; None if there is no such layer."""

    def before_write(self, tensor: Tensor) -> None:
        """Handle a function that is about to overwrite `tensor`."""

    def before_add(self, a: Tensor, b: Tensor) -> None:
        """Handle an addition of `a` and `b`, which may overwrite one of them."""

    def note_no_gradients(self) -> None:
        """Handle a function that was called without gradients; called in passes with a lineage."""

    def note_gate(self, gate: Tensor, other: Tensor, start: Tensor | None = None) -> None:
        """Handle a multiplication of `gate`, which may be the output of a sigmoid, with `other`.

        In a blend, `start` is what is multiplied by 1 - `gate`.
        """


@dataclass(frozen=True, slots=True)
class Action:
    """Handling of the calls of one function."""

    operation: str | None  # None if the result has no site
    activation: str | None
    is_add: bool
    is_blend: bool
    is_product: bool
    always_writes: bool
    inplace_at: int | None  # position of the `inplace` argument
    is_idle: bool  # nothing is done for this function
    weight_at: int | None  # position of the weight
    role: Role  # what the function does to its input


class FunctionMode(TorchFunctionMode):
    """Passes the captured functions to `observer` while it is active. Other functions run as usual.

    With a `lineage`, as in the first pass, every operation is recorded there, and products and blends are searched
    for gates. This code runs for every function that the model calls, so it is written for speed.
    """

    def __init__(self, observer: FunctionObserver, lineage: Lineage | None) -> None:
        super().__init__()
        self._observer = observer
        self.lineage = lineage

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        action = ACTIONS.get(func) or action_of(func)
        if self.lineage is None and action.is_idle:
            if not kwargs:
                return func(*args)
            if "out" not in kwargs:
                return func(*args, **kwargs)
        if not torch.is_grad_enabled():  # evaluation, or the inside of an autograd.Function
            if self.lineage is not None:
                self._observer.note_no_gradients()
            return func(*args, **(kwargs or {}))
        if self.lineage is not None:
            return self._run_with_lineage(self.lineage, action, func, args, kwargs or {})
        return self._run(action, func, args, kwargs or {})

    def record(self, inputs: Any, outputs: Any) -> None:
        """Record in the lineage that `outputs` were computed from `inputs` by calls that were not captured."""
        if self.lineage is not None:
            self.lineage.record(_tensors(inputs), _tensors(outputs))

    def _run(
        self,
        action: Action,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        branch: int | None = None,
    ) -> Any:
        observer = self._observer
        if observer.pending is not None:
            observer.capture_pending()
        layer = None
        if action.activation is not None:
            layer = observer.layer_of(args[0] if args else kwargs.get("input"))
        if action.always_writes or action.inplace_at is not None or "out" in kwargs:
            written = written_by(action, args, kwargs)
            if written is not None:
                observer.before_write(written)
        if not action.is_add:
            result = func(*args, **kwargs)
            if action.operation is not None and isinstance(result, Tensor):
                weight = weight_of(action, args, kwargs)
                activation = activation_of_call(action.activation, args, kwargs)
                observer.pending = Result(result, action.operation, activation, weight=weight, layer=layer)
            return result
        operands = operands_of(args, kwargs)
        if operands is None:
            return func(*args, **kwargs)
        observer.before_add(*operands)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            observer.pending = Result(result, str(action.operation), None, operands, branch)
        return result

    def _run_with_lineage(
        self, lineage: Lineage, action: Action, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        inputs = list(_tensors((args, kwargs)))
        branch = None
        if action.is_add and (operands := operands_of(args, kwargs)) is not None:
            branch = lineage.branch_of(*operands)
        if action.is_product and len(inputs) == 2:
            self._observer.note_gate(inputs[0], inputs[1])
            self._observer.note_gate(inputs[1], inputs[0])
        elif action.is_blend and len(inputs) == 3:
            self._observer.note_gate(inputs[2], inputs[1], inputs[0])
        if action.is_idle and "out" not in kwargs:
            result = func(*args, **kwargs)
        else:
            result = self._run(action, func, args, kwargs, branch)
        lineage.record(inputs, _tensors(result), role=action.role, is_product=action.is_product)
        return result


ACTIONS: dict[Callable[..., Any], Action] = {}  # filled as functions are called; torch has about a thousand


def action_of(func: Callable[..., Any]) -> Action:
    """Return the action of a function and enter it in ACTIONS."""
    name = getattr(func, "__name__", "")
    activation = ACTIVATION_FUNCTIONS.get(func)
    is_add, is_blend = func in ADDS, func in BLENDS
    operation = activation or ("add" if is_add else "lerp" if is_blend else MAPS[func].name if func in MAPS else None)
    if name.startswith("__"):
        writes = name == "__setitem__" or (
            name.startswith("__i") and name not in ("__int__", "__index__", "__invert__")
        )
    else:
        writes = name.endswith("_") and name != "requires_grad_"
    inplace_at = _inplace_position(func)
    is_idle = operation is None and not writes and inplace_at is None
    weight_at = MAPS[func].weight_at if func in MAPS else None
    is_product, role = func in PRODUCTS, role_of(func)
    action = Action(operation, activation, is_add, is_blend, is_product, writes, inplace_at, is_idle, weight_at, role)
    ACTIONS[func] = action
    return action


def _inplace_position(func: Callable[..., Any]) -> int | None:
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("inplace") if "inplace" in names else None


def weight_of(action: Action, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the weight that identifies a call."""
    if action.weight_at is None:
        return None
    return args[action.weight_at] if len(args) > action.weight_at else kwargs.get("weight")


def written_by(action: Action, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the tensor that a call overwrites."""
    if "out" in kwargs:
        written = kwargs["out"]
    elif action.always_writes or (
        action.inplace_at is not None
        and (kwargs.get("inplace") or (len(args) > action.inplace_at and args[action.inplace_at]))
    ):
        written = args[0] if args else kwargs.get("input")
    else:
        return None
    return written if isinstance(written, Tensor) else None


def operands_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Return the two tensors of an addition of signals of the same shape; None if one is a weight or a number."""
    pair = args[:2] if len(args) >= 2 else (*args, kwargs.get("other", kwargs.get("input")))[:2]
    if len(pair) < 2:
        return None
    a, b = pair
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape or a.dim() == 0:
        return None
    if type(a) is nn.Parameter or type(b) is nn.Parameter:  # isinstance would run Parameter's own Python code
        return None
    return a, b


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
