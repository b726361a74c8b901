"""Counted and sampled paths, also over training, against enumeration, laws and the published numbers."""

import itertools
import math
from collections import Counter

import pytest
import torch
from torch import nn

from thruway.dissecting import dissect
from thruway.dissecting.paths.effective_depth import depth_with_interval
from thruway.dissecting.paths.lengths import shortest_range
from thruway.errors import CheckpointError, ConfigError
from thruway.nn import HighwayLinear, Residual, Resize

WIDTH = 3


def linear(inputs=WIDTH, outputs=WIDTH):
    return nn.Linear(inputs, outputs)


class Parallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.g = linear(), linear()

    def forward(self, x):
        return x + torch.tanh(self.f(x)) + torch.sigmoid(self.g(x))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = linear(), linear(), linear()

    def forward(self, x):
        h = self.a(x)
        h = h + torch.tanh(self.b(h))
        return x + torch.sigmoid(self.c(h))


def residual():
    return Residual(nn.Sequential(linear(), nn.Tanh()))


# block -> the paths through it, each with the branches on it
BLOCKS = {
    "identity": (residual, [(), ("f",)]),
    "projection": (
        lambda: Residual(nn.Sequential(linear(3, 5), nn.Tanh(), linear(5, 3)), shortcut=linear()),
        [(), ("f",)],
    ),
    "gated": (lambda: HighwayLinear(WIDTH), [(), ("t",)]),
    "parallel": (Parallel, [(), ("f",), ("g",)]),
    "nested": (Nested, [(), ("c",), ("c", "b")]),
}
MIXES = [(name,) for name in BLOCKS] + [("nested", "identity", "parallel", "gated", "projection", "nested")]


def built(names):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(*(BLOCKS[name][0]() for name in names)).double()
        return net, torch.randn(4, WIDTH, dtype=torch.float64)


def chain(depth):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(*(residual() for _ in range(depth))).double(), torch.randn(4, WIDTH).double()


def loss(y):
    return y.pow(2).sum(1)


@pytest.mark.parametrize("names", MIXES, ids=" ".join)
def test_counts_are_those_of_all_routes_listed(names):
    listed = Counter(sum(map(len, routes)) for routes in itertools.product(*(BLOCKS[name][1] for name in names)))
    net, x = built(names)
    counted = dissect(net, x).path_lengths()
    assert counted.counts == tuple(listed[length] for length in range(max(listed) + 1))
    assert counted.total == sum(listed.values())
    assert counted.mean == pytest.approx(sum(k * v for k, v in listed.items()) / counted.total, rel=1e-14)


def test_54_modules_as_published():
    counted = dissect(*chain(54)).path_lengths()
    assert counted.counts == tuple(math.comb(54, k) for k in range(55))
    assert sum(counted.shares[19:36]) > 0.95  # sec. 4.1: more than 95 % have 19 to 35 modules
    most = counted.range(0.95)
    assert most.shortest >= 19
    assert most.longest <= 35
    assert sum(counted.shares[5:18]) == pytest.approx(0.0045, abs=5e-5)  # sec. 4.3: 0.45 % of all paths


def test_counts_stay_exact_where_floats_do_not():
    assert dissect(*chain(70)).path_lengths().counts[35] == math.comb(70, 35) > 2**53


def test_resized_stages_count_as_skips():
    net = nn.Sequential(residual(), Residual(linear(3, 6), shortcut=Resize(3, 6)), Residual(linear(6, 6)))
    assert dissect(net, torch.ones(2, 3)).path_lengths().counts == (1, 3, 3, 1)


@pytest.mark.parametrize("names", [("identity",) * 5, ("nested", "identity", "parallel", "gated")], ids=" ".join)
@pytest.mark.parametrize("deleted", [0, 1, 2, 3])
def test_survival_is_the_mean_over_all_choices(names, deleted):
    d = dissect(*built(names))
    intact, n = d.path_lengths().counts, len(d.branches)
    choices = list(itertools.combinations(range(n), deleted))
    left = [0.0] * len(intact)
    for choice in choices:
        for length, share in enumerate(d.path_survival(choice)):
            left[length] += share / len(choices)
    assert d.path_survival(deleted) == pytest.approx(left, rel=1e-12, abs=1e-15)


def test_ten_deletions_leave_the_effective_paths():
    survival = dissect(*chain(54)).path_survival(10)
    assert survival[20] == math.comb(44, 20) / math.comb(54, 20)
    assert all(a >= b for a, b in itertools.pairwise(survival))
    assert survival[45] == 0


def test_deleting_an_outer_branch_takes_the_inner_one_along():
    d = dissect(*built(("nested",)))
    outer = next(branch.index for branch in d.branches if branch.parent is None)
    assert d.path_survival([outer]) == (1.0, 0.0, 0.0)
    assert d.path_survival([1 - outer]) == (1.0, 1.0, 0.0)


