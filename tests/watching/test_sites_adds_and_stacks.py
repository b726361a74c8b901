"""Residual adds and other adds, and a HighwayStack against the same layers one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thruway.nn import HighwayStack
from thruway.watching import watch

PLAIN: dict[str, Callable[[Tensor], Any]] = {
    "a constant": lambda h: h + 1,
    "a number's tensor": lambda h: h + torch.tensor(1.0),
    "a constant of the same shape": lambda h: h + torch.ones_like(h),
    "a mask": lambda h: h + torch.where(torch.arange(4) > 1, -1.0, 0.0).expand_as(h),
    "itself": lambda h: h + h,
    "itself without weights between": lambda h: h + h.tanh(),
}


@pytest.mark.parametrize("name", PLAIN)
def test_an_add_that_joins_no_branch_is_no_residual_add(name: str) -> None:
    """The check for no residual add is itself checked in the table above."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(PLAIN[name](self.layer(x)))

    net = Net()
    with watch(net) as trace:
        net(torch.ones(3, 4)).sum().backward()
    assert len(trace.series("mean").names) >= 2
    assert trace.branches == {}


def test_a_blend_whose_gate_comes_first_is_no_residual_add() -> None:
    """Both sides descend from the gate, and weights lie between it and H."""

    class GateFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.plain = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            t = torch.sigmoid(self.gate(x))
            h = torch.relu(self.plain(x))
            return h * t + x * (1 - t)

    net = nn.Sequential(GateFirst(), GateFirst())
    with watch(net) as trace:
        net(torch.ones(3, 4)).sum().backward()
    assert trace.branches == {}
    assert [site.name for site in trace.sites if site.is_gate] == ["0.gate.sigmoid", "1.gate.sigmoid"]


Parts = dict[str, nn.Module]


def linear() -> nn.Module:
    return nn.Linear(4, 4)


def deep() -> nn.Module:
    return nn.Sequential(linear(), nn.ReLU(), linear())


class Joined(nn.Module):
    """Parts put together by a function: (parts, x) -> sum."""

    def __init__(self, join: Callable[..., Tensor], parts: Parts, stem: nn.Module | None = None) -> None:
        super().__init__()
        self.join, self.stem, self.parts = join, stem, nn.ModuleDict(parts)
        self.head = linear()

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.stem is None else torch.relu(self.stem(x))
        return self.head(self.join(self.parts, x))


def recurrent(parts: Any, x: Tensor) -> Tensor:
    h = torch.zeros(len(x), 4)
    for step in range(x.shape[1]):
        h = torch.tanh(parts["w"](x[:, step]) + parts["u"](h))
    return h


def mapped_then_recurrent(parts: Any, x: Tensor) -> Tensor:
    h = torch.zeros(len(x), 4)
    for step in parts["w"](x).unbind(1):
        h = torch.tanh(parts["u"](h) + step)
    return h


def embedded(parts: Any, ids: Tensor) -> Tensor:
    places = torch.arange(ids.shape[1]).expand_as(ids)
    return parts["words"](ids) + parts["kinds"](ids % 2) + parts["places"](places)


