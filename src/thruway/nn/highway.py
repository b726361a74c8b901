"""Fully connected highway layer."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.activations import activation_module
from thruway.init.parts import Part
from thruway.nn.argument_checks import (
    CARRIES,
    check_carry,
    check_dtype,
    check_gate_bias,
    check_generator,
    check_size,
    features_error,
)
from thruway.nn.gates import CarryGate, TransformGate, mix
from thruway.nn.joint_weight import activation_name, draw_parts_, highway_parts, split_maps

__all__ = ["HighwayLinear"]


class HighwayLinear(nn.Module):
    """A fully connected layer that learns for each unit how much of its input to transform and how much to carry.

        y = H(x)·T(x) + x·(1 - T(x)),     H = activation(W_H x + b_H),  T = sigmoid(W_T x + b_T)

    `weight` (2·width, width) contains W_H, then W_T, and `bias` likewise; with carry="independent" it has a third
    map for the carry gate, and y = H·T + x·C. A forward hook on `activation` receives H, on `transform_gate` T,
    on `carry_gate` C.

    The weights of each map are drawn with Glorot's normalised initialisation, with the fans of that map,
    times the gain of the activation (1 for gates and for unnamed callables). For relu that is He's variance,
    2 / width. Biases start at 0, the gate's at `gate_bias`.

    Args:
        width: units of the input and of the output.
        activation: a name from thruway.activations.ACTIVATIONS, a module, or any callable on tensors.
        gate_bias: initial value of b_T; below 0 the layer starts by carrying its input. With -inf it never
            transforms. An independent carry gate starts at -gate_bias.
        carry: "coupled" (C = 1 - T) or "independent" (C has its own weights).
        generator: source of the initial weights; None: torch's global generator.
    Raises:
        ConfigError: for a width below 1, an unknown activation or carry, or a gate bias that is not a number.
        ShapeError: when called on an input that is not (..., width), or of another dtype than the weights.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eqs. 2-3, sec. 2.2;
        weights after Glorot & Bengio 2010, eq. 16, as in sec. 3.1 of the former.

    >>> layer = HighwayLinear(4, gate_bias=float("-inf"), generator=torch.Generator().manual_seed(0))
    >>> x = torch.ones(3, 4)
    >>> torch.equal(layer(x), x)
    True
    """

    def __init__(
        self,
        width: int,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        gate_bias: float = -2.0,
        carry: str = "coupled",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.width = check_size("width", width)
        self.gate_bias = check_gate_bias(gate_bias)
        self.carry = check_carry(carry)
        self.activation = activation_module(activation)
        self.activation_name = activation_name(activation)
        self.transform_gate = TransformGate()
        self.carry_gate = CarryGate() if carry == "independent" else None
        rows = len(CARRIES[carry]) * self.width
        self.weight = nn.Parameter(torch.empty(rows, self.width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(rows, device=device, dtype=dtype))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new weights and reset the biases."""
        draw_parts_(self.init_parts(), check_generator("generator", generator))

    def init_parts(self) -> Iterator[Part]:
        """Yield the maps that share the weight, for an initialiser."""
        return highway_parts(self.weight, self.bias, self.carry, self.gate_bias, self.activation_name)

    def forward(self, x: Tensor) -> Tensor:
        check_dtype("HighwayLinear", x, self.weight)
        if x.shape[-1:] != (self.width,):
            raise features_error(
                "HighwayLinear", x, self.width, "To change the width, put a Plain or Resize layer before it."
            )
        h, t, *c = split_maps(F.linear(x, self.weight, self.bias), len(CARRIES[self.carry]), dim=-1)
        carried = self.carry_gate(c[0]) if self.carry_gate is not None else None
        return mix(x, self.activation(h), self.transform_gate(t), carried)

    def extra_repr(self) -> str:
        return f"{self.width}, gate_bias={self.gate_bias}, carry={self.carry!r}"
