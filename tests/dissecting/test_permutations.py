"""Permuted branches equal the model built in that order, bit for bit."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.dissecting import Error, Loss, dissect, kendall_tau
from thruway.dissecting.lesions.permutation_match import interchangeable_groups
from thruway.dissecting.tracing.unfused import unfused
from thruway.errors import ConfigError
from thruway.networks import mlp, resnet
from thruway.nn import HighwayLinear, HighwayStack, Learnt, Residual

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
    assert interchangeable_groups(d.tape, d.branches, held) == [[0, 2, 4], [1, 3, 5]]
    for places in ((4, 1, 2, 3, 0, 5), (2, 5, 4, 1, 0, 3)):
        assert torch.equal(d.permute(places)(x), net(x, places))
    with pytest.raises(ConfigError, match="branch 1 cannot run in the place of 0"):
        d.swap(0, 1)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_modules_of_a_residual_net_change_places_within_a_stage(order):
    net = stirred(resnet((3, 3), widths=(4, 8), order=order, generator=torch.Generator().manual_seed(0)).eval())
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    d = dissect(net, x)
    assert interchangeable_groups(d.tape, d.branches, len([*net.parameters(), *net.buffers()])) == [
        [0, 1, 2],
        [3],
        [4, 5],
    ]
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


def test_statistics_of_a_model_in_training_are_not_touched():
    def build():
        return nn.Sequential(*(Residual(nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH))) for _ in "ab"))

    net, x = seeded(lambda: stirred(build()))
    d = dissect(net.train(), x)
    before = [buffer.clone() for buffer in net.buffers()]
    ours = d.swap(0, 1)(x)
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))
    assert torch.equal(ours, nn.Sequential(net[1], net[0])(x))
    assert not all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))  # the twin's do move


def test_branches_that_do_something_else_stay_where_they_are():
    blocks = {
        "other calls": (nn.Tanh(), nn.Sigmoid()),
        "other settings": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)),
        "another number of calls": (nn.Tanh(), nn.Sequential(nn.Tanh(), nn.Tanh())),
    }
    for first, second in blocks.values():
        net, x = seeded(
            lambda a=first, b=second: nn.Sequential(
                *(Residual(nn.Sequential(nn.Linear(WIDTH, WIDTH), f)) for f in (a, b))
            )
        )
        with pytest.raises(ConfigError, match="cannot run in the place of"):
            dissect(net, x).swap(0, 1)
        with pytest.raises(ConfigError, match="no two branches can be swapped"):
            dissect(net, x).permute_pairs(1, 1, Error([]), torch.Generator())
    with pytest.raises(ConfigError, match=r"each of 0 \.\.\. 1 exactly once"):
        dissect(net, x).permute([0, 0])


class Conditioned(nn.Module):
    """Branches that read a second signal, each its own or only one of them"""

    def __init__(self, reads_both):
        super().__init__()
        self.a, self.b, self.reads_both = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), reads_both

    def forward(self, x, one, two):
        x = x + torch.tanh(self.a(x * (one if self.reads_both else x)))
        return x + torch.tanh(self.b(x * two))


@pytest.mark.parametrize(("reads_both", "message"), [(True, "reads 2 signals"), (False, "in different ways")], ids=str)
def test_a_branch_that_reads_more_than_the_stream_stays(reads_both, message):
    net, x = seeded(lambda: Conditioned(reads_both))
    d = dissect(net, (x, x.clone(), -x))
    assert len(d.branches) == 2
    with pytest.raises(ConfigError, match=message):
        d.swap(0, 1)


class Crossed(nn.Module):
    """H and T of one product, the second time the other way round"""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, x):
        h, t = self.a(x).chunk(2, -1)
        x = torch.lerp(x, torch.tanh(h), torch.sigmoid(t))
        t, h = self.b(x).chunk(2, -1)
        return torch.lerp(x, torch.tanh(h), torch.sigmoid(t))


def test_blocks_with_their_parts_the_other_way_round_stay():
    net, x = seeded(Crossed)
    with pytest.raises(ConfigError, match="read results of different calls"):
        dissect(net, x).swap(0, 1)


# --- layers whose weights are slices of one tensor


def fused(activation="tanh"):
    return HighwayStack(WIDTH, 5, activation, gate_bias=-1.0)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_layers_of_a_fused_stack_change_places(activation):
    net, x = seeded(lambda: stirred(fused(activation)))
    y = torch.tensor([0, 1, 2, 3, 4])
    d = dissect(net, x)
    before, layers = net(x), net.to_layers()
    for order in ((4, 1, 2, 3, 0), (1, 2, 3, 4, 0), (3, 4, 0, 2, 1)):
        ours = d.permute(order)(x)
        # The layers run one by one; the twin's blend rounds otherwise.
        twin = nn.Sequential(*(layers[place] for place in order))(x)
        torch.testing.assert_close(ours, twin, rtol=1e-12, atol=1e-14)
        assert not torch.allclose(twin, before)
        with torch.no_grad():
            moved = fused(activation).double()
            moved.weight.copy_(net.weight[list(order)])
            moved.bias.copy_(net.bias[list(order)])
        with unfused(moved):
            assert torch.equal(ours, moved(x))
    assert torch.equal(d.permute(range(5))(x), before)  # the fused function's own bits
    found = d.permute_pairs([0, 1, 2], 3, Loss([(x, y)]), torch.Generator().manual_seed(0))
    again = d.permute_pairs([0, 1, 2], 3, Loss([(x, y)]), torch.Generator().manual_seed(0), memory=0)
    boxed = d.permute_pairs(
        [0, 1, 2], 3, lambda model: F.cross_entropy(model(x), y).item(), torch.Generator().manual_seed(0)
    )
    for row, whole, other in zip(found, again, boxed, strict=True):
        losses = F.cross_entropy(d.permute(row.branches)(x), y, reduction="none")
        assert row.value == whole.value
        assert row.value == pytest.approx(losses.mean().item(), rel=1e-14)
        assert other.value == pytest.approx(row.value, rel=1e-14)
        if row.k == 0:
            assert (row.value, whole.value) == (found.intact, again.intact)  # to the bit: all run layer by layer


def test_lesions_of_a_fused_stack_differ_from_it_by_the_lesion_and_by_no_rounding():
    net = HighwayStack(16, 8, gate_bias=-1.0, generator=torch.Generator().manual_seed(0))
    x, y = torch.randn(20, 16, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 16
    with torch.no_grad():
        net.bias[3, 16:] = -1e4  # T = 0: the layer carries its input on
    d = dissect(net, x)
    with unfused(net):
        in_layers = net(x)
    assert not torch.equal(in_layers, net(x))  # there is a rounding to be seen
    for found in (
        d.delete_each(Loss([(x, y)])),
        d.delete_each(Loss([(x, y)]), memory=0),
        d.delete_each(lambda model: F.cross_entropy(model(x), y).item()),
    ):
        assert found[3].change == 0.0
        assert all(row.change != 0.0 for row in found if row.index != 3)


def test_gradients_reach_the_slices_that_were_used():
    net, x = seeded(lambda: stirred(fused()))
    order = [2, 1, 0, 4, 3]
    dissect(net, x).permute(order)(x).square().sum().backward()
    ours = net.weight.grad.clone()
    twin, _ = seeded(fused)
    with torch.no_grad():
        twin.weight.copy_(net.weight[order])
        twin.bias.copy_(net.bias[order])
    twin(x).square().sum().backward()
    torch.testing.assert_close(ours[order], twin.weight.grad, rtol=1e-11, atol=1e-13)  # sums in another order


class Stacked(nn.Module):
    """Weights of all blocks in one parameter, each block's taken out by its index and scaled by another one"""

    def __init__(self):
        super().__init__()
        self.weight, self.size = nn.Parameter(torch.randn(4, WIDTH, WIDTH)), nn.Parameter(torch.rand(4, 1, 1))
        self.places = (0, 1, 2, 3)

    def forward(self, x):
        for place in self.places:
            x = x + torch.tanh(x @ (self.weight[place] * self.size[place]).T)
        return x


