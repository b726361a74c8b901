"""A frame: the numbers of one step, packed, and the layout that says what each of them is.

A layout is a product quantities × sites × members, the frame's values in that order. Runs log the
same few layouts again and again, so a frame costs its values and some thirty bytes.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from thruway.errors import RunError

__all__ = ["Channel", "Frame", "Layout", "Number", "Numbers", "frame_crc", "pack", "unpack"]

Number = float | np.generic | torch.Tensor
Numbers = Number | Sequence[float] | NDArray[Any]
Channel = tuple[int, str, str]  # member, site, quantity


class Layout(NamedTuple):
    """What the values of a frame are, in the order of their axes."""

    quantities: tuple[str, ...]
    sites: tuple[str, ...]
    members: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.quantities) * len(self.sites) * len(self.members)

    def channels(self) -> Iterator[Channel]:
        """(member, site, quantity) of each value, in order."""
        return (
            (member, site, quantity) for quantity in self.quantities for site in self.sites for member in self.members
        )

    def to_json(self) -> str:
        return json.dumps([self.quantities, self.sites, self.members], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> "Layout":
        """Raises ValueError if `text` is no layout."""
        quantities, sites, members = json.loads(text)
        return cls(tuple(quantities), tuple(sites), tuple(members)).checked()

    def checked(self) -> "Layout":
        """Itself. Raises ValueError if an axis repeats, or holds something else than names or 64-bit numbers."""
        for axis, names in zip(self._fields, self, strict=True):
            for name in names:
                is_name = (
                    isinstance(name, int) and -(1 << 63) <= name < 1 << 63
                    if axis == "members"
                    else isinstance(name, str)
                )
                if not is_name:
                    raise ValueError(f"{name!r} cannot stand among the {axis}")
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{twice!r} occurs twice among the {axis}")
        return self


class Frame(NamedTuple):
    step: int
    layout: Layout
    width: int  # bytes per value: 4 (float32) or 8 (float64)
    data: bytes  # little-endian


def pack(step: int, layout: Layout, rows: Iterable[tuple[str, Numbers]]) -> Frame:
    """One frame from one row of values per quantity; a single number stands for the whole row.

    float32 stays float32 when every row is; anything else becomes float64. Integers are exact up to 2**53.

    Raises:
        RunError: if a row has the wrong length or is not made of real numbers.
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
                f"Give one number, or a flat sequence of {length}."
            )
        arrays.append(array)
    if not arrays:
        return Frame(step, layout, 8, b"")
    width = 4 if all(array.dtype.itemsize == 4 for array in arrays) else 8
    data = np.concatenate(arrays).astype(f"<f{width}", copy=False).tobytes()
    return Frame(step, layout, width, data)


def unpack(data: bytes, width: int) -> NDArray[np.float64]:
    """The values of a frame as float64, which holds every float32."""
    # A signalling NaN raises the "invalid" flag when it is widened; it is a NaN all the same.
    with np.errstate(invalid="ignore"):
        return np.frombuffer(data, dtype=f"<f{width}").astype(np.float64)


def frame_crc(identity: int, step: int, width: int, data: bytes, layout_crc: int) -> int:
    """A checksum over everything a frame says, so that a flip anywhere in its row shows."""
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
        f"{quantity!r} holds {array.dtype} values; a series holds real numbers. Convert them to float first."
    )
