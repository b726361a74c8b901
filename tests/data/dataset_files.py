"""Small test data sets: entries with fewer images, and files with random contents for them.

The files are written with struct and loops, independently of the readers.
"""

import dataclasses
import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thruway.data import DATASETS, Entry

SMALL = {True: 20, False: 10}  # images in the training and in the test part; CIFAR-10 needs a multiple of 5
IN_FILES = [name for name in DATASETS if name not in ("digits", "shapeset", "folder")]  # the others have no files


def idx_bytes(values: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">i", n) for n in values.shape) + values.tobytes()


def shrunk(entry: Entry) -> Entry:
    """Return the entry with the counts of `SMALL`."""
    return dataclasses.replace(
        entry,
        train=dataclasses.replace(entry.train, counts=(SMALL[True],)),
        test=dataclasses.replace(entry.test, counts=(SMALL[False],)),
    )


def noise(entry: Entry, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (N, C, H, W) as stored in the files, and labels of which the last is the highest."""
    rng = np.random.default_rng(train)
    labels = rng.integers(0, len(entry.classes), SMALL[train], dtype=np.uint8)
    labels[-1] = len(entry.classes) - 1
    return rng.integers(0, 256, (SMALL[train], *entry.shape), dtype=np.uint8), labels


def write_part(entry: Entry, folder: Path, train: bool, zipped: bool = False) -> None:
    """Write the files of one part in their published format."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = noise(entry, train)
    files = entry.part(train).files
    contents: list[bytes]
    if "ubyte" in files[0]:
        contents = [idx_bytes(images[:, 0]), idx_bytes(labels)]
    else:
        records = []
        for image, label in zip(images, labels, strict=True):
            coarse = bytes([label // 5]) if len(entry.classes) == 100 else b""
            records.append(coarse + bytes([label]) + image.tobytes())
        each = len(records) // len(files)
        contents = [b"".join(records[i : i + each]) for i in range(0, len(records), each)]
    for name, content in zip(files, contents, strict=True):
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
