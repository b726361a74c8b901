"""Layout of Shapeset images: the objects of each image and their positions, computed for a batch of images.

Each image uses only the random numbers of its own key, so the result does not depend on the rest of the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from thruway.data.shapeset_classes import KINDS, Scene, scenes
from thruway.data.shapeset_outline import TURNS, polygon_outlines, row_spans, translated
from thruway.data.shapeset_random import next_keys, random_integers, random_uniform
from thruway.errors import ConfigError

__all__ = ["MAX_ATTEMPTS", "Layout", "LayoutSettings", "image_slot", "layout", "object_slot"]

MAX_ATTEMPTS = 50  # positions tried for an object before it is omitted (the authors' `rejectionmax`)
_MAX_REDRAWS = 50  # of an image that omitted an object and then belongs to none of the classes
_SLOTS = 4  # random numbers reserved for an image, an object or an attempt; an attempt uses all of them
_ATTEMPTS_AT_ONCE = 128  # beyond this number, the arithmetic of an attempt costs as much as the calls


def image_slot(number: int) -> int:
    """Slot of a random number of the image: 0 the scene, 1 the swap of dark and light, 2 the background level."""
    return number


def object_slot(order: int, number: int, attempt: int = -1) -> int:
    """Slot of a random number of an object: 0 its skew, 1 its rotation, 2 its grey level.

    With `attempt`, slot of a number of one attempt to place it: 0 and 1 the diameters, 2 and 3 the horizontal and
    vertical position.
    """
    return _SLOTS * (1 + order * (MAX_ATTEMPTS + 1) + 1 + attempt) + number


@dataclass(frozen=True)
class LayoutSettings:
    """The settings of Shapeset that determine the layout."""

    size: int
    classes: tuple[str, ...]
    scale: tuple[float, float]
    overlap: float
    samples: int

    @property
    def max_objects(self) -> int:
        """The largest number of objects in an image."""
        return max(map(len, self.classes))


@dataclass(frozen=True)
class Layout:
    """Layouts of n images with up to `max_objects` objects each, the bottom object first."""

    keys: Tensor  # int64, (n,); the grey levels are drawn from the same keys
    labels: Tensor  # int64, (n,): indices into the classes, -1 if the remaining objects form no class
    spans: Tensor  # int16, (2, max_objects, n, rows), see `row_spans`; empty spans for absent objects
    areas: Tensor  # int64, (max_objects, n), in sample points
    hidden: Tensor  # int64, (max_objects, n): points of each object hidden by later ones, added over these


def layout(settings: LayoutSettings, keys: Tensor) -> Layout:
    """Compute the layout of one image for each key.

    Raises:
        ConfigError: if the objects of an image cannot be placed after repeated redraws.
    """
    result = _draw_layout(settings, keys)
    for _ in range(_MAX_REDRAWS):
        redrawn = (result.labels < 0).nonzero()[:, 0]
        if not len(redrawn):
            return result
        new = _draw_layout(settings, next_keys(result.keys[redrawn]))
        result.keys[redrawn], result.labels[redrawn] = new.keys, new.labels
        result.spans[:, :, redrawn] = new.spans
        result.areas[:, redrawn], result.hidden[:, redrawn] = new.areas, new.hidden
    raise ConfigError(
        f"objects of scale {settings.scale[0]} to {settings.scale[1]} cannot be placed so that they cover at most "
        f"{settings.overlap:g} of each other in images of {settings.size} x {settings.size}. Allow more overlap, or "
        "smaller or fewer objects."
    )


def _draw_layout(settings: LayoutSettings, keys: Tensor) -> Layout:
    n, max_objects, device = len(keys), settings.max_objects, keys.device
    table = scenes(settings.classes)
    ends = torch.tensor([scene.weight for scene in table], device=device).cumsum(0)
    total = sum(scene.weight for scene in table)
    scene_of = torch.searchsorted(ends, random_integers(keys, image_slot(0), total), right=True)
    kind_of = torch.tensor([_kinds(scene, max_objects) for scene in table], device=device)[scene_of].T
    result = Layout(
        keys.clone(),
        scene_of,
        torch.zeros(2, max_objects, n, settings.size * settings.samples, dtype=torch.int16, device=device),
        torch.zeros(max_objects, n, dtype=torch.int64, device=device),
        torch.zeros(max_objects, n, dtype=torch.int64, device=device),
    )
    for order in range(max_objects):
        for number, kind in enumerate(KINDS.values()):
            has_kind = kind_of[order] == number
            # If an object could not be placed, the objects above it are omitted as well.
            if order:
                has_kind &= result.areas[order - 1] > 0
            _place_object(settings, result, order, kind.corners, has_kind.nonzero()[:, 0])
    placed = (result.areas > 0).sum(0)
    labels = torch.tensor([_labels(scene, settings.classes, max_objects) for scene in table], device=device)
    result.labels.copy_(labels[scene_of, placed])
    return result


def _kinds(scene: Scene, max_objects: int) -> list[int]:
    """Return the indices into `KINDS` of the objects of a scene, bottom first, padded with -1."""
    kinds = list(KINDS)
    return [kinds.index(letter) for letter in scene.letters] + [-1] * (max_objects - len(scene.letters))


def _labels(scene: Scene, classes: tuple[str, ...], max_objects: int) -> list[int]:
    """Return the labels of a scene if only the first 0, 1, ... objects were placed; -1 if they form no class."""
    label_of = {"".join(sorted(letters)): label for label, letters in enumerate(classes)}
    return [label_of.get("".join(sorted(scene.letters[:placed])), -1) for placed in range(max_objects + 1)]


def _place_object(settings: LayoutSettings, result: Layout, order: int, corners: int, images: Tensor) -> None:
    """Place object number `order` in the given images and write it into `result` where a position was found."""
    keys = result.keys[images]
    # A skew of up to half a corner in both directions gives every triangle and every parallelogram exactly once.
    half = TURNS // (2 * corners)
    skew = random_integers(keys, object_slot(order, 0), 2 * half + 1) - half
    turn = random_integers(keys, object_slot(order, 1), TURNS)
    attempt = 0
    while len(images) and attempt < MAX_ATTEMPTS:
        # Most objects fit at the first attempt. For the others, several attempts are evaluated together.
        count = 1 if attempt == 0 else min(MAX_ATTEMPTS - attempt, 1 + _ATTEMPTS_AT_ONCE // len(images))
        numbers = random_uniform(keys, object_slot(order, 0, attempt), _SLOTS * count).view(count, _SLOTS, len(images))
        spans = _object_spans(settings, corners, skew, turn, numbers)
        area = (spans[1] - spans[0]).sum(-1)
        under = result.spans[:, :order, None, images]
        common = (torch.minimum(under[1], spans[1]) - torch.maximum(under[0], spans[0])).clamp_(min=0).sum(-1)
        hidden = result.hidden[:order, None, images] + common
        allowed = result.areas[:order, None, images].double() * settings.overlap
        fits = (area > 0) & (hidden <= allowed).all(0)
        is_placed = fits.any(0)
        placed = is_placed.nonzero()[:, 0]
        targets, first = images[placed], fits.int().argmax(0)[placed]
        result.spans[:, order, targets] = spans[:, first, placed]
        result.areas[order, targets] = area[first, placed]
        result.hidden[:order, targets] = hidden[:, first, placed]
        rest = (~is_placed).nonzero()[:, 0]
        images, keys, skew, turn = images[rest], keys[rest], skew[rest], turn[rest]
        attempt += count


def _object_spans(settings: LayoutSettings, corners: int, skew: Tensor, turn: Tensor, numbers: Tensor) -> Tensor:
    """Return the spans of m objects for several attempts each: int16, (2, attempts, m, rows)."""
    count, _, m = numbers.shape
    low, high = settings.scale[0] * settings.size, settings.scale[1] * settings.size
    one, other, across, down = numbers.transpose(0, 1).reshape(_SLOTS, count * m)
    one, other = one * (high - low) + low, other * (high - low) + low
    wide, narrow = torch.maximum(one, other), torch.minimum(one, other)
    outlines = polygon_outlines(corners, skew.repeat(count), turn.repeat(count), wide, narrow)
    moved = translated(outlines, settings.size, across, down)
    return row_spans(moved, settings.size, settings.samples).view(2, count, m, -1)
