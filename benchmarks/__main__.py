"""Run all benchmarks and write benchmarks/results.md. Takes about a quarter of an hour on two cores.

python -m benchmarks [name ...]     runs only the named benchmarks and prints the table instead
"""

import platform
import sys
from pathlib import Path

import torch

from benchmarks import conv, dissecting, launching, shapeset, stack, watching
from benchmarks.measure import cpu

BENCHMARKS = (
    stack.BENCHMARKS
    | conv.BENCHMARKS
    | shapeset.BENCHMARKS
    | watching.BENCHMARKS
    | launching.BENCHMARKS
    | dissecting.BENCHMARKS
)

HEAD = """\
# Benchmarks

Written by `make bench`. Unless a row says otherwise, a value is the ratio of the times of interleaved calls in one
process with 2 threads: the median over rounds, followed by the quartiles. "Eager" is a net of textbook layers, two
`Linear`s and five pointwise calls each, with a plain first layer and a linear head. A step is zero_grad, forward,
cross-entropy, backward and SGD with momentum. "Watched" rows compare a step inside `watch(model)` with default
quantities to the same step without.

{machine}

| benchmark | target | measured | |
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


if __name__ == "__main__":
    main(sys.argv[1:])
