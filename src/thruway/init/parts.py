"""Description of the maps in the parameters of a module, for initialisation.

A highway layer keeps H and T in one weight, so that one GEMM computes both. Their fans are still those of
two maps: a fused (2w, w) weight has fan_out w twice, not 2w. A module that stores maps this way lists them
with `init_parts`. All other modules are initialised according to their class.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

__all__ = ["HasParts", "Part"]


class Part(NamedTuple):
    """One affine map: views of its parameters and how they are initialised."""

    name: str  # "transform", "transform_gate", "carry_gate"; in a stack "3.transform"
    weight: Tensor  # (fan_out, fan_in / groups, *kernel), a view of the parameter
    bias: Tensor | None
    bias_value: float = 0.0  # initial value of the bias; the gate bias of a gate
    activation: str | None = None  # name of the activation that follows, for the gain; None if unknown
    groups: int = 1
    weight_value: float | None = None  # constant initial value whatever the scheme: 1 for a norm, 0 for a learnt scale


@runtime_checkable
class HasParts(Protocol):
    """Protocol of a module whose parameters hold several maps."""

    def init_parts(self) -> Iterator[Part]:
        """Yield the maps in a fixed order; together they cover every parameter that the module owns directly.

        A part may also view a parameter of a submodule, to set its initial value (the gate of a wrapper). It
        then replaces the rule for the submodule's class.
        """
        ...
