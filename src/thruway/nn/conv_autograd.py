"""Convolutional highway layer as one autograd function with a hand-written backward pass.

    z = W * x + b        H = act(z_H)        T = sigmoid(z_T)        y = x + T (H - x)

and backward, with g = dL/dy:

    dL/dz_H = g T act'(H)    dL/dz_T = g (H - x) T (1 - T)    dL/dx = g (1 - T) + (dL/dz through the convolution)

Autograd allocates H and T separately, and copies the gradients of z_H and z_T into one tensor. Here H and T
overwrite z, and both gradients are written into one tensor directly. The operations are those that autograd itself
would call, so the results are equal bit for bit: a layer with hooks, which runs operation by operation, trains exactly
like a layer without. On a GPU with our own kernels (gpu.py) the pointwise part is one launch forward and one backward,
and the last bits can differ.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from thruway.activations import activation
from thruway.nn.checks import is_autocast, is_batched
from thruway.nn.gates import TransformGate
from thruway.nn.gpu import gpu_kernels
from thruway.nn.same_conv import SameConv
from thruway.nn.stack_kernel import FUSED_ACTIVATIONS

__all__ = ["highway_conv", "is_fusible", "unhooked_activation"]

aten = torch.ops.aten

_BY_MODULE: dict[type[nn.Module], str] = {
    nn.Identity: "linear",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
}


def highway_conv(conv: SameConv, x: Tensor, weight: Tensor, bias: Tensor, act: str) -> Tensor:
    """Return y of a coupled highway layer; valid only if `is_fusible` returns True.

    Args:
        x: (batch, channels, *map).
        weight: (2 channels, channels, *kernel), H first.
        bias: (2 channels,).
        act: a key of FUSED_ACTIVATIONS.
    """
    return cast("Tensor", _HighwayConv.apply(conv, x, weight, bias, act))  # type: ignore[no-untyped-call]


def unhooked_activation(activation: nn.Module, transform_gate: nn.Module) -> str | None:
    """Return the name of the activation if it is supported and no hook is registered for H or T; else None."""
    has_hooks = _has_any_global_hook() or any(  # type: ignore[no-untyped-call]
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        for module in (activation, transform_gate)
    )
    return _BY_MODULE.get(type(activation)) if type(transform_gate) is TransformGate and not has_hooks else None


def is_fusible(conv: SameConv, *tensors: Tensor) -> bool:
    """Return True if the fused layer supports this convolution, and its calls are not hooked, traced or transformed."""
    x = tensors[0]
    return (
        conv.groups == 1
        and conv.padding_mode == "zeros"
        and x.ndim == conv.dims + 2
        and all(type(t) in (Tensor, nn.Parameter) and t.dtype == x.dtype for t in tensors)
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not is_autocast(x)
        and not torch._C._len_torch_function_stack()
        and not is_in_torch_dispatch_mode()
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
    )


class _HighwayConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, conv: SameConv, x: Tensor, weight: Tensor, bias: Tensor, act: str) -> Tensor:
        z = conv.joint(x, weight, bias)
        ctx.conv, ctx.act = conv, act
        ctx.save_for_backward(x, weight, bias, z)
        if x.is_cuda and (gpu := gpu_kernels(x)) is not None and (inner := _inner(z, x)) is not None:
            y = torch.empty_like(x)
            gpu.gate_(z, x, act, y, inner)
            return y
        h, t = z.chunk(2, dim=1)
        FUSED_ACTIVATIONS[act].apply_(h)
        t.sigmoid_()
        return torch.lerp(x, h, t)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, z = ctx.saved_tensors
        # Higher derivatives and batched gradients are rare and use autograd.
        if torch.is_grad_enabled() or is_batched(g):
            gx, gw, gb = torch.func.vjp(_plain(ctx.conv, ctx.act), x, weight, bias)[1](g)
            return None, gx, gw, gb, None
        gz = torch.empty_like(z)
        needs_x, needs = ctx.needs_input_grad[1], ctx.needs_input_grad[1:4]
        if x.is_cuda and (gpu := gpu_kernels(x)) is not None and (inner := _inner(z, x)) is not None:
            carry = torch.empty_like(x)
            gpu.gate_backward(_laid_out_as(x, g), x, z, ctx.act, gz, carry, inner)
            gx, gw, gb = ctx.conv.joint_backward(gz, x, weight, needs)
            return None, carry.add_(gx) if needs_x else None, gw, gb, None
        (h, t), (gh, gt) = z.chunk(2, dim=1), gz.chunk(2, dim=1)
        torch.mul(g, t, out=gh)
        FUSED_ACTIVATIONS[ctx.act].backward(gh, h, gh)
        torch.sub(h, x, out=gt)
        gt.mul_(g)
        aten.sigmoid_backward.grad_input(gt, t, grad_input=gt)
        gx, gw, gb = ctx.conv.joint_backward(gz, x, weight, needs)
        if needs_x:
            gx.add_(torch.sub(1.0, t, out=gt).mul_(g))  # reuses the memory of dL/dz_T, which is no longer needed
        return None, gx, gw, gb, None


def _inner(z: Tensor, x: Tensor) -> int | None:
    """Return the length of each contiguous block of H (followed by T) in z; None if z or x is not dense in memory."""
    if z.is_contiguous() and x.is_contiguous():
        return x[0].numel()
    format_ = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if format_ and z.is_contiguous(memory_format=format_) and x.is_contiguous(memory_format=format_):
        return x.shape[1]
    return None


def _laid_out_as(x: Tensor, g: Tensor) -> Tensor:
    """Return g, or a copy of it with the strides of x."""
    return g if g.stride() == x.stride() else torch.empty_like(x).copy_(g)


def _plain(conv: SameConv, act: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return y as a function of (x, weight, bias), in separate differentiable operations."""

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        h, t = conv.joint(x, weight, bias).chunk(2, dim=1)
        return torch.lerp(x, activation(act).function(h), torch.sigmoid(t))

    return run
