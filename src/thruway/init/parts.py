"""What a module tells an initialiser about maps that share one parameter.

A highway layer keeps H and T in one weight, so that one GEMM computes both. Their fans are still
those of two maps: a fused (2w, w) weight has fan_out w twice, not 2w. A module that stores maps
this way lists them with `init_parts`; everything else is treated by its class.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

__all__ = ["HasParts", "Part"]


class Part(NamedTuple):
    """One affine map: views of its parameters and what is known about it."""

    name: str  # "transform", "transform_gate", "carry_gate"; in a stack "3.transform"
    weight: Tensor  # (fan_out, fan_in / groups, *kernel), a view that writes through
    bias: Tensor | None
    bias_value: float = 0.0  # what the bias starts at: the gate bias of a gate
    activation: str | None = None  # the name of what follows, for the gain; None: not known
    groups: int = 1
    weight_value: float | None = None  # a constant start, whatever the scheme: a norm's 1, a learnt scale's 0


@runtime_checkable
class HasParts(Protocol):
    """A module whose parameters hold several maps."""

    def init_parts(self) -> Iterator[Part]:
        """The maps, in a fixed order; together they cover every parameter the module owns itself.

        A part may also view a parameter of a submodule, to say how that one starts (the gate of a
        wrapper); the submodule's own class then has no say in it.
        """
        ...
