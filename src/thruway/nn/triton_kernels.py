"""Triton kernels of the highway layers for GPUs. Importing this file imports Triton.

`stack_forward` and `stack_backward` run a whole stack of narrow layers in one launch: each program computes all layers
for some columns of the batch, so that the states between layers stay on the chip and are written to memory only for the
backward pass. `gate` and `ungate` are the pointwise part of one layer, forward and backward, for wide stacks and
convolutions, whose products are computed by cuBLAS and cuDNN.

The notation is that of stack_kernel.py; arithmetic is in float32 for tensors of every dtype. The kernels use built-in
functions of Triton only, so that they also run in Triton's interpreter on a machine without a GPU.
"""

import triton
import triton.language as tl

__all__ = ["gate", "stack_backward", "stack_forward", "ungate"]

# Below this magnitude tanh and expm1 use their series: the exponential minus 1 would lose its last bits.
_SMALL = tl.constexpr(0.3)


@triton.jit
def _sigmoid(a):
    return 1.0 / (1.0 + tl.exp(-a))


@triton.jit
def _activated(a, act: tl.constexpr):
    """Return act(a). NaN stays NaN, as in PyTorch."""
    if act == "relu":
        return tl.where(a < 0.0, 0.0, a)
    elif act == "tanh":
        s = a * a
        series = a * (1.0 + s * (-1.0 / 3 + s * (2.0 / 15 + s * (-17.0 / 315 + s * (62.0 / 2835)))))
        return tl.where(tl.abs(a) < _SMALL, series, 1.0 - 2.0 / (tl.exp(2.0 * a) + 1.0))
    elif act == "sigmoid":
        return _sigmoid(a)
    elif act == "elu":
        series = a * (1.0 + a * (1.0 / 2 + a * (1.0 / 6 + a * (1.0 / 24 + a * (1.0 / 120 + a * (1.0 / 720))))))
        below = tl.where(a > -_SMALL, series, tl.exp(a) - 1.0)
        return tl.where(a > 0.0, a, below)
    else:
        return a


@triton.jit
def _slope(h, act: tl.constexpr):
    """Return act'(a) as a function of h = act(a)."""
    if act == "relu":
        return tl.where(h <= 0.0, 0.0, 1.0)
    elif act == "tanh":
        return 1.0 - h * h
    elif act == "sigmoid":
        return h * (1.0 - h)
    elif act == "elu":
        return tl.where(h <= 0.0, h + 1.0, 1.0)
    else:
        return tl.full(h.shape, 1.0, tl.float32)


