"""The digits data set included in the package: 1,797 handwritten digits, 8 x 8 pixels, values 0 to 16.

They are the test set of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49, CC BY 4.0), in the copy that scikit-learn ships; `python -m
thruway.data.embed_digits` creates our file from that copy.

The split is our own and fixed. In file order the labels repeat the pattern of one completed form, about 130 digits,
fourteen times. The last three forms, from image 1415 on, are the test part (382 images, 33 to 39 per class). No form is
therefore in both parts, and hardly any handwriting is; a random split would put digits by the same writer into both.
"""

import io
import zipfile
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from thruway.data.entry import Entry, Raw
from thruway.errors import DatasetError

__all__ = ["FIRST_TEST", "read_digits"]

FIRST_TEST = 1415  # start of the twelfth form
_FILE = "digits.npz"


def read_digits(entry: Entry, _folder: Path, train: bool) -> Raw:
    """Read the training part (1,415 images) or the test part (382) from the package."""
    source = resources.files("thruway.data") / _FILE
    total = entry.train.counts[0] + entry.test.counts[0]
    try:
        with np.load(io.BytesIO(source.read_bytes()), allow_pickle=False) as stored:
            images, labels = stored["images"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{source}: the digits data set cannot be read ({error}). Reinstall thruway.") from error
    if images.shape != (total, 8, 8) or labels.shape != (total,) or not images.dtype == labels.dtype == np.uint8:
        raise DatasetError(f"{source}: the digits data set has the wrong shape {images.shape}. Reinstall thruway.")
    part = slice(None, FIRST_TEST) if train else slice(FIRST_TEST, None)
    pixels = torch.from_numpy(images[part]).view(-1, *entry.shape)
    return Raw(pixels, torch.from_numpy(labels[part]).long(), entry.classes, f"embedded in thruway ({_FILE})")
