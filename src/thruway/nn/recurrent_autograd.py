"""The recurrent highway over whole sequences as a differentiable function.

First derivatives take the kernel; derivatives of derivatives and batches of gradients are rare, and go through the
plain twin.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from thruway.activations import activation
from thruway.nn.batched import is_batched
from thruway.nn.recurrent_kernel import plain_sequence, plain_transition, run_sequence, unrun_sequence

__all__ = ["recurrent_highway"]


def recurrent_highway(
    z: Tensor, state: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, sizes: Sequence[int], act: str
) -> Tensor:
    """The states after each time step, packed, (rows, width); coupled gates.

    Args:
        z: W x for H and T, (rows, 2 width), packed.
        state: before the first step, (sequences, width).
        weight: R, (depth, 2 width, width).
        bias: (depth, 2 width).
        mask: of the state, (sequences, width); None drops nothing. No gradient goes to it.
        sizes: rows of each time step, not growing; at least one step.
        act: a key of FUSED_ACTIVATIONS.
    """
    return cast("Tensor", _Sequence.apply(z, state, weight, bias, mask, tuple(sizes), act))  # type: ignore[no-untyped-call]


class _Sequence(torch.autograd.Function):
    """(z, state, weight, bias) -> y."""

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
    ) -> Tensor:
        depth, _, width = weight.shape
        S, Z = z.new_empty(depth, len(z), width), z.new_empty(depth, *z.shape)
        y = z.new_empty(len(z), width)
        Z.copy_(bias.unsqueeze(1).expand_as(Z))
        Z[0] += z
        run_sequence(state, weight, mask, sizes, act, S, Z, y)
        ctx.sizes, ctx.act = sizes, act
        ctx.save_for_backward(z, state, weight, bias, mask, S, Z)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z, state, weight, bias, mask, S, Z = ctx.saved_tensors
        is_differentiated = torch.is_grad_enabled()  # the gradient itself
        if is_differentiated or is_batched(grads[0]):
            inputs = z, state, weight, bias
            with torch.enable_grad():
                y = _plain(*inputs, mask, ctx.sizes, ctx.act)
            wanted = [each for each, is_wanted in zip(inputs, ctx.needs_input_grad, strict=False) if is_wanted]
            found = iter(torch.autograd.grad(y, wanted, grads, create_graph=is_differentiated))
            return *(next(found) if is_wanted else None for is_wanted in ctx.needs_input_grad[:4]), None, None, None
        # Made here: what is made inside the kernel's inference mode could not be added to later.
        g, gw, dZ = torch.zeros_like(state), torch.empty_like(weight), torch.empty_like(Z)
        unrun_sequence(g, grads[0], weight, mask, ctx.sizes, ctx.act, S, Z, gw, dZ)
        return dZ[0], g, gw, dZ.sum(dim=1), None, None, None


def _plain(
    z: Tensor, state: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None, sizes: tuple[int, ...], act: str
) -> Tensor:
    """The same function in plain differentiable calls."""
    weights, biases, function = weight.unbind(0), bias.unbind(0), activation(act).function
    gates = ((torch.sigmoid,),) * len(weights)

    def transition(z: Tensor, state: Tensor, mask: Tensor | None) -> Tensor:
        return plain_transition(z, state, weights, biases, mask, function, gates)

    return plain_sequence(z, state, mask, sizes, transition)
