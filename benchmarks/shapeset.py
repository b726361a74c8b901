"""Benchmark of the Shapeset generator."""

import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.stack import Row, verdict
from thruway.data import Shapeset

TARGET = 20_000


def _images_per_second(shapes: Shapeset, count: int, runs: int) -> float:
    """Return the rate of the fastest run; slower runs are disturbed by other processes."""
    seconds = []
    for run in range(runs + 1):
        started = time.perf_counter()
        shapes.images(run * count, count)
        seconds.append(time.perf_counter() - started)
    return count / min(seconds[1:])


def shapeset() -> Iterator[Row]:
    """Images per second on one core, 32 x 32, in large and in small calls."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for count, runs, target in ((20_000, 10, TARGET), (100, 100, None)):
            found = _images_per_second(Shapeset(), count, runs)
            name = f"`Shapeset` images per second on one core, 32 x 32, {count:,} a call, best of {runs} calls"
            yield name, f">= {target:,}" if target else "", f"{found:,.0f}", verdict(found >= target) if target else ""
    finally:
        torch.set_num_threads(threads)


BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {"shapeset": shapeset}
