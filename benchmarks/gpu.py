"""Benchmarks that need a GPU. To be run by hand on a machine with a GPU; writes benchmarks/gpu.md.

python -m benchmarks.gpu [--device cpu]     on the CPU, a short test run with small sizes that writes nothing
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.conv import BATCH as IMAGES
from benchmarks.conv import CHANNELS, SIDE, TextbookHighwayConv
from benchmarks.measure import cpu, ratio
from benchmarks.stack import DEPTH, Row, stack_net, verdict
from benchmarks.textbook import batch, textbook_net
from thruway.nn import HighwayConv2d, HighwayStack
from thruway.nn.gpu import gpu_kernels
from thruway.train import SGD, Population

HEAD = """\
# Benchmarks on a GPU

Written by `python -m benchmarks.gpu`: ratios of the times of interleaved, synchronised calls in one process; the median
over rounds and the quartiles. The textbook layer and the step are those of results.md.

{machine}

| benchmark | target | measured | |
| --- | --- | --- | --- |
"""


class Timing:
    """Timer of interleaved calls on one device, each followed by a synchronisation."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.device, self.rounds = device, rounds

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def __call__(self, calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(self.rounds + 5):
            for name, call in calls.items():
                self.wait()
                started = time.perf_counter()
                call()
                self.wait()
                if number >= 5:
                    seconds[name].append(time.perf_counter() - started)
        return seconds

    def recorded(self, call: Callable[[], object]) -> Callable[[], object]:
        """Record the call as a CUDA graph, so that only the time of the device is measured."""
        if self.device.type != "cuda":
            return call
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        self.wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay


def _format_ratio(found: tuple[float, float, float]) -> str:
    return f"{found[1]:.2f}x ({found[0]:.2f}-{found[2]:.2f})"


def _step_of(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return step


def single_step(timing: Timing) -> Iterator[Row]:
    """One training step of a 50-layer stack, compared with eager and compiled textbook nets."""
    x, y = (each.to(timing.device) for each in batch())
    nets = {"eager": textbook_net(DEPTH), "compiled": textbook_net(DEPTH), "stack": stack_net(DEPTH)}
    steps: dict[str, Callable[[], object]] = {}
    for name, net in nets.items():
        placed = net.to(timing.device)
        steps[name] = _step_of(torch.compile(placed) if name == "compiled" else placed, x, y)  # type: ignore[arg-type]
    seconds = timing(steps)
    for other, target in (("eager", 8), ("compiled", 2)):
        found = ratio(seconds[other], seconds["stack"])
        name = f"`HighwayStack` step, 50 layers, width 50, batch 100, against {other}"
        yield name, f">= {target}x", _format_ratio(found), verdict(found[1] >= target)
    pair = {name: _passes_of(nets[name], x, y) for name in ("eager", "stack")}
    recorded = {name: timing.recorded(passes) for name, passes in pair.items()}
    seconds = timing(recorded)
    found = ratio(seconds["eager"], seconds["stack"])
    yield "the same two nets forward and back, each recorded as a CUDA graph", "", _format_ratio(found), ""


def _passes_of(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(nn.functional.cross_entropy(net(x), y), list(net.parameters()))


def wide(timing: Timing, width: int, depth: int = 10, size: int = 256) -> Iterator[Row]:
    """Forward and backward pass of a wide stack, compared with its matrix products alone, both as CUDA graphs."""
    stack = HighwayStack(width, depth).to(timing.device)
    x, g = (torch.randn(size, width, device=timing.device) for _ in range(2))
    weight, features, both = (
        stack.weight.detach(),
        x.mT.contiguous(),
        torch.randn(2 * width, size, device=timing.device),
    )

    def step() -> None:
        inputs = x.detach().requires_grad_()
        torch.autograd.grad(stack(inputs), (inputs, *stack.parameters()), g)

    many = torch.randn(depth, 2 * width, size, device=timing.device)
    states = torch.randn(depth, width, size, device=timing.device)

    def products() -> None:
        for w in weight.unbind(0):
            torch.mm(w, features)
        for w in weight.unbind(0):
            torch.mm(w.mT, both)
        torch.bmm(many, states.mT)  # in the memory layout of the states of a stack

    seconds = timing({"stack": timing.recorded(step), "products": timing.recorded(products)})
    found = ratio(seconds["stack"], seconds["products"])
    name = f"`HighwayStack` forward and back, {depth} layers, width {width}, batch {size}, against its products alone"
    yield name, "<= 1.15x", _format_ratio(found), verdict(found[1] <= 1.15)


def population(timing: Timing, members: int) -> Iterator[Row]:
    """The random search of highway2015.depth as a population, compared with eager textbook nets one by one."""
    x, y = (each.to(timing.device) for each in batch())
    nets = Population([stack_net(DEPTH).to(timing.device) for _ in range(members)], [SGD(0.01, 0.9)] * members)
    step = _step_of(textbook_net(DEPTH).to(timing.device), x, y)
    seconds = timing({"one by one": lambda: [step() for _ in range(members)], "population": partial(nets.step, x, y)})
    found = ratio(seconds["one by one"], seconds["population"])
    yield (
        f"population of {members} such nets against one by one",
        ">= 20x",
        _format_ratio(found),
        verdict(found[1] >= 20),
    )


def convolution(timing: Timing) -> Iterator[Row]:
    """Forward and backward pass of the convolutional highway layer, compared with the textbook layer."""
    x, g = (torch.randn(IMAGES, CHANNELS, SIDE, SIDE, device=timing.device) for _ in range(2))

    def step_of(layer: nn.Module) -> Callable[[], object]:
        placed, inputs = layer.to(timing.device), x.clone().requires_grad_()
        return lambda: torch.autograd.grad(placed(inputs), (inputs, *placed.parameters()), g)

    seconds = timing({"textbook": step_of(TextbookHighwayConv(CHANNELS)), "layer": step_of(HighwayConv2d(CHANNELS, 3))})
    found = ratio(seconds["textbook"], seconds["layer"])
    name = f"`HighwayConv2d` forward and back, {CHANNELS} channels, {SIDE}x{SIDE}, batch {IMAGES}, against the textbook"
    yield name, "", _format_ratio(found), ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    is_real = device.type == "cuda"
    timing = Timing(device, rounds=50 if is_real else 3)
    HighwayStack(5, 3).to(device)(torch.ones(2, 5, device=device))  # the first use, which selects the kernels
    kernels = "own kernels" if gpu_kernels(torch.ones(1, device=device)) is not None else "no own kernels"
    what = torch.cuda.get_device_name(device) if is_real else cpu()
    precision = torch.get_float32_matmul_precision()
    machine = f"{what}, torch {torch.__version__}, {kernels}, float32 products in {precision} precision."
    print(machine)
    rows = []
    for benchmark in (
        partial(single_step, timing),
        partial(wide, timing, 1024 if is_real else 64),
        partial(population, timing, 40 if is_real else 2),
        partial(convolution, timing),
    ):
        for row in benchmark():
            rows.append("| " + " | ".join(row) + " |")
            print(rows[-1], flush=True)
    if is_real:
        Path(__file__).with_name("gpu.md").write_text(HEAD.format(machine=machine) + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
