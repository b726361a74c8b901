"""Rules about the learning rate, the states of parameters, the loss and the data, on small runs."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thruway as tw
from thruway.diagnosing.reading import Reading
from thruway.diagnosing.rules.step_sizes import step_sizes

SGD, Adam = torch.optim.SGD, torch.optim.Adam


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def mlp(*sizes, act=nn.ReLU, last=()):
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), act()]
    return nn.Sequential(*layers[:-1], *last)


def classes(size=64, width=20, scale=1.0):
    """Return a function that draws batches of ten noisy classes."""
    centres = torch.randn(10, width, generator=torch.Generator().manual_seed(1))

    def draw():
        y = torch.randint(0, 10, (size,))
        return (centres[y] + torch.randn(size, width)) * scale, y

    return draw


def linear_targets(size=32, width=10, scale=1.0):
    weight = torch.randn(width, 1, generator=torch.Generator().manual_seed(1))

    def draw():
        x = torch.randn(size, width)
        return x * scale, x @ weight / 2 + torch.randn(size, 1) / 10

    return draw


def run(net, optimizer, draw, loss=F.cross_entropy, steps=40, schedule=None, zero=True, other=None, **options):
    with tw.watch(net, optimizer=optimizer, **options) as trace:
        for _ in range(steps):
            if zero:
                net.zero_grad()
            x, y = draw()
            loss(net(x), y).backward()
            optimizer.step()
            for more in (other, schedule):
                if more is not None:
                    more.step()
    return trace


def roots(trace):
    diagnosis = tw.diagnose(trace)
    assert not [why for why in diagnosis.unseen.values() if "failed" in why]
    return [finding.rule for finding in diagnosis]


# Sizes of steps


def test_sizes_of_steps_are_those_of_the_weights():
    net, draw = mlp(20, 32, 10).double(), classes()
    batches = [(x.double(), y) for x, y in (draw() for _ in range(3))]
    twin, feed = copy.deepcopy(net), iter(batches)
    trace = run(net, SGD(net.parameters(), 0.3), lambda: next(feed), steps=3)
    sizes = step_sizes(Reading(trace))
    for step, (x, y) in enumerate(batches):
        twin.zero_grad()
        F.cross_entropy(twin(x), y).backward()
        squares = sum(p.grad.square().sum().item() for p in twin.parameters())
        # For SGD the predicted fall of the loss is lr |g|^2.
        assert sizes.predicted_fall[step] == pytest.approx(0.3 * squares, rel=1e-5)
        for row, layer in enumerate((twin[0], twin[2])):
            least = np.sqrt(layer.out_features / 3)
            expected = 0.3 * layer.weight.grad.norm().item() / max(layer.weight.norm().item(), least)
            assert sizes.ratios[row, step] == pytest.approx(expected, rel=1e-5)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter -= 0.3 * parameter.grad


# Learning rates


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize(("optimizer", "rate"), [(SGD, 10.0), (Adam, 1.0)])
def test_a_rate_that_is_too_high(optimizer, rate, every):
    net = mlp(20, 64, 64, 10)
    trace = run(net, optimizer(net.parameters(), rate), classes(), every=every, first_step=100)
    (found,) = tw.diagnose(trace)
    assert found.rule == "lr_too_high"
    assert found.onset == 100
    ratio = trace.series("update_ratio")
    name, value = found.evidence[0].site, found.evidence[0].value
    assert value == pytest.approx(ratio.values[ratio.names.index(name), 0], rel=0.5)
    # The advice takes all weights together, with the norms of PyTorch's initialisation as the least ones.
    updates, norms = (trace.series("norm", kind).values[::2, 0] for kind in ("update", "parameter"))
    total = math.hypot(*updates) / math.hypot(*np.maximum(norms, np.sqrt(np.array([64, 64, 10]) / 3)))
    assert f"lower it about {float(f'{total / 0.02:.0e}'):,.0f}x." in found.cause


def test_one_step_shows_a_rate_that_is_too_high():
    net = mlp(20, 64, 64, 10)
    assert roots(run(net, SGD(net.parameters(), 50.0), classes(), steps=1)) == ["lr_too_high"]
    net = mlp(20, 64, 64, 10)
    assert roots(run(net, SGD(net.parameters(), 0.1), classes(), steps=1)) == []


def test_a_loss_that_grows_in_unstable_steps():
    """For a linear model, the loss grows if the rate exceeds 2 / the largest curvature."""
    draw = linear_targets(512)
    x, y = draw()
    largest = torch.linalg.eigvalsh(2 * x.T @ x / len(x))[-1].item()
    for factor, expected in ((1.6, []), (3.0, ["lr_too_high"])):
        net = nn.Sequential(nn.Linear(10, 1))
        trace = run(net, SGD(net.parameters(), factor / largest), lambda: (x, y), F.mse_loss)
        assert roots(trace) == expected


@pytest.mark.parametrize(("optimizer", "rate"), [(SGD, 1e-5), (Adam, 1e-7)])
def test_a_rate_that_is_too_low(optimizer, rate):
    net = mlp(20, 64, 64, 10)
    assert roots(run(net, optimizer(net.parameters(), rate), classes())) == ["lr_too_low"]
    net = mlp(20, 64, 64, 10)
    assert roots(run(net, optimizer(net.parameters(), rate), classes(), first_step=500)) == []  # it may have converged


@pytest.mark.parametrize("factor", [lambda step: step / 1e3, lambda step: 0.0, lambda step: float(step < 20)])
def test_schedules_at_zero_are_no_findings(factor):
    net = mlp(20, 64, 64, 10)
    optimizer = SGD(net.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    assert roots(run(net, optimizer, classes(), schedule=schedule)) == []


def test_small_noisy_batches_are_no_finding():
    net = mlp(10, 32, 1)
    assert roots(run(net, SGD(net.parameters(), 0.01, 0.9), linear_targets(4), F.mse_loss, 100)) == []


# States of parameters


def test_gradients_that_accumulate():
    net = mlp(20, 64, 10)
    (found,) = tw.diagnose(run(net, SGD(net.parameters(), 0.1), classes(), zero=False))
    assert (found.rule, found.since) == ("gradients_accumulate", (0, 1))
    assert found.evidence[0].value == 1.0


def test_micro_batches_do_not_accumulate():
    net, draw = mlp(20, 64, 10), classes(16)
    optimizer = SGD(net.parameters(), 0.1)
    with tw.watch(net, optimizer=optimizer) as trace:
        for _ in range(20):
            for _ in range(4):
                x, y = draw()
                (F.cross_entropy(net(x), y) / 4).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    assert roots(trace) == []


def test_parameters_that_the_optimizer_forgot():
    net = mlp(20, 64, 64, 10)
    (found,) = tw.diagnose(run(net, Adam(net[:4].parameters(), 1e-3), classes()))
    assert (found.rule, found.sites) == ("frozen_parameters", ("4",))
    assert "not in the optimizer" in found.cause


def test_parameters_of_a_second_optimizer_are_not_forgotten():
    net = mlp(20, 64, 64, 10)
    other = Adam(net[4:].parameters(), 1e-3)
    assert roots(run(net, SGD(net[:4].parameters(), 0.1), classes(), other=other)) == []


class Cut(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(20, 32), nn.Linear(32, 10), nn.Linear(32, 3)
        self.how = how

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                h = F.relu(self.first(x))
        else:
            h = F.relu(self.first(x))
        return self.second(h.detach() if self.how == "detach" else h)


@pytest.mark.parametrize("how", ["detach", "no_grad"])
def test_layers_before_a_cut(how):
    net = Cut(how)
    (found,) = tw.diagnose(run(net, Adam(net.parameters(), 1e-3), classes()))
    assert (found.rule, found.sites) == ("frozen_parameters", ("first",))
    assert "no gradient" in found.cause


def test_a_module_that_is_not_called_is_no_finding():
    net = Cut("")
    assert roots(run(net, Adam(net.parameters(), 1e-3), classes())) == []


@pytest.mark.parametrize("is_left_out", [False, True])
def test_a_frozen_backbone_is_no_finding(is_left_out):
    net = mlp(20, 64, 64, 10)
    net[:4].requires_grad_(False)
    trained = net[4:].parameters() if is_left_out else net.parameters()
    assert roots(run(net, Adam(trained, 1e-2), classes())) == []


def test_a_frozen_layer_that_the_optimizer_got():
    net = mlp(20, 64, 64, 64, 10)
    net[2].requires_grad_(False)
    (found,) = tw.diagnose(run(net, Adam(net.parameters(), 1e-3), classes()))
    assert (found.rule, found.sites) == ("frozen_parameters", ("2",))


# Losses


def two_classes():
    draw = classes(width=20)

    def binary():
        x, y = draw()
        return x, (y % 2).float()[:, None]

    return binary


@pytest.mark.parametrize(
    ("last", "outputs", "loss"),
    [
        (nn.Softmax(dim=1), 10, F.cross_entropy),
        (nn.Softmax(dim=1), 10, F.nll_loss),
        (nn.Sigmoid(), 10, F.cross_entropy),
        (nn.Sigmoid(), 1, F.binary_cross_entropy_with_logits),
        (nn.Softmax(dim=1), 1, F.mse_loss),
        (nn.Softmax(dim=1), 1, F.binary_cross_entropy),
    ],
)
def test_probabilities_where_the_loss_expects_logits(last, outputs, loss):
    net = mlp(20, 32, outputs, last=[last])
    draw = two_classes() if outputs == 1 else classes()
    assert roots(run(net, Adam(net.parameters(), 1e-3), draw, loss)) == ["double_softmax"]


@pytest.mark.parametrize(
    ("last", "outputs", "loss"),
    [
        (nn.LogSoftmax(dim=1), 10, F.nll_loss),
        (nn.LogSoftmax(dim=1), 10, F.cross_entropy),
        (nn.Softmax(dim=1), 10, lambda p, y: F.nll_loss((p + 1e-8).log(), y)),
        (nn.Sigmoid(), 1, F.binary_cross_entropy),
        (nn.Identity(), 10, lambda z, y: F.kl_div(F.log_softmax(z, 1), F.softmax(torch.randn(64, 10), 1))),
    ],
)
@pytest.mark.filterwarnings("ignore:reduction")
def test_one_softmax_is_right(last, outputs, loss):
    net = mlp(20, 32, outputs, last=[last])
    draw = two_classes() if outputs == 1 else classes()
    assert roots(run(net, Adam(net.parameters(), 1e-3), draw, loss)) == []


@pytest.mark.parametrize("loss", [lambda z, y: -F.cross_entropy(z, y), F.nll_loss], ids=["negative", "nll of logits"])
def test_losses_without_a_minimum(loss):
    net = mlp(20, 32, 10)
    assert roots(run(net, SGD(net.parameters(), 0.1), classes(), loss)) == ["diverging"]


def test_steps_along_the_gradient_instead_of_against_it():
    net = mlp(20, 32, 32, 10)
    assert roots(run(net, Adam(net.parameters(), 1e-3, maximize=True), classes(), steps=60)) == ["diverging"]


def test_the_loss_of_a_generator_may_grow():
    generator, discriminator = mlp(8, 32, 20), mlp(20, 32, 1)
    optimizers = [Adam(generator.parameters(), 1e-4), Adam(discriminator.parameters(), 1e-2)]
    ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)
    with tw.watch(generator, optimizer=optimizers[0]) as trace:
        for _ in range(80):
            real, fake = torch.randn(64, 20) + 3, generator(torch.randn(64, 8))
            for optimizer in optimizers:
                optimizer.zero_grad()
            (
                F.binary_cross_entropy_with_logits(discriminator(real), ones)
                + F.binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
            ).backward()
            optimizers[1].step()
            F.binary_cross_entropy_with_logits(discriminator(fake), ones).backward()
            optimizers[0].step()
    losses = trace.series("loss").values[0]
    assert losses.max() > 2 * losses[0]
    assert roots(trace) == []


# Values


class Operation(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.before, self.after, self.operation = nn.Linear(20, 32), nn.Linear(32, 10), operation

    def forward(self, x):
        return self.after(self.operation(F.relu(self.before(x))))


def test_the_logarithm_of_zero():
    net = Operation(torch.log)
    (found,) = tw.diagnose(run(net, SGD(net.parameters(), 0.01), classes(), steps=5))
    assert (found.rule, found.sites, found.onset) == ("nan_or_inf", ("after",), 0)


def test_the_derivative_of_a_root_at_zero():
    net = Operation(torch.sqrt)
    (found,) = tw.diagnose(run(net, SGD(net.parameters(), 0.01), classes(), steps=5))
    assert (found.rule, found.onset) == ("nan_or_inf", 0)
    assert "backward pass" in found.cause or "gradient" in found.cause


def test_a_bad_number_in_the_data():
    draw, step = classes(), iter(range(40))

    def spoiled():
        x, y = draw()
        if next(step) == 7:
            x[3, 2] = float("nan")
        return x, y

    net = mlp(20, 32, 10)
    (found,) = tw.diagnose(run(net, Adam(net.parameters(), 1e-3), spoiled))
    assert (found.rule, found.since) == ("nan_or_inf", (6, 7))
    assert "input" in found.cause


def test_a_loss_that_is_infinite_for_finite_outputs():
    net = mlp(20, 32, 10, last=[nn.Softmax(dim=1)])
    step = iter(range(40))

    def loss(p, y):
        return -(p[torch.arange(64), y] * (next(step) != 9)).log().mean()

    (found,) = tw.diagnose(run(net, SGD(net.parameters(), 0.1), classes(), loss))
    assert (found.rule, found.since) == ("nan_or_inf", (8, 9))
    assert "loss function" in found.cause


class Mask(nn.Module):
    def forward(self, scores):
        return scores + torch.full((4, 4), float("-inf")).triu(1)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.mask = Mask()
        self.query, self.key, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 10)

    def forward(self, x):
        x = x.view(len(x), 4, 5).repeat(1, 1, 2)[..., :8]
        scores = self.mask(self.query(x) @ self.key(x).transpose(1, 2))
        return self.out((scores.softmax(-1) @ x).mean(1))


def test_the_infinities_of_a_mask_are_no_finding():
    net = Masked()
    trace = run(net, Adam(net.parameters(), 1e-3), classes())
    assert trace.first_bad is not None
    assert roots(trace) == []


def test_a_head_that_starts_at_zero_is_no_constant_output():
    net = mlp(20, 32, 32, 10)
    nn.init.zeros_(net[4].weight)
    nn.init.zeros_(net[4].bias)
    assert roots(run(net, SGD(net.parameters(), 0.1), classes())) == []
    net = nn.Sequential(nn.Linear(20, 10))
    nn.init.zeros_(net[0].weight)
    assert roots(run(net, SGD(net.parameters(), 0.1), classes())) == []


def test_an_output_that_a_norm_makes_constant():
    net = mlp(10, 32, 1, last=[nn.LayerNorm(1)])
    (found,) = tw.diagnose(run(net, SGD(net.parameters(), 0.05), linear_targets(), F.mse_loss))
    assert (found.rule, found.sites, found.onset) == ("constant_output", ("3",), 0)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_inputs_of_the_wrong_scale(scale):
    net = mlp(10, 32, 1)
    trace = run(net, SGD(net.parameters(), 0.01), linear_targets(scale=scale), F.mse_loss)
    assert roots(trace) == ([] if scale == 1 else ["unscaled_input"])


def test_a_norm_after_the_first_layer_makes_bytes_harmless():
    net = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    assert roots(run(net, SGD(net.parameters(), 0.1), classes(scale=200.0))) == []
