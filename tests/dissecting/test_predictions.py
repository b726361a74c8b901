"""Predicted deletions against finite differences; exact where the loss is linear."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.data import read
from thruway.dissecting import DissectError, Loss, dissect
from thruway.errors import ConfigError, ShapeError
from thruway.networks import resnet
from thruway.nn import Highway, HighwayLinear, Residual
from thruway.runs import Table

WIDTH = 5


def block(seed):
    layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH)).double()
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) / 2)
    return layers


class InPlace(nn.Module):
    """Joins in place, and writes to what the join gave."""

    def __init__(self):
        super().__init__()
        self.a, self.b = block(0), block(1)

    def forward(self, x):
        x = x + 0
        x += self.a(x.clone())  # a layer that keeps x for its gradient could not be trained otherwise
        x.mul_(1.5)
        x += self.b(x.clone())
        return x.relu_()


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.p = block(2), block(3), block(4)[0]

    def forward(self, x):
        x = self.p(x) + self.a(x)
        return F.layer_norm(x + self.b(x), (WIDTH,))


class Blends(nn.Module):
    """lerp by a number, lerp by a gate, and two gates of their own."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.t, self.g = block(5), block(6), block(7), block(8)[0], block(9)[0]

    def forward(self, x):
        x = torch.lerp(x, self.a(x), 0.3)
        x = torch.lerp(x, self.b(x), torch.sigmoid(self.t(x)))
        return torch.sigmoid(self.t(x)) * self.c(x) + torch.sigmoid(self.g(x)) * x


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.a = Residual(block(10)), block(11)

    def forward(self, x):
        return x + self.a(self.inner(x))


NETS = {
    "residual": lambda: nn.Sequential(Residual(block(0)), Residual(block(1)), Residual(block(2))),
    "highway": lambda: nn.Sequential(*(HighwayLinear(WIDTH, gate_bias=0.0, dtype=torch.float64) for _ in range(3))),
    "modules": lambda: nn.Sequential(Highway(block(3), block(4)[0]), Residual(block(5))),
    "in place": InPlace,
    "projected": Projected,
    "blends": Blends,
    "nested": Nested,
    "plain": lambda: nn.Sequential(block(6)[0], nn.Tanh(), block(7)[0], nn.Tanh()),
}


def loss_fn(output, targets):
    return F.mse_loss(output, targets)


def data(examples=6, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(examples, WIDTH, dtype=torch.float64, generator=rng) for _ in range(2))


def faded(d, index, s, x):
    """The model with (1 - s) of what branch `index` does, by d.merged where the formula is known."""

    def merge(at):
        if at.gate is None:
            return at.shortcut + (1 - s) * at.branch
        if at.carry is None:
            return at.shortcut + (1 - s) * at.gate * (at.branch - at.shortcut)
        return at.shortcut + (1 - s) * (at.gate * at.branch + at.carry * at.shortcut - at.shortcut)

    return d.merged({index: merge})(x)


@pytest.mark.parametrize("name", NETS)
def test_the_prediction_is_the_derivative_of_the_loss_in_how_much_is_left_out(name):
    net = NETS[name]()
    x, y = data()
    d = dissect(net, x)
    found = d.predict_deletions(loss_fn, [(x, y)])
    assert found.loss == pytest.approx(loss_fn(net(x), y).item(), rel=1e-14)
    assert len(d.branches) >= 2
    for branch in d.branches:
        if branch.kind == "module" or (name == "blends" and branch.index == 0):
            continue  # no formula by operands: a test of their own below
        h = 1e-5
        low, high = (loss_fn(faded(d, branch.index, s, x), y).item() for s in (-h, h))
        # Central differences: h² of truncation and 1e-16 / h of rounding, both below 1e-10 of a loss of order 1.
        assert found.changes[branch.index] == pytest.approx((high - low) / (2 * h), rel=1e-7, abs=1e-9)


def test_a_blend_by_a_number_and_a_plain_layer():
    x, y = data()
    net = Blends()
    found = dissect(net, x).predict_deletions(loss_fn, [(x, y)])

    def after(start):
        z = torch.lerp(start, net.b(start), torch.sigmoid(net.t(start)))
        return torch.sigmoid(net.t(z)) * net.c(z) + torch.sigmoid(net.g(z)) * z

    start = torch.lerp(x, net.a(x), 0.3).detach().requires_grad_()
    loss_fn(after(start), y).backward()
    # Two ways to the same sum in float64.
    assert found.changes[0] == pytest.approx(-(start.grad * (start.detach() - x)).sum().item(), rel=1e-12)

    plain = NETS["plain"]()
    out = plain[1](plain[0](x)).detach().requires_grad_()
    loss_fn(plain[3](plain[2](out)), y).backward()
    found = dissect(plain, x).predict_deletions(loss_fn, [(x, y)])
    assert found.changes[0] == pytest.approx(-(out.grad * (out.detach() - x)).sum().item(), rel=1e-12)


