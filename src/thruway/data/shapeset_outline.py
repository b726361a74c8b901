"""From the numbers of an object to the pixels in it.

The same bits everywhere: only + - * / and square roots of float64, which IEEE 754 rounds alike on every machine, each
in a call of its own so that no compiler joins two; sines and cosines come from a table that is rounded far above what
the libraries disagree on. An object is convex, so a row of pixels meets it in one span, and the spans are all we need:
a picture has 32 of them where it has 1,024 pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["MARGIN", "TURNS", "Outline", "outline", "placed", "spans"]

TURNS = 255  # directions in a full circle (the authors' resolution)
MARGIN = 1.0  # pixels between an object and the edge of the picture


def circle_point(turn: float) -> tuple[float, float]:
    """(cosine, sine) of `turn` full circles, in multiples of 2**-32."""
    angle = 2 * math.pi * turn
    return round(math.cos(angle) * 2**32) / 2**32, round(math.sin(angle) * 2**32) / 2**32


_CIRCLE = torch.tensor([circle_point(turn / TURNS) for turn in range(TURNS)], dtype=torch.float64).T.contiguous()


class Outline(NamedTuple):
    """The corners of m objects with n corners each, in order around each object, in pixels."""

    x: Tensor  # float64, (n, m)
    y: Tensor


def outline(corners: int, skew: Tensor, turn: Tensor, wide: Tensor, high: Tensor) -> Outline:
    """Polygons around the origin: a regular one turned by `skew`, stretched, laid on its base, turned by `turn`.

    Args:
        corners: n, of each polygon.
        skew, turn: int64, (m,), in 255ths of a circle; negative ones turn back.
        wide, high: float64, (m,), the diameters in pixels that the circle around the regular polygon is stretched to.
    """
    # The lowest edge lies flat.
    regular = [circle_point((k + 0.5) / corners + 0.25) for k in range(corners)]
    at = torch.tensor(regular, dtype=torch.float64, device=wide.device)[:, :, None] * 0.5
    circle = _CIRCLE.to(wide.device)
    c, s = circle[:, skew % TURNS]
    turn_c, turn_s = circle[:, turn % TURNS]
    # Where the stretching takes a flat edge's direction; turning back by it lays the edge flat again.
    along, across = wide * c, high * s
    length = (along * along + across * across).sqrt()
    back_c, back_s = along / length, across / length
    both_c, both_s = turn_c * back_c + turn_s * back_s, turn_s * back_c - turn_c * back_s
    x_x, x_y = both_c * along - both_s * across, both_s * along + both_c * across
    wide_s, high_c = wide * s, high * c
    y_x, y_y = both_c * -wide_s - both_s * high_c, both_s * -wide_s + both_c * high_c
    return Outline(at[:, 0] * x_x + at[:, 1] * y_x, at[:, 0] * x_y + at[:, 1] * y_y)


def placed(shape: Outline, size: int, across: Tensor, down: Tensor) -> Outline:
    """The polygons moved into a picture, all positions that keep the margin being equally likely.

    Args:
        size: pixels on a side of the picture.
        across, down: float64, (m,), from 0 (the leftmost and topmost position) to 1.
    """
    return Outline(_moved(shape.x, size, across), _moved(shape.y, size, down))


def _moved(at: Tensor, size: int, share: Tensor) -> Tensor:
    low, high = at.amin(0), at.amax(0)
    room = (size - 2 * MARGIN) - (high - low)
    return at + ((MARGIN - low) + share * room)


def spans(shape: Outline, size: int, samples: int = 1) -> Tensor:
    """Where each row of sample points enters and leaves each polygon: int16, (2, m, size * samples).

    A sample point is the middle of a pixel or, with `samples` above 1, of each of the samples x samples squares that
    a pixel is cut into. Row j of object i holds the points from [0, i, j] on, up to and without [1, i, j]; the two are
    equal where the row misses the object.
    """
    x, y = shape
    rows = torch.tensor([(row + 0.5) / samples for row in range(size * samples)], dtype=torch.float64, device=x.device)
    along, down = x.roll(-1, 0) - x, y.roll(-1, 0) - y
    # Each edge bounds the row's x by its line, from the left if it runs upwards, from the right if downwards.
    slope = along / torch.where(down == 0, math.inf, down)
    start = x - y * slope
    on_line = slope[:, :, None] * rows
    enters = (on_line + torch.where(down < 0, start, -math.inf)[:, :, None]).amax(0)
    leaves = (on_line + torch.where(down > 0, start, math.inf)[:, :, None]).amin(0)
    # A flat edge bounds no x; the rows above and below it are cut off here.
    inside = (rows >= y.amin(0)[:, None]) & (rows <= y.amax(0)[:, None])
    first = (enters * samples - 0.5).ceil_()
    after = torch.where(inside, (leaves * samples + 0.5).floor_(), first)
    return torch.stack([first, torch.maximum(first, after)]).clamp_(0, size * samples).short()
