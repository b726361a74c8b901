"""The gradient by path length against single paths, the gradient of autograd, laws and closed forms."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from thruway.dissecting import DissectError, dissect
from thruway.errors import ConfigError, ShapeError
from thruway.nn import HighwayLinear, HighwayStack, Residual

WIDTH = 4


def linear():
    return nn.Linear(WIDTH, WIDTH)


class PreNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.f = nn.LayerNorm(WIDTH), linear()

    def forward(self, x):
        return x + torch.tanh(self.f(self.norm(x)))


class PostNorm(PreNorm):
    def forward(self, x):
        return self.norm(x + torch.tanh(self.f(x)))


class Parallel(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.f, self.g = nn.LayerNorm(WIDTH), linear(), linear()

    def forward(self, x):
        n = self.norm(x)
        return x + torch.tanh(self.f(n)) + F.silu(self.g(n))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = linear(), linear(), linear()

    def forward(self, x):
        h = self.a(x)
        h = h + torch.tanh(self.b(h))
        return x + torch.sigmoid(self.c(h))


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.g, self.p = linear(), linear(), linear()

    def forward(self, x):
        return self.p(x) + self.g(torch.tanh(self.f(x)))


class InPlace(nn.Module):
    """Into the shortcut, then into the branch, then over the join"""

    def __init__(self):
        super().__init__()
        self.a, self.b = linear(), linear()

    def forward(self, x):
        x = x * 1.0
        x += self.a(torch.tanh(x))
        h = self.b(torch.sigmoid(x))
        h += x
        return F.silu(h, inplace=True)


class Overwritten(PreNorm):
    """What the join gives is written over, as by a ReLU in place"""

    def forward(self, x):
        return F.silu(x + torch.tanh(self.f(self.norm(x))), inplace=True)


class Blend(nn.Module):
    def __init__(self, blend, shared=False):
        super().__init__()
        self.h, self.t, self.c, self.blend = linear(), linear(), linear(), blend

    def forward(self, x):
        return self.blend(x * 1.0, torch.tanh(self.h(x)), torch.sigmoid(self.t(x)), torch.sigmoid(self.c(x)))


BLENDS = {
    "coupled": lambda x, h, t, c: t * h + (1 - t) * x,
    "lerp": lambda x, h, t, c: torch.lerp(x, h, t),
    "carry gate": lambda x, h, t, c: (1 - t) * h + t * x,
    "moved": lambda x, h, t, c: x + t * (h - x),
    "two gates": lambda x, h, t, c: h * t + x * c,
    "moved in place": lambda x, h, t, c: (x * 1.0).add_(t * (h - x)),
    "added to a product": lambda x, h, t, c: (t * h).add_((1 - t) * x),
    "added to the carry": lambda x, h, t, c: (x * c).add_(h * t),
    "carry gate alone": lambda x, h, t, c: h + c * x,
    "its complement alone": lambda x, h, t, c: (1 - c) * x + h,
    "lerp by a number": lambda x, h, t, c: torch.lerp(x, h, 0.3),
    "lerp back by a number": lambda x, h, t, c: torch.lerp(h, x, 0.3),
    "moved by a number": lambda x, h, t, c: x + (h - x) * 0.3,
}

BLOCKS = {
    "pre-norm": PreNorm,
    "post-norm": PostNorm,
    "parallel": Parallel,
    "nested": Nested,
    "projection": Projected,
    "in place": InPlace,
    "overwritten": Overwritten,
    "highway": lambda: HighwayLinear(WIDTH, gate_bias=0.0),
    "independent": lambda: HighwayLinear(WIDTH, "tanh", carry="independent"),
    "scaled": lambda: Residual(nn.Sequential(linear(), nn.Tanh()), scale=0.3),
    **{name: (lambda blend=blend: Blend(blend)) for name, blend in BLENDS.items()},
}


def built(names, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(linear(), *(BLOCKS[name]() for name in names), nn.Linear(WIDTH, 3)).double()
        return net, torch.randn(5, WIDTH, dtype=torch.float64)


def loss(output):
    return output.logsumexp(-1)


def full_gradient(net, x, loss=loss):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(net(x)).sum(), x)[0]


def weighed(switch, number=None):
    """The join's own value; backwards the branch counts `switch` times, and gates on the shortcut are held."""

    def merge(at):
        if at.gate is None and number is None:
            return at.shortcut + switch * at.branch + (1 - switch) * at.branch.detach()
        gate = number if at.gate is None else at.gate
        carry = 1 - gate if at.carry is None else at.carry
        held = carry.detach() if isinstance(carry, torch.Tensor) else carry
        rest = gate * at.branch + carry * at.shortcut.detach()
        return switch * rest + (1 - switch) * rest.detach() + held * (at.shortcut - at.shortcut.detach())

    return merge


