"""Autograd function of the fused highway stack: backward, double backward, forward mode and vmap.

First derivatives use the hand-written kernel. Higher derivatives and forward-mode differentiation are rare and use
autograd on the plain implementation. vmap merges the mapped dimension into the kernel's member dimension. The older
batched gradients (is_grads_batched=True) do not support such a rule and use the plain implementation too.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor

from thruway.activations import activation
from thruway.nn.stack_kernel import backward_layers, forward_layers, plain_highway_stack, segments

__all__ = ["ALLOCATOR", "highway_stack", "highway_stack_states"]

# Allocator of the activations and gradients of a training step: (like, shape) -> an uninitialised tensor. If None, they
# are newly allocated.
ALLOCATOR: ContextVar[Callable[[Tensor, tuple[int, ...]], Tensor] | None] = ContextVar("allocator", default=None)


def highway_stack(x: Tensor, weight: Tensor, bias: Tensor, act: str, segment: int | None = None) -> Tensor:
    """Return y of the last layer; the backward pass recomputes `segment` layers at a time (None: keep all states).

    Shapes are as in `plain_highway_stack`; `act` is a key of FUSED_ACTIVATIONS.
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing():  # compilers and tracers must see plain operations
        return plain_highway_stack(x, weight, bias, activation(act).function)
    return _forward(x, weight, bias, act, segment, None)[0]


def highway_stack_states(
    x: Tensor, weight: Tensor, bias: Tensor, act: str, on_gradients: Callable[[Tensor], object] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (y, X, A): X (depth, members, width, batch) is the input of each layer, A its H over its T.

    A is (depth, members, 2 width, batch). X and A have no gradient and share memory with the backward pass: do not
    modify them. `on_gradients` is called in the backward pass with dL/dy of every layer, (depth, members, width,
    batch).
    """
    return _forward(x, weight, bias, act, None, on_gradients)


def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    return cast("tuple[Tensor, Tensor, Tensor]", _Forward.apply(*inputs))  # type: ignore[no-untyped-call]


def _backward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    return cast("tuple[Tensor, Tensor, Tensor]", _Backward.apply(*inputs))  # type: ignore[no-untyped-call]


class _Forward(torch.autograd.Function):
    """Autograd function from (x, weight, bias) to (y, X, A).

    With segments, X has the input of each segment only, and A is empty.
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor, act: str, segment: int | None, on_gradients: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        members, depth, rows, width = weight.shape
        batch = x.shape[-1]
        weight, bias = weight.transpose(0, 1), bias.transpose(0, 1)
        y = x.new_empty(x.shape)  # not empty_like: x may be expanded over members
        if segment is None:
            X, A = _empty(x, depth, members, width, batch), _empty(x, depth, members, rows, batch)
            X[0] = x
            forward_layers(weight, bias, act, X, A, y)
            return y, X, A
        starts = list(segments(depth, segment))
        kept = x.new_empty(len(starts), members, width, batch)
        X, A = x.new_empty(segment, members, width, batch), x.new_empty(segment, members, rows, batch)
        y.copy_(x)
        for i, layers in enumerate(starts):
            n = layers.stop - layers.start
            kept[i] = y
            X[0] = y
            forward_layers(weight[layers], bias[layers], act, X[:n], A[:n], y)
        return y, kept, x.new_empty(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, bias, ctx.act, ctx.segment, ctx.on_gradients = inputs
        _, X, A = output
        ctx.mark_non_differentiable(X, A)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, X, A)
        ctx.save_for_forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, X, A = ctx.saved_tensors
        if grads[0] is None:
            return (None,) * 6
        if torch._C._functorch.is_legacy_batchedtensor(
            grads[0]
        ):  # not reported to on_gradients: they belong to several losses
            return *torch.func.vjp(_plain_forward(ctx.act), x, weight, bias)[1](grads[0]), None, None, None
        return *_backward(grads[0], x, weight, bias, X, A, ctx.act, ctx.segment, ctx.on_gradients), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None, None]:
        primals, filled = _duals(ctx.saved_tensors, tangents)
        return torch.func.jvp(_plain_forward(ctx.act), primals, filled)[1], None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        *tensors, act, segment, on_gradients = args
        size, merged = _merge(info.batch_size, in_dims, tensors, (0, 0, 0))
        outputs = _forward(*merged, act, segment, on_gradients)
        return _split(size, outputs, (0, 1, 1))


