"""Every site met so far, by name, and what the first pass taught about them."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from thruway.watching.sites import Kind, Site

__all__ = ["Registry"]


class StackLayers(NamedTuple):
    """The layers of a stack; the last one's output is the stack's own, and not among these."""

    outputs: tuple[tuple[Site, ...], ...]  # transform, transform gate, output
    gradients: tuple[Site, ...]  # with respect to the outputs, the last one's where it is not the stack's own


@dataclass
class Registry:
    """Sites in the order they were met.

    `branches` holds the residual adds: name of the sum -> (name of the branch's output, name of the shortcut's).
    """

    sites: dict[tuple[Kind, str], Site] = field(default_factory=dict)
    branches: dict[str, tuple[str, str]] = field(default_factory=dict)
    branch_operand: dict[str, int | None] = field(default_factory=dict)
    is_learnt: bool = False  # one pass has been heard with its lineage
    stacks: dict[str, StackLayers] = field(default_factory=dict)
    known_outputs: dict[str, tuple[Site, Site]] = field(default_factory=dict)

    def output(self, name: str, operation: str, activation: str | None, tensor: Tensor) -> tuple[Site, Site]:
        """The site of an output and that of the gradient with respect to it."""
        pair = self.known_outputs.get(name)
        if pair is None:
            unit_dim = unit_dim_of(tensor, operation)
            pair = self.known_outputs[name] = (
                self._enter(Site(name, "output", operation, activation, unit_dim)),
                self._enter(Site(name, "gradient", operation, None, unit_dim)),
            )
        return pair

    def parameter(self, name: str, kind: Kind) -> Site:
        """The site of a parameter, its gradient or its update."""
        return self.sites.get((kind, name)) or self._enter(Site(name, kind, "parameter", unit_dim=0))

    def stack_layers(self, path: str, depth: int, activation: str | None, *, is_recurrent: bool = False) -> StackLayers:
        """The sites of a stack's layers, named as HighwayLinear names its parts.

        In a recurrent stack more comes of the last layer's output than of the stack's: the next time step.
        """
        known = self.stacks.get(path)
        if known is None:
            before = f"{path}." if path else ""
            found: list[tuple[Site, Site, Site, Site]] = []
            for layer in range(depth):
                name = f"{before}{layer}"
                h = self._enter(Site(f"{name}.activation", "output", "transform", activation))
                t = self._enter(Site(f"{name}.transform_gate", "output", "transform gate", "sigmoid", is_gate=True))
                y = self._enter(Site(name, "output", "highway layer"))
                found.append((h, t, y, self._enter(Site(name, "gradient", "highway layer"))))
            transforms, gates, outputs, gradients = zip(*found, strict=True)
            heard = gradients if is_recurrent else gradients[:-1]
            known = self.stacks[path] = StackLayers((transforms, gates, outputs[:-1]), heard)
        return known

    def _enter(self, site: Site) -> Site:
        site.order = len(self.sites)
        self.sites[site.key] = site
        return site


def unit_dim_of(tensor: Tensor, operation: str) -> int:
    """The dimension that counts units: channels of images and of what "1d" layers return, features of all else."""
    has_channels = tensor.dim() >= 4 or (tensor.dim() == 3 and operation.lower().endswith("1d"))
    return 1 if has_channels else -1
