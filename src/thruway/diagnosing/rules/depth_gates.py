"""The gates of layers one after another, as shares T of the transform, with the words for them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thruway.diagnosing.reading import Matrix, Reading
from thruway.diagnosing.rules.wording import number
from thruway.diagnosing.trunk import recurrent_names
from thruway.nn.gates import gate_bias_for_depth
from thruway.watching.sites import Site

__all__ = ["DepthGates", "carried_by", "depth_gates"]


@dataclass(frozen=True)
class DepthGates:
    """The gates of layers one after another.

    Attributes:
        sites: outputs of the gates.
        means: mean shares T of the transforms, (layers, steps): of the gates, or 1 - gate of carry gates.
        is_carry: the gates multiply the input of the layer: c * x + (1 - c) * h.
    """

    sites: tuple[Site, ...]
    means: Matrix
    is_carry: bool

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(_layer_of(site) for site in self.sites)

    @property
    def kind(self) -> str:
        return "carry" if self.is_carry else "transform"

    @property
    def symbol(self) -> str:
        return "1 - gate" if self.is_carry else "gates"

    @property
    def shut(self) -> str:
        return "near 1" if self.is_carry else "shut"

    @property
    def open(self) -> str:
        return "near 0" if self.is_carry else "wide open"

    @property
    def low(self) -> str:
        return "high" if self.is_carry else "low"

    @property
    def above(self) -> str:
        return "below" if self.is_carry else "above"

    @property
    def sign(self) -> str:
        return "positive" if self.is_carry else "negative"

    @property
    def guide(self) -> str:
        """The bias that the guideline gives for this depth."""
        bias = gate_bias_for_depth(len(self.sites))
        return number(-bias if self.is_carry else bias)

    def text(self, transform: float) -> str:
        """Return the value of a gate with a share of the transform."""
        return number(1 - transform if self.is_carry else transform)

    def bias(self, transform: float) -> str:
        """Return the bias of a gate with a share of the transform."""
        share = min(max(transform, 1e-12), 1 - 1e-12)
        logit = math.log(share / (1 - share))
        return number(-logit if self.is_carry else logit)

    def by_size(self, at: int) -> tuple[str, ...]:
        """Return the names of the layers at a place in the steps, that with the least transform first."""
        rows: Sequence[int] = np.argsort(self.means[:, at], kind="stable").tolist()
        return tuple(self.layers[row] for row in rows)


def carried_by(means: Matrix) -> Matrix:
    """Return the share of the input that passes all layers, (steps,)."""
    found: Matrix = np.exp(np.log(np.maximum(1 - means, 1e-12)).sum(0))
    return found


def depth_gates(reading: Reading) -> DepthGates | None:
    """Return the gates over depth; None if there are fewer than two.

    Which operand a gate multiplies is recorded. Where it is not, as in older files, a gate is one of the transform
    unless its name says "carry".
    """
    means = reading.values("mean")
    if means is None:
        return None
    recurrent = reading.derived(recurrent_names)
    sites = [
        site
        for site in reading.outputs
        if site.is_gate
        and site.name in means.row_of
        and "#" not in site.name
        and (site.gate_role is not None or "carry" not in site.name.rpartition(".")[2])
        and site.gate_role != "forget"
        and not any(site.name == name or site.name.startswith(f"{name}.") for name in recurrent)
    ]
    is_carry = any(site.gate_role == "carry" for site in sites)
    is_carry = is_carry and not any(site.gate_role in ("transform", "input") for site in sites)
    sites = [site for site in sites if (site.gate_role == "carry") == is_carry]
    if len(sites) < 2 or not _are_different(reading, sites):
        return None
    found = means.values[[means.row_of[site.name] for site in sites]]
    return DepthGates(tuple(sites), 1 - found if is_carry else found, is_carry)


def _are_different(reading: Reading, sites: Sequence[Site]) -> bool:
    """Return True if each gate may belong to a layer of its own: one gate that is called many times is one gate."""
    in_code = [site for site in sites if site.operation != "transform gate"]
    weights = [parameter.shape for parameter in reading.parameters if len(parameter.shape) >= 2]
    # Each layer has a weight of its own; one of three dimensions may hold one matrix for each layer.
    if weights and len(in_code) > sum(shape[0] if len(shape) == 3 else 1 for shape in weights):
        return False
    # Gates in the code of a cell that has no module of its own lie beside maps that are called once per time step.
    scopes = {name.rpartition(".")[0] for name in reading.derived(recurrent_names)}
    return not any(
        site.name.rpartition(".")[0] in scopes and site.name.rpartition(".")[2].startswith(site.operation)
        for site in in_code
    )


def _layer_of(site: Site) -> str:
    name = site.name.split("#")[0]
    parent, _, last = name.rpartition(".")
    return parent if parent and (site.operation == "transform gate" or "gate" in last or "sigmoid" in last) else name