def test_blocks_that_index_one_tensor_change_places():
    net, x = seeded(Stacked)
    d = dissect(net, x)
    for order in itertools.permutations(range(4)):
        net.places = order
        twin = net(x)
        net.places = (0, 1, 2, 3)
        assert torch.equal(d.permute(order)(x), twin)


def test_parametrized_weights_go_along():
    def build():
        layers = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        return nn.Sequential(*(Residual(nn.utils.parametrizations.weight_norm(layer)) for layer in layers))

    net, x = seeded(lambda: stirred(build()))
    assert torch.equal(dissect(net, x).permute([2, 0, 1])(x), nn.Sequential(net[2], net[0], net[1])(x))


class Masked(nn.Module):
    """What the weights are multiplied with is no parameter and no buffer: nothing says that it is the same later on"""

    def __init__(self):
        super().__init__()
        self.weight, self.masks = nn.Parameter(torch.randn(2, WIDTH, WIDTH)), torch.ones(2, WIDTH, WIDTH).double()

    def forward(self, x):
        for weight in (self.weight * self.masks).unbind():
            x = x + torch.tanh(x @ weight)
        return x


class Renewed(nn.Module):
    """A weight that is written to after it was made"""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, WIDTH, WIDTH))

    def forward(self, x):
        weights = self.weight * 2
        weights.mul_(0.5)
        for weight in weights.unbind():
            x = x + torch.tanh(x @ weight)
        return x


