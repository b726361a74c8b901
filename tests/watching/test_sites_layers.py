"""Sites of torch's own composite layers and of residual and highway nets, against the same nets written out."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.nn import HighwayLinear
from thruway.watching import Trace, watch

Sites = dict[str, Tensor]


def batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    assert norm.weight is not None
    return (x - mean) / (var + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]


class BasicBlock(nn.Module):
    """A residual block in torchvision's manner: one ReLU module twice, in place, and an in-place add."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)

    def reference(self, x: Tensor, path: str) -> tuple[Sites, Tensor]:
        a = F.conv2d(x, self.conv1.weight, None, self.conv1.stride, 1)
        b = batch_norm(self.bn1, a)
        c = b.clamp_min(0)
        d = F.conv2d(c, self.conv2.weight, None, 1, 1)
        e = batch_norm(self.bn2, d)
        sites, identity = {}, x
        if self.downsample is not None:
            f = F.conv2d(x, self.downsample[0].weight, None, self.downsample[0].stride)
            identity = batch_norm(self.downsample[1], f)
            sites = {"downsample.0": f, "downsample.1": identity}
        g = e + identity
        h = g.clamp_min(0)
        found = {"conv1": a, "bn1": b, "relu": c, "conv2": d, "bn2": e} | sites | {"add": g, "relu#2": h}
        return {f"{path}.{name}": tensor for name, tensor in found.items()}, h


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.layers = nn.Sequential(BasicBlock(2, 2), BasicBlock(2, 4, stride=2))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.layers(self.stem(x)).mean((2, 3)), 1))

    def reference(self, x: Tensor) -> tuple[Sites, Tensor]:
        x = F.conv2d(x, self.stem.weight, self.stem.bias, 1, 1)
        sites = {"stem": x}
        for index, block in enumerate(self.layers):
            more, x = block.reference(x, f"layers.{index}")
            sites |= more
        end = F.linear(x.mean((2, 3)), self.head.weight, self.head.bias)
        return sites | {"head": end}, end


class Encoder(nn.Module):
    """torch's own encoder layer, with a mask that is added to the scores: no residual add."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.mask = nn.Transformer.generate_square_subsequent_mask(5).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x, src_mask=self.mask)

    def reference(self, x: Tensor) -> tuple[Sites, Tensor]:
        layer = self.encoder
        a = attention(layer.self_attn, x, self.mask)
        first = x + a
        b = F.layer_norm(first, (4,), layer.norm1.weight, layer.norm1.bias)
        c = F.linear(b, layer.linear1.weight, layer.linear1.bias)
        d = c.clamp_min(0)
        e = F.linear(d, layer.linear2.weight, layer.linear2.bias)
        second = b + e
        end = F.layer_norm(second, (4,), layer.norm2.weight, layer.norm2.bias)
        found = {
            "self_attn[0]": a,
            "add": first,
            "add.shortcut": x,
            "norm1": b,
            "linear1": c,
            "linear1.relu": d,
            "linear2": e,
        }
        return {f"encoder.{name}": t for name, t in (found | {"add_2": second, "norm2": end}).items()}, end


def attention(layer: nn.MultiheadAttention, x: Tensor, mask: Tensor) -> Tensor:
    heads, width = layer.num_heads, layer.head_dim
    q, k, v = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
    q, k, v = (t.unflatten(-1, (heads, width)).transpose(1, 2) for t in (q, k, v))
    weights = (q @ k.mT / width**0.5 + mask).softmax(-1)
    return F.linear((weights @ v).transpose(1, 2).flatten(2), layer.out_proj.weight, layer.out_proj.bias)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return torch.tanh(self.head(states))

    def reference(self, x: Tensor) -> tuple[Sites, Tensor]:
        net = self.lstm
        h = c = x.new_zeros(len(x), 4)
        states = []
        for step in x.unbind(1):
            into, back = F.linear(step, net.weight_ih_l0, net.bias_ih_l0), F.linear(h, net.weight_hh_l0, net.bias_hh_l0)
            i, f, g, o = (into + back).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        whole = torch.stack(states, 1)
        head = F.linear(whole, self.head.weight, self.head.bias)
        sites = {"lstm[0]": whole, "lstm[1][0]": h[None], "lstm[1][1]": c[None], "head": head}
        end = head.tanh()
        return sites | {"head.tanh": end}, end


class HandHighway(nn.Module):
    """A highway layer as its paper writes it: two maps, y = H T + x (1 - T)."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.gate = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, t = torch.relu(self.plain(x)), torch.sigmoid(self.gate(x))
        return h * t + x * (1 - t)

    def reference(self, x: Tensor, path: str) -> tuple[Sites, Tensor]:
        a = F.linear(x, self.plain.weight, self.plain.bias)
        b = F.linear(x, self.gate.weight, self.gate.bias)
        h, t = a.clamp_min(0), 1 / (1 + (-b).exp())
        y = h * t + x * (1 - t)
        return {f"{path}.plain": a, f"{path}.plain.relu": h, f"{path}.gate": b, f"{path}.gate.sigmoid": t, path: y}, y


