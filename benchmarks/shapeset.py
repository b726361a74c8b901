"""The bar of the Shapeset generator."""

import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.stack import Row, verdict
from thruway.data import Shapeset

BAR = 20_000


def _images_per_second(shapes: Shapeset, count: int, runs: int) -> float:
    """Of the best run: what disturbs the others is not the generator."""
    seconds = []
    for run in range(runs + 1):
        started = time.perf_counter()
        shapes.images(run * count, count)
        seconds.append(time.perf_counter() - started)
    return count / min(seconds[1:])


def shapeset() -> Iterator[Row]:
    """Images per second on one core, 32 x 32, in one large call and in the calls of a small batch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for count, runs, bar in ((20_000, 10, BAR), (100, 100, None)):
            found = _images_per_second(Shapeset(), count, runs)
            name = f"`Shapeset` images per second on one core, 32 x 32, {count:,} a call, best of {runs} calls"
            yield name, f">= {bar:,}" if bar else "", f"{found:,.0f}", verdict(found >= bar) if bar else ""
    finally:
        torch.set_num_threads(threads)


BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {"shapeset": shapeset}
