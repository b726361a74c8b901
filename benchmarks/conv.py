"""The bar of the convolutional highway layer, and a population of convolutional nets."""

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
BAR = 1.4


class TextbookHighwayConv(nn.Module):
    """The layer as it is usually written: two convolutions and five pointwise calls."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        h, t = torch.relu(self.transform(x)), torch.sigmoid(self.gate(x))
        return h * t + x * (1 - t)


def step_of(layer: nn.Module, memory_format: torch.memory_format) -> Callable[[], None]:
    """A training step of a layer inside a net: zero_grad, forward, backward with dL/dx, SGD with momentum."""
    layer = layer.to(memory_format=memory_format)
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=generator) for _ in range(2))
    x, g = (each.contiguous(memory_format=memory_format) for each in (x, g))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        entered = x.detach().requires_grad_()
        layer(entered).backward(g)
        optimizer.step()

    return step


def single_layer() -> Iterator[Row]:
    """The layer against the textbook, taking turns in processes of their own.

    What a step costs beside its arithmetic is up to the C library: whether it hands blocks of 8 and 16 MB back to the
    system after every step is settled early in a process and differs from one to the next. Hence several of them,
    and rows in which nothing is handed back.
    """
    name = f"`HighwayConv2d` step, {CHANNELS} channels, {SIDE}x{SIDE}, batch {BATCH}, against the textbook"
    cases = {
        "": (5, []),
        ", both after `keep_freed_memory()`": (3, ["keep"]),
        ", both channels last": (3, ["channels_last"]),
        ", both channels last, after `keep_freed_memory()`": (3, ["channels_last", "keep"]),
    }
    for said, (processes, options) in cases.items():
        command = [sys.executable, "-m", "benchmarks.conv", *options]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(processes)
        ]
        ratios, milliseconds = [sorted(column) for column in zip(*runs, strict=True)]
        middle = statistics.median(ratios)
        bar, mark = (f">= {BAR}x", verdict(middle >= BAR)) if not said else ("", "")
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f} in {processes} processes"
        yield name + said, bar, f"{middle:.2f}x ({spread}); {statistics.median(milliseconds):.0f} ms", mark
    yield from alone()


def alone() -> Iterator[Row]:
    """What is left of a step where nothing is handed back, and what that saves a process with one of the layers."""
    name = f"{CHANNELS} channels, {SIDE}x{SIDE}, batch {BATCH}"
    took = _median_of(["convolutions", "2", "keep"])
    yield f"the convolutions of that step alone, {name}, after `keep_freed_memory()`", "", f"{took:.0f} ms", ""
    for layer in ("layer", "textbook"):
        for threads in ("1", "2"):
            before, after = (_median_of([layer, threads, *keep]) for keep in ([], ["keep"]))
            what = "`HighwayConv2d`" if layer == "layer" else "the textbook layer"
            told = f"a step of {what} alone in a process, {name}, {threads} thread{'s' * (threads == '2')}"
            yield f"{told}, before and after `keep_freed_memory()`", "", f"{before:.0f} ms, {after:.0f} ms", ""


def _median_of(options: list[str], processes: int = 3) -> float:
    """Milliseconds: the median over fresh processes."""
    command = [sys.executable, "-m", "benchmarks.conv", "alone", *options]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(processes)]
    return statistics.median(float(run) for run in runs)


def _milliseconds(what: str, threads: int) -> float:
    """The median step of one layer, or of the convolutions that the layer makes."""
    torch.set_num_threads(threads)
    if what == "convolutions":
        x, g = torch.randn(BATCH, CHANNELS, SIDE, SIDE), torch.randn(BATCH, 2 * CHANNELS, SIDE, SIDE)
        layer = nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, padding=1)

        def step() -> None:
            entered = x.detach().requires_grad_()
            layer(entered).backward(g)

    else:
        made = HighwayConv2d(CHANNELS, 3) if what == "layer" else TextbookHighwayConv(CHANNELS)
        step = step_of(made, torch.contiguous_format)
    return 1e3 * statistics.median(interleaved({"": step}, rounds=50, warm_up=10)[""])


def in_this_process(options: list[str]) -> tuple[float, float]:
    """(median of textbook / layer, median milliseconds of the layer)."""
    torch.set_num_threads(2)
    memory_format = torch.channels_last if "channels_last" in options else torch.contiguous_format
    steps = {
        "textbook": step_of(TextbookHighwayConv(CHANNELS), memory_format),
        "layer": step_of(HighwayConv2d(CHANNELS, 3), memory_format),
    }
    seconds = interleaved(steps, rounds=60, warm_up=10)
    return ratio(seconds["textbook"], seconds["layer"])[1], 1e3 * statistics.median(seconds["layer"])


def population(members: int = 8) -> Iterator[Row]:
    """One step of several small nets at once against as many steps of one."""

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
