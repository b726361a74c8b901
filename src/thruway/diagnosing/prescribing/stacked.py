"""Forward pass of many members at once, on tensors with a leading axis of members, without `torch.vmap`.

vmap splits a linear layer into about ten calls, which for narrow layers take longer than the arithmetic. Here the
model's own code runs in a torch function mode that knows how a few functions act on the axis of members: a linear layer
is one call. A function outside of this table raises `UnstackableError`, and the caller uses vmap.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from thruway.watching.operations import ACTIVATION_FUNCTIONS, ADDS, BLENDS, PRODUCTS

__all__ = ["UnstackableError", "stacked_outputs"]


class UnstackableError(Exception):
    """The model calls a function whose action on the axis of members is not known."""


def stacked_outputs(model: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
    """Return the outputs of all members, (members, batch, ...).

    Args:
        model: a model whose parameters and buffers have a leading axis of members.
        arguments, keywords: inputs of the model, shared by all members.
    Raises:
        UnstackableError: if a function is not in the table, or the output is not one tensor.
    """
    mode = _Stacking([*model.parameters(), *model.buffers()])
    with mode:
        output = model(*arguments, **keywords)
    if not isinstance(output, Tensor) or not mode.is_stacked(output):
        raise UnstackableError("the output is not one tensor that depends on the parameters")
    return output


_NOT_ELEMENTWISE = frozenset({"prelu", "rrelu", "glu", "softmax", "log_softmax"})
_SUBS = (torch.sub, torch.rsub, torch.Tensor.sub, torch.Tensor.__sub__, torch.Tensor.__rsub__)
_MUL = (torch.Tensor.mul_, torch.Tensor.__imul__, torch.Tensor.__truediv__, torch.div)
_ELEMENTWISE: frozenset[Any] = frozenset(
    {f for f, name in ACTIVATION_FUNCTIONS.items() if name not in _NOT_ELEMENTWISE}
    | ADDS
    | PRODUCTS
    | BLENDS
    | {*_SUBS, *_MUL, torch.Tensor.clone, torch.clone, torch.Tensor.copy_}
)
# Attributes and methods that describe a tensor; the axis of members is hidden.
_SHAPE = torch.Tensor.shape.__get__  # type: ignore[attr-defined]
_DIMS = (torch.Tensor.dim, torch.Tensor.ndim.__get__)  # type: ignore[attr-defined]
_SAME = frozenset(
    getattr(torch.Tensor, name).__get__ for name in ("dtype", "device", "requires_grad", "layout", "is_cuda", "is_meta")
) | {torch.Tensor.is_floating_point, torch.is_floating_point, torch.Tensor.is_complex}


class _Stacking(TorchFunctionMode):
    def __init__(self, stacked: Any) -> None:
        super().__init__()
        self._alive: dict[int, Tensor] = {id(tensor): tensor for tensor in stacked}  # ids are those of living tensors

    def is_stacked(self, value: Any) -> bool:
        return id(value) in self._alive

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if not any(map(self.is_stacked, given)):
            return func(*args, **kwargs)
        if func in _SAME:
            return func(*args, **kwargs)
        if func == _SHAPE:  # a new object in every call
            return args[0].shape[1:]
        if func in _DIMS:
            return args[0].dim() - 1
        if func is torch.Tensor.size:
            shape = args[0].shape[1:]
            return shape[args[1]] if len(args) > 1 else shape
        if func in _TABLE:
            result = _TABLE[func](self.is_stacked, *args, **kwargs)
        elif func in _ELEMENTWISE and _is_elementwise(given, self.is_stacked):
            result = func(*args, **kwargs)
        else:
            raise UnstackableError(f"{getattr(func, '__name__', func)} is not in the table of stacked functions")
        self._alive[id(result)] = result
        return result


def _is_elementwise(given: list[Tensor], is_stacked: Callable[[Any], bool]) -> bool:
    """Return True if the tensors broadcast in the same way with and without the axis of members."""
    shapes = {tensor.shape for tensor in given if tensor.dim()}
    return len(shapes) == 1 and all(is_stacked(tensor) or not tensor.dim() for tensor in given)


def _linear(
    is_stacked: Callable[[Any], bool], input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:  # the names of F.linear
    if not is_stacked(weight) or (bias is not None and not is_stacked(bias)) or input.dim() < 2:
        raise UnstackableError("a linear layer with shared weights")
    x = input if is_stacked(input) else input.expand(len(weight), *input.shape)
    if x.dim() < 3:
        raise UnstackableError("a linear layer on a single example")
    flat = x if x.dim() == 3 else x.flatten(1, -2)
    y = torch.bmm(flat, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), flat, weight.mT)
    return y if x.dim() == 3 else y.view(*x.shape[:-1], -1)


def _layer_norm(
    is_stacked: Callable[[Any], bool],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    result = F.layer_norm(input, normalized_shape, None, None, eps)
    gap = [1] * (input.dim() - 1 - len(normalized_shape))
    if weight is not None:
        result = result * weight.view(len(weight), *gap, *weight.shape[1:])
    if bias is not None:
        result = result + bias.view(len(bias), *gap, *bias.shape[1:])
    return result


def _batch_norm(
    is_stacked: Callable[[Any], bool],
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Treat the features of all members as features of one batch."""
    if input.dim() != 3:
        raise UnstackableError("batch norm over positions")
    members, batch, features = input.shape
    joint = [None if t is None else t.view(-1) for t in (running_mean, running_var)]
    affine = [None if t is None else t.reshape(-1) for t in (weight, bias)]
    rows = input.transpose(0, 1).reshape(batch, -1)
    result = F.batch_norm(rows, joint[0], joint[1], affine[0], affine[1], training, momentum, eps)
    return result.view(batch, members, features).transpose(0, 1).contiguous()


def _flatten(is_stacked: Callable[[Any], bool], input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    return input.flatten(start_dim + 1 if start_dim >= 0 else start_dim, end_dim + 1 if end_dim >= 0 else end_dim)


_TABLE: dict[Any, Callable[..., Tensor]] = {
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    torch.flatten: _flatten,
    torch.Tensor.flatten: _flatten,
}
