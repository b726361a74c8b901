"""Command that writes an overview image of the Shapeset classes.

python -m thruway.data.shapeset_sheet docs/images/shapeset.png        # needs thruway[images]
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from thruway.data.shapeset import Shapeset

__all__ = ["first_of_each", "write_sheet"]

COLUMNS = 14
ZOOM, GAP, TITLE = 2, 6, 176  # pixels on the sheet: per image pixel, between two images, left of a row
BACKGROUND, TEXT = 255, 40  # grey levels


def first_of_each(shapes: Shapeset, count: int) -> Tensor:
    """Return the first `count` images of each class: float32, (classes, count, size, size)."""
    found: list[list[Tensor]] = [[] for _ in shapes.classes]
    start, step = 0, 256
    while min(map(len, found)) < count:
        images, labels = shapes.images(start, step)
        start += step
        for of_class, image in zip(labels.tolist(), images[:, 0], strict=True):
            found[of_class].append(image)
    return torch.stack([torch.stack(some[:count]) for some in found])


def write_sheet(shapes: Shapeset, target: Path, columns: int = COLUMNS) -> None:
    """Write a greyscale PNG with one row of images per class, labelled with the class name."""
    from PIL import Image, ImageDraw  # an extra; only this command needs it

    pictures = ((first_of_each(shapes, columns) + 1) * 127.5).round().to(torch.uint8)
    pictures = pictures.repeat_interleave(ZOOM, 2).repeat_interleave(ZOOM, 3)
    pitch = pictures.shape[-1] + GAP
    page = Image.new("L", (TITLE + columns * pitch, len(pictures) * pitch + GAP), BACKGROUND)
    for row, of_class in enumerate(pictures):
        top = GAP + row * pitch
        middle = (GAP, top + pitch // 2)
        ImageDraw.Draw(page).text(middle, shapes.names[row], fill=TEXT, anchor="lm", font_size=13)
        for column, picture in enumerate(of_class):
            page.paste(Image.fromarray(picture.numpy()), (TITLE + column * pitch, top))
    page.save(target, optimize=True)


if __name__ == "__main__":
    write_sheet(Shapeset(), Path(sys.argv[1]))
