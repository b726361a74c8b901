"""Rankings against NumPy, against vectors with a known angle, and with planted branches."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from thruway.dissecting import Loss, dissect
from thruway.dissecting.ranking.influence import MEASURES, stream_change
from thruway.errors import ConfigError, ShapeError
from thruway.nn import HighwayLinear, Residual


def by_name(x, y, per="auto"):
    at = stream_change(x, y, per)
    return {measure.name: measure.compute(at) for measure in MEASURES}


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-6, 1e-3, 0.5, math.pi / 2, 3.0, math.pi])
def test_a_known_angle_is_found_however_small(angle):
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    y = 5 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    found = by_name(x, y)
    # A few roundings; by arccos of the cosine, an angle of 1e-9 would be 0.
    assert found["angle"].item() == pytest.approx(angle / math.pi, rel=1e-12, abs=1e-16)
    assert found["influence"].item() == pytest.approx(2 * math.sin(angle / 2) ** 2, rel=1e-12, abs=1e-30)


class Stream(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = (nn.Linear(width, width, dtype=torch.float64) for _ in range(2))

    def forward(self, x):
        x = x + torch.tanh(self.a(x))
        return x + torch.tanh(self.b(x))


def twin(net, x, as_rows):
    """The table by NumPy, one vector after the other."""
    h = x + torch.tanh(net.a(x))
    out = h + torch.tanh(net.b(h))
    table = []
    for before, after in ((x, h), (h, out)):
        rows = []
        for u, v in zip(as_rows(before.detach().numpy()), as_rows(after.detach().numpy()), strict=True):
            cos = u @ v / math.sqrt(u @ u) / math.sqrt(v @ v)
            step = np.linalg.norm(v - u)
            rows.append([1 - cos, np.arccos(cos) / np.pi, step / np.linalg.norm(u), step])
        table.append(np.mean(rows, axis=0))
    return np.array(table).T


VECTORS = {
    "features": ((7, 4), "auto", lambda a: a.reshape(7, 4)),
    "tokens": ((3, 5, 4), "auto", lambda a: a.reshape(15, 4)),
    "tokens as examples": ((3, 5, 4), "example", lambda a: a.reshape(3, 20)),
    "maps": ((3, 2, 2, 4), "auto", lambda a: a.reshape(3, 16)),
    "maps by position": ((3, 2, 2, 4), "token", lambda a: a.reshape(12, 4)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_means_are_those_of_every_vector(name):
    shape, per, as_rows = VECTORS[name]
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=rng)
    net = Stream(4)
    found = dissect(net, x).rankings([(x[:1], None), (x[1:], None)], per=per)
    # 1 - cos and arccos lose digits in the twin, not more than 1e-10 at angles such as these.
    np.testing.assert_allclose([found.scores[m.name] for m in MEASURES], twin(net, x, as_rows), rtol=1e-9)
    assert found.vectors.tolist() == [len(as_rows(x.numpy()))] * 2


def test_of_a_gated_block_the_step_is_what_the_gate_lets_through():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    net = HighwayLinear(4, gate_bias=0.0)
    found = dissect(net, x).rankings([(x, None)])
    step = (net(x) - x).detach()
    assert found.scores["norm"][0] == pytest.approx(step.norm(dim=1).mean().item(), rel=1e-6)  # float32
    assert found.scores["ratio"][0] == pytest.approx((step.norm(dim=1) / x.norm(dim=1)).mean().item(), rel=1e-6)


def planted():
    net = nn.Sequential(*(Residual(nn.Linear(4, 4)) for _ in range(5)))
    with torch.no_grad():
        for index, size in enumerate((0.3, 0.0, 5.0, 0.2, 0.1)):
            rng = torch.Generator().manual_seed(index)
            net[index].branch.weight.copy_(size * torch.randn(4, 4, generator=rng))
            net[index].branch.bias.zero_()
    return net


def test_a_useless_branch_is_first_to_go_and_an_essential_one_last():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(9))
    d = dissect(planted(), x)
    found = d.rankings([(x, None)])
    for name in ("influence", "angle", "ratio"):
        order = found.order(name)
        assert (order[0], order[-1]) == (1, 2)
    assert [found.scores[m.name][1] for m in MEASURES] == [0.0] * 4


class Summed(nn.Module):
    """Each branch adds its share of the mean input to all units, so that every one of them helps"""

    def __init__(self, shares):
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in shares)
        with torch.no_grad():
            for part, share in zip(self.parts, shares, strict=True):
                part.weight.fill_(share / 4)

    def forward(self, x):
        for part in self.parts:
            x = x + part(x)
        return x


def reward(output, _):
    return -output.sum(dim=1)  # lower is better, as of any loss


@pytest.mark.parametrize(("useless", "essential"), [(0, 4), (4, 0), (2, 3), (3, 2), (1, 0)])
def test_in_every_ranking_the_useless_branch_goes_first_and_the_essential_one_last(useless, essential):
    shares = [0.3, 0.1, 0.2, 0.15, 0.25]
    shares[useless], shares[essential] = 0.0, 3.0
    # A stream that points elsewhere than what is added, so that every branch turns it.
    x = torch.rand(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * torch.tensor([9, 1, 1, 1])
    net = Summed(shares)
    d = dissect(net, x)
    measured = d.delete_each(Loss([(x, torch.zeros(30))], reward))
    found = d.rankings([(x, torch.zeros(30))], loss=reward, measured=measured)
    assert list(found.scores) == ["measured", "predicted", "curved", "influence", "angle", "ratio", "norm"]
    for name, scores in found.scores.items():
        order = found.order(name)
        assert (order[0], order[-1]) == (useless, essential), name
        # y - x of a branch that adds nothing is 0, and so is all that is made of it.
        assert scores[useless] == 0, name
        assert (np.delete(scores, useless) > 0).all(), name
    ranked = [row.index for row in measured.ranked()]
    assert (ranked[0], ranked[-1]) == (essential, useless)


def test_equal_branches_go_from_the_last_and_unknown_ones_stay():
    x = torch.ones(2, 4)
    found = dissect(planted(), x).rankings([(x, None)], measured=[1.0, 0.5, math.nan, 0.5, 2.0])
    assert found.order("measured") == [3, 1, 0, 4, 2]


def test_vectors_of_zeros_have_no_direction_and_do_not_count():
    x = torch.tensor([[0.0, 0, 0, 0], [1, 2, 3, 4]])
    d = dissect(planted(), x)
    found, alone = d.rankings([(x, None)]), d.rankings([(x[1:], None)])
    for name in ("influence", "angle", "ratio"):
        np.testing.assert_array_equal(found.scores[name], alone.scores[name])
    assert np.isfinite(found.scores["norm"]).all()


def test_agreement_is_with_what_was_measured():
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(2))
    d = dissect(planted(), x)
    scores = d.rankings([(x, None)]).scores
    found = d.rankings([(x, None)], measured=-scores["angle"], loss=lambda out, _: out.square().mean())
    agreement = {row["ranking"]: row for row in found.agreement().rows()}
    assert agreement["angle"]["rho"] == pytest.approx(-1)
    assert list(agreement) == ["predicted", "curved", "influence", "angle", "ratio", "norm"]
    assert "5 branches" in repr(found)
    predicted = d.predict_deletions(lambda out, _: out.square().mean(), [(x, None)])
    np.testing.assert_array_equal(found.scores["predicted"], predicted.changes)
    np.testing.assert_allclose(found.scores["curved"], predicted.curved, rtol=4e-15)  # one rounding or two


def test_the_model_stays_as_it_is():
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(2))
    net = nn.Sequential(planted(), nn.BatchNorm1d(4)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    dissect(net.eval(), x).rankings([(x, None)])
    net.train()
    dissect(net, x).rankings([(x, None)])
    assert net[1].training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_invalid_arguments_are_refused():
    x = torch.ones(2, 4)
    d = dissect(planted(), x)
    with pytest.raises(ConfigError, match="no example"):
        d.rankings([])
    with pytest.raises(ConfigError, match=r"per is 'token', 'example' or 'auto', got 'layer'"):
        d.rankings([(x, None)], per="layer")
    with pytest.raises(ShapeError, match=r"\(1,\) for 5 branches"):
        d.rankings([(x, None)], measured=[1.0])
    with pytest.raises(ConfigError, match=r"measured=\.\.\."):
        d.rankings([(x, None)]).agreement()
    with pytest.raises(ConfigError, match="did you mean 'angle'"):
        d.rankings([(x, None)]).order("angel")
