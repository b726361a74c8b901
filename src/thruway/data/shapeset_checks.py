"""What may be asked of Shapeset; everything else is refused by name, before anything is drawn."""

import math
from collections.abc import Collection

import torch
from torch import Tensor

from thruway.data.shapeset_classes import KINDS, MOST
from thruway.data.shapeset_outline import MARGIN
from thruway.errors import ConfigError

__all__ = ["check_classes", "check_greys", "check_scale", "check_share", "check_whole", "grey_levels", "image_indices"]


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse what is not an integer from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"{name} is a whole number from {low} to {high}: got {value!r}.")


def check_share(name: str, value: float, meaning: str, *, may_be_one: bool = True) -> None:
    """Refuse what is not between 0 and 1."""
    if not (0 <= value <= 1 if may_be_one else 0 <= value < 1):
        raise ConfigError(f"{name} is {meaning}, from 0 to {'1' if may_be_one else 'below 1'}: got {value}.")


def check_scale(scale: tuple[float, float], size: int) -> None:
    """Refuse objects that are smaller than two pixels across, or that might not fit however they are turned."""
    low, high = scale
    smallest, largest = 2 / size, 1 - 2 * MARGIN / size
    if not smallest <= low <= high <= largest:
        raise ConfigError(
            f"scale is the smallest and the largest diameter, as shares of the side: got {low} and {high}. Pictures "
            f"of {size} x {size} take {smallest:g} (two pixels) to {largest:g} (a pixel of margin on each side)."
        )


def check_classes(classes: Collection[str]) -> None:
    """Refuse an empty list, unknown letters, and classes that come twice."""
    if not classes:
        raise ConfigError("classes is empty: name at least one, such as 'T' for a single triangle.")
    for letters in classes:
        if not 1 <= len(letters) <= MOST or not set(letters) <= set(KINDS):
            raise ConfigError(
                f"a class is 1 to {MOST} letters of {''.join(KINDS)}, one for each object: got {letters!r}."
            )
    if len({"".join(sorted(letters)) for letters in classes}) < len(classes):
        raise ConfigError(f"classes name the same objects twice: got {', '.join(classes)}. Leave one of them out.")


def grey_levels(limits: tuple[float, float]) -> tuple[int, int]:
    """From shares of white to levels of 255, rounded down as the authors do.

    >>> grey_levels((0.0, 0.45)), grey_levels((0.55, 1.0))
    ((0, 114), (140, 255))
    """
    return math.floor(limits[0] * 255), math.floor(limits[1] * 255)


def check_greys(dark: tuple[float, float], light: tuple[float, float]) -> None:
    """Refuse ranges in which an object could have its background's grey."""
    if not 0 <= dark[0] <= dark[1] < light[0] <= light[1] <= 1 or grey_levels(dark)[1] == grey_levels(light)[0]:
        raise ConfigError(
            f"dark and light are ranges of grey within 0 to 1, and dark ends at least 1/255 below light, or objects "
            f"could not be seen: got dark={tuple(dark)}, light={tuple(light)}."
        )


def image_indices(start: int | Tensor, count: int | None, device: torch.device | str | None) -> Tensor:
    """The indices asked for, int64, on the device that draws.

    >>> image_indices(7, 3, None)
    tensor([7, 8, 9])
    """
    if isinstance(start, Tensor):
        if count is not None:
            raise ConfigError(f"a tensor names every image itself: got count={count} as well. Leave count out.")
        if start.dtype != torch.int64 or start.dim() != 1 or bool((start < 0).any()):
            raise ConfigError(
                f"indices are int64, in one dimension, 0 or more: got {start.dtype} of shape {tuple(start.shape)}"
                f"{f', smallest {int(start.min())}' if start.numel() else ''}."
            )
        return start if device is None else start.to(device)
    if count is None:
        raise ConfigError(
            f"images from {start} on need a count: images({start}, 100), or give all indices as a tensor."
        )
    check_whole("start", start, 0, 2**62)
    check_whole("count", count, 0, 2**31)
    return torch.arange(start, start + count, device="cpu" if device is None else device)
