"""A branch in another's place is the model built in that order, to the bit."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.dissecting import Error, Loss, dissect, kendall_tau
from thruway.dissecting.lesions.permutation_match import groups_of
from thruway.errors import ConfigError
from thruway.networks import mlp, resnet
from thruway.nn import HighwayLinear, Learnt, Residual

WIDTH = 6
DOUBLE = torch.float64


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().double().eval(), torch.randn(5, WIDTH, dtype=DOUBLE)


def branch():
    return nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))


def stirred(net):
    """Norms with statistics and weights of their own, as after training"""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
    return net


STACKS = {
    "residual": lambda: [Residual(branch()) for _ in range(4)],
    "scaled": lambda: [Residual(nn.Linear(WIDTH, WIDTH), scale=Learnt(0.3)) for _ in range(4)],
    "highway": lambda: [HighwayLinear(WIDTH, "tanh") for _ in range(4)],
    "two gates": lambda: [HighwayLinear(WIDTH, "tanh", carry="independent") for _ in range(4)],
    "plain": lambda: [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(4)],
}


@pytest.mark.parametrize("name", STACKS)
def test_a_permuted_model_is_the_one_built_in_that_order(name):
    net, x = seeded(lambda: stirred(nn.Sequential(*STACKS[name]())))
    d = dissect(net, x)
    before = net(x)
    for order in itertools.permutations(range(4)):
        twin = nn.Sequential(*(net[place] for place in order))
        assert torch.equal(d.permute(order)(x), twin(x))
        assert (order == (0, 1, 2, 3)) == torch.equal(twin(x), before)
    assert torch.equal(d.swap(0, 3)(x[:2]), nn.Sequential(net[3], net[1], net[2], net[0])(x[:2]))
    assert torch.equal(net(x), before)


class Block(nn.Module):
    """Attention and a perceptron without modules of their own for the branches"""

    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out, self.up = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def attend(self, x, mask):
        q, k, v = self.qkv(self.n1(x)).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))

    def think(self, x):
        return F.gelu(self.up(self.n2(x)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x, places=range(6)):
        mask = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype).tril().log()
        for at in range(6):
            block = self.blocks[places[at] // 2]
            x = x + (block.think(x) if at % 2 else block.attend(x, mask))
        return x


def test_branches_that_are_no_modules_change_places_too():
    net, _ = seeded(lambda: stirred(Transformer()))
    x = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    d = dissect(net, x)
    held = len([*net.parameters(), *net.buffers()])
    assert groups_of(d.tape, d.branches, held) == [[0, 2, 4], [1, 3, 5]]
    for places in ((4, 1, 2, 3, 0, 5), (2, 5, 4, 1, 0, 3)):
        assert torch.equal(d.permute(places)(x), net(x, places))
    with pytest.raises(ConfigError, match="branch 1 cannot stand at the place of 0"):
        d.swap(0, 1)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_modules_of_a_residual_net_change_places_within_a_stage(order):
    net = stirred(resnet((3, 3), widths=(4, 8), order=order, generator=torch.Generator().manual_seed(0)).eval())
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    d = dissect(net, x)
    assert groups_of(d.tape, d.branches, len([*net.parameters(), *net.buffers()])) == [[0, 1, 2], [3], [4, 5]]
    lesioned = d.permute([2, 0, 1, 3, 5, 4])
    before = net(x)
    blocks = list(net.blocks)
    net.blocks = nn.Sequential(*(blocks[at] for at in (2, 0, 1, 3, 5, 4)))
    twin = net(x)
    net.blocks = nn.Sequential(*blocks)
    assert torch.equal(lesioned(x), twin)
    assert not torch.equal(twin, before)
    assert torch.equal(d.permute(range(6))(x), before)
    with pytest.raises(ConfigError, match=r"blocks\.3 is projection"):
        d.swap("blocks.3", "blocks.4")


def test_the_identity_is_exact_and_gradients_flow():
    net, x = seeded(lambda: nn.Sequential(*STACKS["residual"]()))
    d = dissect(net, x)
    assert torch.equal(d.permute(range(4))(x), net(x))
    assert repr(d.permute(range(4))) == "Lesioned(Sequential intact)"
    assert repr(d.swap(0, 2)) == "Lesioned(Sequential with 2 at 0, 0 at 2)"
    d.swap(0, 2)(x).sum().backward()
    ours = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    nn.Sequential(net[2], net[1], net[0], net[3])(x).sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(ours, net.parameters(), strict=True))


def test_branches_that_do_something_else_stay_where_they_are():
    blocks = {
        "other calls": (nn.Tanh(), nn.ReLU()),
        "other settings": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)),
        "another number of calls": (nn.Tanh(), nn.Sequential(nn.Tanh(), nn.Tanh())),
    }
    for first, second in blocks.values():
        net, x = seeded(
            lambda a=first, b=second: nn.Sequential(
                *(Residual(nn.Sequential(nn.Linear(WIDTH, WIDTH), f)) for f in (a, b))
            )
        )
        with pytest.raises(ConfigError, match="cannot stand at the place of"):
            dissect(net, x).swap(0, 1)
        with pytest.raises(ConfigError, match="no two branches can change places"):
            dissect(net, x).permute_pairs(1, 1, Error([]), torch.Generator())
    with pytest.raises(ConfigError, match=r"each of 0 \.\.\. 1 once"):
        dissect(net, x).permute([0, 0])


class SharedNorm(nn.Module):
    """Two branches read one norm: its weights cannot be in two places"""

    def __init__(self):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.other = Residual(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)))

    def forward(self, x):
        n = self.norm(x)
        return self.other(x + self.a(n) + self.b(n))


def test_a_norm_that_serves_two_branches_moves_with_neither():
    net, x = seeded(SharedNorm)
    d = dissect(net, x)
    assert len(d.branches) == 3
    with pytest.raises(ConfigError, match="layer_norm in norm serves a and others too"):
        d.swap(0, 2)


def test_random_orders_are_those_of_the_twin():
    net, x = seeded(lambda: nn.Sequential(*STACKS["residual"]()))
    y = torch.arange(5)
    d = dissect(net, x)
    found = d.permute_pairs([0, 1, 4], 3, Loss([(x, y)]), torch.Generator().manual_seed(0))
    boxed = d.permute_pairs(
        [0, 1, 4], 3, lambda model: F.cross_entropy(model(x), y).item(), torch.Generator().manual_seed(0)
    )
    assert len({row.branches for row in found}) > 3
    for row, other in zip(found, boxed, strict=True):
        twin = nn.Sequential(*(net[place] for place in row.branches))
        assert row.value == F.cross_entropy(twin(x), y, reduction="none").mean().item()
        assert other.value == pytest.approx(row.value, rel=1e-14)  # a mean of five, taken by another kernel
        assert row.tau == kendall_tau(row.branches)
        if row.k < 2:
            assert sum(at != place for at, place in enumerate(row.branches)) == 2 * row.k
    again = d.permute_pairs([0, 1, 4], 3, Loss([(x, y)]), torch.Generator().manual_seed(0), memory=0)
    assert [row.value for row in again] == [row.value for row in found]


def test_every_pair_that_fits_is_equally_likely():
    net = mlp("residual", depth=6, width=4, inputs=3, classes=2, generator=torch.Generator().manual_seed(0))
    d = dissect(net, torch.ones(2, 3))
    n = len(d.branches)
    pairs, draws = math.comb(n, 2), 600
    found = d.permute_pairs(1, draws, lambda model: 0.0, torch.Generator().manual_seed(0))
    counts: dict[tuple[int, ...], int] = {}
    for row in found:
        counts[row.branches] = counts.get(row.branches, 0) + 1
    assert len(counts) == pairs
    expected = draws / pairs
    # chi-square: mean and half the variance are the degrees of freedom; five standard deviations
    limit = pairs - 1 + 5 * math.sqrt(2 * (pairs - 1))
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < limit
