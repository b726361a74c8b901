"""From a layout to grey pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.data.shapeset_layout import Layout, object_slot, picture_slot
from thruway.data.shapeset_random import below, units

__all__ = ["Greys", "paint"]


@dataclass(frozen=True)
class Greys:
    """The levels, 0 to 255, that backgrounds and objects are drawn from, both ends included."""

    dark: tuple[int, int]
    light: tuple[int, int]
    swap: float  # how often the background takes the light ones, else the dark ones


def paint(made: Layout, greys: Greys, size: int, samples: int) -> Tensor:
    """The pictures of a layout: uint8, (n, size, size), row by row from the top."""
    most, n = made.areas.shape
    is_swapped = units(made.keys, picture_slot(1), 1)[0] < greys.swap
    ranges = torch.tensor([greys.dark, greys.light], device=made.keys.device)
    ground_range, object_range = ranges[is_swapped.long()].T, ranges[(~is_swapped).long()].T
    pixels = _level(made.keys, picture_slot(2), ground_range)[:, None, None].expand(n, size * samples, size * samples)
    columns = torch.arange(size * samples, dtype=torch.int16, device=made.keys.device)
    for order in range(most):
        first, after = made.spans[:, order, :, :, None]
        level = _level(made.keys, object_slot(order, 2), object_range)[:, None, None]
        pixels = torch.where((columns >= first) & (columns < after), level, pixels)
    return pixels if samples == 1 else _averaged(pixels, size, samples)


def _level(keys: Tensor, slot: int, levels: Tensor) -> Tensor:
    low, high = levels[0], levels[1]
    return (low + below(keys, slot, high - low + 1)).to(torch.uint8)


def _averaged(points: Tensor, size: int, samples: int) -> Tensor:
    """The mean of each pixel's points, rounded half up: in integers, so that no device rounds otherwise."""
    sums = points.view(-1, size, samples, size, samples).sum((2, 4), dtype=torch.int32)
    points_in_pixel = samples * samples
    return torch.div(2 * sums + points_in_pixel, 2 * points_in_pixel, rounding_mode="floor").to(torch.uint8)