def test_layers_of_a_plain_chain_leave_no_path():
    d = dissect(nn.Sequential(linear(), nn.Tanh(), linear()), torch.ones(1, WIDTH))
    assert d.path_lengths().counts == (0, 0, 1)
    assert d.path_survival(1)[2] == 0
    assert math.isnan(d.path_survival(1)[0])


# --- drawn paths


def single(net, x, blocks_open):
    """The published recipe by hand: each block's other side is held."""
    x = x.clone().requires_grad_()
    y = x
    for at, block in enumerate(net):
        f = block.branch(y)
        y = y.detach() + f if at in blocks_open else y + f.detach()
    return torch.autograd.grad(loss(y).sum(), x)[0].norm(dim=1)


def all_singles(net, x, length):
    return torch.stack([single(net, x, chosen) for chosen in itertools.combinations(range(len(net)), length)])


def test_drawn_paths_are_paths_followed_by_hand():
    net, x = chain(5)
    drawn = dissect(net, x).sampled_paths(loss, draws=40)
    for length in range(6):
        listed = all_singles(net, x, length)
        distances = (drawn.norms[length][:, None] - listed).abs().amax(2).min(dim=1)
        assert distances.values.max() < 1e-12  # float64, other orders of sums
        if length in (1, 4):  # 40 draws of 5: each is missed with probability 0.8^40 = 1e-4
            assert set(distances.indices.tolist()) == set(range(5))


def test_the_mean_of_drawn_paths_is_that_of_all():
    net, x = chain(6)
    draws = 250
    drawn = dissect(net, x).sampled_paths(loss, draws=draws, generator=torch.Generator().manual_seed(0))
    for length in range(7):
        listed = all_singles(net, x, length).mean(1)
        error = listed.std(correction=0).item() / math.sqrt(draws)
        assert abs(drawn.mean[length].item() - listed.mean().item()) <= 5 * error + 1e-12
        assert drawn.spread[length].item() == pytest.approx(listed.std(correction=0).item(), rel=0.25, abs=1e-12)
    weights = torch.tensor([math.comb(6, k) * all_singles(net, x, k).mean().item() for k in range(7)])
    torch.testing.assert_close(drawn.contribution.float(), weights / weights.sum(), rtol=0.05, atol=0.005)  # sampling


def test_paths_of_one_length_are_equally_likely_in_any_graph():
    # Of length 1 there are three: through the outer branch alone, and along each of two parallel ones.
    names = ("nested", "parallel")
    net, x = built(names)
    d = dissect(net, x)
    drawn = d.sampled_paths(loss, draws=450)
    assert drawn.paths == (1, 3, 3, 2)
    values = Counter(round(value, 12) for value in drawn.norms[1].sum(1).tolist())
    assert len(values) == 3
    # 5 standard errors of a share of one third
    assert all(abs(count / 450 - 1 / 3) < 5 * math.sqrt(2 / 9 / 450) for count in values.values())


def test_singles_never_carry_less_than_their_sum():
    net, x = chain(7)
    d = dissect(net, x)
    exact = d.path_gradients(loss)
    for length in range(8):
        assert all_singles(net, x, length).sum(0).mean() >= exact.mean[length] * (1 - 1e-12)


def test_the_same_generator_draws_the_same_paths_in_any_chunks():
    d = dissect(*chain(6))
    whole, parts, others = (
        d.sampled_paths(loss, draws=3, examples=n, at_once=m, generator=torch.Generator().manual_seed(seed)).norms
        for n, m, seed in ((None, 8, 4), (3, 1, 4), (None, 8, 5))
    )
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=0)
    assert not torch.allclose(whole, others)


def test_no_draws_are_refused():
    with pytest.raises(ConfigError, match=r"at least 1, got 0"):
        dissect(*chain(2)).sampled_paths(loss, draws=0)


# --- effective depth and paths


def scaled_chain(strengths):
    net = nn.Sequential(*(Residual(nn.Linear(1, 1, bias=False)) for _ in strengths)).double()
    with torch.no_grad():
        for block, strength in zip(net, strengths, strict=True):
            block.branch.weight.fill_(strength)
    return net, torch.ones(5, 1, dtype=torch.float64)