def test_exact_where_the_loss_is_linear_in_a_branch():
    x, _ = data()
    net = NETS["residual"]()
    d = dissect(net, x)
    linear = torch.linspace(-1, 1, WIDTH, dtype=torch.float64)
    changes = d.predict_deletions(lambda out, _: out @ linear, [(x, None)]).changes
    measured = ((d.without(2)(x) - net(x)) @ linear).mean().item()
    assert changes[2] == pytest.approx(measured, rel=1e-12)


def test_batches_are_weighed_by_their_examples_and_both_forms_of_loss_agree():
    x, y = data(7)
    d = dissect(NETS["residual"](), x)
    whole = d.predict_deletions(loss_fn, [(x, y)])
    split = d.predict_deletions(loss_fn, [(x[:2], y[:2]), (x[2:], y[2:])])
    each = d.predict_deletions(lambda out, t: (out - t).square().mean(1), [(x, y)])
    assert whole.examples == split.examples == 7
    for other in (split, each):  # the same sums in another order
        np.testing.assert_allclose(other.changes, whole.changes, rtol=1e-12)
        assert other.loss == pytest.approx(whole.loss, rel=1e-13)


def test_a_loss_of_the_lesions_brings_its_batches():
    x, _ = data()
    d, classes = dissect(NETS["residual"](), x), torch.arange(6) % WIDTH
    expected = d.predict_deletions(F.cross_entropy, [(x, classes)]).changes
    for loss in (Loss([(x, classes)]), Loss([(x, classes)], lambda out, t: F.cross_entropy(out, t, reduction="none"))):
        # The mean of the batch times its size, and the sum: a rounding.
        np.testing.assert_allclose(d.predict_deletions(loss).changes, expected, rtol=1e-13)


def test_the_second_order_is_half_the_square_of_each_examples_slope():
    x, y = data()
    d = dissect(NETS["residual"](), x)
    found = d.predict_deletions(loss_fn, [(x, y)])
    alone = np.array([d.predict_deletions(loss_fn, [(x[i : i + 1], y[i : i + 1])]).changes for i in range(len(x))])
    np.testing.assert_allclose(found.changes, alone.mean(0), rtol=1e-12)  # sums in another order
    np.testing.assert_allclose(found.curved - found.changes, (alone**2).mean(0) / 2, rtol=1e-10)


def test_curvature_is_known_only_where_examples_can_be_told_apart():
    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = block(0), block(1)

        def forward(self, x):
            x = x.transpose(0, 1)
            x = x + self.a(x)
            return (x + self.b(x)).transpose(0, 1)

    x = torch.stack(data()).transpose(0, 1).contiguous()  # (6, 2, 5): two steps
    found = dissect(TimeFirst(), x).predict_deletions(lambda out, t: out.square().mean(), [(x, None)])
    assert np.isnan(found.curved).all()
    assert (found.changes != 0).all()


