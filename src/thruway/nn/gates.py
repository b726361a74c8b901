"""Gates of highway layers, and the affine maps before them: joint weight, initial values and split.

The maps of a highway layer are stacked along the first axis of its weight: H, then T, then C. One GEMM therefore
computes all of them. Each map still has its own fans. Gates are modules, so that a forward hook on a gate receives T
(or C) in every pass without a change to the layer.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.init.parts import Part
from thruway.init.schemes import gain, glorot_uniform_
from thruway.nn.checks import CARRIES, check_gate_bias, check_size

__all__ = [
    "CarryGate",
    "TransformGate",
    "draw_parts_",
    "gate_bias_for_depth",
    "highway_parts",
    "mix",
    "resolve_gate_bias",
    "split_maps",
]


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
        c: carry gate C(x), same shape. If None, 1 - t.
    Returns:
        y, same shape: exactly x for t = 0 and exactly h for t = 1. If autocast gives h a narrower dtype than x, y has
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
    depth 30 the line is extended to -10, the lowest bias that the authors searched. It is still worth searching for the
    best bias.

    Args:
        depth: number of hidden layers of the stack, at least 1.
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
        ConfigError: if `gate_bias` is neither a number nor "depth".

    >>> resolve_gate_bias("depth", 30), resolve_gate_bias(-2, 30)
    (-3.0, -2.0)
    """
    if isinstance(gate_bias, str):
        if gate_bias != "depth":
            raise ConfigError(f"gate_bias must be a number or 'depth', got {gate_bias!r}.")
        return gate_bias_for_depth(depth)
    return check_gate_bias(gate_bias)


def highway_parts(
    weight: Tensor, bias: Tensor, carry: str, gate_bias: float, activation: str | None, groups: int = 1
) -> Iterator[Part]:
    """Yield the maps in `weight` (maps * width, ...) and `bias` (maps * width) as views of the parameters.

    An independent carry gate starts as open as the transform gate starts closed: sigmoid(-b) = 1 - sigmoid(b).
    """
    about = {
        "transform": (0.0, activation),
        "transform_gate": (gate_bias, "sigmoid"),
        "carry_gate": (-gate_bias, "sigmoid"),
    }
    names = CARRIES[carry]
    weights, biases = weight.detach().chunk(len(names)), bias.detach().chunk(len(names))
    for name, part_weight, part_bias in zip(names, weights, biases, strict=True):
        value, follows = about[name]
        yield Part(name, part_weight, part_bias, value, follows, groups)


def draw_parts_(parts: Iterable[Part], generator: torch.Generator | None = None) -> None:
    """Initialise each map: Glorot's normalised weights times the gain of the activation, and initial biases."""
    for part in parts:
        if part.weight.is_meta:  # no values yet; after to_empty() the owner calls reset_parameters()
            continue
        factor = 1.0 if part.activation is None else gain(part.activation)
        glorot_uniform_(part.weight, factor, generator, part.groups)
        if part.bias is not None:
            nn.init.constant_(part.bias, part.bias_value)


def split_maps(z: Tensor, maps: int, dim: int) -> tuple[Tensor, ...]:
    """Split the joint output into the outputs of the single maps."""
    # Nothing else refers to z, so its pieces need no protection against in-place writes. An in-place
    # activation (ReLU(inplace=True)) may write to its piece, which chunk() would forbid.
    return tuple(torch.unsafe_chunk(z, maps, dim=dim))
