"""The compiled loop behind mean, spread and flat ends on the CPU: sweep.c, built at its first use.

A machine without a C compiler watches as well and a little more slowly, with torch's own calls.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

__all__ = ["SUMS", "NativeSweep", "Plan", "native_sweep"]

SUMS = 5  # numbers per row: sum, sum of squares, zeros, values at or below low, at or above high

_SOURCE = Path(__file__).with_suffix(".c")
_PLACE = "~/.cache/thruway/native"
_FLAGS = ("-O3", "-fno-trapping-math", "-fPIC", "-shared")  # comparisons need not stop at a NaN: loops become vectors
_PATIENCE = 60.0  # seconds for the compiler


class Plan(ctypes.Structure):
    """What is wanted of each row; mirrors the struct in sweep.c."""

    _fields_ = (
        ("count", ctypes.c_int64),
        ("counts", ctypes.c_int64),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    )


class NativeSweep(NamedTuple):
    """The two functions of sweep.c. All but `rows` and `stride` are addresses; 0 says that a row needs more care."""

    rows: Callable[[int, int, int, int, int], int]
    """(plan, numbers, rows, stride, sums): from row to row lie `stride` numbers."""
    each: Callable[[int, int, int, int], int]
    """(plan, addresses of the rows, rows, sums)."""


@functools.cache
def native_sweep() -> NativeSweep | None:
    """The compiled loops, or None where they cannot be had.

    THRUWAY_NATIVE=0 in the environment does without; CC names the compiler.
    """
    if os.environ.get("THRUWAY_NATIVE") == "0":
        return None
    try:
        # PyDLL keeps the interpreter's lock, whose handing over would cost more than the call.
        library = ctypes.PyDLL(str(_built()))
        found = NativeSweep(library.sweep, library.sweep_each)
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError):
        # No compiler, no home, a home that runs no programs, a CC that is no command.
        return None
    address, number = ctypes.c_void_p, ctypes.c_int64
    library.sweep.argtypes = (address, address, number, number, address)
    library.sweep_each.argtypes = (address, address, number, address)
    return found


def _built() -> Path:
    """The library, compiled unless it is there from before."""
    command = [*shlex.split(os.environ.get("CC", "cc")), *_FLAGS]
    source = _SOURCE.read_bytes()
    told = hashlib.sha256(source + repr((command, platform.machine())).encode()).hexdigest()[:16]
    library = Path(_PLACE).expanduser() / f"sweep-{told}.so"
    if not library.exists():
        library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Built beside it and renamed: processes that start together never load half a library.
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            part = Path(folder) / "part.so"
            subprocess.run(
                [*command, str(_SOURCE), "-o", str(part)], check=True, capture_output=True, timeout=_PATIENCE
            )
            part.replace(library)
    return library
