"""Watching a thousand layers for ten thousand steps: does the memory of the process stay flat, and how long it takes.

python -m benchmarks.watching_memory [stack | layers] [--steps 10000] [--every 1] [--megabytes 256]

`stack` is a HighwayStack of a thousand layers (ten minutes and more), `layers` are as many layers of two `Linear`s,
each heard on its own (an hour and more). The trace fills the
memory it may use and then lets go of every second step, so that its use swings between half of it and all of it:
flat means that the second half of the run peaks no higher than the first. For a shorter run allow it fewer
megabytes, or it will not be filled in the first half; then no verdict is given.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.stack import Row, verdict
from benchmarks.textbook import CLASSES, TextbookHighway
from benchmarks.watching import how_often
from benchmarks.watching_nets import Twin, random_batch
from thruway.nn import HighwayStack
from thruway.watching import Trace, watch

DEPTH, WIDTH, BATCH = 1000, 8, 16
LOOK_EVERY = 500
HEADROOM = 1.02  # malloc keeps what was freed in pieces: some swing is no growth


def layers_net() -> nn.Sequential:
    return nn.Sequential(*(TextbookHighway(WIDTH, "tanh") for _ in range(DEPTH)), nn.Linear(WIDTH, CLASSES))


def stack_net() -> nn.Sequential:
    return nn.Sequential(HighwayStack(WIDTH, DEPTH, "tanh", -2.0), nn.Linear(WIDTH, CLASSES))


NETS: dict[str, Callable[[], nn.Sequential]] = {"stack": stack_net, "layers": layers_net}


def resident_bytes() -> int:
    """Of this process, now; where the system does not tell, the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource  # not on every system

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Course:
    """Resident bytes through a run, as (step, bytes), and whether the trace was full by its middle."""

    looks: list[tuple[int, int]]
    was_full: bool
    seconds: float

    def peaks(self) -> tuple[int, int]:
        """The most in the first half of the looks and in the second."""
        sizes = [size for _, size in self.looks]
        return max(sizes[: len(sizes) // 2]), max(sizes[len(sizes) // 2 :])

    def is_flat(self) -> bool:
        first, second = self.peaks()
        return second <= HEADROOM * first


def follow(net: str, steps: int, every: int, megabytes: int, tell: Callable[[str], None] = lambda _: None) -> Course:
    """Train and watch, looking at the memory some twenty times or every 500 steps."""
    twin = Twin(NETS[net](), random_batch(BATCH, WIDTH))
    looks, was_full = [], False
    gap = min(LOOK_EVERY, max(1, steps // 20))
    started = time.perf_counter()
    with watch(twin.net, every, optimizer=twin.optimizer, memory=megabytes << 20) as trace:
        for number in range(1, steps + 1):
            twin.step()
            if number % gap == 0:
                looks.append((number, resident_bytes()))
                tell(f"step {number:6}  {looks[-1][1] / 1e6:7.1f} MB  one step kept of {trace.kept_every}")
            if number == steps // 2:
                was_full = trace.kept_every > 1
    check_seen(trace)
    return Course(looks, was_full, time.perf_counter() - started)


def check_seen(trace: Trace) -> None:
    """A watch that ended early would stay flat for certain."""
    if trace.failure is not None or len(trace.sites) < DEPTH:
        raise RuntimeError(f"the watch has failed: {trace!r}, {trace.failure!r}.")


def memory(
    net: str,
    steps: int = 10_000,
    every: int = 1,
    megabytes: int = 256,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """Memory of the process in the first and in the second half of a long run."""
    course = follow(net, steps, every, megabytes, tell)
    first, second = course.peaks()
    what = {"layers": f"{DEPTH:,} highway layers of two `Linear`s", "stack": f"a {DEPTH:,}-layer `HighwayStack`"}[net]
    yield (
        f"{what}, width {WIDTH}, everything watched at {how_often(every)}, {steps:,} steps: "
        "peak memory of the process, first half and second",
        "flat",
        f"{first / 1e6:.0f} MB, {second / 1e6:.0f} MB; {course.seconds:.0f} s",
        verdict(course.is_flat()) if course.was_full else "too short to tell",
    )


BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {f"watching_memory_{net}": partial(memory, net) for net in NETS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net", nargs="?", default="stack", choices=NETS)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--megabytes", type=int, default=256, help="memory that the trace may use")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tell = partial(print, flush=True)
    for row in memory(given.net, given.steps, given.every, given.megabytes, tell):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
