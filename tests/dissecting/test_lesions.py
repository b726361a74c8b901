"""Single and random deletions, with planted branches and against a twin."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.dissecting import Accuracy, Deletion, Deletions, Error, Loss, dissect
from thruway.errors import ConfigError
from thruway.networks import gated_resnet, mlp
from thruway.nn import HighwayLinear, Residual

WIDTH, CLASSES = 6, 3


def planted(useless=2, essential=4, blocks=6):
    """A linear net in which one branch carries the answer, one adds nothing, and the others a little noise."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(*(Residual(nn.Linear(WIDTH, WIDTH, bias=False)) for _ in range(blocks))).double()
    with torch.no_grad():
        for at, block in enumerate(net):
            weight = 0.01 * torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)
            if at == useless:
                weight.zero_()
            if at == essential:
                weight[:CLASSES, CLASSES:] += 10 * torch.eye(CLASSES)  # classes read from the other half
            block.branch.weight.copy_(weight)
    net.append(Head())
    x = torch.randn(200, WIDTH, generator=generator, dtype=torch.float64)
    return net, [(x[:120], x[:120, CLASSES:].argmax(1)), (x[120:], x[120:, CLASSES:].argmax(1))]


class Head(nn.Module):
    def forward(self, x):
        return x[:, :CLASSES]


@pytest.mark.parametrize(("useless", "essential"), [(2, 4), (0, 5), (5, 0)])
@pytest.mark.parametrize("metric", [Accuracy, Error, Loss])
def test_the_essential_branch_ranks_first_and_the_useless_last(useless, essential, metric):
    net, batches = planted(useless, essential)
    found = dissect(net, batches[0][0]).delete_each(metric(batches))
    missed = sorted(found, key=lambda row: abs(row.change))
    assert found.ranked()[0].index == missed[-1].index == essential
    assert found[useless].change == 0
    assert found[useless].low == found[useless].high == 0
    assert missed[0].change == 0
    if metric is Loss:
        assert missed[0].index == useless
        assert found[essential].low > 0


def test_deletions_are_those_of_the_model_written_without_the_branch():
    net, batches = planted()
    d = dissect(net, batches[0][0])
    found = d.delete_each(Loss(batches))
    by_function = d.delete_each(
        lambda model: torch.cat([F.cross_entropy(model(x), y, reduction="none") for x, y in batches]).mean()
    )
    for row, other in zip(found, by_function, strict=True):
        twin = nn.Sequential(*(block for at, block in enumerate(net) if at != row.index))
        losses = torch.cat([F.cross_entropy(twin(x), y, reduction="none") for x, y in batches])
        assert torch.equal(found.scores[row.index], losses)
        # The mean of 200 numbers near 1, summed in another order
        assert row.value == pytest.approx(losses.mean().item(), rel=1e-14)
        assert other.value == pytest.approx(row.value, rel=1e-14)
        assert row.change == row.value - found.intact
        assert math.isnan(other.low)
    assert found.examples == 200
    assert by_function.examples == 0


def test_intervals_are_paired_and_come_from_the_generator():
    net, batches = planted()
    d = dissect(net, batches[0][0])

    def ends(seed, **settings):
        found = d.delete_each(Loss(batches), generator=torch.Generator().manual_seed(seed), **settings)
        return [(row.low, row.high) for row in found]

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)
    wide, narrow = ends(1, level=0.99), ends(1, level=0.5)
    assert all(a[0] <= b[0] <= b[1] <= a[1] for a, b in zip(wide, narrow, strict=True))
    found = d.delete_each(Loss(batches))
    # The spread of the differences, not of the losses. 15 %: ends from 1,000 resamples, of a mean of 200.
    differences = found.scores[0] - found.intact_scores
    expected = 2 * 1.96 * differences.std().item() / math.sqrt(200)
    assert found[0].high - found[0].low == pytest.approx(expected, rel=0.15)
    assert expected < 0.3 * 2 * 1.96 * found.intact_scores.std().item() / math.sqrt(200)


def test_single_example():
    net, batches = planted()
    x, y = batches[0][0][:1], batches[0][1][:1]
    found = dissect(net, x).delete_each(Error([(x, y)]))
    assert found.examples == 1
    assert found[4].value in (0.0, 1.0)
    assert all(math.isnan(row.low) and math.isnan(row.high) for row in found)
    assert "nan" not in repr(found)


