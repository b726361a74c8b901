"""Benchmark of `thruway watch`: time per step of an unchanged script, against the same script with `tw.watch` in it.

Each process trains a net for 100 steps, in turn with a twin of plain tensors that nothing watches, and prints the ratio
of the median times. So a process that runs on a slower processor does not count. Bare, `tw.watch` and `thruway watch`
processes alternate; the losses of all must be equal.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import ratio
from benchmarks.stack import Row, verdict

ROUNDS = 5
LOWEST, HIGHEST = 0.97, 1.03
NETS = {"50-layer tanh MLP, width 128, batch 64": (50, 128, 64), "4-layer tanh MLP, width 64, batch 64": (4, 64, 64)}

SCRIPT = """\
import contextlib
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(2)
torch.manual_seed(0)
depth, width, batch, every = map(int, sys.argv[1:5])
net = nn.Sequential(*(m for _ in range(depth - 1) for m in (nn.Linear(width, width), nn.Tanh())), nn.Linear(width, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
twin = [p.detach().clone().requires_grad_() for p in net.parameters()]
x, y = torch.randn(batch, width), torch.randint(10, (batch,))


def step():
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def reference():
    h = x
    for weight, bias in zip(twin[0:-2:2], twin[1:-2:2]):
        h = torch.tanh(F.linear(h, weight, bias))
    gradients = torch.autograd.grad(F.cross_entropy(F.linear(h, *twin[-2:]), y), twin)
    with torch.no_grad():
        torch._foreach_add_(twin, gradients, alpha=-0.01)


times = {step: [], reference: []}
block = contextlib.nullcontext()
if sys.argv[5:] == ["tw.watch"]:
    import thruway

    block = thruway.watch(net, every, optimizer=optimizer)
with block:
    for number in range(120):
        for function, seconds in times.items():
            started = time.perf_counter()
            result = function()
            if number >= 20:
                seconds.append(time.perf_counter() - started)
            if function is step:
                loss = result
# Sums of ten steps, one of which is recorded if every tenth is.
sums = [[sum(seconds[i : i + 10]) for i in range(0, 100, 10)] for seconds in times.values()]
print(statistics.median(sums[0]) / statistics.median(sums[1]), loss.hex())
"""


def in_process(way: str, script: Path, net: tuple[int, int, int], every: int) -> tuple[float, str]:
    """Return the ratio of a step to that of the twin, and the last loss."""
    arguments = [str(script), *map(str, net), str(every)]
    if way == "thruway watch":
        arguments = [
            "-m",
            "thruway.watch",
            "--every",
            str(every),
            "--out",
            tempfile.mkdtemp(dir=script.parent),
            *arguments,
        ]
    elif way == "tw.watch":
        arguments.append(way)
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ, PYTHONHASHSEED="0"),
    )
    measured, loss = done.stdout.split()[:2]
    return float(measured), loss


def rows() -> Iterator[Row]:
    """Yield one row for each net and frequency."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        script.write_text(SCRIPT)
        for what, net in NETS.items():
            for every in (1, 10):
                found = [
                    [in_process(way, script, net, every) for way in ("bare", "tw.watch", "thruway watch")]
                    for _ in range(ROUNDS)
                ]
                if len({loss for round_ in found for _, loss in round_}) > 1:
                    raise RuntimeError("the losses of bare and watched scripts differ")
                bare, ours, launched = ([one[place][0] for one in found] for place in range(3))
                often = "every step" if every == 1 else f"every {every}th step"
                low, middle, high = ratio(launched, ours)
                yield (
                    f"`thruway watch` / `tw.watch`, {often}, {what}, the same losses in {3 * ROUNDS} processes",
                    f"{LOWEST}x to {HIGHEST}x",
                    f"{middle:.3f}x ({low:.3f}-{high:.3f}); against a bare step {ratio(launched, bare)[1]:.3f}x and "
                    f"{ratio(ours, bare)[1]:.3f}x",
                    verdict(LOWEST <= middle <= HIGHEST),
                )


BENCHMARKS = {"launching": rows}
