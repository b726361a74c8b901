"""Rendering of Shapeset layouts into grey images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.data.shapeset_layout import Layout, image_slot, object_slot
from thruway.data.shapeset_random import random_integers, random_uniform

__all__ = ["GreyLevels", "render"]


@dataclass(frozen=True)
class GreyLevels:
    """Ranges of grey levels, 0 to 255, of backgrounds and objects; both ends are included."""

    dark: tuple[int, int]
    light: tuple[int, int]
    swap: float  # probability of dark objects on a light background


def render(scene: Layout, greys: GreyLevels, size: int, samples: int) -> Tensor:
    """Render the images of a layout: uint8, (n, size, size), rows from top to bottom."""
    max_objects, n = scene.areas.shape
    is_swapped = random_uniform(scene.keys, image_slot(1), 1)[0] < greys.swap
    ranges = torch.tensor([greys.dark, greys.light], device=scene.keys.device)
    ground_range, object_range = ranges[is_swapped.long()].T, ranges[(~is_swapped).long()].T
    pixels = _draw_level(scene.keys, image_slot(2), ground_range)[:, None, None].expand(
        n, size * samples, size * samples
    )
    columns = torch.arange(size * samples, dtype=torch.int16, device=scene.keys.device)
    for order in range(max_objects):
        first, after = scene.spans[:, order, :, :, None]
        level = _draw_level(scene.keys, object_slot(order, 2), object_range)[:, None, None]
        pixels = torch.where((columns >= first) & (columns < after), level, pixels)
    return pixels if samples == 1 else _average_samples(pixels, size, samples)


def _draw_level(keys: Tensor, slot: int, levels: Tensor) -> Tensor:
    low, high = levels[0], levels[1]
    return (low + random_integers(keys, slot, high - low + 1)).to(torch.uint8)


def _average_samples(points: Tensor, size: int, samples: int) -> Tensor:
    """Average the sample points of each pixel, rounded half up, in integers so that all devices round the same way."""
    sums = points.view(-1, size, samples, size, samples).sum((2, 4), dtype=torch.int32)
    points_in_pixel = samples * samples
    return torch.div(2 * sums + points_in_pixel, 2 * points_in_pixel, rounding_mode="floor").to(torch.uint8)
