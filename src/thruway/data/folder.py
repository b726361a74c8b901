"""Image folders with one subfolder per class: root/<class>/<image>.

Reading needs Pillow, the extra `thruway[images]`, which is imported when the first image is read.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from thruway.data.entry import Entry, Raw
from thruway.data.files import damaged_file_error
from thruway.errors import DatasetError

__all__ = ["ImageFolder", "read_folder", "read_image"]

# Suffix -> format name of Pillow. A short list on purpose: each format exposes another parser to untrusted bytes.
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM", ".webp": "WEBP"}
MAX_PIXELS = 1 << 26  # 8192 x 8192; a file whose header claims more is treated as damaged


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read one image file as RGB: uint8, (H, W, 3).

    Raises:
        DatasetError: if the file is not a complete image of a supported format, is too large, or Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DatasetError(f"reading {path} needs Pillow. Install it with: pip install 'thruway[images]'.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            kinds = sorted(set(FORMATS.values()))
            # verify() checks the checksums of a PNG, which loading does not; the image must be reopened afterwards.
            with Image.open(path, formats=kinds) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ValueError(f"claims {width} x {height} pixels, allowed: {MAX_PIXELS} in total")
                image.verify()
            with Image.open(path, formats=kinds) as image:
                return np.array(image.convert("RGB"))
    except Exception as error:  # Pillow's parsers raise almost any exception on invalid data
        raise damaged_file_error(path, f"not a readable image ({type(error).__name__}: {error})") from error


class ImageFolder(Dataset[tuple[Any, Any]]):
    """Dataset of images in one folder per class, like `torchvision.datasets.ImageFolder`.

    Args:
        root: folder that contains the class folders; their sorted names are the classes.
        transform: function applied to each image, a NumPy array, uint8 (H, W, 3).
        target_transform: function applied to each label.
    Raises:
        DatasetError: if there is no class folder, or one of them contains no images.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.root = Path(os.path.expanduser(root))
        self.transform, self.target_transform = transform, target_transform
        try:
            self.classes = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        except OSError as error:
            raise DatasetError(f"image folder {self.root} cannot be read ({error}). Check the path.") from error
        if not self.classes:
            raise DatasetError(f"image folder {self.root} contains no folders. Expected <root>/<class>/<image>.")
        self.class_to_idx = {name: label for label, name in enumerate(self.classes)}
        self.samples = [(path, label) for name, label in self.class_to_idx.items() for path in self._images_of(name)]
        self.targets = [label for _path, label in self.samples]

    def _images_of(self, name: str) -> list[str]:
        folder = self.root / name
        found = sorted(
            os.path.join(where, file)
            for where, _folders, files in os.walk(folder)
            for file in files
            if os.path.splitext(file)[1].lower() in FORMATS
        )
        if not found:
            raise DatasetError(f"{folder} contains no images. Supported suffixes: {', '.join(FORMATS)}.")
        return found

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self.samples[index]
        image = read_image(path)
        return (
            self.transform(image) if self.transform else image,
            self.target_transform(label) if self.target_transform else label,
        )

    def __len__(self) -> int:
        return len(self.samples)


def read_folder(entry: Entry, folder: Path, train: bool) -> Raw:
    """Read all images of <folder>/train or <folder>/test, which must have the same size."""
    items = ImageFolder(folder / entry.part(train).files[0])
    if not train and os.path.isdir(other := folder / entry.train.files[0]):
        # Labels are positions in the sorted names, so with other names a test label would mean another class.
        known = ImageFolder(other).classes
        if items.classes != known:
            raise DatasetError(
                f"{items.root} has the classes {', '.join(items.classes)}, but {other} has {', '.join(known)}. "
                "Both parts must have the same class folders."
            )
    first = read_image(items.samples[0][0])
    images = np.empty((len(items), *first.shape), dtype=np.uint8)
    for slot, (path, _label) in enumerate(items.samples):
        image = read_image(path)
        if image.shape != first.shape:
            raise DatasetError(
                f"{path} is {image.shape[1]} x {image.shape[0]} pixels, but {items.samples[0][0]} is "
                f"{first.shape[1]} x {first.shape[0]}. Resize them to one size, or use ImageFolder with a transform."
            )
        images[slot] = image
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return Raw(pixels, torch.tensor(items.targets), tuple(items.classes), str(items.root))
