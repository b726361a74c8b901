"""Forward pass of many members at once, on tensors with a leading axis of members, without `torch.vmap`.

vmap splits a linear layer into about ten calls, which for narrow layers take longer than the arithmetic. Here the
model's own code runs in a torch function mode that knows how a few functions act on the axis of members: a linear layer
is one call. A function outside of this table raises `UnstackableError`, and the caller uses vmap.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from thruway.watching.modules import call_model
from thruway.watching.operations import ACTIVATION_FUNCTIONS, ADDS, BLENDS, PRODUCTS

__all__ = ["UnstackableError", "stacked_losses"]


class UnstackableError(Exception):
    """The model calls a function whose action on the axis of members is not known."""


def stacked_losses(
    model: nn.Module,
    tensors: Iterable[Tensor],
    loss: Callable[[Any, Any], Tensor],
    batch: tuple[Any, Any],
    *,
    is_loss_stacked: bool,
) -> Tensor:
    """Return the losses of all members, (members,).

    Args:
        model: a model whose parameters and buffers have a leading axis of members.
        tensors: these parameters and buffers.
        loss: function of (outputs, targets) that returns the 0-d loss of one member.
        batch: inputs and targets, shared by all members.
        is_loss_stacked: False to use vmap for the loss, whose functions are not in the table.
    Raises:
        UnstackableError: if a function is not in the table, or the output is not one tensor.
    """
    inputs, targets = batch
    mode = _Stacking(tensors)
    with mode:
        output = call_model(model, inputs)
        if not mode.is_stacked(output):
            raise UnstackableError("the output is not one tensor that depends on the parameters")
        if is_loss_stacked:
            return loss(output, targets)
    result: Tensor = torch.vmap(loss, in_dims=(0, None))(output, targets)
    return result


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
        alive, kwargs = self._alive, kwargs or {}
        given = [*args, *kwargs.values()] if kwargs else args
        if not any(id(value) in alive for value in given):
            return func(*args, **kwargs)
        if func in _TABLE:
            result = _TABLE[func](self.is_stacked, *args, **kwargs)
        elif func in _ELEMENTWISE and _is_elementwise(given, alive):
            result = func(*args, **kwargs)
        elif func in _SAME:
            return func(*args, **kwargs)
        elif func == _SHAPE:  # a new object in every call
            return args[0].shape[1:]
        elif func in _DIMS:
            return args[0].dim() - 1
        elif func is torch.Tensor.size:
            shape = args[0].shape[1:]
            return shape[args[1]] if len(args) > 1 else shape
        else:
            raise UnstackableError(f"{getattr(func, '__name__', func)} is not in the table of stacked functions")
        alive[id(result)] = result
        return result


def _is_elementwise(given: Iterable[Any], alive: dict[int, Tensor]) -> bool:
    """Return True if the tensors broadcast in the same way with and without the axis of members."""
    shape = None
    for value in given:
        if isinstance(value, Tensor) and value.dim():
            if id(value) not in alive or (shape is not None and value.shape != shape):
                return False
            shape = value.shape
    return shape is not None


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


def _cross_entropy(
    is_stacked: Callable[[Any], bool],
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    settings = (weight, size_average, reduce, reduction, label_smoothing)
    if settings != (None, None, None, "mean", 0.0) or input.dim() != 3 or target.dim() != 1:
        raise UnstackableError("cross_entropy with weights or smoothing, over positions, or without a mean")
    members, batch, classes = input.shape
    rows = F.cross_entropy(input.reshape(-1, classes), target.repeat(members), None, None, ignore_index, None, "none")
    return rows.view(members, batch).sum(1) / (target != ignore_index).sum()


def _mse_loss(
    is_stacked: Callable[[Any], bool],
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    if (size_average, reduce, reduction, weight) != (None, None, "mean", None) or input.shape[1:] != target.shape:
        raise UnstackableError("mse_loss with weights, with broadcasting, or without a mean")
    return (input - target).square().flatten(1).mean(1)


_TABLE: dict[Any, Callable[..., Tensor]] = {
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.cross_entropy: _cross_entropy,
    F.mse_loss: _mse_loss,
    torch.flatten: _flatten,
    torch.Tensor.flatten: _flatten,
}
