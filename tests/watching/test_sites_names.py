"""Names of activations called as functions, after the layer before them, and the sites of softmax."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.watching import Trace, watch


def _linear(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


class Deep(nn.Module):
    """The layers of a list, each followed by a function in the code of the root."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(4, 4) for _ in range(20))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return F.log_softmax(self.head(x), dim=1)

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        sites = {}
        for index, layer in enumerate(self.hidden):
            z = _linear(layer, x)
            x = z.tanh()
            sites |= {f"hidden.{index}": z, f"hidden.{index}.tanh": x}
        z = _linear(self.head, x)
        end = z - z.logsumexp(1, keepdim=True)
        return sites | {"head": z, "head.log_softmax": end}, end


class Doubling(nn.Module):
    """Calls tanh itself, and not as the last function."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) * 2 + self.map(x).cos()


class Colliding(nn.Module):
    """Two calls of one layer, two functions of one output, a layer that calls tanh, and a module called relu."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), Doubling()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        p = self.a(x)
        q = self.a(p.tanh()).tanh() - p.tanh()
        r = torch.tanh(self.b(q))
        return self.relu(r.cos()).sin() * F.relu(r.cos()).exp()

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        p = _linear(self.a, x)
        t = p.tanh()
        p2 = _linear(self.a, t)
        t2, t3 = p2.tanh(), p.tanh()
        q = t2 - t3
        inner = q.tanh()
        m = _linear(self.b.map, q)
        b = inner * 2 + m.cos()
        r = b.tanh()
        left, right = r.cos().clamp_min(0), r.cos().clamp_min(0)
        end = left.sin() * right.exp()
        sites = {"a": p, "a.tanh": t, "a#2": p2, "a#2.tanh": t2, "a.tanh_2": t3, "b.tanh": inner, "b.map": m, "b": b}
        return sites | {"b.tanh_2": r, "relu": left, "relu_2": right, "output": end}, end


class Elsewhere(nn.Module):
    """Inputs that are no output of a layer in the caller: overwritten, reshaped, computed, or given to the caller."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.given = _Given()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h.mul_(2)
        h = torch.tanh(h)
        h = torch.relu(self.second(h).t())
        h = torch.sigmoid(h + 0.5)
        return self.given(self.third(h)).sin()

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        a = _linear(self.first, x)
        b = (a * 2).tanh()
        c = _linear(self.second, b)
        d = c.t().clamp_min(0)
        e = (d + 0.5).sigmoid()
        f = _linear(self.third, e)
        g = F.softplus(f)
        given = g.exp()
        end = given.sin()
        sites = {"first": a, "tanh": b, "second": c, "relu": d, "sigmoid": e, "third": f}
        return sites | {"given.softplus": g, "given": given, "output": end}, end


class _Given(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x).exp()


class Attention(nn.Module):
    """Softmax in four forms: of the scores, of a layer's output, as a method, and as a module."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.mix = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.last = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.q(x) @ self.k(x).t(), dim=-1)
        h = torch.softmax(self.mix(weights @ x), -1)
        h = h.exp().softmax(-1)
        return self.last(h.sin()) * torch.special.log_softmax(h, -1)

    def reference(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        def soft(z: Tensor) -> Tensor:
            return z.exp() / z.exp().sum(-1, keepdim=True)

        q, k = _linear(self.q, x), _linear(self.k, x)
        weights = soft(q @ k.t())
        mix = _linear(self.mix, weights @ x)
        a = soft(mix)
        b = soft(a.exp())
        c = soft(b.sin())
        d = soft(b).log()
        end = c * d
        sites = {"q": q, "k": k, "softmax": weights, "mix": mix, "mix.softmax": a, "softmax_2": b, "last": c}
        return sites | {"log_softmax": d, "output": end}, end


CASES: dict[str, Callable[[], nn.Module]] = {
    "deep": Deep,
    "colliding": Colliding,
    "elsewhere": Elsewhere,
    "attention": Attention,
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_is_named_after_its_layer_in_full_and_replayed_passes(
    name: str, assert_captured_right: Callable[..., Trace]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CASES[name]()
    inputs = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_captured_right(model, (inputs,), lambda net, x: net.reference(x), lambda output: output)


def test_softmax_is_marked_but_is_no_activation_of_a_unit() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3), nn.LogSoftmax(-1))
    with watch(model) as trace:
        model(torch.ones(2, 4)).sum().backward()
    found = {s.name: (s.operation, s.activation, s.is_activation) for s in trace.sites if s.kind == "output"}
    assert found["5"] == ("LogSoftmax", "log_softmax", False)
    assert found["3"] == ("ReLU", "relu", True)
    assert trace.series("saturation").names == ["1", "3"]
    assert "gradient rms" in str(trace)
    assert " at 3; first" in str(trace)
    drawn = trace.figure("std", style="std_intervals")
    assert not any("5" in str(line.name) for line in drawn.data)
