"""Affine maps that share one weight: their layout, their initialisation, and the split of their joint output.

The maps of a highway layer are stacked along the first axis of its weight: H, then T, then C. So one GEMM
computes all of them. Each map still has its own fans.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.activations import ACTIVATIONS
from thruway.init.parts import Part
from thruway.init.schemes import gain, glorot_uniform_
from thruway.nn.argument_checks import CARRIES

__all__ = ["activation_name", "draw_parts_", "highway_parts", "split_maps"]


def activation_name(which: str | Callable[[Tensor], Tensor]) -> str | None:
    """Return the name in ACTIVATIONS of a name, function or module; None if it is not in the table.

    >>> activation_name(torch.tanh), activation_name(nn.ReLU(inplace=True)), activation_name(nn.ELU(alpha=2.0))
    ('tanh', 'relu', None)
    """
    if isinstance(which, str):
        return which
    for name, row in ACTIVATIONS.items():
        same_function = which in (row.function, getattr(torch, name, None), getattr(F, name, None))
        if same_function or (isinstance(which, nn.Module) and _settings(which) == _settings(row.module())):
            return name
    return None


def _settings(module: nn.Module) -> tuple[type, dict[str, object]]:
    """Return the type and the attributes that determine the output of a module without parameters."""
    silent = ("training", "inplace")
    public = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in silent}
    return type(module), public


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
    """Initialise each map: Glorot's normalised weights times the gain of its activation; biases at their start."""
    for part in parts:
        if part.weight.is_meta:  # no values yet; after to_empty() the owner calls reset_parameters()
            continue
        factor = 1.0 if part.activation is None else gain(part.activation)
        glorot_uniform_(part.weight, factor, generator, part.groups)
        if part.bias is not None:
            nn.init.constant_(part.bias, part.bias_value)


def split_maps(z: Tensor, maps: int, dim: int) -> tuple[Tensor, ...]:
    """Split the joint output into the outputs of the maps."""
    # Nothing else refers to z, so its pieces need no protection against in-place writes. An in-place
    # activation (ReLU(inplace=True)) may write to its piece, which chunk() would forbid.
    return tuple(torch.unsafe_chunk(z, maps, dim=dim))
