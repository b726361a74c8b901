"""Fused highway stack: hand-written forward and backward loops over stacked parameters.

One layer, in the papers' notation, with feature-major activations, (width, batch):

    A = W x + b           one GEMM; the first `width` rows belong to H, the others to T
    H = act(A_H)          T = sigmoid(A_T)
    y = x + T (H - x)     a lerp

and backward, with g = dL/dy:

    dA_H = g T act'(H)    dA_T = g (H - x) T (1 - T)
    dL/dx = g (1 - T) + W^T dA        dL/dW = dA x^T        dL/db = sum of dA over the batch

The speed of narrow deep networks is limited by the number of calls, not by arithmetic: there are 4 forward and 7
backward per layer, all with preallocated outputs; dL/dW of a whole segment of layers is one batched GEMM. In
feature-major storage the H rows and the T rows of A are each one contiguous block.

On a GPU that supports them (gpu.py) the kernels of triton_kernels.py run a narrow stack in one launch.

Every tensor has a member dimension M, so that many stacks of one shape can be trained at once; vmap over a stack
uses M as the mapped dimension.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from thruway.nn.gpu import gpu_kernels

__all__ = ["FUSED_ACTIVATIONS", "backward_layers", "forward_layers", "plain_highway_stack", "segments"]

aten = torch.ops.aten


class _Fused(NamedTuple):
    """An activation whose slope follows from its value, so that the pre-activation A need not be kept."""

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
    """Compute the same function in plain differentiable operations, for comparison and for higher derivatives.

    Args:
        x: (members, width, batch), feature-major.
        weight: (members, depth, 2 width, width).
        bias: (members, depth, 2 width).
        act: activation of H.
    Returns:
        y of the last layer, shaped as x.
    """
    width = x.shape[-2]
    for w, b in zip(weight.unbind(1), bias.unbind(1), strict=True):
        a = torch.baddbmm(b.unsqueeze(-1), w, x)
        x = torch.lerp(x, act(a[..., :width, :]), torch.sigmoid(a[..., width:, :]))
    return x


# Elements of one activation per call of the backward pass: enough to use a call and two threads well, few enough
# to stay in a core's cache.
_CHUNK_ELEMENTS = 80_000


def _maps(A: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return all rows, the H rows and the T rows of each layer of A."""
    width = A.shape[-2] // 2
    return A.unbind(0), A[..., :width, :].unbind(0), A[..., width:, :].unbind(0)


def _single(members: int, *stacks: Tensor) -> tuple[bool, tuple[Tensor, ...]]:
    """Squeeze a member dimension of size 1 from (depth, members, ...), since a batched GEMM of one is slower."""
    return members == 1, tuple(t.squeeze(1) if members == 1 else t for t in stacks)


@torch.inference_mode()  # every operation writes into preallocated memory; inference mode skips autograd's bookkeeping
def forward_layers(weight: Tensor, bias: Tensor, act: str, X: Tensor, A: Tensor, y: Tensor) -> None:
    """Run the layers in `weight` (depth, members, 2 width, width) forward: fill X[1:], A and y from X[0]."""
    if X.is_cuda and (gpu := gpu_kernels(X)) is not None:
        with torch._C.DisableTorchFunction():
            gpu.forward_layers(weight, bias, act, X, A, y)
        return
    is_single, (weight, bias, X, A) = _single(weight.shape[1], weight, bias, X, A)
    affine, act_ = torch.addmm if is_single else torch.baddbmm, FUSED_ACTIVATIONS[act].apply_
    inputs = (*X.unbind(0), y.squeeze(0) if is_single else y)
    # A torch function mode (as watching uses) would be called for every operation here; disable it.
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
    """Run the layers backward: turn g = dL/dy of the last layer into dL/dx of the first in place; fill gw and gb.

    G (depth, members, width, batch), if given, receives dL/dy of every layer; the operations are the same, with other
    output memory for g.

    Everything that does not depend on g is computed for a chunk of layers at once: the slopes
    P = T act'(H) and Q = (H - x) T (1 - T), one above the other, and R = 1 - T. Each layer is then four operations:

        dA_H = P g        dA_T = Q g        g <- R g        g <- g + W^T dA
    """
    if X.is_cuda and (gpu := gpu_kernels(X)) is not None:
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
    into = () if G is None else (g, *G.unbind(0)[:-1])  # memory of dL/dx of each layer
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
    """Compute dL/dW = dA x^T and dL/db of several layers: one batched GEMM for a single member, else one per layer."""
    if dA.dim() == 3:
        torch.bmm(dA, X.mT, out=gw)
    else:
        for da, x, out in zip(dA.unbind(0), X.unbind(0), gw.unbind(0), strict=True):
            torch.bmm(da, x.mT, out=out)
    torch.sum(dA, dim=-1, out=gb)


def segments(depth: int, segment: int) -> Iterator[slice]:
    for start in range(0, depth, segment):
        yield slice(start, min(start + segment, depth))
