"""Hearing the functions that a model's own code calls: activations, adds, blends, and maps outside torch's layers."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from thruway.watching.lineage import Lineage
from thruway.watching.operations import ACTIVATION_FUNCTIONS, ADDS, BLENDS, MAPS, PRODUCTS

__all__ = ["FunctionsHeard", "Heard", "Hearer"]


@dataclass(slots=True)
class Heard:
    """An operation's result that no module has claimed as its output yet."""

    tensor: Tensor
    operation: str
    activation: str | None = None
    operands: tuple[Tensor, Tensor] | None = None  # of an add
    branch: int | None = None  # which operand is a residual branch, found in the first pass


class Hearer(Protocol):
    """Who is told."""

    def before(self, writes_to: Tensor | None) -> None:
        """A function that matters is about to run, and to overwrite this tensor."""

    def add_operands(self, a: Tensor, b: Tensor) -> None:
        """The two will be added; one of them may be overwritten."""

    def after(self, heard: Heard) -> None:
        """It ran and made this."""

    def blends(self, gate: Tensor, other: Tensor) -> None:
        """`gate` is multiplied with `other`, if it is a gate at all."""


@dataclass(frozen=True, slots=True)
class _Action:
    """What to do when a function is called; `inplace_at` is where its `inplace` argument stands."""

    operation: str | None  # None: its result is no site
    activation: str | None
    is_add: bool
    is_blend: bool
    is_product: bool
    always_writes: bool
    inplace_at: int | None

    @property
    def is_idle(self) -> bool:
        return self.operation is None and not self.always_writes and self.inplace_at is None


class FunctionsHeard(TorchFunctionMode):
    """While entered, tells `hearer` about every function that matters; others run straight on.

    With a `lineage`, which the first pass has, every operation is noted there and products and blends
    are looked at for gates.
    """

    def __init__(self, hearer: Hearer, lineage: Lineage | None) -> None:
        super().__init__()
        self._hearer = hearer
        self._lineage = lineage

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not torch.is_grad_enabled():  # evaluation, or the inside of an autograd.Function
            return func(*args, **(kwargs or {}))
        action = _action(func)
        if self._lineage is not None:
            return self._learn(action, func, args, kwargs or {})
        if not kwargs:
            if action.is_idle:
                return func(*args)
            kwargs = {}
        elif action.is_idle and "out" not in kwargs:
            return func(*args, **kwargs)
        return self._run(action, func, args, kwargs)[0]

    def _run(
        self, action: _Action, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Heard | None]:
        hearer = self._hearer
        hearer.before(_written(action, args, kwargs))
        operands = _operands(args, kwargs) if action.is_add else None
        if operands is not None:
            hearer.add_operands(*operands)
        result = func(*args, **kwargs)
        is_site = action.operation is not None and (not action.is_add or operands is not None)
        if is_site and isinstance(result, Tensor):
            heard = Heard(result, str(action.operation), action.activation, operands)
            hearer.after(heard)
            return result, heard
        return result, None

    def _learn(self, action: _Action, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        lineage = self._lineage
        assert lineage is not None
        inputs = list(_tensors((args, kwargs)))
        branch = None
        if action.is_add and (operands := _operands(args, kwargs)) is not None:
            branch = lineage.branch_of(*operands)
        if action.is_product and len(inputs) == 2:
            self._hearer.blends(inputs[0], inputs[1])
            self._hearer.blends(inputs[1], inputs[0])
        elif action.is_blend and len(inputs) == 3:
            self._hearer.blends(inputs[2], inputs[1])
        if action.is_idle and "out" not in kwargs:
            result, heard = func(*args, **kwargs), None
        else:
            result, heard = self._run(action, func, args, kwargs)
        if heard is not None:
            heard.branch = branch
        lineage.note(inputs, _tensors(result), is_product=action.is_product)
        return result


@cache
def _action(func: Callable[..., Any]) -> _Action:
    name = getattr(func, "__name__", "")
    activation = ACTIVATION_FUNCTIONS.get(func)
    is_add, is_blend = func in ADDS, func in BLENDS
    operation = activation or ("add" if is_add else "lerp" if is_blend else MAPS.get(func))
    dunder = name.startswith("__")
    writes = name.startswith("__i") and name not in ("__int__", "__index__", "__invert__") if dunder else False
    writes = writes or name == "__setitem__" or (name.endswith("_") and not dunder and name != "requires_grad_")
    return _Action(operation, activation, is_add, is_blend, func in PRODUCTS, writes, _inplace_position(func))


def _inplace_position(func: Callable[..., Any]) -> int | None:
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("inplace") if "inplace" in names else None


def _written(action: _Action, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The tensor that the call overwrites."""
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


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
    """The two tensors of an add that joins signals: same shape, neither a weight."""
    pair = args[:2] if len(args) >= 2 else (*args, kwargs.get("other", kwargs.get("input")))[:2]
    if len(pair) < 2:
        return None
    a, b = pair
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape or a.dim() == 0:
        return None
    if isinstance(a, nn.Parameter) or isinstance(b, nn.Parameter):
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
