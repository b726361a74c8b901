"""A recurrent highway over whole sequences: the loop in plain calls, and forward and backward by hand.

Sequences lie packed, as in torch's PackedSequence: the rows of all sequences at time 1, then those of all that
are still running at time 2, and so on, longest sequence first. Sequences of one length are the case in which
no step has fewer rows than the one before.

One micro-step l of one time step, in the paper's letters, with Z already holding W x + b (l = 1) or b:

    Z <- Z + s R_l^T      H = act(Z_H)      T = sigmoid(Z_T)      s <- s + T (H - s)

and back, with g = dL/ds after it:

    dZ_H = g T act'(H)    dZ_T = g (H - s) T (1 - T)    g <- g (1 - T) + dZ R_l

Narrow recurrent nets are bound by the number of calls, so this file counts them: 4 forward and 3 backward per
micro-step, one more each way with a dropout mask. All that does not depend on g is computed for all
micro-steps at once, in the very memory that becomes dZ, and dL/dR of all time steps is one batched GEMM.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from thruway.nn.gates import mix
from thruway.nn.joint_weight import split_maps
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
    """The micro-steps of one time step, in plain differentiable calls.

    Args:
        z: W x for all maps, (..., maps * width).
        state: s, (..., width).
        weights: R_l for each micro-step, (maps * width, width).
        biases: b_l, (maps * width,).
        mask: what the state is multiplied by before it is read, shaped as the state; None for nothing.
        activation: of H.
        gates: for each micro-step its transform gate and, where it is learnt apart, its carry gate.
        seen: is given s, H and T of each micro-step, without gradient.
    """
    for number, (weight, bias, squash) in enumerate(zip(weights, biases, gates, strict=True)):
        read = state if mask is None else state * mask
        a = torch.nn.functional.linear(read, weight, bias)
        h, *shares = split_maps(a if number else a + z, 1 + len(squash), dim=-1)
        h, shares = activation(h), [gate(share) for gate, share in zip(squash, shares, strict=True)]
        if seen is not None:
            with torch._C.DisableTorchFunction():  # whoever listens to functions wants those of the layer
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
    """The states after each time step, packed: `transition(z, state, mask)` for one step after the other.

    Args:
        z: (rows, maps * width), packed.
        state: before the first step, (sequences, width).
        mask: (sequences, width), or None.
        sizes: rows of each time step, not growing.
    """
    states = []
    for rows, size in zip(row_blocks(sizes), sizes, strict=True):
        state = transition(z[rows], state[:size], None if mask is None else mask[:size])
        states.append(state)
    return torch.cat(states) if states else state[:0]


def row_blocks(sizes: Sequence[int]) -> Iterator[slice]:
    """Where the rows of each time step lie.

    >>> list(row_blocks([2, 1]))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    return (slice(start, stop) for start, stop in pairwise(accumulate(sizes, initial=0)))


@torch.inference_mode()  # every call here writes into given memory; this spares each of them autograd's bookkeeping
def forward_sequence(
    state: Tensor, weight: Tensor, mask: Tensor | None, sizes: Sequence[int], act: str, S: Tensor, Z: Tensor, y: Tensor
) -> None:
    """Fill S, Z and y from the state before the first step; Z holds W x + b and b at the start, H and T at the end.

    Args:
        weight: R, (depth, 2 width, width).
        S: what enters each micro-step, (depth, rows, width).
        Z: (depth, rows, 2 width).
        y: the state after each time step, (rows, width).
    """
    width, apply_ = y.shape[-1], FUSED_ACTIVATIONS[act].apply_
    transposed, read = weight.mT.unbind(0), None if mask is None else torch.empty_like(state)
    # A mode that listens to functions (a watcher's) has no business in here, and would be told of every call.
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
    """Turn g from zeros into dL/dstate before the first step; fill gw = dL/dR and dZ, from gy = dL/dy (rows, width).

    G (depth, rows, width), if given, keeps dL/ds after every micro-step: the same calls, with other places for g.
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
            # Sequences that have ended by then wait in the rows below, with no gradient yet.
            running, kept = g[:size], None if mask is None else mask[:size]
            after = (running,) * len(weights) if G is None else G[:, rows].unbind(0)  # where dL/ds lies
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
