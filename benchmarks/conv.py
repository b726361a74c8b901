"""Benchmarks of the convolutional highway layer and of a population of convolutional nets."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, ratio
from benchmarks.stack import Row, verdict
from thruway.networks import highway_conv
from thruway.nn import HighwayConv2d
from thruway.train import SGD, Population, keep_freed_memory

CHANNELS, SIDE, BATCH = 32, 32, 64
TARGET = 1.4


class TextbookHighwayConv(nn.Module):
    """The usual implementation of the layer: two convolutions and five pointwise calls."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        h, t = torch.relu(self.transform(x)), torch.sigmoid(self.gate(x))
        return h * t + x * (1 - t)


def step_of(layer: nn.Module, memory_format: torch.memory_format) -> Callable[[], None]:
    """Return a training step of an inner layer: zero_grad, forward, backward including dL/dx, SGD with momentum."""
    layer = layer.to(memory_format=memory_format)
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=generator) for _ in range(2))
    x, g = (each.contiguous(memory_format=memory_format) for each in (x, g))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        inputs = x.detach().requires_grad_()
        layer(inputs).backward(g)
        optimizer.step()

    return step


def single_layer() -> Iterator[Row]:
    """The layer compared with the textbook layer, interleaved, in several processes.

    The cost of a step beyond its arithmetic depends on the C library. Whether it returns blocks of 8 and 16 MB to the
    system after every step is determined early in a process and differs between processes. Therefore several processes
    are measured, with additional rows in which no memory is returned.
    """
    name = f"`HighwayConv2d` step, {CHANNELS} channels, {SIDE}x{SIDE}, batch {BATCH}, against the textbook"
    cases = {
        "": (5, []),
        ", both after `keep_freed_memory()`": (3, ["keep"]),
        ", both channels last": (3, ["channels_last"]),
        ", both channels last, after `keep_freed_memory()`": (3, ["channels_last", "keep"]),
    }
    for suffix, (processes, options) in cases.items():
        command = [sys.executable, "-m", "benchmarks.conv", *options]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(processes)
        ]
        ratios, milliseconds = [sorted(column) for column in zip(*runs, strict=True)]
        middle = statistics.median(ratios)
        target, mark = (f">= {TARGET}x", verdict(middle >= TARGET)) if not suffix else ("", "")
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f} in {processes} processes"
        yield name + suffix, target, f"{middle:.2f}x ({spread}); {statistics.median(milliseconds):.0f} ms", mark
    yield from alone()


def alone() -> Iterator[Row]:
    """Time of the convolutions of a step alone, and of a step in a process with only one of the layers."""
    name = f"{CHANNELS} channels, {SIDE}x{SIDE}, batch {BATCH}"
    milliseconds = _median_of(["convolutions", "2", "keep"])
    yield f"the convolutions of that step alone, {name}, after `keep_freed_memory()`", "", f"{milliseconds:.0f} ms", ""
    for layer in ("layer", "textbook"):
        for threads in ("1", "2"):
            before, after = (_median_of([layer, threads, *keep]) for keep in ([], ["keep"]))
            what = "`HighwayConv2d`" if layer == "layer" else "the textbook layer"
            row = f"a step of {what} alone in a process, {name}, {threads} thread{'s' * (threads == '2')}"
            yield f"{row}, before and after `keep_freed_memory()`", "", f"{before:.0f} ms, {after:.0f} ms", ""


def _median_of(options: list[str], processes: int = 3) -> float:
    """Return the median milliseconds over several new processes."""
    command = [sys.executable, "-m", "benchmarks.conv", "alone", *options]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(processes)]
    return statistics.median(float(run) for run in runs)


def _milliseconds(what: str, threads: int) -> float:
    """Return the median time of a step of one layer, or of the convolutions in it."""
    torch.set_num_threads(threads)
    if what == "convolutions":
        x, g = torch.randn(BATCH, CHANNELS, SIDE, SIDE), torch.randn(BATCH, 2 * CHANNELS, SIDE, SIDE)
        layer = nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, padding=1)

        def step() -> None:
            inputs = x.detach().requires_grad_()
            layer(inputs).backward(g)

    else:
        built = HighwayConv2d(CHANNELS, 3) if what == "layer" else TextbookHighwayConv(CHANNELS)
        step = step_of(built, torch.contiguous_format)
    return 1e3 * statistics.median(interleaved({"": step}, rounds=50, warm_up=10)[""])


def in_this_process(options: list[str]) -> tuple[float, float]:
    """Return (median of textbook / layer, median milliseconds of the layer)."""
    torch.set_num_threads(2)
    memory_format = torch.channels_last if "channels_last" in options else torch.contiguous_format
    steps = {
        "textbook": step_of(TextbookHighwayConv(CHANNELS), memory_format),
        "layer": step_of(HighwayConv2d(CHANNELS, 3), memory_format),
    }
    seconds = interleaved(steps, rounds=60, warm_up=10)
    return ratio(seconds["textbook"], seconds["layer"])[1], 1e3 * statistics.median(seconds["layer"])


def population(members: int = 8) -> Iterator[Row]:
    """One step of a population of small nets, compared with the same number of steps of one net."""

    def net(seed: int) -> nn.Module:
        weights = torch.Generator().manual_seed(seed)
        return highway_conv("mnist", width=8, size=14, dropout=False, generator=weights)

    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 1, 14, 14, generator=generator), torch.randint(10, (50,), generator=generator)
    nets = Population([net(seed) for seed in range(members)], [SGD(0.01, 0.9)] * members)
    single = net(0)
    optimizer = torch.optim.SGD(single.parameters(), lr=0.01, momentum=0.9)

    def one_by_one() -> None:
        for _ in range(members):
            optimizer.zero_grad()
            nn.functional.cross_entropy(single(x), y).backward()
            optimizer.step()

    seconds = interleaved({"one by one": one_by_one, "population": partial(nets.step, x, y)}, rounds=20)
    found = ratio(seconds["one by one"], seconds["population"])
    name = f"population of {members} convolutional highway nets, 10 layers, 8 channels, 14x14, against one by one"
    yield name, "", f"{found[1]:.2f}x ({found[0]:.2f}-{found[2]:.2f})", ""


BENCHMARKS: dict[str, Callable[[], Iterator[Row]]] = {
    "highway_conv": single_layer,
    "conv_population": population,
}

if __name__ == "__main__":
    if "keep" in sys.argv and not keep_freed_memory():
        raise SystemExit("this C library has no such setting")
    if sys.argv[1:2] == ["alone"]:
        print(_milliseconds(sys.argv[2], int(sys.argv[3])))
    else:
        print(json.dumps(in_this_process(sys.argv[1:])))
