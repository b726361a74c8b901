"""Shapeset: pictures of one or two simple objects, drawn as they are needed, as many as you like.

Which objects a picture holds is easy to say and hard to read from its pixels: the objects differ in size, stretch,
direction, place and grey, and cover each other.

Source: Glorot & Bengio 2010, sec. 2.1; the numbers are those of the authors' generator for Shapeset-3x2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from thruway.data.entry import Entry, Raw
from thruway.data.shapeset_checks import (
    check_classes,
    check_greys,
    check_scale,
    check_share,
    check_whole,
    grey_levels,
    image_indices,
)
from thruway.data.shapeset_classes import SHAPE_CLASSES, class_name, frequencies
from thruway.data.shapeset_layout import Rules, layout
from thruway.data.shapeset_random import image_keys
from thruway.data.shapeset_render import Greys, paint
from thruway.data.tensor_set import TensorSet
from thruway.errors import ConfigError, unknown_name

__all__ = ["SHAPESET_STARTS", "Shapeset", "read_shapeset"]

# Where each part begins. Training may go on for four thousand million images before it meets another part.
SHAPESET_STARTS: Mapping[str, int] = MappingProxyType({"train": 0, "validation": 1 << 32, "test": 1 << 33})

_POINTS_AT_ONCE = 1 << 22  # sample points drawn in one go: small enough for the caches, large enough for few calls


@dataclass(frozen=True)
class Shapeset:
    """A source of labelled pictures that never runs out.

    Image i depends on `i` and on the settings alone: it is the same, bit for bit, in every batch, on every machine and
    on every device that has float64.

    - objects: one or two, equally likely; each a triangle, a parallelogram or an ellipse (a polygon of 20 corners),
      equally likely. So the nine classes are not: 1/6 for each single object, 1/9 for each mixed pair, 1/18 for each
      pair of one kind.
    - shape: a regular polygon, turned at random within its symmetry, stretched along both axes by random shares of the
      picture's side from `scale`, the larger along axis 0, then laid back on its base.
    - direction: one of 255.
    - place: uniform over all that leave a pixel between the object and the picture's edge.
    - grey: a level for the background from `dark` and one for each object from `light`, or the other way round.
    - pixels: hard edges; a pixel belongs to an object if its middle does.

    An object may hide at most the share `overlap` of an object below it. The hidden pixels are counted, where the
    authors' generator estimates their share from the two objects' extents along the line through their centres: only
    a limit that is counted holds for every picture, and so keeps the label true. A place that breaks it is given up
    for another one; after 50 the object is left out, as the authors do, and the label is that of what remains. If
    that is none of `classes`, the picture is begun afresh.

    Args:
        size: pixels on a side, 4 to 1024; `scale` must fit, which from 10 on the default does.
        seed: other seeds give other pictures.
        classes: what to draw, and in which order the labels count; letters are keys of `KINDS`. `shape_classes()`
            lists the classes of given kinds and numbers of objects. Those left out of the list are not drawn.
        scale: smallest and largest diameter, as a share of the picture's side.
        overlap: the largest share of an object that those above it may hide, from 0 to below 1. With three and more
            objects their shares are added up.
        dark, light: ranges of grey, 0 black to 1 white; they may not meet.
        swap: how often objects are dark on a light background, instead of light on a dark one.
        samples: 1 draws hard edges, as the authors do; k averages k x k points in each pixel.
    Raises:
        ConfigError: if a setting is not allowed.
    Source:
        Glorot & Bengio 2010, sec. 2.1, and its first author's generator, repository glorotxa/Shapeset.

    >>> shapes = Shapeset()
    >>> images, labels = shapes.images(0, 4)
    >>> images.shape, [shapes.classes[label] for label in labels]
    (torch.Size([4, 1, 32, 32]), ['T', 'TT', 'P', 'E'])
    """

    size: int = 32
    seed: int = 0
    classes: tuple[str, ...] = SHAPE_CLASSES
    scale: tuple[float, float] = (0.2, 0.8)
    overlap: float = 0.5
    dark: tuple[float, float] = (0.0, 0.45)
    light: tuple[float, float] = (0.55, 1.0)
    swap: float = 0.5
    samples: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        check_whole("size", self.size, 4, 1024)
        check_whole("samples", self.samples, 1, 16)
        check_scale(self.scale, self.size)
        check_share("overlap", self.overlap, "the share of an object that others may hide", may_be_one=False)
        check_share("swap", self.swap, "how often objects are dark on light")
        check_classes(self.classes)
        check_greys(self.dark, self.light)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in words, in the order of the labels.

        >>> Shapeset().names[3]
        'triangle + parallelogram'
        """
        return tuple(map(class_name, self.classes))

    @property
    def frequencies(self) -> tuple[float, ...]:
        """The share of each class among the images.

        >>> [round(share, 3) for share in Shapeset().frequencies[2:7]]
        [0.167, 0.111, 0.111, 0.111, 0.056]
        """
        return tuple(map(float, frequencies(self.classes)))

    def images(
        self, start: int | Tensor, count: int | None = None, device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """The images `start` to `start + count - 1`, or those of the indices given as a tensor, with their labels.

        A thousand images at once take far less time than a thousand calls.

        Args:
            start: the first index, 0 or more; or int64, (count,), all indices.
            count: how many; not with a tensor.
            device: where they are drawn and stay; without one the tensor's, or the CPU.
        Returns:
            float32, (count, 1, size, size), -1 black to 1 white; and int64, (count,), positions in `classes`.
        Raises:
            ConfigError: for indices that are negative or no integers, or if the objects find no place.

        >>> shapes = Shapeset(seed=7)
        >>> images, labels = shapes.images(100, 5)
        >>> again, _ = shapes.images(torch.tensor([103, 0]))
        >>> torch.equal(images[3], again[0]), float(images.min()) >= -1, float(images.max()) <= 1
        (True, True, True)
        """
        indices = image_indices(start, count, device)
        images = torch.empty(len(indices), 1, self.size, self.size, dtype=torch.float32, device=indices.device)
        labels = torch.empty_like(indices)
        # Dividing by a Python number, a GPU would multiply by the reciprocal, which rounds differently.
        white = torch.full((), 255.0, dtype=torch.float32, device=indices.device)
        for where, pixels, found in self._drawn(indices):
            images[where, 0] = (pixels.float() / white).sub_(0.5).div_(0.5)
            labels[where] = found
        return images, labels

    def part(self, name: str, count: int, device: torch.device | str = "cpu") -> TensorSet:
        """The first images of the training, validation or test part, as the other data sets come: in [0, 1].

        Args:
            name: a key of `SHAPESET_STARTS`: train, validation, test. No image is in two parts.
            count: how many.
            device: where they go.
        Raises:
            ConfigError: for a name that is not known, or a negative count.

        >>> test = Shapeset(size=64).part("test", 100)
        >>> len(test), test.images.shape, test.classes[8]
        (100, torch.Size([100, 1, 64, 64]), '2 ellipses')
        """
        check_whole("count", count, 0, 2**31)
        raw = self._raw(name, count)
        return TensorSet(
            "shapeset", (raw.images.float() / 255).to(device), raw.labels.to(device), raw.classes, raw.where
        )

    def _raw(self, name: str, count: int) -> Raw:
        if name not in SHAPESET_STARTS:
            raise ConfigError(unknown_name("part of Shapeset", name, SHAPESET_STARTS))
        start = SHAPESET_STARTS[name]
        images = torch.empty(count, 1, self.size, self.size, dtype=torch.uint8, device="cpu")
        labels = torch.empty(count, dtype=torch.int64, device="cpu")
        for where, pixels, found in self._drawn(image_indices(start, count, None)):
            images[where, 0], labels[where] = pixels, found
        return Raw(images, labels, self.names, f"drawn by {self}, from image {start} on")

    def _drawn(self, indices: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(where in `indices`, uint8 pixels (n, size, size), labels), a few at a time."""
        rules = Rules(self.size, self.classes, self.scale, self.overlap, self.samples)
        greys = Greys(grey_levels(self.dark), grey_levels(self.light), self.swap)
        step = max(1, _POINTS_AT_ONCE // (self.size * self.samples) ** 2)
        for first in range(0, len(indices), step):
            where = slice(first, first + step)
            made = layout(rules, image_keys(self.seed, indices[where]))
            yield where, paint(made, greys, self.size, self.samples), made.labels


def read_shapeset(entry: Entry, _folder: Path, train: bool) -> Raw:
    """The training or the test part with the default settings, as many images as the row says."""
    return Shapeset()._raw("train" if train else "test", entry.part(train).counts[0])