def one_by_one(d, x, numbers):
    """Every path on its own: g(S) over all sets S of open branches, and what S adds to all its subsets."""
    n = len(d.branches)
    open_ones = {}
    for switches in itertools.product((0, 1), repeat=n):
        merges = {index: weighed(switch, numbers.get(index)) for index, switch in enumerate(switches)}
        open_ones[switches] = full_gradient(d.merged(merges), x)
    by_length = [torch.zeros_like(x) for _ in range(n + 1)]
    for switches in open_ones:
        for below in itertools.product(*((0, 1) if switch else (0,) for switch in switches)):
            sign = (-1) ** (sum(switches) - sum(below))
            by_length[sum(switches)] += sign * open_ones[below]
    return by_length


MIXES = [
    *((name, name) for name in BLOCKS),
    ("pre-norm", "projection", "nested", "highway", "post-norm"),
    ("parallel", "independent", "in place"),
    ("nested", "parallel", "lerp", "projection"),
    ("pre-norm",) * 8,
]


@pytest.mark.parametrize("names", MIXES, ids=" ".join)
def test_exact_gradients_are_those_of_all_paths_one_by_one(names):
    net, x = built(names)
    d = dissect(net, x)
    fixed = {
        "carry gate alone": 1.0,
        "its complement alone": 1.0,
        "lerp by a number": 0.3,
        "lerp back by a number": 0.7,
        "moved by a number": 0.3,
    }
    numbers = dict(enumerate(fixed.get(names[0]) for _ in d.branches)) if names[0] == names[-1] else {}
    ours = d.path_gradients(loss, keep=True)
    assert ours.paths == d.path_lengths().counts  # as autograd sees the graph, and as the tape does
    for length, theirs in enumerate(one_by_one(d, x, numbers)):
        mine = ours.gradients[length] if length < len(ours.lengths) else torch.zeros_like(x)
        # 1e-11: the twin's alternating sums of up to 2^8 terms lose some digits of float64
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)
        norms = theirs.norm(dim=1)
        torch.testing.assert_close(mine.norm(dim=1), norms, rtol=1e-9, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_the_sum_over_lengths_is_autograds_gradient(names, seed):
    net, x = built(names, seed)
    d = dissect(net, x)
    ours = d.path_gradients(loss, keep=True)
    theirs = full_gradient(net, x)
    torch.testing.assert_close(ours.gradients.sum(0), theirs, rtol=1e-12, atol=1e-12 * float(theirs.abs().max()))
    torch.testing.assert_close(ours.full, theirs.norm(dim=1))
    assert ours.share.sum().item() == pytest.approx(1, abs=1e-12)
    assert ours.paths == d.path_lengths().counts  # as autograd sees the graph, and as the tape does


def chain(factors):
    blocks = []
    for factor in factors:
        block = Residual(nn.Linear(1, 1, bias=False)).double()
        nn.init.constant_(block.branch.weight, factor)
        blocks.append(block)
    return nn.Sequential(*blocks)


def test_a_linear_chain_has_the_coefficients_of_its_product():
    factors = [0.5, -0.25, 2.0, 0.125, -1.5, 0.75]
    coefficients = torch.tensor([1.0], dtype=torch.float64)
    for a in factors:  # times (1 + a·t)
        coefficients = F.pad(coefficients, (0, 1)) + a * F.pad(coefficients, (1, 0))
    x = torch.ones(2, 1, dtype=torch.float64)
    ours = dissect(chain(factors), x).path_gradients(lambda y: y.sum(), keep=True)
    torch.testing.assert_close(ours.gradients[:, 0, 0], coefficients, rtol=1e-14, atol=0)
    whole = coefficients.sum()
    torch.testing.assert_close(ours.share, coefficients / whole, rtol=1e-13, atol=0)
    torch.testing.assert_close(ours.contribution, coefficients.abs() / coefficients.abs().sum(), rtol=1e-13, atol=0)


def test_54_modules_of_one_strength_carry_a_binomial():
    a = 0.2
    ours = dissect(chain([a] * 54), torch.ones(3, 1, dtype=torch.float64)).path_gradients(lambda y: y.sum())
    # C(n,k)·a^k / (1 + a)^n is binomial with p = a / (1 + a): its mean is n·p
    assert ours.effective_depth().value == pytest.approx(54 * a / (1 + a), rel=1e-12)
    expected = [math.comb(54, k) * a**k for k in range(55)]
    torch.testing.assert_close(ours.norms[:, 0], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("at_once", [1, 3, 64])
@pytest.mark.parametrize("examples", [None, 2, 5])
def test_chunks_change_nothing(at_once, examples):
    net, x = built(("pre-norm", "nested", "highway", "projection"))
    d = dissect(net, x)
    whole, parts = (
        d.path_gradients(loss, keep=True),
        d.path_gradients(loss, at_once=at_once, examples=examples, keep=True),
    )
    torch.testing.assert_close(parts.gradients, whole.gradients, rtol=1e-12, atol=1e-14)  # other orders of sums
    torch.testing.assert_close(parts.along, whole.along, rtol=1e-11, atol=1e-14)


def test_what_is_no_batch_is_not_cut():
    class Weighed(PreNorm):
        def forward(self, x, shares):
            return x + torch.tanh(self.f(self.norm(x))) * shares

    net, x = Weighed().double(), torch.randn(5, WIDTH).double()
    d = dissect(net, (x, torch.rand(WIDTH).double()))
    torch.testing.assert_close(
        d.path_gradients(loss, examples=2).norms, d.path_gradients(loss).norms, rtol=1e-12, atol=0
    )


def test_targets_are_cut_with_the_examples():
    net, x = built(("pre-norm", "highway"))
    y = torch.tensor([0, 1, 2, 1, 0])
    d = dissect(net, x)

    def entropy(output, target):
        return F.cross_entropy(output, target, reduction="none")

    parts = d.path_gradients(entropy, x, y, examples=2, keep=True)
    theirs = full_gradient(net, x, lambda output: entropy(output, y))
    torch.testing.assert_close(parts.gradients.sum(0), theirs, rtol=1e-12, atol=1e-14)


def test_one_number_for_all_is_taken_as_it_is():
    net, x = built(("pre-norm", "highway"))
    ours = dissect(net, x).path_gradients(lambda output: loss(output).mean(), keep=True)
    torch.testing.assert_close(5 * ours.gradients.sum(0), full_gradient(net, x), rtol=1e-12, atol=1e-14)


class Words(nn.Module):
    """Indices in: what they look up is written over before the first branch reads it"""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(7, WIDTH), nn.Embedding(3, WIDTH)
        self.blocks = nn.Sequential(PreNorm(), Nested(), PostNorm())

    def forward(self, words, stream=None):
        h = self.words(words)
        h += self.places(torch.arange(3))
        return self.blocks(h if stream is None else stream)


def test_token_ids_begin_at_the_first_stream():
    torch.manual_seed(0)
    net = Words().double()
    ids = torch.tensor([[0, 1, 2], [4, 4, 6]])
    d = dissect(net, ids)
    ours = d.path_gradients(lambda y: y.pow(3).sum((1, 2)), keep=True)
    stream = (net.words(ids) + net.places(torch.arange(3))).detach().requires_grad_()
    (theirs,) = torch.autograd.grad(net(ids, stream).pow(3).sum(), stream)
    torch.testing.assert_close(ours.gradients.sum(0), theirs, rtol=1e-12, atol=1e-13)
    # pre-norm 1 + t; nested: the skip, or the outer branch with or without the inner one, 1 + t + t^2; post-norm 1 + t
    assert ours.paths == d.path_lengths().counts == (1, 3, 4, 3, 1)
    with pytest.raises(ConfigError, match="no floating input"):
        d.path_gradients(lambda y: y.sum(), where="input")


@pytest.mark.parametrize("first", ["pre-norm", "projection", "nested"])
def test_a_stream_can_be_chosen_where_the_input_is_floating(first):
    net, x = built((first, "highway"))
    ours = dissect(net, x).path_gradients(loss, where="stream", keep=True)
    theirs = full_gradient(net[1:], net[0](x).detach())
    torch.testing.assert_close(ours.gradients.sum(0), theirs, rtol=1e-12, atol=1e-14)


def test_masks_and_other_inputs_are_no_start():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.g = linear(), linear()

        def forward(self, mask, x):
            x = x + torch.tanh(self.f(x) + mask)
            return {"y": x + self.g(x).sigmoid() * mask}

    net, x, mask = Masked().double(), torch.randn(2, WIDTH).double(), torch.rand(2, WIDTH).double()
    d = dissect(net, {"mask": mask, "x": x})
    ours = d.path_gradients(lambda out: out["y"].pow(3).sum(1), keep=True)
    x.requires_grad_()
    (theirs,) = torch.autograd.grad(net(mask, x)["y"].pow(3).sum(), x)
    torch.testing.assert_close(ours.gradients.sum(0), theirs, rtol=1e-12, atol=1e-13)
    assert ours.paths == (1, 2, 1) == d.path_lengths().counts


def test_a_plain_chain_has_one_path():
    net = nn.Sequential(linear(), nn.Tanh(), linear(), nn.Tanh()).double()
    x = torch.randn(3, WIDTH).double()
    ours = dissect(net, x).path_gradients(lambda y: y.pow(2).sum(1), keep=True)
    assert ours.paths == (0, 0, 1)
    torch.testing.assert_close(ours.gradients[2], full_gradient(net, x, lambda y: y.pow(2).sum(1)), rtol=1e-12, atol=0)


def test_a_highway_stack_is_its_layers():
    stack = HighwayStack(WIDTH, depth=5, gate_bias=0.0, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.randn(3, WIDTH).double()
    ours, theirs = (dissect(n, x).path_gradients(loss) for n in (stack, stack.to_layers()))
    torch.testing.assert_close(ours.norms, theirs.norms, rtol=1e-11, atol=0)  # other order of sums


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms, self.fs = (
            nn.ModuleList(nn.BatchNorm1d(WIDTH) for _ in "abc"),
            nn.ModuleList(linear() for _ in "abc"),
        )
        self.drop = nn.Dropout(0.4)

    def forward(self, x):
        for norm, f in zip(self.norms, self.fs, strict=True):
            x = x + self.drop(f(torch.relu(norm(x))))
        return x


@pytest.mark.parametrize("is_training", [False, True], ids=["eval", "train"])
def test_the_model_is_left_as_it_was(is_training):
    net, x = Normed().double().train(is_training), torch.randn(6, WIDTH).double()
    for parameter in net.parameters():
        parameter.grad = torch.rand_like(parameter)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    grads = [parameter.grad.clone() for parameter in net.parameters()]
    x_before, modes = x.clone(), [module.training for module in net.modules()]
    d = dissect(net, x)
    ours = []
    for _ in range(2):
        torch.manual_seed(5)
        ours.append(d.path_gradients(loss, keep=True))
    d.sampled_paths(loss, draws=2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    assert torch.equal(x, x_before)
    assert not x.requires_grad
    assert modes == [module.training for module in net.modules()]
    assert torch.equal(ours[0].gradients, ours[1].gradients)
    torch.manual_seed(5)  # the same dropout; statistics of the batch link the examples, and the law holds all the same
    torch.testing.assert_close(ours[0].gradients.sum(0), full_gradient(net, x), rtol=1e-11, atol=1e-13)


def test_no_grad_outside_and_frozen_weights_change_nothing():
    net, x = built(("pre-norm", "highway"))
    d = dissect(net, x)
    free = d.path_gradients(loss).norms
    net.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(d.path_gradients(loss).norms, free)


def test_an_operation_that_cannot_be_batched_goes_one_by_one():
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            if float(g.abs().sum()) < 0:  # looks at its numbers, which a batched pass forbids
                raise ValueError
            return g * x.cos()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fs = nn.ModuleList(linear() for _ in "abcd")

        def forward(self, x):
            for f in self.fs:
                x = x + Odd.apply(f(x))
            return x

    net, x = Net().double(), torch.randn(2, WIDTH).double()
    d = dissect(net, x)
    ours, single = (d.path_gradients(loss, at_once=n, keep=True).gradients for n in (8, 1))
    assert torch.equal(ours, single)
    torch.testing.assert_close(ours.sum(0), full_gradient(net, x), rtol=1e-12, atol=1e-14)


def test_impossible_lengths_are_not_computed():
    passes = []

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            passes.append(g.shape)
            return g

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fs = nn.ModuleList(linear() for _ in range(6))

        def forward(self, x):
            for f in self.fs:
                x = x + Counted.apply(torch.tanh(f(x)))
            return x

    net, x = Net().double(), torch.randn(2, WIDTH).double()
    ours = dissect(net, x).path_gradients(loss, at_once=1)
    assert len(passes) == 6 * 7 // 2  # the branch nearest the loss once, the first one for all six lengths
    assert len(ours.lengths) == 7


def test_invalid_arguments_are_refused():
    net, x = built(("pre-norm", "highway"))
    d = dissect(net, x)
    with pytest.raises(ShapeError, match=r"one for each of 5 examples, got \(5, 3\)"):
        d.path_gradients(lambda output: output)
    with pytest.raises(ConfigError, match="the loss must return one number for each example"):
        d.path_gradients(lambda output: output.mean(), examples=2)
    with pytest.raises(ConfigError, match=r"at least 1, got 0"):
        d.path_gradients(loss, examples=0)
    with pytest.raises(DissectError, match="has no gradient with respect to the model's output"):
        d.path_gradients(lambda output: loss(output.detach()))
    with pytest.raises(DissectError, match="no path leads from the start to the loss"):
        d.path_gradients(lambda output: net[-1].weight.sum())
    with pytest.raises(ConfigError, match="the loss must return a floating tensor, got float"):
        d.path_gradients(lambda output: 1.0)
    with pytest.raises(ConfigError, match='where must be "input" or "stream"'):
        d.path_gradients(loss, where="middle")
    with pytest.raises(ConfigError, match="statistics of the batch"):
        dissect(Normed().double().train(), x).path_gradients(loss, examples=2)
    with pytest.raises(DissectError, match="no branch was found"):
        dissect(nn.Tanh(), x).path_gradients(loss)
