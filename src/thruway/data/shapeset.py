"""Shapeset, an unlimited synthetic data set: images of one or two simple objects, generated on demand.

The class is determined by the kinds of objects, which vary in size, aspect ratio, rotation, position and grey level and
may overlap.

Source: Glorot & Bengio 2010, sec. 2.1; the parameters are those of the authors' generator for Shapeset-3x2.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from thruway.data.entry import Entry, Raw
from thruway.data.shapeset_checks import (
    check_classes,
    check_fraction,
    check_greys,
    check_integer,
    check_scale,
    grey_levels,
    image_indices,
)
from thruway.data.shapeset_classes import SHAPE_CLASSES, class_name, frequencies
from thruway.data.shapeset_layout import LayoutSettings, layout
from thruway.data.shapeset_random import image_keys
from thruway.data.shapeset_render import GreyLevels, render
from thruway.data.tensor_set import TensorSet
from thruway.errors import ConfigError, unknown_name

__all__ = ["SHAPESET_STARTS", "Shapeset", "read_shapeset"]

# First image index of each part. The parts are 2**32 images apart.
SHAPESET_STARTS: Mapping[str, int] = MappingProxyType({"train": 0, "validation": 1 << 32, "test": 1 << 33})

_POINTS_AT_ONCE = (
    1 << 22
)  # sample points per chunk: small enough for the caches, large enough to keep the number of calls low


@dataclass(frozen=True)
class Shapeset:
    """An unlimited source of labelled images of simple shapes.

    Image i depends only on `i` and the settings. It is the same, bit for bit, in every batch, on every machine and on
    every device that supports float64.

    - objects: one or two with equal probability, each a triangle, a parallelogram or an ellipse (a polygon with 20
      corners) with equal probability. The nine classes therefore have different frequencies: 1/6 for each single
      object, 1/9 for each pair of two kinds, 1/18 for each pair of one kind.
    - shape: a regular polygon, rotated at random within its symmetry, stretched along both axes by random fractions of
      the image size drawn from `scale` (the larger along axis 0), then rotated back onto its base.
    - rotation: one of 255 angles.
    - position: uniform over all positions that leave a margin of one pixel.
    - grey levels: that of the background is drawn from `dark` and those of the objects from `light`, or vice versa.
    - pixels: hard edges; a pixel belongs to an object if its centre does.

    An object may hide at most the fraction `overlap` of an object below it. The hidden pixels are counted exactly; the
    authors' generator estimates the fraction from the extents of the two objects along the line through their centres.
    Only an exact count guarantees the limit, and with it a correct label, for every image. A position that violates the
    limit is redrawn; after 50 attempts the object is omitted, as in the authors' generator, and the label is that of
    the remaining objects. If this is not one of `classes`, the image is redrawn from the start.

    Args:
        size: height and width in pixels, 4 to 1024. Objects of the given `scale` must fit; the default scale fits sizes
            of at least 10.
        seed: seed of the random numbers.
        classes: classes to draw, in the order of the labels, each a string with one letter per object: T (triangle), P
            (parallelogram), E (ellipse). `shape_classes()` lists the classes for given kinds and numbers of objects.
        scale: smallest and largest diameter, as a fraction of the image size.
        overlap: largest fraction of an object that the objects above it may hide, at least 0 and below 1. With three or
            more objects, their fractions are added.
        dark, light: ranges of grey levels, 0 black to 1 white; they must not touch.
        swap: probability that the objects are dark on a light background.
        samples: 1 draws hard edges, as in the paper; k averages k x k points in each pixel.
    Raises:
        ConfigError: if a setting is out of range.
    Source:
        Glorot & Bengio 2010, sec. 2.1, and its first author's generator, repository glorotxa/Shapeset.

    >>> shapes = Shapeset()
    >>> shapes
    Shapeset(size=32, seed=0)
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
        check_integer("size", self.size, 4, 1024)
        check_integer("samples", self.samples, 1, 16)
        check_scale(self.scale, self.size)
        check_fraction("overlap", self.overlap, "the fraction of an object that others may hide", may_be_one=False)
        check_fraction("swap", self.swap, "the probability of dark objects on a light background")
        check_classes(self.classes)
        check_greys(self.dark, self.light)

    def __repr__(self) -> str:
        """The size, the seed and the settings that differ from their defaults."""
        settings = [
            f"{field.name}={value!r}"
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name in ("size", "seed")
        ]
        return f"Shapeset({', '.join(settings)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in words, in the order of the labels.

        >>> Shapeset().names[3]
        'triangle + parallelogram'
        """
        return tuple(map(class_name, self.classes))

    @property
    def frequencies(self) -> tuple[float, ...]:
        """The probability of each class.

        >>> [round(share, 3) for share in Shapeset().frequencies[2:7]]
        [0.167, 0.111, 0.111, 0.111, 0.056]
        """
        return tuple(map(float, frequencies(self.classes)))

    def images(
        self, start: int | Tensor, count: int | None = None, device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw the images `start` to `start + count - 1`, or those with the given indices, and their labels.

        One call for a thousand images is much faster than a thousand calls.

        Args:
            start: the first index, at least 0; or all indices as an int64 tensor (count,).
            count: number of images; only with an integer `start`.
            device: device on which the images are drawn. Default: that of the tensor, otherwise the CPU.
        Returns:
            Images, float32, (count, 1, size, size), -1 black to 1 white; and labels, int64, (count,), indices into
            `classes`.
        Raises:
            ConfigError: if an index is negative or not an integer, or if the objects cannot be placed.

        >>> shapes = Shapeset(seed=7)
        >>> images, labels = shapes.images(100, 5)
        >>> again, _ = shapes.images(torch.tensor([103, 0]))
        >>> torch.equal(images[3], again[0]), float(images.min()) >= -1, float(images.max()) <= 1
        (True, True, True)
        """
        indices = image_indices(start, count, device)
        images = torch.empty(len(indices), 1, self.size, self.size, dtype=torch.float32, device=indices.device)
        labels = torch.empty_like(indices)
        # A tensor: divided by a Python number, a GPU multiplies by the reciprocal, which rounds differently.
        white = torch.full((), 255.0, dtype=torch.float32, device=indices.device)
        for chunk, pixels, chunk_labels in self._draw_chunks(indices):
            images[chunk, 0] = (pixels.float() / white).sub_(0.5).div_(0.5)
            labels[chunk] = chunk_labels
        return images, labels

    def part(self, name: str, count: int, device: torch.device | str = "cpu") -> TensorSet:
        """Return the first images of the training, validation or test part as a TensorSet, scaled to [0, 1].

        Args:
            name: a key of `SHAPESET_STARTS`: train, validation or test. The parts do not overlap.
            count: number of images.
            device: device of the result.
        Raises:
            ConfigError: if `name` is unknown, or `count` is negative.

        >>> test = Shapeset(size=64).part("test", 100)
        >>> len(test), test.images.shape, test.classes[8]
        (100, torch.Size([100, 1, 64, 64]), '2 ellipses')
        """
        check_integer("count", count, 0, 2**31)
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
        for chunk, pixels, chunk_labels in self._draw_chunks(image_indices(start, count, None)):
            images[chunk, 0], labels[chunk] = pixels, chunk_labels
        return Raw(images, labels, self.names, f"drawn by {self}, starting at image {start}")

    def _draw_chunks(self, indices: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Draw the images in chunks; yields (slice of `indices`, uint8 pixels (n, size, size), labels)."""
        settings = LayoutSettings(self.size, self.classes, self.scale, self.overlap, self.samples)
        greys = GreyLevels(grey_levels(self.dark), grey_levels(self.light), self.swap)
        step = max(1, _POINTS_AT_ONCE // (self.size * self.samples) ** 2)
        for first in range(0, len(indices), step):
            chunk = slice(first, first + step)
            made = layout(settings, image_keys(self.seed, indices[chunk]))
            yield chunk, render(made, greys, self.size, self.samples), made.labels


def read_shapeset(entry: Entry, _folder: Path, train: bool) -> Raw:
    """Draw the training or test part with the default settings and the number of images of the entry."""
    return Shapeset()._raw("train" if train else "test", entry.part(train).counts[0])
