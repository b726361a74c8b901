"""Freed memory that stays with the process, so that every training step does not fetch it anew."""

import ctypes

__all__ = ["keep_freed_memory"]

# Parameters of glibc's mallopt and their largest values: blocks up to 1 GB come from the heap, and its top is not cut.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_WANTED = {_M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: 2**31 - 1}


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed for the next step; whether it has such a setting (glibc on Linux has).

    On a CPU the tensors of one step are freed before the next asks for as many. By default glibc hands large blocks
    back to the system in between, and the next step pays a page fault for every 4 KB. How much that is, differs from
    one process to the next; benchmarks/results.md has a convolutional highway layer with and without.

    The price: the process stays as large as its largest step was. It changes no number. Call it once, before training,
    in a program of your own; `thruway run` and `thruway dissect` do.

    >>> keep_freed_memory() in (True, False)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return all([mallopt(parameter, value) == 1 for parameter, value in _WANTED.items()])