IDS = torch.tensor([[0, 3, 1], [2, 2, 4]])
SIDE_BY_SIDE: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "two towers": (
        lambda: Joined(lambda p, x: p["a"](x) + p["b"](x), {"a": linear(), "b": linear()}, linear()),
        torch.ones(3, 4),
    ),
    "two towers, one bent": (
        lambda: Joined(lambda p, x: p["a"](x) + torch.relu(p["b"](x)), {"a": linear(), "b": linear()}, linear()),
        torch.ones(3, 4),
    ),
    "three towers": (
        lambda: Joined(
            lambda p, x: p["a"](x).tanh() + p["b"](x).tanh() + p["c"](x), {n: linear() for n in "abc"}, linear()
        ),
        torch.ones(3, 4),
    ),
    "two maps in a row and a deep tower": (
        lambda: Joined(
            lambda p, x: p["a"](x) + p["b"](x), {"a": nn.Sequential(linear(), linear()), "b": deep()}, linear()
        ),
        torch.ones(3, 4),
    ),
    "an activation and a deep tower": (
        lambda: Joined(lambda p, x: p["a"](x).tanh() + p["b"](x), {"a": linear(), "b": deep()}, linear()),
        torch.ones(3, 4),
    ),
    "two deep towers": (
        lambda: Joined(lambda p, x: p["a"](x) + p["b"](x), {"a": deep(), "b": deep()}, linear()),
        torch.ones(3, 4),
    ),
    "a change of low rank": (
        lambda: Joined(
            lambda p, x: p["a"](x) + 0.5 * p["up"](p["down"](x)),
            {"a": linear(), "down": nn.Linear(4, 2), "up": nn.Linear(2, 4)},
            linear(),
        ),
        torch.ones(3, 4),
    ),
    "wide and deep": (
        lambda: Joined(lambda p, x: p["wide"](x) + p["deep"](x), {"wide": linear(), "deep": deep()}),
        torch.ones(3, 4),
    ),
    "deep and wide": (
        lambda: Joined(lambda p, x: p["deep"](x) + p["wide"](x), {"wide": linear(), "deep": deep()}),
        torch.ones(3, 4),
    ),
    "words and places": (
        lambda: Joined(
            embedded, {"words": nn.Embedding(5, 4), "kinds": nn.Embedding(2, 4), "places": nn.Embedding(3, 4)}
        ),
        IDS,
    ),
    "a recurrent net": (lambda: Joined(recurrent, {"w": linear(), "u": linear()}, linear()), torch.ones(3, 4, 4)),
    "a recurrent net, mapped at once": (
        lambda: Joined(mapped_then_recurrent, {"w": linear(), "u": linear()}, linear()),
        torch.ones(3, 4, 4),
    ),
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_maps_side_by_side_are_no_shortcut_of_each_other(name: str) -> None:
    """The sums are captured: test_a_projection_is_the_shortcut has some that are residual adds."""
    build, x = SIDE_BY_SIDE[name]
    net = build()
    with watch(net) as trace:
        net(x).sum().backward()
    assert "add" in {site.name for site in trace.sites}
    assert trace.branches == {}


class FrozenNorm(nn.Module):
    """The batch norm of detection models, whose numbers are not parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((4,), 2.0))
        self.register_buffer("shift", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.reshape(1, -1, 1, 1).rsqrt() + self.shift.reshape(1, -1, 1, 1)


def conv(inputs: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(inputs, 4, size, stride, padding=size // 2, bias=False)


class Padding(nn.Module):
    """Every second pixel, and two channels of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))


class Pooling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool2d(x, 2)
        return torch.cat((pooled, torch.zeros_like(pooled)), 1)


SHORTCUTS: dict[str, Callable[[], nn.Module]] = {
    "a map and a norm": lambda: nn.Sequential(conv(2, 1, 2), nn.BatchNorm2d(4)),
    "a map whose weight is made": lambda: nn.utils.parametrizations.weight_norm(conv(2, 1, 2)),
    "pooled, then mapped": lambda: nn.Sequential(nn.AvgPool2d(2), conv(2, 1)),
    "a norm that stands still": lambda: nn.Sequential(conv(2, 1, 2), FrozenNorm()),
    "padded": Padding,
    "pooled": Pooling,
}


@pytest.mark.parametrize("is_first", [False, True], ids=["branch first", "shortcut first"])
@pytest.mark.parametrize("name", SHORTCUTS)
def test_a_projection_is_the_shortcut(name: str, is_first: bool) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.skip = SHORTCUTS[name]()
            self.conv1, self.norm1 = conv(2, 3, 2), nn.BatchNorm2d(4)
            self.conv2, self.norm2 = conv(4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            skip = self.skip(x) if is_first else None
            branch = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
            total = self.skip(x).add(branch) if skip is None else branch + skip
            return torch.relu(total)

    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), Block())
    with watch(net) as trace:
        net(torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert {total: branch for total, (branch, _) in trace.branches.items()} == {"2.add": "2.norm2"}


def test_a_stack_has_the_numbers_of_its_layers(fingerprint: Any) -> None:
    stack = HighwayStack(4, 5, gate_bias=-0.5, generator=torch.Generator().manual_seed(3)).double()
    layers = stack.to_layers()
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    traces = []
    for model in (nn.Sequential(stack), nn.Sequential(layers)):
        with watch(model, quantities=[fingerprint, "zeros", "input_dependence"]) as trace:
            for _ in range(2):
                model(x).sin().sum().backward()
        traces.append(trace)
    ours, twins = traces
    for kind in ("output", "gradient"):
        fused, single = ours.series("fingerprint", kind), twins.series("fingerprint", kind)
        common = [name for name in single.names if name in fused.names]
        parts = (".activation", ".transform_gate", "") if kind == "output" else ("",)
        assert set(common) >= {f"0.{layer}{part}" for layer in range(4) for part in parts}
        for name in common:
            expected = single.values[single.names.index(name)]
            # float64, the same sums in another order
            assert fused.values[fused.names.index(name)] == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert {s.name for s in ours.sites if s.is_gate} == {f"0.{layer}.transform_gate" for layer in range(5)}
