"""Launches of the GPU kernels: their grids, and the PyTorch operations around them.

`forward_layers` and `backward_layers` equal the functions of the same names in stack_kernel.py. A narrow stack is
one launch forward, and one launch and one batched GEMM for all weights backward. A wide stack needs a GEMM and one
pointwise launch per layer. These functions neither synchronise with the GPU nor make allocations that depend on its
results, so that a CUDA graph can capture them.
"""

import torch
from torch import Tensor

from thruway.nn import triton_kernels as kernels

__all__ = ["NARROW", "backward_layers", "forward_layers", "gate_", "gate_backward"]

# Largest width for which a whole stack is one launch: with both maps of a layer the compiled kernel uses 45 KB of the
# 48 KB of shared memory that every GPU offers a program, with almost no register spills (at 128: 152 KB, and spills).
NARROW = 64
_COLUMNS = 16  # columns of the batch per program: the smallest matrix product, for as many programs as possible
# Least register spills of all settings that compile for compute capability 7.5 to 9.0.
_STACK = {"num_warps": 8, "num_stages": 1}
_ELEMENTS = 1024  # elements per pointwise program


def forward_layers(weight: Tensor, bias: Tensor, act: str, X: Tensor, A: Tensor, y: Tensor) -> None:
    """Run the layers forward: fill X[1:], A and y from X[0]."""
    depth, members, width, batch = X.shape
    weight, bias = _dense_maps(weight), _dense_maps(bias)
    with _on_device_of(X):
        if _is_wide(width, batch):
            for k, (w, b) in enumerate(zip(weight.unbind(0), bias.unbind(0), strict=True)):
                torch.bmm(w, X[k], out=A[k])
                gate_(A[k], X[k], act, X[k + 1] if k + 1 < depth else y, width * batch, b)
            return
        tiles = -(-batch // _COLUMNS)
        kernels.stack_forward[(members * tiles,)](
            weight, bias, X, A, y, depth, width, batch, tiles,
            weight.stride(0), weight.stride(1), bias.stride(0), bias.stride(1), X.stride(0), A.stride(0),
            act=act, precision=_precision(), ROWS=_rows(width), COLUMNS=_COLUMNS, **_STACK,
        )  # fmt: skip


def backward_layers(
    g: Tensor, weight: Tensor, act: str, X: Tensor, A: Tensor, gw: Tensor, gb: Tensor, G: Tensor | None = None
) -> None:
    """Run the layers backward: turn g = dL/dy of the last layer into dL/dx of the first; fill gw, gb and G."""
    depth, members, width, batch = X.shape
    X, A = X.contiguous(), A.contiguous()  # no copy, except of tensors that a transform expanded over members
    weight, dA = _dense_maps(weight), torch.empty_like(A)
    with _on_device_of(X):
        if _is_wide(width, batch):
            for k in reversed(range(depth)):
                if G is not None:
                    G[k] = g
                gate_backward(g, X[k], A[k], act, dA[k], g, width * batch)
                torch.baddbmm(g, weight[k].mT, dA[k], out=g)
        else:
            tiles = -(-batch // _COLUMNS)
            kernels.stack_backward[(members * tiles,)](
                g, weight[-1], X[-1], A[-1], dA[-1], X[-1] if G is None else G[-1], depth, width, batch, tiles,
                weight.stride(0), weight.stride(1), X.stride(0), A.stride(0),
                act=act, precision=_precision(), keeps_G=G is not None, ROWS=_rows(width), COLUMNS=_COLUMNS, **_STACK,
            )  # fmt: skip
        torch.bmm(dA.flatten(0, 1), X.flatten(0, 1).mT, out=gw.view(-1, *gw.shape[2:]))
        torch.sum(dA, dim=-1, out=gb)


def gate_(z: Tensor, x: Tensor, act: str, y: Tensor, inner: int, bias: Tensor | None = None) -> None:
    """Overwrite z with H = act(z_H + b_H) and T = sigmoid(z_T + b_T), and fill y = x + T (H - x).

    z is dense in memory as (outer, 2, inner), x and y as (outer, inner). The bias, if any, is (outer, 2 rows), and
    each of its numbers applies to inner / rows elements.
    """
    count, rows = x.numel(), 1 if bias is None else bias.shape[1] // 2
    b, outer_stride = (x, 0) if bias is None else (bias, bias.stride(0))
    with _on_device_of(x):
        kernels.gate[(-(-count // _ELEMENTS),)](
            z, x, y, b, count, inner, rows, inner // rows, outer_stride,
            act=act, adds_bias=bias is not None, ELEMENTS=_ELEMENTS,
        )  # fmt: skip


def gate_backward(g: Tensor, x: Tensor, z: Tensor, act: str, dz: Tensor, carry: Tensor, inner: int) -> None:
    """Fill dL/dz and carry = g (1 - T) from g = dL/dy and z = (H, T); `carry` may be g itself.

    The layouts are those of `gate_`.
    """
    count = x.numel()
    with _on_device_of(x):
        kernels.ungate[(-(-count // _ELEMENTS),)](g, x, z, dz, carry, count, inner, act=act, ELEMENTS=_ELEMENTS)


def _is_wide(width: int, batch: int) -> bool:
    """Return True if the layers must run one by one: too wide for shared memory, or indices too large for 32 bits."""
    return width > NARROW or 2 * width * batch >= 2**31


def _on_device_of(x: Tensor) -> torch.cuda.device:
    """Make the device of x current, since Triton launches on the current device. No effect for CPU tensors."""
    return torch.cuda.device_of(x)  # type: ignore[no-untyped-call]


def _dense_maps(stack: Tensor) -> Tensor:
    """Return (depth, members, ...) with contiguous maps; the first two dimensions may have any stride."""
    return stack if stack[0, 0].is_contiguous() else stack.contiguous()


def _rows(width: int) -> int:
    """Return the width rounded up to a power of two, at least 16."""
    return max(16, 1 << (width - 1).bit_length())


def _precision() -> str:
    """Return the precision of float32 products, according to PyTorch's settings."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
