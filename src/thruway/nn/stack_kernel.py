"""The fused highway stack: forward and backward by hand over stacked parameters.

One layer, in the papers' letters, with activations kept feature-major, (width, batch):

    A = W x + b           one GEMM; its first `width` rows belong to H, the others to T
    H = act(A_H)          T = sigmoid(A_T)
    y = x + T (H - x)     a lerp

and back, with g = dL/dy:

    dA_H = g T act'(H)    dA_T = g (H - x) T (1 - T)
    dL/dx = g (1 - T) + W^T dA        dL/dW = dA x^T        dL/db = sum of dA over the batch

Narrow deep nets are bound by the number of calls, not by arithmetic, so this file counts calls:
4 forward and 7 backward per layer, all into preallocated memory; dL/dW of a whole segment of layers
is one batched GEMM. Feature-major storage makes the H rows and the T rows of A each one contiguous block.

Every tensor has a leading member axis M: many stacks of one shape are trained at once, and vmap over a
stack lands here with M as the mapped axis.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thruway.activations import activation

__all__ = ["FUSED_ACTIVATIONS", "Arena", "highway_stack", "highway_stack_states", "plain_highway_stack"]

aten = torch.ops.aten


class _Fused(NamedTuple):
    """An activation whose slope can be told from its value, so that A itself need not be kept."""

    apply_: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]  # (g, H, out) -> out = g act'(H)


FUSED_ACTIVATIONS: dict[str, _Fused] = {
    "linear": _Fused(lambda a: a, lambda g, h, out: out.copy_(g)),
    "relu": _Fused(torch.relu_, lambda g, h, out: aten.threshold_backward.grad_input(g, h, 0, grad_input=out)),
    "tanh": _Fused(torch.tanh_, lambda g, h, out: aten.tanh_backward.grad_input(g, h, grad_input=out)),
    "sigmoid": _Fused(torch.sigmoid_, lambda g, h, out: aten.sigmoid_backward.grad_input(g, h, grad_input=out)),
    "elu": _Fused(
        torch.nn.functional.elu_,
        lambda g, h, out: aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, h, grad_input=out),
    ),
}


def plain_highway_stack(x: Tensor, weight: Tensor, bias: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    """The same function in plain differentiable calls: the twin, and the way to higher derivatives.

    Args:
        x: (members, width, batch), feature-major.
        weight: (members, depth, 2 width, width).
        bias: (members, depth, 2 width).
        act: the activation of H.
    Returns:
        y of the last layer, shaped as x.
    """
    width = x.shape[-2]
    for w, b in zip(weight.unbind(1), bias.unbind(1), strict=True):
        a = torch.baddbmm(b.unsqueeze(-1), w, x)
        x = torch.lerp(x, act(a[..., :width, :]), torch.sigmoid(a[..., width:, :]))
    return x


def highway_stack(x: Tensor, weight: Tensor, bias: Tensor, act: str, segment: int | None = None) -> Tensor:
    """y of the last layer; `segment` layers are recomputed at a time in the backward pass (None: keep all).

    Shapes as in `plain_highway_stack`; `act` is a key of FUSED_ACTIVATIONS.
    """
    out: Tensor = _Forward.apply(x, weight, bias, act, segment)[0]
    return out


def highway_stack_states(x: Tensor, weight: Tensor, bias: Tensor, act: str) -> tuple[Tensor, Tensor, Tensor]:
    """(y, X, A): X (depth, members, width, batch) what enters each layer; A (depth, members, 2 width, batch) H over T.

    X and A carry no gradient: they are the very memory that the backward pass reads.
    """
    y, X, A = _Forward.apply(x, weight, bias, act, None)
    return y, X, A


class Arena:
    """Memory that outlives a step, for a training loop that knows when its graphs are dead.

    A population's activations are tens of megabytes; handed back to the system after each step they cost
    a page fault per 4 KB in the next, as much time as the arithmetic. Inside `with arena.step():` the
    stack takes its memory from here, and all of it is free again when the block ends: keep nothing
    that was computed inside, except copies.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[Any, ...], list[Tensor]] = {}
        self._taken: dict[tuple[Any, ...], int] = {}

    @contextmanager
    def step(self) -> Iterator[None]:
        """One forward and backward pass."""
        self._taken.clear()
        token = _ARENA.set(self)
        try:
            yield
        finally:
            _ARENA.reset(token)

    def take(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Uninitialised memory of this shape that nobody else was given in this step."""
        key = (shape, like.dtype, like.device)
        blocks, n = self._blocks.setdefault(key, []), self._taken.get(key, 0)
        self._taken[key] = n + 1
        if n == len(blocks):
            blocks.append(like.new_empty(shape))
        # An alias: the autograd engine must not find its own marks of the last step on it.
        return blocks[n].detach()


_ARENA: ContextVar[Arena | None] = ContextVar("arena", default=None)


def _empty(like: Tensor, *shape: int) -> Tensor:
    arena = _ARENA.get()
    return like.new_empty(shape) if arena is None else arena.take(like, shape)


# Elements of one activation that the backward pass treats in one call: enough to be worth a call and two threads,
# few enough to stay in a core's cache.
_CHUNK_ELEMENTS = 40_000


def _maps(A: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """(whole, H rows, T rows) of each layer of A."""
    width = A.shape[-2] // 2
    return A.unbind(0), A[..., :width, :].unbind(0), A[..., width:, :].unbind(0)


def _single(members: int, *stacks: Tensor) -> tuple[bool, tuple[Tensor, ...]]:
    """Drop a member axis of one from (depth, members, ...) stacks: a batched GEMM of one costs more to call."""
    return members == 1, tuple(t.squeeze(1) if members == 1 else t for t in stacks)


@torch.inference_mode()  # every call here writes into given memory; this spares each of them autograd's bookkeeping
def _run_layers(weight: Tensor, bias: Tensor, act: str, X: Tensor, A: Tensor, y: Tensor) -> None:
    """Fill X[1:], A and y from X[0] for the layers in `weight` (depth, members, 2 width, width)."""
    is_single, (weight, bias, X, A) = _single(weight.shape[1], weight, bias, X, A)
    affine, act_ = torch.addmm if is_single else torch.baddbmm, FUSED_ACTIVATIONS[act].apply_
    inputs = (*X.unbind(0), y.squeeze(0) if is_single else y)
    for k, (w, b, a, h, t) in enumerate(zip(weight.unbind(0), bias.unsqueeze(-1).unbind(0), *_maps(A), strict=True)):
        affine(b, w, inputs[k], out=a)
        act_(h)
        torch.lerp(inputs[k], h, t.sigmoid_(), out=inputs[k + 1])


@torch.inference_mode()
def _unrun_layers(g: Tensor, weight: Tensor, act: str, X: Tensor, A: Tensor, gw: Tensor, gb: Tensor) -> None:
    """Turn g = dL/dy of the last of these layers into dL/dx of the first, in place; fill gw and gb.

    All that does not depend on g is computed for a chunk of layers at once: the slopes
    P = T act'(H) and Q = (H - x) T (1 - T), one above the other, and R = 1 - T. Each layer is then four calls:

        dA_H = P g        dA_T = Q g        g <- R g        g <- g + W^T dA
    """
    is_single, (weight, X, A, gw, gb) = _single(weight.shape[1], weight, X, A, gw, gb)
    affine, act_backward = torch.addmm if is_single else torch.baddbmm, FUSED_ACTIVATIONS[act].backward
    g = g.squeeze(0) if is_single else g
    width = X.shape[-2]
    chunk = max(1, _CHUNK_ELEMENTS // g.numel())
    slopes, carry, dA = torch.empty_like(A[:chunk]), torch.empty_like(X[:chunk]), torch.empty_like(A[:chunk])
    (_, P, Q), (dA_of, dA_H, dA_T), R = _maps(slopes), _maps(dA), carry.unbind(0)
    transposed = weight.mT.unbind(0)
    for layers in reversed(list(_segments(len(A), chunk))):
        n = layers.stop - layers.start
        H, T = A[layers, ..., :width, :], A[layers, ..., width:, :]
        slope_H, slope_T = slopes[:n, ..., :width, :], slopes[:n, ..., width:, :]
        act_backward(T, H, slope_H)
        torch.sub(H, X[layers], out=slope_T)
        aten.sigmoid_backward.grad_input(slope_T, T, grad_input=slope_T)
        torch.sub(1.0, T, out=carry[:n])
        for k in reversed(range(n)):
            torch.mul(g, P[k], out=dA_H[k])
            torch.mul(g, Q[k], out=dA_T[k])
            affine(g.mul_(R[k]), transposed[layers.start + k], dA_of[k], out=g)
        _weight_gradients(dA[:n], X[layers], gw[layers], gb[layers])


def _weight_gradients(dA: Tensor, X: Tensor, gw: Tensor, gb: Tensor) -> None:
    """dL/dW = dA x^T and dL/db of several layers: one batched GEMM for one member, else one for each layer."""
    if dA.dim() == 3:
        torch.bmm(dA, X.mT, out=gw)
    else:
        for da, x, out in zip(dA.unbind(0), X.unbind(0), gw.unbind(0), strict=True):
            torch.bmm(da, x.mT, out=out)
    torch.sum(dA, dim=-1, out=gb)


def _segments(depth: int, segment: int) -> Iterator[slice]:
    for start in range(0, depth, segment):
        yield slice(start, min(start + segment, depth))


class _Forward(torch.autograd.Function):
    """(x, weight, bias) -> (y, X, A): with segments, X holds the input of each segment only, and A is empty."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor, act: str, segment: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        members, depth, rows, width = weight.shape
        batch = x.shape[-1]
        weight, bias = weight.transpose(0, 1), bias.transpose(0, 1)
        y = x.new_empty(x.shape)  # not empty_like: x may be expanded over members
        if segment is None:
            X, A = _empty(x, depth, members, width, batch), _empty(x, depth, members, rows, batch)
            X[0] = x
            _run_layers(weight, bias, act, X, A, y)
            return y, X, A
        starts = list(_segments(depth, segment))
        kept = x.new_empty(len(starts), members, width, batch)
        X, A = x.new_empty(segment, members, width, batch), x.new_empty(segment, members, rows, batch)
        y.copy_(x)
        for i, layers in enumerate(starts):
            n = layers.stop - layers.start
            kept[i] = y
            X[0] = y
            _run_layers(weight[layers], bias[layers], act, X[:n], A[:n], y)
        return y, kept, x.new_empty(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        x, weight, bias, ctx.act, ctx.segment = inputs
        _, X, A = output
        ctx.mark_non_differentiable(X, A)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, bias, X, A)
        ctx.save_for_forward(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight, bias, X, A = ctx.saved_tensors
        if grads[0] is None:
            return None, None, None, None, None
        return *_Backward.apply(grads[0], x, weight, bias, X, A, ctx.act, ctx.segment), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, None, None]:
        act = activation(ctx.act).function
        duals = _duals(ctx.saved_tensors, tangents)
        return torch.func.jvp(lambda *p: plain_highway_stack(*p, act), *duals)[1], None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        *tensors, act, segment = args
        size, merged = _merge(info.batch_size, in_dims, tensors, (0, 0, 0))
        outputs = _Forward.apply(*merged, act, segment)
        return _split(size, outputs, (0, 1, 1))


class _Backward(torch.autograd.Function):
    """(g, x, weight, bias, X, A) -> (dL/dx, dL/dweight, dL/dbias); differentiable again through the plain twin."""

    @staticmethod
    def forward(
        g: Tensor, x: Tensor, weight: Tensor, bias: Tensor, X: Tensor, A: Tensor, act: str, segment: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Depth first in memory, so that the members' gradients of one layer are one block for a batched GEMM.
        gw, gb = (_empty(t, *t.transpose(0, 1).shape).transpose(0, 1) for t in (weight, bias))
        gx = g.clone(memory_format=torch.contiguous_format)
        W, b, dW, db = (t.transpose(0, 1) for t in (weight, bias, gw, gb))
        if segment is None:
            _unrun_layers(gx, W, act, X, A, dW, db)
            return gx, gw, gb
        again_X, again_A = (
            x.new_empty(segment, *x.shape),
            x.new_empty(segment, *gb.shape[:1], gb.shape[-1], x.shape[-1]),
        )
        y = x.new_empty(x.shape)  # not empty_like: x may be expanded over members
        for i, layers in reversed(list(enumerate(_segments(len(W), segment)))):
            X_i, A_i = again_X[: layers.stop - layers.start], again_A[: layers.stop - layers.start]
            X_i[0] = X[i]
            _run_layers(W[layers], b[layers], act, X_i, A_i, y)
            _unrun_layers(gx, W[layers], act, X_i, A_i, dW[layers], db[layers])
        return gx, gw, gb

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        g, x, weight, bias, _, _, ctx.act, _ = inputs
        ctx.save_for_backward(g, x, weight, bias)
        ctx.save_for_forward(g, x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _, pull = torch.func.vjp(_plain_backward(ctx.act), *ctx.saved_tensors[:4])
        return *pull(grads), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        duals = _duals(ctx.saved_tensors[:4], tangents)
        return torch.func.jvp(_plain_backward(ctx.act), *duals)[1]  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        *tensors, act, segment = args
        size, merged = _merge(info.batch_size, in_dims, tensors, (0, 0, 0, 0, 1, 1))
        outputs = _Backward.apply(*merged, act, segment)
        return _split(size, outputs, (0, 0, 0))


def _duals(primals: tuple[Tensor, ...], tangents: tuple[Any, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Primals and tangents for torch.func.jvp, zeros where a tangent is None."""
    # Materialised: a primal expanded over members has overlapping strides, which its dual would take over.
    pairs = [(p.contiguous(), t) for p, t in zip(primals, tangents, strict=False)]
    return tuple(p for p, _ in pairs), tuple(torch.zeros_like(p) if t is None else t.contiguous() for p, t in pairs)


def _plain_backward(act: str) -> Callable[..., tuple[Tensor, ...]]:
    """(g, x, weight, bias) -> the three gradients, by autograd through the plain twin."""

    def gradients(g: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        _, pull = torch.func.vjp(lambda *p: plain_highway_stack(*p, activation(act).function), *inputs)
        return pull(g)  # type: ignore[no-any-return]

    return gradients


def _merge(
    size: int, in_dims: tuple[Any, ...], tensors: list[Tensor], member_axes: tuple[int, ...]
) -> tuple[int, list[Tensor]]:
    """Fold the mapped axis of each tensor into its member axis."""
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
    """Take the mapped axis out of each member axis again."""
    split, dims = [], []
    for tensor, member in zip(outputs, member_axes, strict=True):
        if tensor.dim() == 1:
            split.append(tensor.new_empty(size, 0))
            dims.append(0)
        else:
            split.append(tensor.unflatten(member, (size, -1)))
            dims.append(member)
    return tuple(split), tuple(dims)
