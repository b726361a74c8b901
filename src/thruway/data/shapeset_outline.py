"""Outlines of Shapeset objects, and the pixels inside them.

The results are bit-identical on all machines. The code uses only + - * / and square roots of float64, which IEEE 754
rounds the same way everywhere; each is a separate call, so that no compiler fuses two of them. Sines and cosines come
from a table whose rounding is much coarser than the differences between math libraries. Objects are convex, so each row
of pixels crosses an object in one span: an image needs 32 spans instead of 1,024 pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["MARGIN", "TURNS", "Outline", "polygon_outlines", "row_spans", "translated"]

TURNS = 255  # rotation steps in a full circle (the authors' resolution)
MARGIN = 1.0  # pixels between an object and the edge of the image


def circle_point(turn: float) -> tuple[float, float]:
    """Return (cosine, sine) of an angle of `turn` full circles, rounded to multiples of 2**-32."""
    angle = 2 * math.pi * turn
    return round(math.cos(angle) * 2**32) / 2**32, round(math.sin(angle) * 2**32) / 2**32


_CIRCLE = torch.tensor([circle_point(turn / TURNS) for turn in range(TURNS)], dtype=torch.float64).T.contiguous()


class Outline(NamedTuple):
    """Corner coordinates, in pixels, of m polygons with n corners each, in order around each polygon."""

    x: Tensor  # float64, (n, m)
    y: Tensor


def polygon_outlines(corners: int, skew: Tensor, turn: Tensor, wide: Tensor, high: Tensor) -> Outline:
    """Return regular polygons around the origin: rotated by `skew`, stretched, laid on their base, rotated by `turn`.

    Args:
        corners: number of corners, n, of each polygon.
        skew, turn: int64, (m,), angles in 255ths of a circle.
        wide, high: float64, (m,), width and height in pixels to which the circumscribed circle is stretched.
    """
    # The lowest edge is horizontal.
    regular = [circle_point((k + 0.5) / corners + 0.25) for k in range(corners)]
    at = torch.tensor(regular, dtype=torch.float64, device=wide.device)[:, :, None] * 0.5
    circle = _CIRCLE.to(wide.device)
    c, s = circle[:, skew % TURNS]
    turn_c, turn_s = circle[:, turn % TURNS]
    # Direction of the base after rotation by `skew` and stretching; rotating back by it makes the base horizontal.
    along, across = wide * c, high * s
    length = (along * along + across * across).sqrt()
    back_c, back_s = along / length, across / length
    both_c, both_s = turn_c * back_c + turn_s * back_s, turn_s * back_c - turn_c * back_s
    x_x, x_y = both_c * along - both_s * across, both_s * along + both_c * across
    wide_s, high_c = wide * s, high * c
    y_x, y_y = both_c * -wide_s - both_s * high_c, both_s * -wide_s + both_c * high_c
    return Outline(at[:, 0] * x_x + at[:, 1] * y_x, at[:, 0] * x_y + at[:, 1] * y_y)


def translated(shape: Outline, size: int, across: Tensor, down: Tensor) -> Outline:
    """Move polygons to relative positions in an image, where 0 and 1 are the extreme positions within the margin.

    Args:
        shape: the polygons.
        size: height and width of the image in pixels.
        across, down: float64, (m,), horizontal and vertical position, from 0 (left, top) to 1 (right, bottom).
    """
    return Outline(_translated(shape.x, size, across), _translated(shape.y, size, down))


def _translated(at: Tensor, size: int, share: Tensor) -> Tensor:
    low, high = at.amin(0), at.amax(0)
    room = (size - 2 * MARGIN) - (high - low)
    return at + ((MARGIN - low) + share * room)


def row_spans(shape: Outline, size: int, samples: int = 1) -> Tensor:
    """Return the span of sample points inside each polygon for each row: int16, (2, m, size * samples).

    The sample points are the centres of the samples x samples squares into which a pixel is divided. In row j, polygon
    i contains the points from [0, i, j] up to, but not including, [1, i, j]. The two are equal if the row does not
    cross the polygon.
    """
    x, y = shape
    rows = torch.tensor([(row + 0.5) / samples for row in range(size * samples)], dtype=torch.float64, device=x.device)
    along, down = x.roll(-1, 0) - x, y.roll(-1, 0) - y
    # Each edge bounds x in a row: from the left if the edge points upwards, from the right if downwards.
    slope = along / torch.where(down == 0, math.inf, down)
    start = x - y * slope
    on_line = slope[:, :, None] * rows
    enters = (on_line + torch.where(down < 0, start, -math.inf)[:, :, None]).amax(0)
    leaves = (on_line + torch.where(down > 0, start, math.inf)[:, :, None]).amin(0)
    # A horizontal edge does not bound x; the rows above and below the polygon are excluded here.
    inside = (rows >= y.amin(0)[:, None]) & (rows <= y.amax(0)[:, None])
    first = (enters * samples - 0.5).ceil_()
    after = torch.where(inside, (leaves * samples + 0.5).floor_(), first)
    return torch.stack([first, torch.maximum(first, after)]).clamp_(0, size * samples).short()
