"""Allocator settings that keep freed memory in the process between training steps."""

import ctypes

__all__ = ["keep_freed_memory"]

# Parameters of glibc's mallopt with their largest values: blocks up to 1 GB come from the heap, which is not trimmed.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SETTINGS = {_M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: 2**31 - 1}


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the next training step. Returns False if it has no such setting.

    On a CPU, the tensors of one step are freed before the next step allocates the same amount. By default, glibc
    returns large blocks to the system in between, and the next step causes a page fault for every 4 KB. The cost
    differs between processes; benchmarks/results.md lists times of a convolutional highway layer with and without this
    setting.

    The process keeps the memory of its largest step. Results do not change. Call the function once before training in
    your own programs; `thruway run` and `thruway dissect` call it. Only glibc on Linux is supported.

    >>> keep_freed_memory() in (True, False)
    True
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library or operating system
        return False
    return all([mallopt(parameter, value) == 1 for parameter, value in _SETTINGS.items()])
