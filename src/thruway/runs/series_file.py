"""File format of a series, the logged values of a run: an SQLite file with one writer and any number of readers.

    layouts(id, channels, crc)                  the axes of the values of a frame (JSON)
    frames(id, step, layout, width, data, crc)  ids are 1, 2, 3 ..., so a missing frame leaves a gap

A frame holds the packed values of one step. A layout is a product of quantities × sites × members, and the values of a
frame are in this order. A run logs the same few layouts repeatedly, so a frame takes about thirty bytes in addition to
its values.

With write-ahead logging, readers are not blocked while a frame is written. It needs shared memory, which network file
systems lack; there SQLite uses its rollback journal instead. A commit passes the data to the operating system, which is
sufficient to survive `kill -9`. The disk is synced when the journal is merged into the file, and at the end.
"""

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

from thruway.errors import RunError

__all__ = [
    "READ_ERRORS",
    "SCHEMA",
    "SERIES",
    "Channel",
    "Frame",
    "Layout",
    "Number",
    "Numbers",
    "check_format",
    "connect",
    "frame_crc",
    "pack",
    "unpack",
    "use_journal",
]

SERIES = "series.db"
FORMAT = 1
APPLICATION = 0x54485257  # "THRW": distinguishes the file from other SQLite files
BUSY_TIMEOUT = 5.0  # seconds to wait for a reader, with a rollback journal

# Exceptions raised for a damaged file. SQLite repeats damaged names in its messages, which may not be valid UTF-8.
READ_ERRORS = (sqlite3.Error, UnicodeDecodeError)

SCHEMA = f"""
CREATE TABLE layouts(id INTEGER PRIMARY KEY, channels TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE frames(id INTEGER PRIMARY KEY, step INTEGER NOT NULL, layout INTEGER NOT NULL,
                    width INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a connection without implicit transactions; `mode` is that of SQLite: ro, rw or rwc."""
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT
    )


def use_journal(connection: sqlite3.Connection) -> str:
    """Enable write-ahead logging if the file system supports it; returns the journal mode in use."""
    journal: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    # With WAL, an unsynced commit can be lost in a power failure but not corrupted; a rollback journal needs the sync.
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'wal' else 'FULL'}")
    return journal


def check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Raise RunError if the file is not a series, or has a newer format."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise RunError(
            f"{path} is an SQLite file, but not a Thruway series, or it is damaged. Choose another run folder."
        )
    if version > FORMAT:
        raise RunError(
            f"{path} has format {version}, and this Thruway reads up to {FORMAT}. "
            "Install the newer Thruway that wrote it."
        )


Number = float | np.generic | torch.Tensor
Numbers = Number | Sequence[float] | NDArray[Any]
Channel = tuple[int, str, str]  # member, site, quantity


class Layout(NamedTuple):
    """The axes of the values in a frame, outermost first."""

    quantities: tuple[str, ...]
    sites: tuple[str, ...]
    members: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.quantities) * len(self.sites) * len(self.members)

    def channels(self) -> Iterator[Channel]:
        """Return an iterator over (member, site, quantity) of each value, in order."""
        return (
            (member, site, quantity) for quantity in self.quantities for site in self.sites for member in self.members
        )

    def to_json(self) -> str:
        return json.dumps([self.quantities, self.sites, self.members], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> "Layout":
        """Parse a layout. Raises ValueError if `text` is not a valid layout."""
        quantities, sites, members = json.loads(text)
        return cls(tuple(quantities), tuple(sites), tuple(members)).validated()

    def validated(self) -> "Layout":
        """Return the layout itself.

        Raises ValueError for repeated entries, names that are not strings, or members that are not 64-bit integers.
        """
        for axis, names in zip(self._fields, self, strict=True):
            for name in names:
                is_name = (
                    isinstance(name, int) and -(1 << 63) <= name < 1 << 63
                    if axis == "members"
                    else isinstance(name, str)
                )
                if not is_name:
                    raise ValueError(f"{name!r} is not allowed in {axis}")
            if len(set(names)) != len(names):
                repeated = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{repeated!r} occurs twice in {axis}")
        return self


class Frame(NamedTuple):
    """The packed values of one step."""

    step: int
    layout: Layout
    width: int  # bytes per value: 4 (float32) or 8 (float64)
    data: bytes  # little-endian


def pack(step: int, layout: Layout, rows: Iterable[tuple[str, Numbers]]) -> Frame:
    """Pack one row of values per quantity into a frame; single numbers are broadcast to the whole row.

    If all rows are float32, the frame is float32, otherwise float64. Integers are exact up to 2**53.

    Raises:
        RunError: if a row has the wrong length or does not consist of real numbers.
    """
    length = len(layout.sites) * len(layout.members)
    arrays = []
    for quantity, values in rows:
        array = _numbers(values, quantity)
        if array.ndim == 0:
            array = np.broadcast_to(array, length)
        elif array.shape != (length,):
            axis = "members" if len(layout.sites) == 1 else "sites"
            raise RunError(
                f"{quantity!r} at step {step} has values of shape {array.shape} for {length} {axis}. "
                f"Pass one number, or a flat sequence of {length}."
            )
        arrays.append(array)
    if not arrays:
        return Frame(step, layout, 8, b"")
    width = 4 if all(array.dtype.itemsize == 4 for array in arrays) else 8
    data = np.concatenate(arrays).astype(f"<f{width}", copy=False).tobytes()
    return Frame(step, layout, width, data)


def unpack(data: bytes, width: int) -> NDArray[np.float64]:
    """Return the values of a frame as float64, which represents every float32 exactly."""
    # Converting a signalling NaN to float64 raises the "invalid" flag; the result is a NaN as intended.
    with np.errstate(invalid="ignore"):
        return np.frombuffer(data, dtype=f"<f{width}").astype(np.float64)


def frame_crc(identity: int, step: int, width: int, data: bytes, layout_crc: int) -> int:
    """Return a checksum over all fields of a frame, so that a flipped bit anywhere in its row is detected."""
    return zlib.crc32(data, zlib.crc32(struct.pack("<qqq", identity, step, width), layout_crc))


def _numbers(values: Numbers, quantity: str) -> NDArray[Any]:
    if isinstance(values, float):
        return np.float64(values) if type(values) is float else np.asarray(values)  # type: ignore[return-value]
    if isinstance(values, torch.Tensor):
        tensor = values.detach()
        values = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).cpu().numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:  # ragged
        raise RunError(f"{quantity!r} is not a flat sequence of numbers: {error}.") from None
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    if array.dtype.kind == "f":
        return array.astype({2: np.float32, 4: np.float32}.get(array.dtype.itemsize, np.float64), copy=False)
    raise RunError(
        f"{quantity!r} has {array.dtype} values, but only real numbers can be logged. Convert them to float first."
    )
