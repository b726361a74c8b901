"""The bar of the convolutional highway layer, and a population of convolutional nets."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, ratio
from benchmarks.stack import Row, verdict
from thruway.networks import highway_conv
from thruway.nn import HighwayConv2d
from thruway.train import SGD, Population

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
    formats = {"": torch.contiguous_format, ", both channels last": torch.channels_last}
    for said, memory_format in formats.items():
        steps = {
            "textbook": step_of(TextbookHighwayConv(CHANNELS), memory_format),
            "layer": step_of(HighwayConv2d(CHANNELS, 3), memory_format),
        }
        seconds = interleaved(steps, rounds=150, warm_up=10)
        found = ratio(seconds["textbook"], seconds["layer"])
        name = f"`HighwayConv2d` step, {CHANNELS} channels, {SIDE}x{SIDE}, batch {BATCH}, against the textbook{said}"
        middle = 1e3 * statistics.median(seconds["layer"])
        bar, mark = (f">= {BAR}x", verdict(found[1] >= BAR)) if not said else ("", "")
        yield name, bar, f"{found[1]:.2f}x ({found[0]:.2f}-{found[2]:.2f}); {middle:.0f} ms", mark


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
