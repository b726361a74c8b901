"""Convolutional highway layers in one, two and three dimensions."""

import abc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from thruway.activations import activation_module, activation_name
from thruway.errors import ShapeError
from thruway.init.parts import Part
from thruway.nn.checks import CARRIES, check_carry, check_dtype, check_gate_bias, check_generator
from thruway.nn.conv_autograd import highway_conv, is_fusible, unhooked_activation
from thruway.nn.gates import CarryGate, TransformGate, draw_parts_, highway_parts, mix
from thruway.nn.same_conv import SameConv, same_conv

__all__ = ["HighwayConv1d", "HighwayConv2d", "HighwayConv3d"]

Activation = str | Callable[[Tensor], Tensor]


class _HighwayConv(nn.Module, abc.ABC):
    """Base class of the three layers, which differ only in their signatures."""

    conv: SameConv

    def _build(
        self,
        conv: SameConv,
        activation: Activation,
        gate_bias: float,
        carry: str,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        generator: torch.Generator | None,
    ) -> None:
        self.conv = conv
        self.gate_bias = check_gate_bias(gate_bias)
        self.carry = check_carry(carry)
        self.activation = activation_module(activation)
        self.activation_name = activation_name(activation)
        self.transform_gate = TransformGate()
        self.carry_gate = CarryGate() if carry == "independent" else None
        rows = len(CARRIES[carry]) * conv.channels
        shape = (rows, conv.channels // conv.groups, *conv.kernel_size)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(rows, device=device, dtype=dtype))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights and reset the biases."""
        draw_parts_(self.init_parts(), check_generator("generator", generator))

    def init_parts(self) -> Iterator[Part]:
        """Yield the maps that share the weight, for `initialize`."""
        return highway_parts(self.weight, self.bias, self.carry, self.gate_bias, self.activation_name, self.conv.groups)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        check_dtype(type(self).__name__, x, self.weight)
        if x.ndim not in (conv.dims + 1, conv.dims + 2) or x.shape[-conv.dims - 1] != conv.channels:
            raise ShapeError(
                f"{type(self).__name__} takes (batch, {conv.channels}, {conv.dims} spatial dimensions), with or "
                f"without the batch, got {tuple(x.shape)}. To change channels, put a Resize or a convolution before it."
            )
        if self.carry_gate is None:
            act = unhooked_activation(self.activation, self.transform_gate)
            if act is not None and is_fusible(conv, x, self.weight, self.bias):
                return highway_conv(conv, x, self.weight, self.bias, act)
        h, t, *c = conv(x, self.weight, self.bias)
        carried = self.carry_gate(c[0]) if self.carry_gate is not None else None
        return mix(x, self.activation(h), self.transform_gate(t), carried)

    def extra_repr(self) -> str:
        conv = self.conv
        return (
            f"{conv.channels}, kernel_size={conv.kernel_size}, dilation={conv.dilation}, groups={conv.groups}, "
            f"padding_mode={conv.padding_mode!r}, gate_bias={self.gate_bias}, carry={self.carry!r}"
        )


class HighwayConv1d(_HighwayConv):
    """A convolutional highway layer on sequences: `HighwayLinear` with convolutions for H and T.

        y = H(x)·T(x) + x·(1 - T(x)),     H = activation(W_H * x + b_H),  T = sigmoid(W_T * x + b_T)

    H and T (and an independent carry gate) are computed by one convolution and have the same receptive field. Padding
    keeps the size of the input. `weight` (2·channels, channels / groups, *kernel) contains W_H, then W_T; `bias`
    likewise. Hooks and initial weights are as in `HighwayLinear`, with the fans of one map and one group.

    Args:
        channels: number of channels of the input and of the output.
        kernel_size: size of the kernel, odd; one number, or one for each dimension.
        activation: a name from thruway.activations.ACTIVATIONS, a module, or any callable on tensors.
        gate_bias: initial value of b_T; below 0 the layer starts by carrying its input.
        carry: "coupled" (C = 1 - T) or "independent" (C has its own weights, and its bias starts at -gate_bias).
        dilation: spacing between kernel elements; one number, or one for each dimension.
        groups: number of groups in each map, as in `torch.nn.Conv1d`; must divide channels.
        padding_mode: "zeros" (as in the paper), "reflect", "replicate" or "circular".
        generator: generator of the initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: if the kernel is even, or `groups` does not divide `channels`; see also `HighwayLinear`.
        ShapeError: when called on an input that is not (batch, channels, *spatial) or (channels, *spatial), or of
            a different dtype than the weights.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 2.1-2.2.

    >>> layer = HighwayConv1d(2, 3, gate_bias=-2.0)
    >>> layer.weight.shape, layer(torch.ones(5, 2, 7)).shape
    (torch.Size([4, 2, 3]), torch.Size([5, 2, 7]))
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | tuple[int],
        activation: Activation = "relu",
        gate_bias: float = -2.0,
        carry: str = "coupled",
        *,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        conv = same_conv(1, channels, kernel_size, dilation, groups, padding_mode)
        self._build(conv, activation, gate_bias, carry, device, dtype, generator)


class HighwayConv2d(_HighwayConv):
    """A convolutional highway layer on images; arguments, weights and errors are those of `HighwayConv1d`.

    >>> layer = HighwayConv2d(4, (3, 5), groups=2)
    >>> layer.weight.shape, layer(torch.ones(1, 4, 6, 9)).shape
    (torch.Size([8, 2, 3, 5]), torch.Size([1, 4, 6, 9]))
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | tuple[int, int],
        activation: Activation = "relu",
        gate_bias: float = -2.0,
        carry: str = "coupled",
        *,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        conv = same_conv(2, channels, kernel_size, dilation, groups, padding_mode)
        self._build(conv, activation, gate_bias, carry, device, dtype, generator)


class HighwayConv3d(_HighwayConv):
    """A convolutional highway layer on volumes or videos; arguments, weights and errors are those of `HighwayConv1d`.

    >>> layer = HighwayConv3d(2, 3, carry="independent")
    >>> layer.weight.shape, layer(torch.ones(1, 2, 4, 5, 6)).shape
    (torch.Size([6, 2, 3, 3, 3]), torch.Size([1, 2, 4, 5, 6]))
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | tuple[int, int, int],
        activation: Activation = "relu",
        gate_bias: float = -2.0,
        carry: str = "coupled",
        *,
        dilation: int | tuple[int, int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        conv = same_conv(3, channels, kernel_size, dilation, groups, padding_mode)
        self._build(conv, activation, gate_bias, carry, device, dtype, generator)
