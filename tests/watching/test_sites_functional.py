"""Sites of hand-written modules: names, outputs and gradients, with in-place operations and reused layers."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import Trace


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        h = torch.tanh(self.second(h))
        return h.sigmoid() * 2

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        a = _linear(self.first, x)
        b = a.clamp_min(0)
        c = _linear(self.second, b)
        d = c.tanh()
        e = d.sigmoid()
        f = e * 2
        return {"first": a, "first.relu": b, "second": c, "second.tanh": d, "sigmoid": e, "output": f}, f


class InPlaceModules(nn.Module):
    """Conv, ReLU(inplace=True), Dropout(inplace=True): each overwrites the output of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 2), nn.ELU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        a = self.body[0]._conv_forward(x, self.body[0].weight, self.body[0].bias)
        b = a.clamp_min(0)
        c = self.body[2]._conv_forward(b, self.body[2].weight, self.body[2].bias)
        d = torch.where(c > 0, c, c.exp() - 1)
        return {"body.0": a, "body.1": b, "body.2": c, "body.3": d}, d


class InPlaceSkip(nn.Module):
    """h += skip, then relu_ on the sum: one tensor object is three sites in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.stem(x)
        h = self.branch(skip)
        h += skip
        F.relu(h, inplace=True)
        return self.head(h)

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        skip = _linear(self.stem, x)
        a = _linear(self.branch, skip)
        b = a + skip
        c = b.clamp_min(0)
        d = _linear(self.head, c)
        return {"stem": skip, "branch": a, "add": b, "relu": c, "head": d}, d


class InPlaceShortcut(nn.Module):
    """The shortcut, not the branch, is overwritten, by methods that write: add_, tanh_."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h.add_(self.branch(h.clone()))
        h.tanh_()
        return self.head(h)

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        a = _linear(self.stem, x)
        b = _linear(self.branch, a)
        c = a + b
        d = c.tanh()
        e = _linear(self.head, d)
        return {"stem": a, "branch": b, "add": c, "tanh": d, "head": e}, e


class Views(nn.Module):
    """Halves of one tensor, one written to in place; a transpose and a reshape, which are no sites."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head = nn.Linear(3, 8), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.wide(x)
        left, right = wide[:, :4], wide[:, 4:]
        left.sigmoid_()
        joined = left * torch.tanh(right)
        return self.head(joined).t().reshape(-1)

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        wide = _linear(self.wide, x)
        left = wide[:, :4].sigmoid()
        right = wide[:, 4:].tanh()
        head = _linear(self.head, left * right)
        out = head.t().reshape(-1)
        return {"wide": wide, "sigmoid": left, "tanh": right, "head": head, "output": out}, out


class Shared(nn.Module):
    """One module called twice, one activation module called twice, one tensor used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(4, 4), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.layer(x))
        b = self.act(self.layer(a))
        return (b * a).sum(1) + a.sum(1)

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        p = _linear(self.layer, x)
        a = p.tanh()
        q = _linear(self.layer, a)
        b = q.tanh()
        c = (b * a).sum(1) + a.sum(1)
        sites = {"layer": p, "act": a, "layer#2": q, "act#2": b}
        return sites | {"add": c}, c


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.map(x))
        return F.tanh(F.relu(h - 0.25))


class Nested(nn.Module):
    """Modules in modules in lists: functions go by the layer before or by the module that calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Inner(), Inner()])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x.mean(1)

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        sites = {}
        for index, block in enumerate(self.blocks):
            a = _linear(block.map, x)
            b = a.clamp_min(0)
            c = (b - 0.25).clamp_min(0)
            x = c.tanh()
            path = f"blocks.{index}"
            sites |= {f"{path}.map": a, f"{path}.map.relu": b, f"{path}.relu": c, path: x}
        end = x.mean(1)
        return sites | {"output": end}, end


class Answer(NamedTuple):
    logits: Tensor
    hidden: list[Tensor]


@dataclasses.dataclass
class Report:
    score: Tensor
    label: str


class Structures(nn.Module):
    """Modules that return dicts, named tuples, lists and dataclasses; each tensor is named by its place in them."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.table, self.report = _Pair(), _Table(), _Report()

    def forward(self, x: Tensor) -> Answer:
        a, b = self.pair(x)
        table = self.table(a)
        report = self.report(table["deep"]["sum"] - b)
        return Answer(report.score * 2, [a * 3])

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        up = _linear(self.pair.up, x)
        left, right = up[:, :4].exp(), up[:, 4:].exp()
        square, total = left.square(), left.cumsum(1)
        score = (total - right).sin()
        logits, hidden = score * 2, left * 3
        sites = {"pair.up": up, "pair[0]": left, "pair[1]": right}
        sites |= {"table.square": square, "table.deep.sum": total, "report.score": score}
        return sites | {"output[0]": logits, "output[1][0]": hidden}, logits + hidden


class _Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(3, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self.up(x).chunk(2, 1)
        return left.exp(), right.exp()


class _Table(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"square": x.square(), "mask": x > 0, "none": None, "deep": {"sum": x.cumsum(1)}}


class _Report(nn.Module):
    def forward(self, x: Tensor) -> Report:
        return Report(x.sin(), "seen")


@dataclasses.dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    output: Callable[[Any], Tensor] = lambda output: output


CASES = {
    "functional": Case(Functional, (5, 3)),
    "in-place modules": Case(InPlaceModules, (3, 1, 6, 6)),
    "in-place skip": Case(InPlaceSkip, (5, 3)),
    "in-place shortcut": Case(InPlaceShortcut, (5, 3)),
    "views": Case(Views, (5, 3)),
    "shared": Case(Shared, (5, 4)),
    "nested": Case(Nested, (5, 4)),
    "structures": Case(Structures, (5, 3), lambda answer: answer.logits + answer.hidden[0]),
}


@pytest.mark.parametrize("name", CASES)
def test_every_site_has_its_name_its_numbers_and_its_gradient(
    name: str, assert_captured_right: Callable[..., Trace]
) -> None:
    case = CASES[name]
    model = seeded(case.build)
    inputs = torch.randn(case.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_captured_right(model, (inputs,), lambda net, x: net.reference(x), case.output)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()
