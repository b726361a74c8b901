"""Moments computed by a C loop, for float32 tensors on the CPU, which are read once, as soon as they are captured.

The loop is in native_moments.c and is compiled at first use. Without a C compiler, `Moments` computes the same with
PyTorch functions, slightly more slowly.
"""

import ctypes
import functools
import hashlib
import math
import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thruway.watching.quantities.saturation import ends_of
from thruway.watching.sites import Site

__all__ = ["NativeFunctions", "NativeMoments", "Plan", "native_functions"]

_SUMS = 5  # numbers per row: sum, sum of squares, zeros, values at most low, values at least high
_ROW_BYTES = _SUMS * 8

_SOURCE = Path(__file__).with_suffix(".c")
_CACHE = "~/.cache/thruway/native"
_FLAGS = ("-O3", "-fno-trapping-math", "-fPIC", "-shared")  # without traps at a NaN, comparisons are vectorised
_TIMEOUT = 60.0  # seconds for the compiler

_PLAIN_TYPES = (Tensor, nn.Parameter)


class Plan(ctypes.Structure):
    """The numbers to compute for each row, with the same fields as the struct in native_moments.c."""

    _fields_ = (
        ("count", ctypes.c_int64),
        ("counts", ctypes.c_int64),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    )


class NativeFunctions(NamedTuple):
    """The two functions of native_moments.c.

    All arguments except `rows` and `stride` are addresses. The result is 0 if a row needs the formulas of Rows.
    """

    sum_rows: Callable[[int, int, int, int, int], int]
    """Function of (plan, numbers, rows, stride, sums). Each row begins `stride` numbers after the previous one."""
    sum_rows_at: Callable[[int, int, int, int], int]
    """Function of (plan, addresses of the rows, rows, sums)."""


@functools.cache
def native_functions() -> NativeFunctions | None:
    """Return the compiled functions, or None if they cannot be compiled or loaded.

    The environment variable THRUWAY_NATIVE=0 disables them; CC sets the compiler.
    """
    if os.environ.get("THRUWAY_NATIVE") == "0":
        return None
    try:
        # PyDLL keeps the interpreter's lock; releasing it would cost more than the call.
        library = ctypes.PyDLL(str(_compiled()))
        found = NativeFunctions(library.sum_rows, library.sum_rows_at)
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError):
        # No compiler, no home folder, a home folder that may not hold programs, or a CC that is not a command.
        return None
    address, number = ctypes.c_void_p, ctypes.c_int64
    library.sum_rows.argtypes = (address, address, number, number, address)
    library.sum_rows_at.argtypes = (address, address, number, address)
    return found


def _compiled() -> Path:
    """Return the path of the library, which is compiled unless it is in the cache."""
    command = [*shlex.split(os.environ.get("CC", "cc")), *_FLAGS]
    source = _SOURCE.read_bytes()
    key = hashlib.sha256(source + repr((command, platform.machine())).encode()).hexdigest()[:16]
    library = Path(_CACHE).expanduser() / f"moments-{key}.so"
    if not library.exists():
        library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Compiled in a folder beside it and renamed, so that no other process loads a part of a library.
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            part = Path(folder) / "part.so"
            subprocess.run([*command, str(_SOURCE), "-o", str(part)], check=True, capture_output=True, timeout=_TIMEOUT)
            part.replace(library)
    return library


