"""Transform and carry gates of highway layers, and the initial gate bias for a depth.

Gates are modules, so that a forward hook on a gate receives T (or C) of every pass without a change to
the layer.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.nn.argument_checks import check_gate_bias, check_size

__all__ = ["CarryGate", "TransformGate", "gate_bias_for_depth", "mix", "resolve_gate_bias"]


class TransformGate(nn.Module):
    """Transform gate T = sigmoid(z), the share of the transform in each unit; z and T have the same shape.

    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 2.1.

    >>> TransformGate()(torch.zeros(2))
    tensor([0.5000, 0.5000])
    """

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)


class CarryGate(nn.Module):
    """Carry gate C = sigmoid(z), the share of the input, for layers that learn it separately from T.

    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eq. 2.
    """

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)


def mix(x: Tensor, h: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
    """Combine the input, the transform and the gates of a highway layer.

        y = h·t + x·(1 - t) = x + t·(h - x)      coupled, c is None
        y = h·t + x·c                            independent

    Args:
        x: input, any shape.
        h: transform H(x), same shape.
        t: transform gate T(x), same shape, in [0, 1].
        c: carry gate C(x), same shape; None for 1 - t.
    Returns:
        y, same shape; t = 0 gives exactly x and t = 1 exactly h. If autocast gave h a narrower dtype than x, y has
        the wider one, so that the carry path keeps its precision.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), eqs. 2 and 3.

    >>> mix(torch.tensor([1.0, 1.0]), torch.tensor([5.0, 5.0]), torch.tensor([0.0, 0.25]))
    tensor([1., 2.])
    """
    if c is not None:
        return h * t + x * c
    if not x.dtype == h.dtype == t.dtype:  # lerp does not promote dtypes, unlike + and *
        wide = torch.promote_types(torch.promote_types(x.dtype, h.dtype), t.dtype)
        x, h, t = x.to(wide), h.to(wide), t.to(wide)
    return torch.lerp(x, h, t)


def gate_bias_for_depth(depth: int) -> float:
    """Return the initial gate bias for a highway stack of `depth` layers.

        b = -depth / 10, clamped to [-10, -1]

    The paper gives three points: -1, -2 and -3 at depths 10, 20 and 30; the line goes through them. Beyond
    depth 30 the line is extended to -10, the lowest bias that the authors searched. The bias remains a
    hyper-parameter worth searching.

    Args:
        depth: hidden layers of the stack, at least 1.
    Returns:
        The bias, in units of the gate's pre-activation.
    Raises:
        ConfigError: if depth is not an integer of at least 1.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 2.2 (the three points),
        and (Highway Networks), sec. 3 (the range); the line is ours.

    >>> [gate_bias_for_depth(depth) for depth in (5, 10, 20, 30, 50, 1000)]
    [-1.0, -1.0, -2.0, -3.0, -5.0, -10.0]
    """
    return -min(max(check_size("depth", depth) / 10, 1.0), 10.0)


def resolve_gate_bias(gate_bias: float | Literal["depth"], depth: int) -> float:
    """Return `gate_bias` as a number; "depth" becomes `gate_bias_for_depth(depth)`.

    Raises:
        ConfigError: if it is neither a number nor "depth".

    >>> resolve_gate_bias("depth", 30), resolve_gate_bias(-2, 30)
    (-3.0, -2.0)
    """
    if isinstance(gate_bias, str):
        if gate_bias != "depth":
            raise ConfigError(f"gate_bias must be a number or 'depth', got {gate_bias!r}.")
        return gate_bias_for_depth(depth)
    return check_gate_bias(gate_bias)
