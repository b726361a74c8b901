"""Layers before and after each layer of an `nn.Sequential`, to choose its gain."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from thruway.activations import ACTIVATIONS

__all__ = ["Neighbours", "neighbours"]

# Modules that may stand between a layer and its activation: they change neither the activation nor, at
# initialisation, the mirrored pairs of units of looks-linear layers.
_PASSED_THROUGH = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
_NAMES: dict[type[nn.Module], str] = {type(row.module()): name for name, row in ACTIVATIONS.items() if name != "linear"}


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of a layer in a chain.

    Attributes:
        activation: name of the activation that follows; "linear" if another layer follows; None if unknown.
        reason: why the activation is unknown, for the summary.
        previous: the preceding layer, if there is only a plain ReLU (and nothing that mixes units) in between.
    """

    activation: str | None = None
    reason: str = "next activation unknown"
    previous: nn.Module | None = None


def neighbours(model: nn.Module) -> dict[int, Neighbours]:
    """Return the neighbours of each layer inside an `nn.Sequential`, keyed by `id`."""
    found: dict[int, Neighbours] = {}
    for chain in model.modules():
        if isinstance(chain, nn.Sequential):
            links = [link for link in _flat(chain) if not isinstance(link, _PASSED_THROUGH)]
            for place, layer in enumerate(links):
                # The outermost chain comes first: it contains the most neighbours.
                if type(layer) not in _NAMES:
                    found.setdefault(id(layer), _around(links, place))
    return found


def _flat(chain: nn.Sequential) -> Iterator[nn.Module]:
    for child in chain:
        if isinstance(child, nn.Sequential):
            yield from _flat(child)
        else:
            yield child


def _around(links: list[nn.Module], place: int) -> Neighbours:
    before_relu = place >= 2 and isinstance(links[place - 1], nn.ReLU)
    previous = links[place - 2] if before_relu else None
    if place + 1 == len(links):
        return Neighbours(previous=previous)
    after = links[place + 1]
    if type(after) in _NAMES:
        return Neighbours(_NAMES[type(after)], "", previous)
    if isinstance(after, nn.Linear | nn.Bilinear | nn.modules.conv._ConvNd):
        return Neighbours("linear", "", previous)
    return Neighbours(None, f"{type(after).__name__} has no known gain", previous)