class NativeMoments:
    """Means, standard deviations and shares of tensors with `count` float32 numbers each.

    The interface is that of Moments.
    """

    def __init__(self, count: int, activation: str | None = None, shares: Iterable[str] = ()) -> None:
        functions = native_functions()
        if functions is None:
            raise RuntimeError("the native functions are not available here. Use Moments, which computes the same.")
        self.count = count
        self._functions = functions
        self._activation = activation
        self._shares = tuple(shares)
        ends = ends_of(activation)
        low, high = (math.nan if end is None else end for end in (ends.low, ends.high))  # no comparison holds for NaN
        self._plan = Plan(count, bool(self._shares), low, high)
        self._plan_at = ctypes.addressof(self._plan)
        self._sites: list[Site] = []
        self._latest: tuple[Site, ...] = ()
        self._sums = np.zeros((0, _SUMS))
        self._rows_at = np.zeros(0, dtype=np.int64)
        self._reserve(16)

    def __reduce__(self) -> tuple[Any, ...]:
        return NativeMoments, (self.count, self._activation, self._shares)  # a copy has addresses of its own

    def _reserve(self, rows: int) -> None:
        sums = np.zeros((rows, _SUMS))
        sums[: len(self._sums)] = self._sums
        self._sums, self._sums_at = sums, sums.ctypes.data
        self._rows_at = np.zeros(rows, dtype=np.int64)
        self._rows_at_at = self._rows_at.ctypes.data

    def add(self, site: Site, tensor: Tensor) -> bool:
        """Measure a tensor immediately, while it is in the processor's cache.

        Return False if it needs the formulas of Rows.
        """
        if not _is_plain(tensor):
            return False
        if not tensor.is_contiguous() and not _is_channels_last(tensor):
            tensor = tensor.detach().contiguous()
        sites = self._sites
        taken = len(sites)
        if taken == len(self._sums):
            self._reserve(2 * taken)
        if not self._functions.sum_rows(self._plan_at, tensor.data_ptr(), 1, 0, self._sums_at + taken * _ROW_BYTES):
            return False
        sites.append(site)
        return True

    def add_each(self, sites: list[Site], tensors: list[Tensor]) -> bool:
        """Measure several tensors, or none of them, in one call, which is faster for small tensors."""
        if not all(map(_is_plain, tensors)):
            return False
        whole = [t if t.is_contiguous() or _is_channels_last(t) else t.detach().contiguous() for t in tensors]
        taken, rows = len(self._sites), len(sites)
        if taken + rows > len(self._sums):
            self._reserve(2 * (taken + rows))
        self._rows_at[:rows] = [tensor.data_ptr() for tensor in whole]
        if not self._functions.sum_rows_at(self._plan_at, self._rows_at_at, rows, self._sums_at + taken * _ROW_BYTES):
            return False
        self._sites += sites
        return True

    def add_rows(self, sites: tuple[Site, ...], flat: Tensor) -> bool:
        """Measure all rows of a tensor (k, count), one per site, or none of them."""
        if not _is_plain(flat):
            return False
        if flat.stride(1) != 1:
            flat = flat.contiguous()
        taken, rows = len(self._sites), len(sites)
        if taken + rows > len(self._sums):
            self._reserve(2 * (taken + rows))
        sums_at = self._sums_at + taken * _ROW_BYTES
        if not self._functions.sum_rows(self._plan_at, flat.data_ptr(), rows, flat.stride(0), sums_at):
            return False
        self._sites += sites
        return True

    def drain(self) -> tuple[tuple[Site, ...], dict[str, NDArray[Any]]]:
        """Return the sites and their numbers by quantity, and remove them."""
        # The same tuple object for the same sites makes the comparison of layouts quick.
        sites = self._latest = self._latest if self._sites == list(self._latest) else tuple(self._sites)
        self._sites = []
        parts = self._sums[: len(sites)] / self.count
        mean = parts[:, 0]
        zeros = np.zeros(len(sites), dtype=np.float32)
        numbers = {
            "mean": mean.astype(np.float32),
            "std": np.sqrt(np.maximum(parts[:, 1] - mean * mean, 0.0)).astype(np.float32),
            "nan": zeros,
            "inf": zeros,
        }
        for column, name in enumerate(("zeros", "saturation_low", "saturation_high"), start=2):
            if name in self._shares:
                numbers[name] = parts[:, column].astype(np.float32)
        return sites, numbers

    def clear(self) -> None:
        """Remove the numbers measured so far."""
        self._sites = []

    def free_scratch(self) -> None:
        """Do nothing: no tensor is held."""


def _is_plain(tensor: Tensor) -> bool:
    """Return True if the numbers in memory are those of the tensor: no other subclass, negated view or ZeroTensor."""
    return type(tensor) in _PLAIN_TYPES and tensor.is_cpu and not tensor.is_neg() and tensor.data_ptr() != 0


def _is_channels_last(tensor: Tensor) -> bool:
    """Return True for a dense channels_last tensor; the order of its elements does not change the moments."""
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