class Highway(nn.Module):
    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(build(), build(), build())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def reference(self, x: Tensor) -> tuple[Sites, Tensor]:
        sites: Sites = {}
        for index, layer in enumerate(self.layers):
            if isinstance(layer, HandHighway):
                more, x = layer.reference(x, f"layers.{index}")
            else:
                both = F.linear(x, layer.weight, layer.bias)
                h, t = both[:, :4].clamp_min(0), 1 / (1 + (-both[:, 4:]).exp())
                more = {"linear": both, "activation": h, "transform_gate": t}
                more, x = {f"layers.{index}.{n}": v for n, v in more.items()}, h * t + x * (1 - t)
                more[f"layers.{index}"] = x
            sites |= more
        return sites, x


@dataclasses.dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    branches: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    gates: tuple[str, ...] = ()


CASES = {
    "resnet": Case(
        ResNet,
        (3, 1, 6, 6),
        {
            "layers.0.add": ("layers.0.bn2", "stem"),
            "layers.1.add": ("layers.1.bn2", "layers.1.downsample.1"),
        },
    ),
    "encoder": Case(
        Encoder,
        (2, 5, 4),
        {
            "encoder.add": ("encoder.self_attn[0]", "encoder.add.shortcut"),
            "encoder.add_2": ("encoder.linear2", "encoder.norm1"),
        },
    ),
    "lstm": Case(Recurrent, (2, 3, 3)),
    "highway by hand": Case(
        lambda: Highway(HandHighway),
        (5, 4),
        gates=("layers.0.gate.sigmoid", "layers.1.gate.sigmoid", "layers.2.gate.sigmoid"),
    ),
    "highway": Case(
        lambda: Highway(lambda: HighwayLinear(4, gate_bias=-0.5)),
        (5, 4),
        gates=("layers.0.transform_gate", "layers.1.transform_gate", "layers.2.transform_gate"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_site_has_its_name_its_numbers_and_its_gradient(
    name: str, assert_captured_right: Callable[..., Trace]
) -> None:
    case = CASES[name]
    model = seeded(case.build)
    trace = assert_captured_right(model, (inputs_of(case),), lambda net, x: net.reference(x), lambda output: output)
    assert trace.branches == case.branches
    assert tuple(site.name for site in trace.sites if site.is_gate) == case.gates


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.branches])
def test_the_branch_ratio_is_rms_of_the_branch_over_rms_of_the_shortcut(name: str) -> None:
    case = CASES[name]
    model = seeded(case.build).double()
    x = inputs_of(case)
    with watch(model) as trace:
        model(x).sum().backward()
    sites, _ = model.reference(x)
    expected = {
        total: (sites[branch].square().mean().sqrt() / sites[shortcut].square().mean().sqrt()).item()
        for total, (branch, shortcut) in case.branches.items()
    }
    ratio = trace.series("branch_ratio")
    assert dict(zip(ratio.names, ratio.values[:, 0].tolist(), strict=True)) == pytest.approx(expected, rel=1e-12)


def inputs_of(case: Case) -> Tensor:
    return torch.randn(case.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()
