"""Run every benchmark and write benchmarks/results.md. Takes about a quarter of an hour on two cores.

python -m benchmarks [name ...]     only these; the table is then printed, not written
"""

import platform
import sys
from pathlib import Path

import torch

from benchmarks import conv, dissecting, shapeset, stack, watching
from benchmarks.measure import cpu

BENCHMARKS = stack.BENCHMARKS | conv.BENCHMARKS | shapeset.BENCHMARKS | watching.BENCHMARKS | dissecting.BENCHMARKS

HEAD = """\
# Benchmarks

Written by `make bench`; ratios of interleaved calls in one process, 2 threads, if a row says no other. A ratio is the
median over rounds, with the quartiles behind it. "Eager" is the textbook layer, two `Linear`s and five pointwise
calls, in a net with a plain first layer and a linear head; a step is zero_grad, forward, cross-entropy, backward and
SGD with momentum. "Watched" rows compare a step inside `watch(model)` with default quantities to the same step without.

{machine}

| what | bar | measured | |
| --- | --- | --- | --- |
"""


def main(names: list[str]) -> None:
    torch.set_num_threads(2)
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    machine = f"{cpu()}, {torch.get_num_threads()} threads, {versions}."
    rows = []
    for name, benchmark in BENCHMARKS.items():
        if not names or name in names:
            for row in benchmark():
                rows.append("| " + " | ".join(row) + " |")
                print(rows[-1], flush=True)
    if not names:
        Path(__file__).with_name("results.md").write_text(HEAD.format(machine=machine) + "\n".join(rows) + "\n")


main(sys.argv[1:])