def test_invalid_arguments_are_refused():
    net, batches = planted()
    d = dissect(net, batches[0][0])
    with pytest.raises(ConfigError, match="no batches"):
        d.delete_each(Error([]))
    spent = iter(batches)
    list(spent)
    with pytest.raises(ConfigError, match="A generator can be used once only"):
        d.delete_each(Error(spent))
    with pytest.raises(ValueError, match="at least one"):
        d.delete_each(Error([(batches[0][0][:0], batches[0][1][:0])]))
    with pytest.raises(ConfigError, match="a Tensor"):
        d.delete_each(Error([batches[0][0]]))
    with pytest.raises(ConfigError, match=r"k=7, but 6 branches"):
        d.delete(7, 1, Error(batches), torch.Generator())
    with pytest.raises(ConfigError, match="draws must be at least 1, got 0"):
        d.delete(1, 0, Error(batches), torch.Generator())
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        d.delete_each(Error(batches), gate="meen")
    with pytest.raises(ConfigError, match="no branch has a gate"):
        d.delete_each(Error(batches), gate="mean")
    with pytest.raises(ConfigError, match="one number"):
        d.delete_each(lambda model: "high")
    with pytest.raises(ConfigError, match="got Linear"):
        d.delete_each(nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="memory must be at least 0 bytes"):
        d.delete_each(Error(batches), memory=-1)


def test_a_generator_of_batches_serves_one_call():
    net, batches = planted()
    d = dissect(net, batches[0][0])
    assert torch.equal(d.delete_each(Loss(iter(batches))).scores, d.delete_each(Loss(batches)).scores)


def test_random_deletions_are_those_of_the_twin_and_keep_every_draw():
    net, batches = planted()
    d = dissect(net, batches[0][0])
    found = d.delete([0, 2, 5], 4, Loss(batches), torch.Generator().manual_seed(3))
    assert [(row.k, row.draw) for row in found] == list(itertools.product([0, 2, 5], range(4)))
    for row in found:
        assert len(set(row.branches)) == row.k
        twin = nn.Sequential(*(block for at, block in enumerate(net) if at not in row.branches))
        losses = torch.cat([F.cross_entropy(twin(x), y, reduction="none") for x, y in batches])
        assert row.value == pytest.approx(losses.mean().item(), rel=1e-14)  # another order of the sum
    spread = next(found.quartiles().where(k=2).rows())
    values = sorted(row.value for row in found if row.k == 2)
    assert (spread["lowest"], spread["highest"]) == (values[0], values[-1])
    assert spread["median"] == pytest.approx((values[1] + values[2]) / 2)
    again = d.delete([0, 2, 5], 4, Loss(batches), torch.Generator().manual_seed(3), memory=0)
    assert [row.value for row in again] == [row.value for row in found]


def test_every_set_is_equally_likely():
    net, batches = planted(blocks=5, useless=0, essential=1)
    d = dissect(net, batches[0][0])
    draws = 600
    found = d.delete(2, draws, lambda model: 0.0, torch.Generator().manual_seed(0))
    counts = [sum(row.branches == pair for row in found) for pair in itertools.combinations(range(5), 2)]
    # chi-square with 9 degrees of freedom: mean 9, variance 18; five standard deviations above
    assert sum((count - draws / 10) ** 2 / (draws / 10) for count in counts) < 9 + 5 * math.sqrt(18)
    assert sum(counts) == draws


class TwoGates(nn.Module):
    """y = C·x + T·H with gates of their own"""

    def __init__(self):
        super().__init__()
        self.h, self.t, self.c = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x, gate=None, carry=None):
        t = torch.sigmoid(self.t(x)) if gate is None else gate
        c = torch.sigmoid(self.c(x)) if carry is None else carry
        return c * x + t * torch.tanh(self.h(x))


def weights_of(highway):
    """Weights and biases of transform and gate, one above the other"""
    return [parameter for _, parameter in highway.named_parameters()]


def test_a_gate_at_its_mean_is_the_model_written_so():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(HighwayLinear(WIDTH, "tanh", gate_bias=0.0), TwoGates(), nn.Linear(WIDTH, CLASSES)).double()
        batches = [(torch.randn(n, WIDTH, dtype=torch.float64), torch.arange(n) % CLASSES) for n in (7, 4)]
    d = dissect(net, batches[0][0])
    assert [branch.kind for branch in d.branches] == ["gated", "gated"]
    found = d.delete_each(Loss(batches), gate="mean")
    whole = d.delete_each(Loss(batches), gate="mean", memory=0)
    assert torch.equal(found.scores, whole.scores)
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    highway, two, head = net
    h, t = F.linear(x, *weights_of(highway)).chunk(2, -1)
    mean = torch.sigmoid(t).mean(0)
    first = (1 - mean) * x + mean * torch.tanh(h)
    losses = F.cross_entropy(head(two(first)), y, reduction="none")
    torch.testing.assert_close(found.scores[0], losses, rtol=1e-12, atol=1e-12)  # other roundings, in float64
    z = highway(x)
    second = two(z, torch.sigmoid(two.t(z)).mean(0), torch.sigmoid(two.c(z)).mean(0))
    torch.testing.assert_close(
        found.scores[1], F.cross_entropy(head(second), y, reduction="none"), rtol=1e-12, atol=1e-12
    )
    assert not torch.equal(found.scores, d.delete_each(Loss(batches)).scores)
    with pytest.raises(ConfigError, match="iterates over the data twice"):
        d.delete_each(Loss(iter(batches)), gate="mean")


