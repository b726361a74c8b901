"""Following a shortcut back to its source: through views, resizing, and at most one linear map."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from thruway.dissecting.tracing.functions import LINEAR, NORMS, PIECES, PRODUCTS, RESIZES, SCALINGS, TRANSPARENT
from thruway.dissecting.tracing.tape import Call, Tape

__all__ = ["MAPS", "Link", "Role", "links", "role_of"]

Role = Literal["transparent", "piece", "resize", "norm", "scale", "linear", "other"]

# The roles that make a call with weights a layer
MAPS: frozenset[Role] = frozenset({"linear", "other"})


@dataclass(frozen=True, slots=True)
class Link:
    """A value from which a shortcut starts, and counts of the calls in between.

    Attributes:
        value: number of the value on the tape.
        linear: number of maps with weights.
        other: number of norms, pooling and padding layers.
        pieces: number of times a part of the signal is taken.
        joins: number of earlier branches that were added.
    """

    value: int
    linear: int = 0
    other: int = 0
    pieces: int = 0
    joins: int = 0

    @property
    def cost(self) -> tuple[int, int, int]:
        """Distance from a plain identity, for comparison: the lower, the better a shortcut."""
        return self.linear, self.other + self.pieces, self.joins

    @property
    def is_identity(self) -> bool:
        return self.linear == self.other == self.pieces == 0


def role_of(tape: Tape, call: Call) -> Role:
    """Return the role of a call: its effect on its data."""
    data = {read.value for read in call.reads if tape.values[read.value].origin == "data"}
    if tape.frames[call.frame].kind.endswith(("Norm", "Norm1d", "Norm2d", "Norm3d")):
        return "norm"
    if call.name in TRANSPARENT:
        return "transparent"
    if call.name in PIECES:
        return "piece"
    if call.name in NORMS:
        return "norm"
    if len(data) == 1 and call.name in RESIZES:
        return "resize"
    if len(data) == 1 and call.name in SCALINGS:
        sizes = [tape.values[read.value] for read in call.reads if tape.values[read.value].origin == "weight"]
        return "scale" if any(len(value.shape) > 0 and max(value.shape) > 1 for value in sizes) else "transparent"
    if call.name in LINEAR and tape.weights_of(call):
        return "linear"
    return "other"


def links(tape: Tape, joins: Mapping[int, int], value: int) -> Iterator[Link]:
    """Yield `value` and its ancestors along a possible shortcut, nearest first.

    Args:
        joins: the joins found so far, each with the value of its shortcut. The walk continues along that shortcut,
            since x + attention(x) + mlp(x) is one stream with two branches.
    """
    link: Link | None = Link(value)
    while link is not None:
        yield link
        link = _next(tape, joins, link)


def _next(tape: Tape, joins: Mapping[int, int], link: Link) -> Link | None:
    value = tape.values[link.value]
    if value.call is None:
        return replace(link, value=value.parents[0]) if len(value.parents) == 1 else None
    call = tape.calls[value.call]
    if call.number in joins:
        return replace(link, value=joins[call.number], joins=link.joins + 1)
    frame = tape.frames[call.frame]
    role = role_of(tape, call)
    if role == "norm" and frame.output == link.value and frame.input is not None and frame.input < link.value:
        return replace(link, value=frame.input, other=link.other + 1)
    if len(value.parents) != 1:
        return None
    onward = replace(link, value=value.parents[0])
    if role == "transparent":
        return onward
    if role == "piece":
        return replace(onward, pieces=link.pieces + 1)
    if role == "linear":
        return replace(onward, linear=1) if link.linear == 0 else None
    # A shortcut may be scaled by one number for each channel, as in CAFormer. Added parameters make it something else.
    is_scaled = role == "scale" and call.name in PRODUCTS
    return replace(onward, other=link.other + 1) if role in ("norm", "resize") or is_scaled else None
