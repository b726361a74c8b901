"""Rejected candidates, models that cannot be dissected, and branches that the user declares or ignores."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.dissecting import DissectError, dissect
from thruway.errors import ConfigError

WIDTH = 6


class Wrapped(nn.Module):
    """One residual branch, x + tanh(W x), and something else that adds"""

    def __init__(self, other, **parts):
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.other = other
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        x = self.other(self, x)
        return x + torch.tanh(self.a(x))


def rotary(net, x):
    angles = torch.arange(WIDTH, dtype=x.dtype)
    q = net.b(x)
    turned = torch.cat([-q[..., 3:], q[..., :3]], -1)
    return q * angles.cos() + turned * angles.sin()


def tanh_gelu(net, x):
    h = net.b(x)
    return 0.5 * h * (1 + torch.tanh(0.8 * (h + 0.0447 * h**3)))


def norm_by_hand(net, x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.var(-1, keepdim=True) + 1e-5).sqrt() * net.gamma + net.beta


def response_norm(net, x):
    size = x.norm(dim=0, keepdim=True)
    return net.gamma * (x * (size / (size.mean(-1, keepdim=True) + 1e-6))) + net.beta + x


def two_tables(net, x):
    ids = torch.arange(3) % 2
    return net.words(ids) + net.places(torch.arange(3)) + 0 * x


def low_rank(net, x):
    return net.b(x) + net.up(net.down(x))


def scores(net, x):
    h = net.b(x)
    return (h @ net.q @ h.T + h @ net.k @ h.T).softmax(-1) @ h


def shared_bias(net, x):
    """Scores of two layers with one bias: the second depends on it, but is no branch beside it."""
    bias = net.q[:3, :3] + 0.0 * x[:, :3]
    for _ in range(2):
        h = net.b(x)
        x = (h @ h.T + bias).softmax(-1) @ h
    return x


def mix_of_positions(net, x):
    return net.gamma * x + (1 - net.gamma) * F.pad(x, (0, 0, 1, -1))


def recurrence(net, x):
    h = torch.tanh(net.b(x[0]))
    for step in x[1:]:
        h = torch.tanh(net.b(step) + net.up2(h))
    return h.expand(len(x), -1)


def film(net, x):
    scale, shift = net.wide(net.condition).chunk(2, -1)
    return net.b(x) * (1 + scale) + shift


def double(net, x):
    x = net.b(x)
    return x + x


class Modulated(nn.Module):
    """FiLM or AdaLN: a signal that is scaled and shifted by maps of another one."""

    def __init__(self, is_fused):
        super().__init__()
        self.layer, self.scale, self.shift = nn.Linear(WIDTH, WIDTH), nn.Linear(4, WIDTH), nn.Linear(4, WIDTH)
        self.is_fused = is_fused

    def forward(self, x, c):
        if self.is_fused:
            return F.relu(torch.addcmul(self.shift(c), self.layer(x), 1 + self.scale(c)))
        return F.relu(self.layer(x) * (1 + self.scale(c)) + self.shift(c))


@pytest.mark.parametrize("is_fused", [False, True])
def test_a_condition_is_no_shortcut(is_fused):
    d = dissect(Modulated(is_fused), (torch.rand(2, WIDTH), torch.rand(2, 4)))
    assert d.branches == ()
    assert [refusal.reason for refusal in d.refused] == [
        "a scale and a shift that are computed from another signal, as in FiLM and AdaLN"
    ]


def mean_of_batch(net, x):
    return x + net.b(x).tanh().mean(0, keepdim=True)


def open_gates(net, x):
    """Without T, this is 2 x"""
    t = torch.sigmoid(net.b(x))
    return t * torch.tanh(net.b(x)) + (2 - t) * x


def parts():
    torch.manual_seed(0)
    return {
        "gamma": nn.Parameter(torch.rand(WIDTH)),
        "beta": nn.Parameter(torch.rand(WIDTH)),
        "q": nn.Parameter(torch.rand(WIDTH, WIDTH)),
        "k": nn.Parameter(torch.rand(WIDTH, WIDTH)),
        "words": nn.Embedding(3, WIDTH),
        "places": nn.Embedding(3, WIDTH),
        "down": nn.Linear(WIDTH, 2),
        "up": nn.Linear(2, WIDTH),
        "up2": nn.Linear(WIDTH, WIDTH),
        "wide": nn.Linear(2, 2 * WIDTH),
        "condition": nn.Parameter(torch.rand(3, 2)),
    }


# what adds, and a word of the reason that is given; None where nothing looked like a join
OTHERS = {
    rotary: "no parameters lie between",
    tanh_gelu: "no parameters lie between",
    norm_by_hand: None,
    response_norm: "only scale",
    two_tables: None,
    low_rank: "both operands are maps",
    scores: "neither operand",
    shared_bias: "neither operand",
    mix_of_positions: "no parameters lie between",
    recurrence: "different pieces",
    film: None,
    double: None,
    mean_of_batch: "differ in shape",
    open_gates: "neither operand",
}


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.__name__)
def test_an_add_that_is_no_branch_is_refused_with_a_reason(other):
    with torch.random.fork_rng():
        net = Wrapped(other, **parts()).eval()
    d = dissect(net, torch.rand(3, WIDTH))
    assert [branch.name for branch in d.branches] == ["the whole model"]
    assert d.branches[0].parameters == WIDTH * (WIDTH + 1)
    reason = OTHERS[other]
    if reason is None:
        assert d.refused == ()
    else:
        assert any(reason in refusal.reason for refusal in d.refused)


def test_losses_and_running_averages_are_not_candidates():
    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
            self.register_buffer("mean", torch.zeros(WIDTH))

        def forward(self, x):
            x = x + self.f(x).relu()
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            logits = self.head(x)
            return F.cross_entropy(logits, torch.tensor([0, 1, 2])) + logits.square().mean()

    d = dissect(Loss(), torch.rand(3, WIDTH))
    assert len(d.branches) == 1
    assert d.refused == ()


# --- plain chains


def test_a_chain_is_dissected_layer_by_layer():
    torch.manual_seed(0)
    conv = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True))  # noqa: E731
    net = nn.Sequential(conv(2, 4), conv(4, 4), nn.MaxPool2d(2), conv(4, 4), nn.Flatten(), nn.Linear(64, 5)).eval()
    x = torch.rand(2, 2, 8, 8)
    d = dissect(net, x)
    assert [(branch.name, branch.kind) for branch in d.branches] == [("1.0", "module"), ("3.0", "module")]
    assert [refusal.name for refusal in d.refused] == ["0.0: conv2d", "5: linear"]
    assert "(2, 2, 8, 8)" in d.refused[0].reason
    for branch, place in zip(d.branches, (1, 3), strict=True):
        twin = nn.Sequential(*(module for at, module in enumerate(net) if at != place))
        assert torch.equal(d.without(branch)(x), twin(x))
    both = nn.Sequential(*(module for at, module in enumerate(net) if at not in (1, 3)))
    assert torch.equal(d.without("1.0", "3.0")(x), both(x))
    halved = d.merged({0: lambda at: 0.5 * at.branch})(x)  # of a layer, the branch is what it gives
    assert torch.equal(halved, net[2:](0.5 * net[:2](x)))


def test_a_model_without_weights_has_nothing_to_leave_out():
    d = dissect(nn.ReLU(), torch.rand(2, 3))
    assert d.branches == ()
    assert "no branch found" in repr(d)


# --- declared and ignored


class Shuffled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.wide = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 8)
        self.idle = nn.Identity()

    def forward(self, x):
        return self.wide(self.idle(self.second(torch.relu(x + self.first(x).tanh()))))


def test_a_declared_module_is_a_branch():
    net, x = Shuffled(), torch.rand(3, WIDTH)
    d = dissect(net, x, declare=["second"])
    assert [(branch.name, branch.kind) for branch in d.branches] == [
        ("the whole model", "identity"),
        ("second", "identity"),
    ]
    h = torch.relu(x + net.first(x).tanh())
    assert torch.equal(d.without("second")(x), net.wide(h))
    doubled = d.merged({"second": lambda at: at.shortcut + 2 * at.branch})(x)
    torch.testing.assert_close(doubled, net.wide(h + 2 * (net.second(h) - h)))


def test_ignored_branches_are_listed_as_refused():
    net, x = Shuffled(), torch.rand(3, WIDTH)
    d = dissect(net, x, declare=["second"], ignore=["second"])
    assert [branch.name for branch in d.branches] == ["the whole model"]
    assert ("second", "ignored on request") in [(refusal.name, refusal.reason) for refusal in d.refused]
    assert [b.name for b in dissect(net, x, declare=["second"], ignore=["the whole model"]).branches] == ["second"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"declare": ["secnd"]}, ConfigError, "did you mean 'second'"),
        ({"ignore": ["frst"]}, ConfigError, "did you mean 'first'"),
        ({"declare": ["wide"]}, DissectError, r"maps \(3, 6\) to \(3, 8\)"),
        ({"declare": ["idle"]}, DissectError, "does not depend on its input"),
    ],
    ids=["unknown", "unknown to ignore", "another shape", "idle"],
)
def test_invalid_declarations_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        dissect(Shuffled(), torch.rand(3, WIDTH), **options)


def test_only_eager_modules_are_dissected():
    with pytest.raises(ConfigError, match=r"takes a torch.nn.Module, got builtin"):
        dissect(torch.relu, torch.rand(2))
    compiled = nn.Sequential(nn.Linear(2, 2))
    compiled[0]._compiled_call_impl = lambda x: x  # as Module.compile() leaves it
    with pytest.raises(ConfigError, match="0 was compiled"):
        dissect(compiled, torch.rand(1, 2))