def test_what_training_sets_the_size_of_has_no_first_order():
    """With f = a·h(x), the first order is -a·dL/da: 0 wherever training has come to rest."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.h, self.scale = block(0), nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

        def forward(self, x):
            return x + self.scale * self.h(x)

    x, y = data()
    net = nn.Sequential(Scaled(), Residual(block(1)))
    found = dissect(net, x).predict_deletions(loss_fn, [(x, y)])
    loss_fn(net(x), y).backward()
    # The same product summed elsewhere, in float64.
    assert found.changes[0] == pytest.approx(-(net[0].scale * net[0].scale.grad).item(), rel=1e-12)


def test_one_forward_and_one_backward():
    x, y = data()
    net = NETS["residual"]().eval()
    d = dissect(net, x)
    forwards, backwards = [], []
    net.register_forward_hook(lambda *_: forwards.append(1))

    def counted(output, targets):
        output.register_hook(lambda _: backwards.append(1))
        return loss_fn(output, targets)

    d.predict_deletions(counted, [(x, y)])
    assert (len(forwards), len(backwards)) == (1, 1)
    d.without(0)(x)
    assert len(forwards) > 1  # the counter counts


def test_nothing_remains_and_frozen_weights_will_do():
    x, y = data()
    net = nn.Sequential(NETS["residual"](), nn.BatchNorm1d(WIDTH, dtype=torch.float64))
    d = dissect(net.eval(), x)
    expected = d.predict_deletions(loss_fn, [(x, y)]).changes
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    net.train()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    rng = torch.random.get_rng_state()
    with torch.no_grad():
        found = d.predict_deletions(loss_fn, [(x, y)])
    np.testing.assert_array_equal(found.changes, expected)
    assert net.training
    assert net[1].training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert x.grad is None


def test_the_pass_computes_the_models_own_bits():
    x, y = data()
    for make in NETS.values():
        net = make()
        outputs = []
        d = dissect(net, x)
        d.predict_deletions(lambda out, t, outputs=outputs: outputs.append(out.detach()) or loss_fn(out, t), [(x, y)])
        assert torch.equal(outputs[0], net(x))


def test_a_branch_no_gradient_comes_to_has_no_number():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = block(0), block(1)

        def forward(self, x):
            x = (x + self.a(x)).detach()
            return x + self.b(x)

    x, y = data()
    changes = dissect(Detached(), x).predict_deletions(loss_fn, [(x, y)]).changes
    assert np.isnan(changes).tolist() == [True, False]


def test_planted_branches_rank_where_they_belong():
    x, y = data(40)
    net = nn.Sequential(*(Residual(block(seed)) for seed in range(4)))
    with torch.no_grad():
        for layer in (net[1].branch[2],):
            layer.weight.zero_(), layer.bias.zero_()
    d = dissect(net, x)
    found = d.predict_deletions(lambda out, t: (out - net(x).detach() * 1.01).square().mean(), [(x, y)])
    assert found.changes[1] == 0.0
    assert (found.changes[[0, 2, 3]] != 0).all()


def test_invalid_arguments_are_refused():
    x, y = data()
    d = dissect(NETS["residual"](), x)
    with pytest.raises(
        ConfigError, match=r"mean, shape \(\), or one loss per example, shape \(6,\); got shape \(5, 6\)"
    ):
        d.predict_deletions(lambda out, t: (out - t).T, [(x, y)])
    with pytest.raises(ConfigError, match="there are no batches"):
        d.predict_deletions(loss_fn)
    with pytest.raises(ConfigError, match="no example"):
        d.predict_deletions(loss_fn, [])
    with pytest.raises(ConfigError, match=r"pair \(inputs, targets\), got Tensor"):
        d.predict_deletions(loss_fn, [x])
    with pytest.raises(ConfigError, match="got float"):
        d.predict_deletions(0.5, [(x, y)])
    with pytest.raises(DissectError, match="no gradient"):
        d.predict_deletions(lambda out, t: out.detach().mean(), [(x, y)])
    with pytest.raises(DissectError, match="inf"):
        d.predict_deletions(lambda out, t: out.mean() / 0, [(x, y)])
    with pytest.raises(ShapeError, match=r"\(2,\) for 3 branches"):
        d.predict_deletions(loss_fn, [(x, y)]).agreement([1.0, 2.0])


def test_table_and_agreement():
    x, y = data()
    found = dissect(NETS["residual"](), x).predict_deletions(loss_fn, [(x, y)])
    table = found.table()
    assert table["value"] - found.loss == pytest.approx(found.changes, abs=1e-14)
    assert found.agreement(found.changes).rho == pytest.approx(1)
    assert found.agreement(Table({"change": -found.changes})).rho == pytest.approx(-1)
    assert "3 deletions from 6 examples" in repr(found)


@pytest.fixture(scope="module")
def trained():
    """A ResNet of 15 modules that reads digits, its test images and the changes that deletions really make."""
    train, test = read("digits"), read("digits", train=False)
    rng = torch.Generator().manual_seed(0)
    net = resnet(32, inputs=1, classes=10, widths=(8, 16, 32), generator=rng)
    images, labels = train.images.float() / 16, train.labels
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(6):
        for picks in torch.randperm(len(images), generator=rng).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(images[picks]), labels[picks]).backward()
            optimizer.step()
    net.eval()
    images, labels = test.images.float() / 16, test.labels
    d = dissect(net, images)
    with torch.no_grad():
        intact = F.cross_entropy(net(images), labels)
        measured = [(F.cross_entropy(d.without(b)(images), labels) - intact).item() for b in d.branches]
    return d, (images, labels), np.array(measured)


@pytest.mark.slow
def test_curvature_ranks_the_branches_of_a_trained_resnet_where_the_first_order_cannot(trained):
    d, batch, measured = trained
    found = d.predict_deletions(Loss([batch]))
    assert found.loss < 0.5  # it has learnt to read
    first, curved = found.agreement(measured), found.agreement(measured, curved=True)
    # 15 branches: chance has rho >= 0.6 in one of a hundred orders. Of the first order nothing is promised.
    assert curved.rho >= 0.6
    assert curved.chance < 0.02
    assert curved.rho > first.rho
    assert found.agreement(-measured, curved=True).rho < 0


@pytest.mark.slow
def test_rankings_of_a_trained_resnet_beside_the_measured_deletions(trained):
    d, batch, measured = trained
    table = d.rankings([batch], loss=F.cross_entropy, measured=measured).agreement()
    assert table["ranking"].tolist() == ["predicted", "curved", "influence", "angle", "ratio", "norm"]
    rho = dict(zip(table["ranking"], table["rho"], strict=True))
    assert rho["curved"] == pytest.approx(
        d.predict_deletions(F.cross_entropy, [batch]).agreement(measured, curved=True).rho
    )
    assert rho["influence"] > 0.6
