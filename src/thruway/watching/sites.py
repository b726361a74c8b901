"""Where in a network a number is taken."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

__all__ = ["KINDS", "Kind", "Site"]

Kind = Literal["output", "gradient", "parameter", "parameter_gradient", "update"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(eq=False, slots=True)
class Site:
    """One place that is watched: an output, the gradient with respect to it, or a parameter.

    `name` is the module's path; for what a module's own code computes, the path and the operation
    ("blocks.3.add"), and from the second call of a shared module on also the number of the call
    ("encoder#2"). An output and its gradient share their name.
    """

    name: str
    kind: Kind
    operation: str  # what made it: a module's class, a function's name, "parameter"
    activation: str | None = None  # a key of ENDS or ACTIVATIONS, for outputs of activation functions
    unit_dim: int = -1  # the dimension that counts units (features, channels)
    is_gate: bool = False  # a sigmoid's output that blends two signals
    order: int = 0  # when it was first met; the forward pass first, then the backward pass
    group: Any = field(default=None, repr=False)  # the collector's: whom its tensors are reduced with

    @property
    def key(self) -> tuple[Kind, str]:
        return self.kind, self.name

    def __repr__(self) -> str:
        what = f", {self.activation}" if self.activation else ""
        return f"<{self.kind} {self.name} ({self.operation}{what}{', gate' if self.is_gate else ''})>"
