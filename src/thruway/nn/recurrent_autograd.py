"""Autograd function of the recurrent highway layer over whole sequences.

First derivatives use the hand-written kernel. Higher derivatives and batched gradients are rare and use autograd on
the plain implementation.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from thruway.activations import activation
from thruway.nn.checks import is_batched
from thruway.nn.recurrent_kernel import backward_sequence, forward_sequence, plain_sequence, plain_transition

__all__ = ["recurrent_highway", "recurrent_highway_states"]


def recurrent_highway(
    z: Tensor, state: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, sizes: Sequence[int], act: str
) -> Tensor:
    """Return the states after each time step, packed, (rows, width), for coupled gates.

    Args:
        z: W x for H and T, (rows, 2 width), packed.
        state: initial state, (sequences, width).
        weight: R, (depth, 2 width, width).
        bias: (depth, 2 width).
        mask: dropout mask of the state, (sequences, width), without gradient. If None, there is no dropout.
        sizes: number of rows of each time step, not increasing; at least one step.
        act: a key of FUSED_ACTIVATIONS.
    """
    return recurrent_highway_states(z, state, weight, bias, mask, sizes, act)[0]


def recurrent_highway_states(
    z: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor | None,
    sizes: Sequence[int],
    act: str,
    on_gradients: Callable[[Tensor], object] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (y, S, Z): S (depth, rows, width) is the input of each micro-step, Z (depth, rows, 2 width) its H and T.

    S and Z have no gradient and share memory with the backward pass: do not modify them. `on_gradients` is called
    in the backward pass with dL/ds after every micro-step, (depth, rows, width).
    """
    inputs = z, state, weight, bias, mask, tuple(sizes), act, on_gradients
    return cast("tuple[Tensor, Tensor, Tensor]", _Sequence.apply(*inputs))  # type: ignore[no-untyped-call]


class _Sequence(torch.autograd.Function):
    """Autograd function from (z, state, weight, bias) to (y, S, Z)."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        state: Tensor,
        weight: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        sizes: tuple[int, ...],
        act: str,
        on_gradients: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        depth, _, width = weight.shape
        S, Z = z.new_empty(depth, len(z), width), z.new_empty(depth, *z.shape)
        y = z.new_empty(len(z), width)
        Z.copy_(bias.unsqueeze(1).expand_as(Z))
        Z[0] += z
        forward_sequence(state, weight, mask, sizes, act, S, Z, y)
        ctx.sizes, ctx.act, ctx.on_gradients = sizes, act, on_gradients
        ctx.mark_non_differentiable(S, Z)
        ctx.set_materialize_grads(False)  # zeros for S and Z would be as large as they are
        ctx.save_for_backward(z, state, weight, bias, mask, S, Z)
        return y, S, Z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        gy = grads[0]
        if gy is None:
            return (None,) * 8
        z, state, weight, bias, mask, S, Z = ctx.saved_tensors
        is_differentiated = torch.is_grad_enabled()  # create_graph=True
        if is_differentiated or is_batched(gy):
            inputs = z, state, weight, bias
            with torch.enable_grad():
                y = _plain(*inputs, mask, ctx.sizes, ctx.act)
            wanted = [each for each, is_wanted in zip(inputs, ctx.needs_input_grad, strict=False) if is_wanted]
            found = iter(torch.autograd.grad(y, wanted, gy, create_graph=is_differentiated))
            of_inputs = (next(found) if is_wanted else None for is_wanted in ctx.needs_input_grad[:4])
            return *of_inputs, None, None, None, None
        # Allocated here: tensors made in the kernel's inference mode could not be accumulated later.
        g, gw, dZ = torch.zeros_like(state), torch.empty_like(weight), torch.empty_like(Z)
        G = None if ctx.on_gradients is None else torch.empty_like(S)
        backward_sequence(g, gy, weight, mask, ctx.sizes, ctx.act, S, Z, gw, dZ, G)
        if G is not None:
            ctx.on_gradients(G)
        return dZ[0], g, gw, dZ.sum(dim=1), None, None, None, None


def _plain(
    z: Tensor, state: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, sizes: tuple[int, ...], act: str
) -> Tensor:
    """Compute the same function in separate differentiable operations."""
    weights, biases, function = weight.unbind(0), bias.unbind(0), activation(act).function
    gates = ((torch.sigmoid,),) * len(weights)

    def transition(z: Tensor, state: Tensor, mask: Tensor | None) -> Tensor:
        return plain_transition(z, state, weights, biases, mask, function, gates)

    return plain_sequence(z, state, mask, sizes, transition)
