"""Reader of IDX files, the format of MNIST and related data sets.

A file consists of 2 zero bytes, the type (8 = unsigned byte), the number of axes, the size of each axis as a big-endian
int32, and the values.

Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
"""

import dataclasses
import struct
from pathlib import Path

import torch
from torch import Tensor

from thruway.data.entry import Entry, Raw
from thruway.data.files import damaged_file_error, read_at_most, require_file

__all__ = ["read_idx", "read_idx_pair", "read_transposed_idx_pair"]

_UNSIGNED_BYTE = 8


def read_idx(path: str | Path, counts: tuple[int, ...], item: tuple[int, ...] = ()) -> Tensor:
    """Read an IDX file of known shape.

    Args:
        path: path of the file; decompressed if it ends in .gz.
        counts: allowed numbers of items. A file that is too long is not read to its end.
        item: shape of one item: (28, 28) for images, () for labels.
    Returns:
        A uint8 tensor (N, *item), with N one of `counts`.
    Raises:
        DatasetError: if the file is missing, damaged or of a different shape.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "labels")
    ...     _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3]) + bytes([7, 0, 9]))
    ...     read_idx(file, counts=(3,))
    tensor([7, 0, 9], dtype=torch.uint8)
    """
    path = Path(path)
    axes = 1 + len(item)
    header = 4 + 4 * axes
    item_bytes = 1
    for axis in item:
        item_bytes *= axis
    content = read_at_most(path, header + max(counts) * item_bytes)

    magic = bytes([0, 0, _UNSIGNED_BYTE, axes])
    if content[:4] != magic:
        raise damaged_file_error(
            path, f"starts with bytes {content[:4].hex(' ') or '(none)'}, expected {magic.hex(' ')} for this IDX file"
        )
    if len(content) < header:
        raise damaged_file_error(path, f"ends inside its header of {header} bytes")
    count, *shape = struct.unpack_from(f">{axes}i", content, 4)
    if count not in counts or tuple(shape) != item:
        allowed = " or ".join(str((n, *item)) for n in counts)
        raise damaged_file_error(path, f"has shape {(count, *shape)} in its header, allowed: {allowed}")
    expected = header + count * item_bytes
    if len(content) != expected:
        got = f"only {len(content)}" if len(content) < expected else "more"
        raise damaged_file_error(path, f"expected {expected} bytes after decompression, got {got}")
    return torch.frombuffer(content, dtype=torch.uint8, offset=header).reshape(count, *item)


def read_idx_pair(entry: Entry, folder: Path, train: bool) -> Raw:
    """Read an image file and its label file, checked against each other and against the entry."""
    part = entry.part(train)
    images_at, labels_at = (require_file(folder, name) for name in part.files)
    channels, height, width = entry.shape
    images = read_idx(images_at, part.counts, (height, width))
    labels = read_idx(labels_at, part.counts)
    if len(labels) != len(images):
        raise damaged_file_error(
            labels_at, f"contains {len(labels)} labels, but {images_at.name} contains {len(images)} images"
        )
    if int(labels.max()) >= len(entry.classes):
        raise damaged_file_error(
            labels_at, f"contains label {int(labels.max())}, allowed: 0 to {len(entry.classes) - 1}"
        )
    return Raw(images.view(-1, channels, height, width), labels.long(), entry.classes, str(folder))


def read_transposed_idx_pair(entry: Entry, folder: Path, train: bool) -> Raw:
    """Read a pair of EMNIST files, whose images are stored transposed."""
    raw = read_idx_pair(entry, folder, train)
    return dataclasses.replace(raw, images=raw.images.transpose(-1, -2).contiguous())
