"""Benchmark of the memory of watching: a thousand layers for ten thousand steps.

python -m benchmarks.watching_memory [stack | layers] [--steps 10000] [--every 1] [--megabytes 256]

`stack` is a HighwayStack of a thousand layers (more than ten minutes), `layers` is the same number of layers of two
`Linear`s, each watched separately (more than an hour). When the trace reaches its memory limit, it drops every other
step, so its size varies between half of the limit and the limit. The memory counts as flat if the peak in the second
half of the run is no higher than in the first. For shorter runs, lower the limit, so that it is reached in the first
half; otherwise no verdict is given.
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
SAMPLE_EVERY = 500  # steps between two measurements of the memory
TOLERANCE = 1.02  # fragmentation of freed memory causes some variation


def layers_net() -> nn.Sequential:
    return nn.Sequential(*(TextbookHighway(WIDTH, "tanh") for _ in range(DEPTH)), nn.Linear(WIDTH, CLASSES))


def stack_net() -> nn.Sequential:
    return nn.Sequential(HighwayStack(WIDTH, DEPTH, "tanh", -2.0), nn.Linear(WIDTH, CLASSES))


NETS: dict[str, Callable[[], nn.Sequential]] = {"stack": stack_net, "layers": layers_net}


def resident_bytes() -> int:
    """Return the resident memory of this process; on systems that do not report it, its maximum so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource  # not on every system

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Course:
    """Resident memory during a run, as (step, bytes), and whether the limit was reached in the first half."""

    samples: list[tuple[int, int]]
    was_full: bool
    seconds: float

    def peaks(self) -> tuple[int, int]:
        """Return the peaks in the first and in the second half."""
        sizes = [size for _, size in self.samples]
        return max(sizes[: len(sizes) // 2]), max(sizes[len(sizes) // 2 :])

    def is_flat(self) -> bool:
        first, second = self.peaks()
        return second <= TOLERANCE * first


def measure(net: str, steps: int, every: int, megabytes: int, log: Callable[[str], None] = lambda _: None) -> Course:
    """Train and watch, and measure the memory about twenty times or every 500 steps."""
    twin = Twin(NETS[net](), random_batch(BATCH, WIDTH))
    samples, was_full = [], False
    interval = min(SAMPLE_EVERY, max(1, steps // 20))
    started = time.perf_counter()
    with watch(twin.net, every, optimizer=twin.optimizer, memory=megabytes << 20) as trace:
        for number in range(1, steps + 1):
            twin.step()
            if number % interval == 0:
                samples.append((number, resident_bytes()))
                log(f"step {number:6}  {samples[-1][1] / 1e6:7.1f} MB  one step kept of {trace.kept_every}")
            if number == steps // 2:
                was_full = trace.kept_every > 1
    check_alive(trace)
    return Course(samples, was_full, time.perf_counter() - started)


def check_alive(trace: Trace) -> None:
    """Raise RuntimeError if watching ended early, which would keep the memory flat."""
    if trace.failure is not None or len(trace.sites) < DEPTH:
        raise RuntimeError(f"watching has failed: {trace!r}, {trace.failure!r}.")


def memory(
    net: str,
    steps: int = 10_000,
    every: int = 1,
    megabytes: int = 256,
    log: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """Peak memory of the process in the first and in the second half of a long run."""
    course = measure(net, steps, every, megabytes, log)
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
    parser.add_argument("--megabytes", type=int, default=256, help="memory limit of the trace")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    log = partial(print, flush=True)
    for row in memory(arguments.net, arguments.steps, arguments.every, arguments.megabytes, log):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