class _Backward(torch.autograd.Function):
    """Autograd function from (g, x, weight, bias, X, A) to (dL/dx, dL/dweight, dL/dbias).

    Its derivatives use the plain implementation.
    """

    @staticmethod
    def forward(
        g: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        X: Tensor,
        A: Tensor,
        act: str,
        segment: int | None,
        on_gradients: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Depth is the slowest dimension, so that the gradients of all members of a layer form one block for one GEMM.
        gw, gb = (_empty(t, *t.transpose(0, 1).shape).transpose(0, 1) for t in (weight, bias))
        gx = g.clone(memory_format=torch.contiguous_format)
        W, b, dW, db = (t.transpose(0, 1) for t in (weight, bias, gw, gb))
        if segment is None:
            G = _empty(x, *X.shape) if on_gradients is not None else None
            backward_layers(gx, W, act, X, A, dW, db, G)
            if G is not None:
                on_gradients(G)
            return gx, gw, gb
        again_X, again_A = (
            x.new_empty(segment, *x.shape),
            x.new_empty(segment, *gb.shape[:1], gb.shape[-1], x.shape[-1]),
        )
        y = x.new_empty(x.shape)  # not empty_like: x may be expanded over members
        for i, layers in reversed(list(enumerate(segments(len(W), segment)))):
            X_i, A_i = again_X[: layers.stop - layers.start], again_A[: layers.stop - layers.start]
            X_i[0] = X[i]
            forward_layers(W[layers], b[layers], act, X_i, A_i, y)
            backward_layers(gx, W[layers], act, X_i, A_i, dW[layers], db[layers])
        return gx, gw, gb

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        g, x, weight, bias, _, _, ctx.act, *_ = inputs
        ctx.save_for_backward(g, x, weight, bias)
        ctx.save_for_forward(g, x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        pull = torch.func.vjp(_plain_backward(ctx.act), *ctx.saved_tensors[:4])[1]
        return *pull(grads), None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        primals, filled = _duals(ctx.saved_tensors[:4], tangents)
        return torch.func.jvp(_plain_backward(ctx.act), primals, filled)[1]  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        *tensors, act, segment, on_gradients = args
        size, merged = _merge(info.batch_size, in_dims, tensors, (0, 0, 0, 0, 1, 1))
        outputs = _backward(*merged, act, segment, on_gradients)
        return _split(size, outputs, (0, 0, 0))


def _duals(primals: tuple[Tensor, ...], tangents: tuple[Any, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return primals and tangents for torch.func.jvp, zeros for a tangent of None."""
    # Contiguous: a primal expanded over members has overlapping strides, which its dual tensor would inherit.
    pairs = [(p.contiguous(), t) for p, t in zip(primals, tangents, strict=False)]
    return tuple(p for p, _ in pairs), tuple(torch.zeros_like(p) if t is None else t.contiguous() for p, t in pairs)


def _empty(like: Tensor, *shape: int) -> Tensor:
    allocate = ALLOCATOR.get()
    return like.new_empty(shape) if allocate is None else allocate(like, shape)


def _plain_forward(act: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return y as a function of (x, weight, bias), in plain differentiable operations."""
    return lambda x, weight, bias: plain_highway_stack(x, weight, bias, activation(act).function)


def _plain_backward(act: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return the three gradients as a function of (g, x, weight, bias), by autograd on the plain implementation."""

    def gradients(g: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        pull = torch.func.vjp(_plain_forward(act), *inputs)[1]
        return pull(g)  # type: ignore[no-any-return]

    return gradients


def _merge(
    size: int, in_dims: tuple[Any, ...], tensors: list[Tensor], member_axes: tuple[int, ...]
) -> tuple[int, list[Tensor]]:
    """Merge the mapped dimension of each tensor into its member dimension."""
    merged = []
    for tensor, mapped, member in zip(tensors, in_dims, member_axes, strict=False):
        if tensor.numel() == 0 and tensor.dim() - (mapped is not None) == 1:  # the empty A of a segmented pass
            merged.append(tensor.new_empty(0))
            continue
        front = tensor.unsqueeze(0).expand(size, *tensor.shape) if mapped is None else tensor.movedim(mapped, 0)
        merged.append(front.movedim(0, member).flatten(member, member + 1))
    return size, merged


def _split(
    size: int, outputs: tuple[Tensor, ...], member_axes: tuple[int, ...]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Split the mapped dimension from each member dimension again."""
    split, dims = [], []
    for tensor, member in zip(outputs, member_axes, strict=True):
        if tensor.dim() == 1:
            split.append(tensor.new_empty(size, 0))
            dims.append(0)
        else:
            split.append(tensor.unflatten(member, (size, -1)))  # type: ignore[no-untyped-call]
            dims.append(member)
    return tuple(split), tuple(dims)