@triton.jit
def stack_forward(
    W,
    b,
    X,
    A,
    Y,
    depth,
    width,
    batch,
    tiles,
    W_layer,
    W_member,
    b_layer,
    b_member,
    X_layer,
    A_layer,
    act: tl.constexpr,
    precision: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fill X[1:], A and Y from X[0]. `ROWS` >= width; each of `tiles` programs of a member has `COLUMNS` columns."""
    member = (tl.program_id(0) // tiles).to(tl.int64)
    rows = tl.arange(0, ROWS)
    columns = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    is_row = rows < width
    is_state = is_row[:, None] & (columns < batch)[None, :]
    is_weight = is_row[:, None] & is_row[None, :]
    states = rows[:, None] * batch + columns[None, :]
    weights = rows[:, None] * width + rows[None, :]
    W += member * W_member + weights
    b += member * b_member + rows
    X += member * width * batch + states
    A += member * 2 * width * batch + states
    Y += member * width * batch + states

    x = tl.load(X, mask=is_state, other=0.0)
    for _ in range(depth):
        w_H, w_T = tl.load(W, mask=is_weight, other=0.0), tl.load(W + width * width, mask=is_weight, other=0.0)
        b_H, b_T = tl.load(b, mask=is_row, other=0.0), tl.load(b + width, mask=is_row, other=0.0)
        H = _activated(tl.dot(w_H, x, input_precision=precision) + b_H[:, None].to(tl.float32), act)
        T = _sigmoid(tl.dot(w_T, x, input_precision=precision) + b_T[:, None].to(tl.float32))
        tl.store(X, x, mask=is_state)
        tl.store(A, H.to(x.dtype), mask=is_state)
        tl.store(A + width * batch, T.to(x.dtype), mask=is_state)
        carried = x.to(tl.float32)
        x = (carried + T * (H - carried)).to(x.dtype)
        W += W_layer
        b += b_layer
        X += X_layer
        A += A_layer
    tl.store(Y, x, mask=is_state)


@triton.jit
def stack_backward(
    g_in_out,
    W,
    X,
    A,
    dA,
    G,
    depth,
    width,
    batch,
    tiles,
    W_layer,
    W_member,
    X_layer,
    A_layer,
    act: tl.constexpr,
    precision: tl.constexpr,
    keeps_G: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Fill dA of every layer, and turn g = dL/dy of the last layer into dL/dx of the first; G receives dL/dy of each.

    W, X, A, dA and G point to the last layer.
    """
    member = (tl.program_id(0) // tiles).to(tl.int64)
    rows = tl.arange(0, ROWS)
    columns = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    is_row = rows < width
    is_state = is_row[:, None] & (columns < batch)[None, :]
    is_weight = is_row[:, None] & is_row[None, :]
    states = rows[:, None] * batch + columns[None, :]
    weights = rows[:, None] * width + rows[None, :]
    W += member * W_member + weights
    X += member * width * batch + states
    A += member * 2 * width * batch + states
    dA += member * 2 * width * batch + states
    G += member * width * batch + states
    g_in_out += member * width * batch + states

    g = tl.load(g_in_out, mask=is_state, other=0.0)
    for _ in range(depth):
        if keeps_G:
            tl.store(G, g, mask=is_state)
        w_H, w_T = tl.load(W, mask=is_weight, other=0.0), tl.load(W + width * width, mask=is_weight, other=0.0)
        x = tl.load(X, mask=is_state, other=0.0).to(tl.float32)
        H = tl.load(A, mask=is_state, other=0.0).to(tl.float32)
        T = tl.load(A + width * batch, mask=is_state, other=0.0).to(tl.float32)
        received = g.to(tl.float32)
        dA_H = (received * T * _slope(H, act)).to(g.dtype)
        dA_T = (received * (H - x) * T * (1.0 - T)).to(g.dtype)
        tl.store(dA, dA_H, mask=is_state)
        tl.store(dA + width * batch, dA_T, mask=is_state)
        through = tl.dot(tl.trans(w_H), dA_H, input_precision=precision)
        through = tl.dot(tl.trans(w_T), dA_T, through, input_precision=precision)
        g = (received * (1.0 - T) + through).to(g.dtype)
        W -= W_layer
        X -= X_layer
        A -= A_layer
        dA -= A_layer
        G -= X_layer
    tl.store(g_in_out, g, mask=is_state)


@triton.jit
def gate(
    z,
    x,
    y,
    b,
    count,
    inner,
    rows,
    each,
    b_outer,
    act: tl.constexpr,
    adds_bias: tl.constexpr,
    ELEMENTS: tl.constexpr,
):
    """Compute H, T and y = x + T·(H - x) from the pre-activations z. H and T are written to z.

    z has shape (outer, 2, inner); x and y have shape (outer, inner) and `count` elements. The bias, if any, has shape
    (outer, 2 rows), and each of its numbers is added to `each` consecutive elements of a row of `inner`.
    """
    i = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    is_there = i < count
    outer = i // inner
    j = i + outer * inner
    a_H = tl.load(z + j, mask=is_there, other=0.0).to(tl.float32)
    a_T = tl.load(z + j + inner, mask=is_there, other=0.0).to(tl.float32)
    if adds_bias:
        place = outer * b_outer + (i - outer * inner) // each
        a_H += tl.load(b + place, mask=is_there, other=0.0).to(tl.float32)
        a_T += tl.load(b + place + rows, mask=is_there, other=0.0).to(tl.float32)
    H = _activated(a_H, act)
    T = _sigmoid(a_T)
    carried = tl.load(x + i, mask=is_there, other=0.0).to(tl.float32)
    tl.store(z + j, H.to(z.dtype.element_ty), mask=is_there)
    tl.store(z + j + inner, T.to(z.dtype.element_ty), mask=is_there)
    tl.store(y + i, (carried + T * (H - carried)).to(y.dtype.element_ty), mask=is_there)


@triton.jit
def ungate(g, x, z, dz, carry, count, inner, act: tl.constexpr, ELEMENTS: tl.constexpr):
    """Fill dL/dz and the carried gradient g (1 - T) from g = dL/dy and the H and T in z."""
    i = tl.program_id(0).to(tl.int64) * ELEMENTS + tl.arange(0, ELEMENTS)
    is_there = i < count
    j = i + (i // inner) * inner
    H = tl.load(z + j, mask=is_there, other=0.0).to(tl.float32)
    T = tl.load(z + j + inner, mask=is_there, other=0.0).to(tl.float32)
    carried = tl.load(x + i, mask=is_there, other=0.0).to(tl.float32)
    received = tl.load(g + i, mask=is_there, other=0.0).to(tl.float32)
    tl.store(dz + j, (received * T * _slope(H, act)).to(dz.dtype.element_ty), mask=is_there)
    tl.store(dz + j + inner, (received * (H - carried) * T * (1.0 - T)).to(dz.dtype.element_ty), mask=is_there)
    tl.store(carry + i, (received * (1.0 - T)).to(carry.dtype.element_ty), mask=is_there)
