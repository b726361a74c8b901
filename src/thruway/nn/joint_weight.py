"""Several maps in one weight: how they lie there, how they are told apart, how they start.

The maps of a highway layer lie one after the other along the first axis of its weight, H first,
then T, then C. So one GEMM computes all of them. Each is still a map of its own, with its own fans.
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
    """The row of ACTIVATIONS that `which` is, by name, function or module; None if it is none of them.

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
    """What decides the numbers a module without parameters gives."""
    silent = ("training", "inplace")
    public = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in silent}
    return type(module), public


def highway_parts(
    weight: Tensor, bias: Tensor, carry: str, gate_bias: float, activation: str | None, groups: int = 1
) -> Iterator[Part]:
    """The maps in `weight` (maps * width, ...) and `bias` (maps * width), as views that write through.

    An independent carry gate starts as far open as the transform gate starts closed: sigmoid(-b) = 1 - sigmoid(b).
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
    """Draw each map afresh: Glorot's normalised weights times the gain of what follows; biases at their start."""
    for part in parts:
        if part.weight.is_meta:  # holds no numbers; after to_empty() the owner calls reset_parameters()
            continue
        factor = 1.0 if part.activation is None else gain(part.activation)
        glorot_uniform_(part.weight, factor, generator, part.groups)
        if part.bias is not None:
            nn.init.constant_(part.bias, part.bias_value)


def split_maps(z: Tensor, maps: int, dim: int) -> tuple[Tensor, ...]:
    """The outputs of the maps, from the one output they share."""
    # Nothing else holds z. So its pieces need no guard against writes to each other, and an activation
    # that works in place (ReLU(inplace=True)) may write to its own; chunk() would forbid it.
    return tuple(torch.unsafe_chunk(z, maps, dim=dim))