class Thinned(nn.Module):
    """Weights of which some are dropped at random: made again, they would be others"""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, WIDTH, WIDTH))

    def forward(self, x):
        for weight in F.dropout(self.weight, 0.5, self.training).unbind():
            x = x + torch.tanh(x @ weight)
        return x


@pytest.mark.parametrize("kind", [Masked, Renewed, Thinned])
def test_weights_that_cannot_be_made_again_stay_where_they_are(kind):
    net, x = seeded(kind)
    d = dissect(net.train(kind is Thinned), x)
    assert len(d.branches) == 2
    with pytest.raises(ConfigError, match="are written to, or not computed from parameters"):
        d.swap(0, 1)


class SharedNorm(nn.Module):
    """Two branches read one norm: its weights cannot be in two places"""

    def __init__(self):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.other = Residual(nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)))

    def forward(self, x):
        n = self.norm(x)
        return self.other(x + self.a(n) + self.b(n))


def test_a_norm_shared_by_two_branches_moves_with_neither():
    net, x = seeded(SharedNorm)
    d = dissect(net, x)
    assert len(d.branches) == 3
    with pytest.raises(ConfigError, match="layer_norm in norm is shared by a and others"):
        d.swap(0, 2)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.inner = nn.Linear(WIDTH, WIDTH), Residual(nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        return x + torch.tanh(self.inner(torch.relu(self.a(x))))


def test_a_branch_and_what_lies_within_it_move_one_at_a_time():
    net, x = seeded(lambda: nn.Sequential(Nested(), Nested()))
    d = dissect(net, x)
    (inner, outer), (other_inner, other_outer) = ((0, 1), (2, 3))
    assert [branch.parent for branch in d.branches] == [outer, None, other_outer, None]
    assert torch.equal(d.swap(outer, other_outer)(x), nn.Sequential(net[1], net[0])(x))
    ours = d.swap(inner, other_inner)(x)
    net[0].inner, net[1].inner = net[1].inner, net[0].inner
    assert torch.equal(ours, net(x))
    net[0].inner, net[1].inner = net[1].inner, net[0].inner
    with pytest.raises(ConfigError, match="lies within another branch that moves too"):
        d.permute([other_inner, other_outer, inner, outer])


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