def test_gates_of_the_shortcut_alone_are_not_called_missing():
    net = gated_resnet(8, "shortcut", widths=(2, 4, 8), generator=torch.Generator().manual_seed(0))
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    d = dissect(net.eval(), x)
    assert "gated" in repr(d)
    with pytest.raises(ConfigError, match="the gates here weight the shortcut only"):
        d.delete_each(Error([(x, torch.tensor([0, 1]))]), gate="mean")


class CarryGate(nn.Module):
    """y = C·x + (1 - C)·H: the gate says what is carried, and 1 minus it is T"""

    def __init__(self):
        super().__init__()
        self.h, self.c = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        c = torch.sigmoid(self.c(x))
        return (1 - c) * torch.tanh(self.h(x)) + c * x


@pytest.mark.parametrize("memory", [0, 2**30])
def test_a_gate_that_carries_has_its_mean_on_the_right_side(memory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(WIDTH, WIDTH), CarryGate(), nn.Linear(WIDTH, CLASSES)).double()
        x, y = torch.randn(9, WIDTH, dtype=torch.float64), torch.arange(9) % CLASSES
    d = dissect(net, x)
    assert [branch.gate_carries for branch in d.branches] == [True]
    found = d.delete_each(Loss([(x, y)]), gate="mean", memory=memory)
    first, block, head = net
    z = first(x)
    share = torch.sigmoid(block.c(z)).mean(0)
    losses = F.cross_entropy(head(share * z + (1 - share) * torch.tanh(block.h(z))), y, reduction="none")
    torch.testing.assert_close(found.scores[0], losses, rtol=1e-12, atol=1e-12)  # other roundings, in float64


def test_results_can_be_read_in_every_way():
    net, batches = planted()
    d = dissect(net, batches[0][0])
    found = d.delete_each(Error(batches))
    assert found.table()["change"].tolist() == [row.change for row in found]
    assert found.table().columns == ("index", "name", "kind", "value", "change", "low", "high")
    figure = found.figure()
    drawn = {trace.name: trace for trace in figure.data}
    assert sum(len(trace.x) for trace in drawn.values() if trace.type == "bar") == len(found)
    assert "error over 200 examples" in repr(found)
    assert found._repr_html_().count("<tr") == 7
    drawn = d.delete([1, 2], 3, Error(batches), torch.Generator().manual_seed(0))
    assert "k branches left out, 6 draws: error over 200 examples" in repr(drawn)
    assert drawn.table()["branches"].tolist()[0] == str(drawn[0].branches[0])
    assert drawn._repr_html_().count("<tr>") == 3


def test_bars_have_a_sign_and_are_grey_where_the_change_may_be_zero():
    rows = [
        ("worse", 0.30, 0.20, 0.40),
        ("better", -0.10, -0.15, -0.05),
        ("unclear", -0.20, -0.40, 0.10),
        ("nothing", 0.0, 0.0, 0.0),
        ("nan", math.nan, math.nan, math.nan),
    ]
    made = [Deletion(i, name, "identity", 0.5 + change, change, *ends) for i, (name, change, *ends) in enumerate(rows)]
    found = Deletions(tuple(made), 0.5, "error", 0.95, 10, higher_is_better=False)
    bars = [line.split("identity")[1] for line in repr(found).splitlines()[2:]]
    # An end of an interval, 0.4, is the longest: 12 characters.
    assert [(bar.count("█"), bar.count("░")) for bar in bars] == [(9, 0), (3, 0), (0, 6), (0, 0), (0, 0)]
    assert bars[0].endswith("│█████████")
    assert bars[1].endswith("███│")
    assert found._repr_html_().count("width: 60px") == 1
    assert "margin-left: 60px; width: 20px; background: #4878a8" in found._repr_html_()
    assert "margin-left: 40px; width: 40px; background: #9aa0ab" in found._repr_html_()


def test_a_highway_net_has_its_lesions():
    net = mlp("highway", depth=5, width=WIDTH, inputs=4, classes=CLASSES, generator=torch.Generator().manual_seed(0))
    x = torch.rand(9, 4, generator=torch.Generator().manual_seed(1))
    d = dissect(net, x)
    found = d.delete_each(Loss([(x, torch.arange(9) % CLASSES)]))
    for row in found:
        whole = Loss([]).scores(d.without(row.index)(x), torch.arange(9) % CLASSES)
        assert torch.equal(found.scores[row.index], whole)
