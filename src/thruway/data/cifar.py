"""CIFAR-10 and CIFAR-100 in their binary edition.

Each record is the label (CIFAR-100: the coarse one, then the fine one), then 3 x 32 x 32 bytes: red,
green and blue, row by row. The "python" edition of the same archives is a pickle, which runs code
when it is opened; we do not read it.

Source: Krizhevsky 2009, and https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
"""

from pathlib import Path

import torch
from torch import Tensor

from thruway.data.entry import Entry, Raw
from thruway.data.files import damaged_file_error, read_at_most, require_file

__all__ = ["COARSE_CLASSES", "read_cifar", "read_cifar_binary"]

COARSE_CLASSES = 20  # of CIFAR-100
_IMAGE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


def read_cifar_binary(path: str | Path, count: int, label_bytes: int = 1) -> tuple[Tensor, Tensor]:
    """The images and labels of one binary CIFAR file.

    Args:
        path: the file; unpacked on the way if it ends in .gz.
        count: how many records it must hold.
        label_bytes: 1 for CIFAR-10; 2 for CIFAR-100, coarse then fine.
    Returns:
        uint8 (count, 3, 32, 32), and uint8 (count, label_bytes).
    Raises:
        DatasetError: if the file is not exactly `count` records long.
    """
    path = Path(path)
    record = label_bytes + _PIXELS
    content = read_at_most(path, count * record)
    if len(content) != count * record:
        got = f"only {len(content)}" if len(content) < count * record else "more"
        raise damaged_file_error(path, f"should be {count} records of {record} bytes = {count * record}, has {got}")
    records = torch.frombuffer(content, dtype=torch.uint8).view(count, record)
    return records[:, label_bytes:].reshape(count, *_IMAGE), records[:, :label_bytes]


def read_cifar(entry: Entry, folder: Path, train: bool) -> Raw:
    """All files of one part, in order; for CIFAR-100 with the fine labels."""
    part = entry.part(train)
    limits = (COARSE_CLASSES, len(entry.classes)) if len(entry.classes) == 100 else (len(entry.classes),)
    images, labels = [], []
    for name in part.files:
        path = require_file(folder, name)
        pixels, marks = read_cifar_binary(path, part.counts[0] // len(part.files), len(limits))
        for column, limit in enumerate(limits):
            if (worst := int(marks[:, column].max())) >= limit:
                raise damaged_file_error(path, f"holds label {worst}, allowed: 0 to {limit - 1}")
        images.append(pixels)
        labels.append(marks[:, -1])
    return Raw(torch.cat(images), torch.cat(labels).long(), entry.classes, str(folder))
