"""Every way of writing a branch is found, and its lesion equals the model written without it, bit for bit.

Each net takes `gone`, the branches that its own code leaves out: the twin of every lesion.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.dissecting import dissect
from thruway.nn import Highway, HighwayConv2d, HighwayLinear, HighwayStack, RecurrentHighway, Residual, Resize

WIDTH = 6


def linear(inputs=WIDTH, outputs=WIDTH):
    return nn.Linear(inputs, outputs)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = linear(), linear(), linear()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)


class PreNorm(Net):
    kinds = ("identity", "identity")

    def forward(self, x, gone=()):
        x = x + torch.tanh(self.a(self.norm1(x))) if 0 not in gone else x
        return x + torch.relu(self.b(self.norm2(x))) if 1 not in gone else x


class PostNorm(Net):
    kinds = ("identity", "identity")

    def forward(self, x, gone=()):
        x = self.norm1(x + torch.tanh(self.a(x)) if 0 not in gone else x)
        return self.norm2(x + torch.relu(self.b(x)) if 1 not in gone else x)


class Subtracted(Net):
    """x - f(x), also in place and scaled: what is taken away is a branch; what is taken away from is none"""

    kinds = ("identity", "identity", "identity")

    def forward(self, x, gone=()):
        x = x - torch.tanh(self.a(x)) if 0 not in gone else x
        y = x.clone()
        if 1 not in gone:
            y -= torch.relu(self.b(x))
        y = torch.sub(y, self.c(y), alpha=0.5) if 2 not in gone else y
        return self.norm1(y) - y


class ParallelLeft(Net):
    """x + f(n(x)) + g(n(x)), one norm for both"""

    kinds = ("identity", "identity")

    def forward(self, x, gone=()):
        n = self.norm1(x)
        y = x + torch.tanh(self.a(n)) if 0 not in gone else x
        return y + torch.relu(self.b(n)) if 1 not in gone else y


class ParallelSummed(Net):
    """One branch of two parts"""

    kinds = ("identity",)

    def forward(self, x, gone=()):
        n = self.norm1(x)
        return x if 0 in gone else (torch.tanh(self.a(n)) + torch.relu(self.b(n))) + x


class InPlace(Net):
    """Written into the shortcut, and into the branch, with the result bound and unbound"""

    kinds = ("identity",) * 4

    def forward(self, x, gone=()):
        x = self.a(x)
        if 0 not in gone:
            x += torch.tanh(self.b(x))
        if 1 not in gone:
            x.add_(torch.relu(self.c(x)))
        h = F.relu(self.b(x), inplace=True) if 2 not in gone else None
        if h is None:
            h = x
        else:
            h += x
        g = torch.tanh(self.a(h)) if 3 not in gone else None
        if g is None:
            g = h.clone()
        else:
            g.add_(h)
        return F.relu_(g) + h.sum()


class WrittenLater(Net):
    """What joins is overwritten while the shortcut is still read"""

    kinds = ("identity",)

    def forward(self, x, gone=()):
        x = self.c(x)
        y = x + torch.tanh(self.a(x)) if 0 not in gone else x.clone()
        y.relu_()
        return torch.cat([x, y], -1)


class Scaled(Net):
    """alpha, LayerScale, ReZero, dropout, a shortcut that is scaled"""

    kinds = ("identity",) * 5

    def __init__(self):
        super().__init__()
        self.gamma, self.zero = nn.Parameter(torch.rand(WIDTH)), nn.Parameter(torch.tensor(0.3))
        self.drop = nn.Dropout(0.5)

    def forward(self, x, gone=()):
        x = torch.add(x, torch.tanh(self.a(x)), alpha=0.5) if 0 not in gone else x
        x = x + self.gamma * torch.relu(self.b(x)) if 1 not in gone else x
        x = self.zero * torch.sigmoid(self.c(x)) + x if 2 not in gone else x
        x = x + self.drop(self.b(self.norm1(x))) if 3 not in gone else x
        return 0.5 * x + torch.tanh(self.a(x)) if 4 not in gone else 0.5 * x


class ScaledShortcut(Net):
    kinds = ("identity",)

    def forward(self, x, gone=()):
        return torch.add(torch.tanh(self.a(x)), x, alpha=0.25) if 0 not in gone else 0.25 * x


class Viewed(Net):
    """The shortcut is seen otherwise on its way"""

    kinds = ("identity", "identity")

    def forward(self, x, gone=()):
        y = x.view(-1, 2, 3)
        f = torch.tanh(self.a(x)).reshape(-1, 2, 3)
        y = (f + y if 0 not in gone else y).transpose(1, 2).contiguous()
        z = y.flatten(1)
        return z + F.dropout(self.b(z).relu(), 0.5, False) if 1 not in gone else z


class Pieces(Net):
    """The branch takes its input apart and puts it together"""

    kinds = ("identity",)

    def forward(self, x, gone=()):
        u, v = self.a(x).chunk(2, -1)
        w = torch.empty_like(x)
        w[..., :3] = u.relu()
        w[..., 3:] = v
        return x + w if 0 not in gone else x


class Fused(Net):
    """Computed and added in one call"""

    kinds = ("identity", "identity")

    def forward(self, x, gone=()):
        x = torch.addcmul(x, torch.tanh(self.a(x)), self.b(x)) if 0 not in gone else x
        return torch.addmm(x, torch.relu(self.c(x)), self.a.weight) if 1 not in gone else x


class Nested(Net):
    kinds = ("identity", "identity")

    def forward(self, x, gone=()):
        h = self.a(x)
        h = h + torch.tanh(self.b(h)) if 0 not in gone else h
        return x + torch.relu(self.c(h)) if 1 not in gone else x


class Projected(nn.Module):
    """1x1 convolution and norm, pooling, zero-padding: in each the projection is what stays"""

    kinds = ("projection", "projection", "projection", "identity")

    def __init__(self):
        super().__init__()
        self.f1, self.p1, self.n1 = nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(2, 4, 1, 2, bias=False), nn.BatchNorm2d(4)
        self.f2, self.f3, self.g3 = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 1, 1)
        self.n1.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
        self.f4, self.relu = nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU(inplace=True)

    def forward(self, x, gone=()):
        p = self.n1(self.p1(x))
        x = self.relu(torch.tanh(self.f1(x)) + p if 0 not in gone else p)
        p = F.avg_pool2d(x, 2)
        x = p + self.f2(x).relu() if 1 not in gone else p
        p = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        x = p + self.g3(self.relu(self.f3(x))) if 2 not in gone else p
        if 3 not in gone:
            y = self.relu(self.f4(x))
            y += x
            x = y
        return self.relu(x) if 3 not in gone else torch.relu(x)


class SharedPreactivation(nn.Module):
    """Norm and ReLU before both the branch and its projection"""

    kinds = ("projection",)

    def __init__(self):
        super().__init__()
        self.norm, self.f, self.p = nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3, 1, 1), nn.Conv2d(2, 3, 1)
        self.g = nn.Conv2d(3, 3, 3, 1, 1)

    def forward(self, x, gone=()):
        x = self.norm(x).relu()
        p = self.p(x)
        return self.g(self.f(x).relu()) + p if 0 not in gone else p


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), linear()

    def forward(self, x, mask=None):
        q, k, v = (t.unflatten(-1, (2, 3)).transpose(1, 2) for t in self.qkv(x).split(WIDTH, -1))
        scores = q @ k.transpose(-1, -2) / 3**0.5
        if mask is not None:
            scores = scores + mask
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


@dataclass
class Said:
    hidden: torch.Tensor
    extra: dict[str, torch.Tensor]


class Transformer(Net):
    """Several inputs, a mask, learnt positions, a dataclass with a dict as output"""

    kinds = ("identity",) * 4

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Attention() for _ in range(2))
        self.position = nn.Parameter(torch.rand(4, WIDTH))

    def forward(self, x, mask, gone=()):
        x = x + self.position
        for at, block in enumerate(self.blocks):
            x = x + block(self.norm1(x), mask) if 2 * at not in gone else x
            x = x + self.b(F.gelu(self.a(self.norm2(x)), approximate="tanh")) if 2 * at + 1 not in gone else x
        return Said(x, {"mean": x.mean(1)})


class SharedBlock(Net):
    """One block, three times: three branches"""

    kinds = ("identity",) * 3

    def __init__(self):
        super().__init__()
        self.block = Residual(nn.Sequential(linear(), nn.Tanh()))

    def forward(self, x, gone=()):
        for at in range(3):
            x = self.block(x) if at not in gone else x
        return {"y": x}


class LongSkip(Net):
    """A skip round other skips, as in a U-net"""

    kinds = ("identity", "identity")

    def forward(self, x, gone=()):
        x = self.c(x)
        low = F.interpolate(x[:, None], scale_factor=0.5)[:, 0]
        low = torch.cat([low, low], -1)
        low = low + torch.tanh(self.a(low)) if 0 not in gone else low
        return x + self.b(low) if 1 not in gone else x


GATES = {
    "t*h + (1-t)*x": lambda x, h, t: t * h + (1 - t) * x,
    "x*(1-t) + h*t": lambda x, h, t: x * (1 - t) + h * t,
    "ones - t": lambda x, h, t: h * t + (torch.ones_like(t) - t) * x,
    "carry gate": lambda x, h, t: (1 - t) * h + t * x,
    "lerp": torch.lerp,
    "lerp back": lambda x, h, t: torch.lerp(h, x, t),
    "x + t*(h-x)": lambda x, h, t: x + t * (h - x),
    "(h-x)*t + x": lambda x, h, t: (h - x) * t + x,
    "h + t*(x-h)": lambda x, h, t: h + t * (x - h),
    "addcmul": lambda x, h, t: torch.addcmul(x, t, h - x),
    "in place": lambda x, h, t: h.mul_(t).add_((1 - t) * x),
    "shortcut in place": lambda x, h, t: (x * 1.0).mul_(1 - t).add_(h * t),
    "lerp by a number": lambda x, h, t: torch.lerp(x, h, 0.3),
}


class Gated(Net):
    kinds = ("gated", "gated")

    def __init__(self, blend):
        super().__init__()
        self.blend = blend

    def forward(self, x, gone=()):
        x = self.blend(x, torch.tanh(self.a(x)), torch.sigmoid(self.b(x))) if 0 not in gone else x
        return self.blend(x, torch.relu(self.c(x)), torch.sigmoid(self.a(x))) if 1 not in gone else x


class TwoGates(Net):
    """The gate of the shortcut is its own; and both come from one softmax"""

    kinds = ("gated", "gated")

    def forward(self, x, gone=()):
        if 0 not in gone:
            x = torch.sigmoid(self.a(x)) * torch.tanh(self.b(x)) + torch.sigmoid(self.c(x)) * x
        if 1 not in gone:
            t, c = self.a(x)[..., :2].softmax(-1).split(1, -1)
            x = x * c + torch.relu(self.b(x)) * t
        return x


class CarryAlone(Net):
    """Only the shortcut has a gate"""

    kinds = ("gated", "gated", "gated")

    def forward(self, x, gone=()):
        x = torch.tanh(self.a(x)) + (1 - torch.sigmoid(self.b(x))) * x if 0 not in gone else x
        x = x * torch.sigmoid(self.c(x)) + torch.relu(self.a(x)) if 1 not in gone else x
        return (x * torch.sigmoid(self.b(x))).add_(torch.tanh(self.c(x))) if 2 not in gone else x


class OneNumberGate(Net):
    """A gate that is one learnt number"""

    kinds = ("gated",)

    def __init__(self):
        super().__init__()
        self.openness = nn.Parameter(torch.tensor(0.2))

    def forward(self, x, gone=()):
        t = torch.sigmoid(self.openness)
        return t * torch.relu(self.a(x)) + (1 - t) * x if 0 not in gone else x


class Blocks(nn.Module):
    """Thruway's own blocks"""

    def __init__(self, *blocks, kinds=None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.kinds = kinds or ("gated",) * len(blocks)

    def forward(self, x, gone=()):
        for at, block in enumerate(self.blocks):
            x = block(x) if at not in gone else getattr(block, "shortcut", nn.Identity())(x)
        return x


VECTORS = (3, WIDTH)
MAPS = (2, 2, 8, 8)

CASES = {
    **{net.__name__: (net, VECTORS) for net in (PreNorm, PostNorm, Subtracted, ParallelLeft, ParallelSummed, InPlace)},
    **{net.__name__: (net, VECTORS) for net in (WrittenLater, Scaled, ScaledShortcut, Viewed, Pieces, Fused, Nested)},
    **{net.__name__: (net, VECTORS) for net in (SharedBlock, LongSkip, TwoGates, CarryAlone, OneNumberGate)},
    **{net.__name__: (net, MAPS) for net in (Projected, SharedPreactivation)},
    **{name: (lambda blend=blend: Gated(blend), VECTORS) for name, blend in GATES.items()},
    "HighwayLinear": (lambda: Blocks(HighwayLinear(WIDTH), HighwayLinear(WIDTH, "sigmoid")), VECTORS),
    "independent": (
        lambda: Blocks(HighwayLinear(WIDTH, carry="independent"), HighwayLinear(WIDTH, "sigmoid", carry="independent")),
        VECTORS,
    ),
    "HighwayConv": (lambda: Blocks(HighwayConv2d(2, 3), HighwayConv2d(2, 3, carry="independent")), MAPS),
    "Highway": (lambda: Blocks(Highway(linear(), linear()), Highway(linear(), linear(), linear())), VECTORS),
    "Residual": (
        lambda: Blocks(
            Residual(nn.Sequential(linear(), nn.Tanh()), scale=0.5, drop=0.3),
            Residual(nn.Sequential(linear(WIDTH, 8), nn.Tanh()), shortcut=Resize(WIDTH, 8)),
            kinds=("identity", "projection"),
        ),
        VECTORS,
    ),
    "ReLU in place": (lambda: Blocks(*(HighwayLinear(WIDTH, nn.ReLU(inplace=True)) for _ in range(2))), VECTORS),
}


def built(name):
    build, shape = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = build().double().eval()
        return net, torch.randn(*shape, dtype=torch.float64)


def tensors(output):
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else [output.hidden, *output.extra.values()]
    return list(values)


def assert_same_bits(ours, theirs):
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        assert torch.equal(a, b), (a - b).abs().max()


@pytest.mark.parametrize("name", CASES)
def test_every_branch_is_found_and_no_other(name):
    net, x = built(name)
    assert tuple(branch.kind for branch in dissect(net, x).branches) == net.kinds


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [None, 5], ids=["as recorded", "another batch"])
def test_each_deletion_is_the_model_without_that_branch(name, batch):
    net, example = built(name)
    d = dissect(net, example)
    x = example if batch is None else torch.randn(batch, *example.shape[1:], dtype=torch.float64)
    intact = [t.clone() for t in tensors(net(x))]
    for branch in d.branches:
        lesioned, twin = d.without(branch)(x), net(x, gone={branch.index})
        assert_same_bits(lesioned, twin)
        assert any(not torch.equal(a, b) for a, b in zip(tensors(lesioned), intact, strict=True))
    assert_same_bits(d.without(*d.branches)(x), net(x, gone=set(range(len(d.branches)))))
    for before, after in zip(intact, tensors(net(x)), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("name", CASES)
def test_joins_put_together_again_are_the_model(name):
    net, x = built(name)
    d = dissect(net, x)

    def put_together(at):
        if at.carry is not None:
            return at.carry * at.shortcut + (1.0 if at.gate is None else at.gate) * at.branch
        if at.gate is None:
            return at.shortcut + (0.3 if name == "lerp by a number" else 1.0) * at.branch
        return (1 - at.gate) * at.shortcut + at.gate * at.branch

    def put_by_number(at):
        return 0.7 * at.shortcut + 0.3 * at.branch

    merge = put_by_number if name == "lerp by a number" else put_together
    # 1e-12: other roundings than the model's own, in float64
    for a, b in zip(tensors(d.merged(dict.fromkeys(range(len(d.branches)), merge))(x)), tensors(net(x)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_transformer_with_mask_and_positions_has_two_branches_a_block():
    net = Transformer().double()
    x, mask = torch.randn(2, 4, WIDTH, dtype=torch.float64), torch.full((4, 4), -1e9, dtype=torch.float64).triu(1)
    d = dissect(net, (x, mask))
    assert tuple(branch.kind for branch in d.branches) == net.kinds
    assert [branch.name for branch in d.branches] == ["blocks.0", "a", "blocks.1", "a (2)"]
    for index in range(4):
        assert_same_bits(d.without(index)(x, mask), net(x, mask, gone={index}))
        assert_same_bits(dissect(net, {"x": x, "mask": mask}).without(index)(mask=mask, x=x), net(x, mask, {index}))


@pytest.mark.parametrize("shape", [(), (1,), (6,)])
def test_a_shortcut_may_be_scaled_by_channel(shape):
    """CAFormer, PoolFormerV2: y = x s + f(x). Without the branch, x s remains."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.rand(shape) + 0.5)
            self.f = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))

        def forward(self, x):
            return x * self.scale + self.f(x)

    net, x = nn.Sequential(Scaled(), Scaled()), torch.rand(3, 6)
    d = dissect(net, x)
    assert [branch.name for branch in d.branches] == ["0", "1"]
    expected = net[1](x * net[0].scale)
    assert torch.equal(d.without(0)(x), expected)
    small = d.remove(0)
    assert torch.equal(small(x), expected)
    assert sum(p.numel() for p in small[0].parameters()) == net[0].scale.numel()


def test_a_highway_stack_is_unfused_into_its_layers():
    stack = HighwayStack(WIDTH, depth=4, gate_bias=0.0, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layers, x = stack.to_layers(), torch.randn(3, WIDTH, dtype=torch.float64)
    d = dissect(stack, x)
    assert [branch.kind for branch in d.branches] == ["gated"] * 4
    assert {branch.parameters for branch in d.branches} == {2 * WIDTH * (WIDTH + 1)}
    for index in range(4):
        twin = nn.Sequential(*(layer for at, layer in enumerate(layers) if at != index))
        torch.testing.assert_close(d.without(index)(x), twin(x), rtol=1e-12, atol=1e-12)  # other order of sums
    assert "forward" not in vars(stack)
    torch.testing.assert_close(stack(x), layers(x), rtol=1e-12, atol=1e-12)


def test_a_recurrent_highway_is_unfused_into_its_micro_steps():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.rec = RecurrentHighway(3, 4, depth=2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        def forward(self, x, gone=None):
            if gone is None:
                return self.rec(x)[0][-1]
            cell, state = self.rec.cell, x.new_zeros(x.shape[1], 4)
            for number in range(2 * len(x)):
                z = F.linear(state, cell.weight[number % 2], cell.bias[number % 2])
                h, t = (z if number % 2 else z + cell.project(x[number // 2], None)).chunk(2, -1)
                state = torch.lerp(state, torch.tanh(h), torch.sigmoid(t)) if number not in gone else state
            return state

    net, x = Reader(), torch.randn(3, 5, 3, dtype=torch.float64)
    d = dissect(net, x)
    gated = [branch for branch in d.branches if branch.kind == "gated"]
    assert len(gated) == 5  # the very first blends with a state of zeros, which comes from no input
    for number, branch in enumerate(gated, start=1):
        torch.testing.assert_close(d.without(branch)(x), net(x, {number}), rtol=1e-12, atol=1e-12)
    assert not net.rec.cell._forward_hooks


def test_torchs_own_transformer_layers():
    net = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), 2, enable_nested_tensor=False
    )
    net, x = net.double().eval(), torch.randn(2, 5, 8, dtype=torch.float64)
    d = dissect(net, x)
    assert [branch.kind for branch in d.branches] == ["identity"] * 4
    for index, layer in enumerate(net.layers):
        first, second = (
            lambda z, layer=layer: layer._sa_block(layer.norm1(z), None, None),
            lambda z, layer=layer: layer._ff_block(layer.norm2(z)),
        )
        z = net.layers[0](x) if index else x
        for offset, keep in ((0, second), (1, first)):
            y = z + keep(z)
            y = y if index else net.layers[1](y)
            torch.testing.assert_close(d.without(2 * index + offset)(x), y, rtol=1e-12, atol=1e-12)
