"""Validation of the settings and arguments of Shapeset."""

import math
from collections.abc import Collection

import torch
from torch import Tensor

from thruway.data.shapeset_classes import KINDS, MAX_OBJECTS
from thruway.data.shapeset_outline import MARGIN
from thruway.errors import ConfigError

__all__ = [
    "check_classes",
    "check_fraction",
    "check_greys",
    "check_integer",
    "check_scale",
    "grey_levels",
    "image_indices",
]


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise ConfigError unless `value` is an integer from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name} must be an integer from {low} to {high}, got {value!r}.")


def check_fraction(name: str, value: float, meaning: str, *, may_be_one: bool = True) -> None:
    """Raise ConfigError unless `value` is between 0 and 1."""
    if not (0 <= value <= 1 if may_be_one else 0 <= value < 1):
        raise ConfigError(f"{name}, {meaning}, must be from 0 to {'1' if may_be_one else 'below 1'}, got {value}.")


def check_scale(scale: tuple[float, float], size: int) -> None:
    """Raise ConfigError if objects could be smaller than two pixels, or not fit into the image at some rotation."""
    low, high = scale
    smallest, largest = 2 / size, 1 - 2 * MARGIN / size
    if not smallest <= low <= high <= largest:
        raise ConfigError(
            f"scale is the smallest and largest diameter as fractions of the image size, got {low} and {high}. Images "
            f"of {size} x {size} allow {smallest:g} (two pixels) to {largest:g} (a margin of one pixel per side)."
        )


def check_classes(classes: Collection[str]) -> None:
    """Raise ConfigError for an empty list, unknown letters or repeated classes."""
    if not classes:
        raise ConfigError("classes is empty. Pass at least one, such as 'T' for a single triangle.")
    for letters in classes:
        if not 1 <= len(letters) <= MAX_OBJECTS or not set(letters) <= set(KINDS):
            raise ConfigError(
                f"a class is a string of 1 to {MAX_OBJECTS} letters of {''.join(KINDS)}, one per object, "
                f"got {letters!r}."
            )
    if len({"".join(sorted(letters)) for letters in classes}) < len(classes):
        raise ConfigError(f"classes contains the same objects twice, got {', '.join(classes)}. Remove one of them.")


def grey_levels(limits: tuple[float, float]) -> tuple[int, int]:
    """Convert fractions of white to grey levels from 0 to 255, rounded down as in the authors' generator.

    >>> grey_levels((0.0, 0.45)), grey_levels((0.55, 1.0))
    ((0, 114), (140, 255))
    """
    return math.floor(limits[0] * 255), math.floor(limits[1] * 255)


def check_greys(dark: tuple[float, float], light: tuple[float, float]) -> None:
    """Raise ConfigError if an object could have the grey level of the background."""
    if not 0 <= dark[0] <= dark[1] < light[0] <= light[1] <= 1 or grey_levels(dark)[1] == grey_levels(light)[0]:
        raise ConfigError(
            f"dark and light must be ranges within 0 to 1, and dark must end at least 1/255 below the start of light, "
            f"since objects would be invisible otherwise, got dark={tuple(dark)}, light={tuple(light)}."
        )


def image_indices(start: int | Tensor, count: int | None, device: torch.device | str | None) -> Tensor:
    """Return the indices of the requested images, int64, on the device that draws them.

    >>> image_indices(7, 3, None)
    tensor([7, 8, 9])
    """
    if isinstance(start, Tensor):
        if count is not None:
            raise ConfigError(
                f"a tensor of indices determines the number of images, got count={count} as well. Omit count."
            )
        if start.dtype != torch.int64 or start.dim() != 1 or bool((start < 0).any()):
            raise ConfigError(
                f"indices must be a one-dimensional int64 tensor of values of at least 0, got {start.dtype} of shape "
                f"{tuple(start.shape)}"
                f"{f', smallest {int(start.min())}' if start.numel() else ''}."
            )
        return start if device is None else start.to(device)
    if count is None:
        raise ConfigError(f"count is missing. Write images({start}, 100), or pass all indices as a tensor.")
    check_integer("start", start, 0, 2**62)
    check_integer("count", count, 0, 2**31)
    return torch.arange(start, start + count, device="cpu" if device is None else device)
