"""Readers of the binary version of CIFAR-10 and CIFAR-100.

Each record is the label (CIFAR-100: the coarse label, then the fine one), then 3 x 32 x 32 bytes: red, green and blue,
row by row. The "python" version of the data sets is a pickle, which can run code when it is loaded, and is not
supported.

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
    """Read the images and labels of one binary CIFAR file.

    Args:
        path: path of the file; decompressed if it ends in .gz.
        count: number of records it must contain.
        label_bytes: 1 for CIFAR-10; 2 for CIFAR-100, coarse then fine.
    Returns:
        Images, uint8 (count, 3, 32, 32), and labels, uint8 (count, label_bytes).
    Raises:
        DatasetError: if the file is not exactly `count` records long.
    """
    path = Path(path)
    record = label_bytes + _PIXELS
    content = read_at_most(path, count * record)
    if len(content) != count * record:
        got = f"only {len(content)}" if len(content) < count * record else "more"
        whole = f"{count * record} bytes ({count} records of {record})"
        raise damaged_file_error(path, f"expected {whole}, got {got}")
    records = torch.frombuffer(content, dtype=torch.uint8).view(count, record)
    return records[:, label_bytes:].reshape(count, *_IMAGE), records[:, :label_bytes]


def read_cifar(entry: Entry, folder: Path, train: bool) -> Raw:
    """Read all files of one part, in order. For CIFAR-100 the fine labels are returned."""
    part = entry.part(train)
    limits = (COARSE_CLASSES, len(entry.classes)) if len(entry.classes) == 100 else (len(entry.classes),)
    images, labels = [], []
    for name in part.files:
        path = require_file(folder, name)
        pixels, marks = read_cifar_binary(path, part.counts[0] // len(part.files), len(limits))
        for column, limit in enumerate(limits):
            if (worst := int(marks[:, column].max())) >= limit:
                raise damaged_file_error(path, f"contains label {worst}, allowed: 0 to {limit - 1}")
        images.append(pixels)
        labels.append(marks[:, -1])
    return Raw(torch.cat(images), torch.cat(labels).long(), entry.classes, str(folder))
