"""A small map of sites x steps that needs no script: a picture within the page, for notebooks."""

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from plotly.colors import hex_to_rgb

from thruway.figures.scales import SEQUENTIAL, ramp
from thruway.figures.thinning import group_starts, join

__all__ = ["MOST", "picture"]

MOST = (250, 300)  # rows and columns
SHADES = 255


def picture(values: NDArray[np.float64]) -> str:
    """A data URL of the map, one pixel per cell, the first row at the bottom; what is no number is see-through.

    Where there are more rows or columns than the map is high or wide, neighbours share a cell, which shows the
    largest of them, as in figures.heat_map.

    Args:
        values: (rows, columns), from which colours are spaced evenly: logarithms, where they should be.

    >>> picture(np.array([[0.0, 1.0]]))[:22]
    'data:image/png;base64,'
    """
    rows, columns = (group_starts(count, most)[0] for count, most in zip(values.shape, MOST, strict=True))
    cells = join(join(values, columns, "largest", axis=1), rows, "largest", axis=0)
    known = np.isfinite(cells)
    low, high = (cells[known].min(), cells[known].max()) if known.any() else (0.0, 1.0)
    share = (np.where(known, cells, low) - low) / ((high - low) or 1.0)
    colors = np.where(known, 1 + np.rint(share * (SHADES - 1)), 0).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(_png(colors[::-1])).decode()


def _png(colors: NDArray[np.uint8]) -> bytes:
    """An indexed picture in which colour 0 is transparent."""
    height, width = colors.shape
    palette = bytes(part for shade in ["#000000", *ramp(SEQUENTIAL, SHADES)] for part in hex_to_rgb(shade))
    lines = np.hstack([np.zeros((height, 1), np.uint8), colors])  # each line begins with its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = {
        b"IHDR": header,
        b"PLTE": palette,
        b"tRNS": b"\0",
        b"IDAT": zlib.compress(lines.tobytes(), 9),
        b"IEND": b"",
    }
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