def test_effective_paths_are_the_shortest_range_that_carries_the_share():
    exact = dissect(*scaled_chain([0.2] * 54)).path_gradients(lambda y: y.sum())
    shares = exact.contribution.tolist()
    for share in (0.1, 0.5, 0.95, 0.999):
        found = exact.effective_paths(share)
        ranges = [
            (high - low, low) for low in range(55) for high in range(low, 55) if sum(shares[low : high + 1]) >= share
        ]
        assert found.longest - found.shortest == min(ranges)[0]
        assert found.share == pytest.approx(sum(shares[found.shortest : found.longest + 1]), rel=1e-12)
        counted = sum(math.comb(54, k) for k in range(found.shortest, found.longest + 1))
        assert found.paths == pytest.approx(counted / 2**54, rel=1e-12)
    with pytest.raises(ConfigError, match=r"got 0\.0"):
        exact.effective_paths(0.0)


def test_of_several_shortest_ranges_it_is_the_heaviest():
    found = shortest_range([0.2, 0.3, 0.4, 0.1], [1, 3, 3, 1], 0.15)
    assert (found.shortest, found.longest, found.share) == (2, 2, pytest.approx(0.4))


def test_the_interval_has_its_nominal_coverage():
    coins = torch.Generator().manual_seed(0)
    hits, trials, truth = 0, 300, 0.5
    for _ in range(trials):
        # Two lengths of equal mean weight, which vary from example to example: the depth is one half.
        weights = 1 + 0.3 * torch.randn(2, 40, generator=coins, dtype=torch.float64)
        depth = depth_with_interval(weights, 0.9, 200, coins)
        hits += depth.low <= truth <= depth.high
    # 5 standard errors of 300 trials, and 2 % by which the bootstrap of 40 examples is too narrow
    assert abs(hits / trials - 0.9) < 5 * math.sqrt(0.9 * 0.1 / trials) + 0.02
    assert hits < trials


def test_sampled_depth_is_never_less_deep_where_paths_cancel():
    # 1 + a and 1 - a: the two paths of length 1 cancel, of which the sampled norms know nothing.
    d = dissect(*scaled_chain([0.5, -0.5]))
    assert d.effective_depth(lambda y: y.sum()).value == pytest.approx(2 * 0.25 / 1.25)
    sampled = d.effective_depth(lambda y: y.sum(), method="sampled", draws=4)
    assert sampled.value == pytest.approx((1 + 2 * 0.25) / 2.25)


def test_an_interval_needs_a_level():
    exact = dissect(*scaled_chain([0.2] * 2)).path_gradients(lambda y: y.sum())
    with pytest.raises(ConfigError, match=r"got level=1, resamples=1000"):
        exact.effective_depth(level=1)


def test_tables_hold_the_numbers_and_words_name_the_method():
    d = dissect(*scaled_chain([0.5, 0.5]))
    exact, drawn = d.path_gradients(lambda y: y.sum()), d.sampled_paths(lambda y: y.sum(), draws=2)
    assert exact.table()["gradient"].tolist() == pytest.approx([1, 1, 0.25])
    assert exact.table()["paths"].tolist() == [0.25, 0.5, 0.25]
    assert drawn.table()["gradient"].tolist() == pytest.approx([1, 0.5, 0.25])
    assert "exact gradients by path length" in repr(exact)
    assert "2 paths drawn of each length" in repr(drawn)
    assert "effective depth 0.67 branches" in repr(exact)  # 2·(1/2) / (1 + 1/2)
    assert "no gradient arrives" in repr(d.path_gradients(lambda y: 0 * y.sum()))


# --- over training


def test_depth_over_training_follows_the_weights_and_leaves_them_alone():
    net, x = scaled_chain([0.3, 0.4, 0.5])
    d = dissect(net, x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    places = [parameter.data_ptr() for parameter in net.parameters()]
    strengths = {0: 0.0, 10: 0.25, 20: 1.0}
    states = {step: {name: torch.full((1, 1), a).double() for name in before} for step, a in strengths.items()}
    table = d.over_training(states, lambda y: y.sum())
    assert table["checkpoint"].tolist() == [0, 10, 20]
    expected = [3 * a / (1 + a) for a in strengths.values()]
    assert table["effective_depth"].tolist() == pytest.approx(expected, rel=1e-12)
    # Sampled norms times their number agree here, where nothing cancels.
    drawn = d.over_training(iter(states.values()), lambda y: y.sum(), method="sampled", draws=2)
    assert drawn["effective_depth"].tolist() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(CheckpointError, match="checkpoint bad does not fit Sequential"):
        d.over_training({"good": states[10], "bad": {"other": torch.ones(1)}}, lambda y: y.sum())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert places == [parameter.data_ptr() for parameter in net.parameters()]
    with pytest.raises(ConfigError, match="there are no checkpoints"):
        d.over_training([], lambda y: y.sum())
    with pytest.raises(ConfigError, match="method is one of exact, sampled, got 'guess'"):
        d.over_training(states, lambda y: y.sum(), method="guess")
    with pytest.raises(ConfigError, match="the exact analysis draws nothing"):
        d.over_training(states, lambda y: y.sum(), draws=2)
