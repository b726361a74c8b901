"""Recurrent highway layer over whole sequences: a differentiable loop, and hand-written forward and backward loops.

Sequences are packed as in torch's PackedSequence: the rows of all sequences at time 1, then the rows of the sequences
that have not ended at time 2, and so on, longest sequence first. For sequences of equal length all steps have the same
number of rows.

One micro-step l of one time step, in the paper's notation; Z starts as W x + b (l = 1) or b:

    Z <- Z + s R_l^T      H = act(Z_H)      T = sigmoid(Z_T)      s <- s + T (H - s)

and backward, with g = dL/ds after the micro-step:

    dZ_H = g T act'(H)    dZ_T = g (H - s) T (1 - T)    g <- g (1 - T) + dZ R_l

The speed of narrow recurrent networks is limited by the number of calls: there are 4 forward and 3 backward per
micro-step, and one more each way with a dropout mask. Everything that does not depend on g is computed for all
micro-steps at once, in the memory that becomes dZ, and dL/dR of all time steps is one batched GEMM.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from thruway.nn.gates import mix, split_maps
from thruway.nn.stack_kernel import FUSED_ACTIVATIONS

__all__ = ["backward_sequence", "forward_sequence", "plain_sequence", "plain_transition", "row_blocks"]

aten = torch.ops.aten

Function = Callable[[Tensor], Tensor]


def plain_transition(
    z: Tensor,
    state: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    mask: Tensor | None,
    activation: Function,
    gates: Sequence[Sequence[Function]],
    seen: list[tuple[Tensor, Tensor, Tensor]] | None = None,
) -> Tensor:
    """Run the micro-steps of one time step in separate differentiable operations.

    Args:
        z: W x for all maps, (..., maps * width).
        state: s, (..., width).
        weights: R_l for each micro-step, (maps * width, width).
        biases: b_l, (maps * width,).
        mask: dropout mask of the state that the maps read, shaped as the state. If None, there is no dropout.
        activation: activation of H.
        gates: for each micro-step its transform gate and, if independent, its carry gate.
        seen: list to which s, H and T of each micro-step are appended, detached.
    """
    for number, (weight, bias, squash) in enumerate(zip(weights, biases, gates, strict=True)):
        read = state if mask is None else state * mask
        a = torch.nn.functional.linear(read, weight, bias)
        h, *shares = split_maps(a if number else a + z, 1 + len(squash), dim=-1)
        h, shares = activation(h), [gate(share) for gate, share in zip(squash, shares, strict=True)]
        if seen is not None:
            with torch._C.DisableTorchFunction():  # function modes should see the operations of the layer only
                seen.append((state.detach(), h.detach(), shares[0].detach()))
        state = mix(state, h, *shares)
    return state


def plain_sequence(
    z: Tensor,
    state: Tensor,
    mask: Tensor | None,
    sizes: Sequence[int],
    transition: Callable[[Tensor, Tensor, Tensor | None], Tensor],
) -> Tensor:
    """Return the states after each time step, packed, by calling `transition(z, state, mask)` for each step.

    Args:
        z: (rows, maps * width), packed.
        state: initial state, (sequences, width).
        mask: (sequences, width), or None.
        sizes: number of rows of each time step, not increasing.
    """
    states = []
    for rows, size in zip(row_blocks(sizes), sizes, strict=True):
        state = transition(z[rows], state[:size], None if mask is None else mask[:size])
        states.append(state)
    return torch.cat(states) if states else state[:0]


def row_blocks(sizes: Sequence[int]) -> Iterator[slice]:
    """Yield the rows of each time step as a slice.

    >>> list(row_blocks([2, 1]))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    return (slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0)))


@torch.inference_mode()  # every operation writes into preallocated memory; inference mode skips autograd's bookkeeping
def forward_sequence(
    state: Tensor, weight: Tensor, mask: Tensor | None, sizes: Sequence[int], act: str, S: Tensor, Z: Tensor, y: Tensor
) -> None:
    """Fill S, Z and y from the initial state; Z contains W x + b and b at the start, H and T at the end.

    Args:
        weight: R, (depth, 2 width, width).
        S: input of each micro-step, (depth, rows, width).
        Z: (depth, rows, 2 width).
        y: state after each time step, (rows, width).
    """
    width, apply_ = y.shape[-1], FUSED_ACTIVATIONS[act].apply_
    transposed, read = weight.mT.unbind(0), None if mask is None else torch.empty_like(state)
    # A torch function mode (as watching uses) would be called for every operation here; disable it.
    with torch._C.DisableTorchFunction():
        for rows, size in zip(row_blocks(sizes), sizes, strict=True):
            states, maps = S[:, rows].unbind(0), Z[:, rows].unbind(0)
            kept = None if mask is None else mask[:size]
            seen = None if read is None else read[:size]
            states[0].copy_(state[:size])
            state = y[rows]
            for s, z, w, below in zip(states, maps, transposed, (*states[1:], state), strict=True):
                z.addmm_(s if kept is None else torch.mul(s, kept, out=seen), w)
                h, t = z[:, :width], z[:, width:]
                apply_(h)
                torch.lerp(s, h, t.sigmoid_(), out=below)


@torch.inference_mode()
def backward_sequence(
    g: Tensor,
    gy: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    sizes: Sequence[int],
    act: str,
    S: Tensor,
    Z: Tensor,
    gw: Tensor,
    dZ: Tensor,
    G: Tensor | None = None,
) -> None:
    """Compute dL/d(initial state) into g (zeros before), gw = dL/dR and dZ from gy = dL/dy, (rows, width).

    G (depth, rows, width), if given, receives dL/ds after every micro-step; the operations are the same, with other
    output memory for g.
    """
    width = S.shape[-1]
    H, T, slope_T = Z[..., :width], Z[..., width:], dZ[..., width:]
    FUSED_ACTIVATIONS[act].backward(T, H, dZ[..., :width])
    torch.sub(H, S, out=slope_T)
    aten.sigmoid_backward.grad_input(slope_T, T, grad_input=slope_T)
    both, weights = dZ.view(*S.shape[:2], 2, width), weight.unbind(0)
    read = None if mask is None else torch.empty_like(g)
    with torch._C.DisableTorchFunction():
        for rows, size in reversed(list(zip(row_blocks(sizes), sizes, strict=True))):
            # The rows after `size` belong to sequences that end before this step; their gradient is still 0.
            running, kept = g[:size], None if mask is None else mask[:size]
            after = (running,) * len(weights) if G is None else G[:, rows].unbind(0)  # memory of dL/ds
            torch.add(running, gy[rows], out=after[-1])
            maps = dZ[:, rows].unbind(0), both[:, rows].unbind(0), T[:, rows].unbind(0)
            steps = zip(weights, *maps, after, (running, *after[:-1]), strict=True)
            for w, dz, h_and_t, t, above, below in reversed(list(steps)):
                h_and_t.mul_(above.unsqueeze(1))
                torch.addcmul(above, above, t, value=-1.0, out=below)
                if kept is None or read is None:
                    below.addmm_(dz, w)
                else:
                    below.addcmul_(torch.mm(dz, w, out=read[:size]), kept)
    torch.bmm(dZ.mT, S if mask is None else S * torch.cat([mask[:size] for size in sizes]), out=gw)
