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

On a GPU the kernels of triton_kernels.py take a narrow stack in one launch, where that GPU can run them (gpu.py).

Every tensor has a leading member axis M: many stacks of one shape are trained at once, and vmap over a
stack lands here with M as the mapped axis.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from thruway.nn.gpu import gpu_kernels

__all__ = ["FUSED_ACTIVATIONS", "backward_layers", "forward_layers", "plain_highway_stack", "segments"]

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


# Elements of one activation that the backward pass treats in one call: enough to be worth a call and two threads,
# few enough to stay in a core's cache.
_CHUNK_ELEMENTS = 80_000


def _maps(A: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """(whole, H rows, T rows) of each layer of A."""
    width = A.shape[-2] // 2
    return A.unbind(0), A[..., :width, :].unbind(0), A[..., width:, :].unbind(0)


def _single(members: int, *stacks: Tensor) -> tuple[bool, tuple[Tensor, ...]]:
    """Drop a member axis of one from (depth, members, ...) stacks: a batched GEMM of one costs more to call."""
    return members == 1, tuple(t.squeeze(1) if members == 1 else t for t in stacks)


@torch.inference_mode()  # every call here writes into given memory; this spares each of them autograd's bookkeeping
def forward_layers(weight: Tensor, bias: Tensor, act: str, X: Tensor, A: Tensor, y: Tensor) -> None:
    """Fill X[1:], A and y from X[0] for the layers in `weight` (depth, members, 2 width, width)."""
    if (gpu := gpu_kernels(X)) is not None:
        with torch._C.DisableTorchFunction():
            gpu.forward_layers(weight, bias, act, X, A, y)
        return
    is_single, (weight, bias, X, A) = _single(weight.shape[1], weight, bias, X, A)
    affine, act_ = torch.addmm if is_single else torch.baddbmm, FUSED_ACTIVATIONS[act].apply_
    inputs = (*X.unbind(0), y.squeeze(0) if is_single else y)
    # A mode that listens to functions (a watcher's) has no business in here, and would be told of every call.
    with torch._C.DisableTorchFunction():
        _forward_layers(affine, act_, weight, bias, inputs, A)


def _forward_layers(
    affine: Callable[..., Tensor],
    act_: Callable[[Tensor], Tensor],
    weight: Tensor,
    bias: Tensor,
    inputs: tuple[Tensor, ...],
    A: Tensor,
) -> None:
    for k, (w, b, a, h, t) in enumerate(zip(weight.unbind(0), bias.unsqueeze(-1).unbind(0), *_maps(A), strict=True)):
        affine(b, w, inputs[k], out=a)
        act_(h)
        torch.lerp(inputs[k], h, t.sigmoid_(), out=inputs[k + 1])


@torch.inference_mode()
def backward_layers(
    g: Tensor, weight: Tensor, act: str, X: Tensor, A: Tensor, gw: Tensor, gb: Tensor, G: Tensor | None = None
) -> None:
    """Turn g = dL/dy of the last of these layers into dL/dx of the first, in place; fill gw and gb.

    G (depth, members, width, batch), if given, keeps dL/dy of every layer: the same calls, with other places for g.

    All that does not depend on g is computed for a chunk of layers at once: the slopes
    P = T act'(H) and Q = (H - x) T (1 - T), one above the other, and R = 1 - T. Each layer is then four calls:

        dA_H = P g        dA_T = Q g        g <- R g        g <- g + W^T dA
    """
    if (gpu := gpu_kernels(X)) is not None:
        with torch._C.DisableTorchFunction():
            gpu.backward_layers(g, weight, act, X, A, gw, gb, G)
        return
    if G is not None:
        G[-1] = g
        G = G.squeeze(1) if weight.shape[1] == 1 else G
    is_single, (weight, X, A, gw, gb) = _single(weight.shape[1], weight, X, A, gw, gb)
    affine, act_backward = torch.addmm if is_single else torch.baddbmm, FUSED_ACTIVATIONS[act].backward
    g = g.squeeze(0) if is_single else g
    width = X.shape[-2]
    chunk = max(1, _CHUNK_ELEMENTS // max(1, g.numel()))
    slopes, carry, dA = torch.empty_like(A[:chunk]), torch.empty_like(X[:chunk]), torch.empty_like(A[:chunk])
    (_, P, Q), (dA_of, dA_H, dA_T), R = _maps(slopes), _maps(dA), carry.unbind(0)
    transposed = weight.mT.unbind(0)
    into = () if G is None else (g, *G.unbind(0)[:-1])  # where dL/dx of each layer goes
    for layers in reversed(list(segments(len(A), chunk))):
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
            if into:
                below = into[layers.start + k]
                affine(torch.mul(g, R[k], out=below), transposed[layers.start + k], dA_of[k], out=below)
                g = below
            else:
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


def segments(depth: int, segment: int) -> Iterator[slice]:
    for start in range(0, depth, segment):
        yield slice(start, min(start + segment, depth))
