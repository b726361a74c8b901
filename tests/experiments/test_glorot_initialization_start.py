"""Measurements of untrained networks, compared with the same passes written by hand."""

import numpy as np
import pytest
import torch
from glorot_initialization_tiny import TINY, create, random_parts
from torch.nn import functional as F

from thruway.experiments.glorot2010.initialization import Net, start_nets
from thruway.experiments.glorot2010.initialization_start import SPREADS, build_net, measure_start
from thruway.runs import open_run
from thruway.seeding import generator

NETS = start_nets(TINY)


def by_hand(net, seed):
    """z, dC/ds, dC/dW of every hidden layer, in float64, for all examples together and for each of two alone."""
    parts = random_parts()
    model = build_net(
        (9, *TINY.widths(net.shape)), 3, net.activation, net.scheme, generator(seed, "weights", net.shape)
    ).double()
    linears = [model.get_submodule(f"s{layer}") for layer in (1, 2, 3)]

    def passes(x, y):
        z, pre, out = [x], [], x
        for linear in linears:
            s = F.linear(out, linear.weight, linear.bias).requires_grad_()
            s.retain_grad()
            out = torch.tanh(s) if net.activation == "tanh" else s
            pre.append(s)
            z.append(out)
        model.zero_grad()
        F.cross_entropy(model.output(out), y, reduction="sum").backward()
        return z, [s.grad for s in pre], [linear.weight.grad.clone() for linear in linears]

    images, labels = parts.test
    images = images.double()
    alone = [passes(images[i : i + 1], labels[i : i + 1]) for i in range(TINY.singles)]
    return passes(images, labels), alone, linears


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.site)
def test_logged_numbers_are_those_of_the_passes(net, tmp_path):
    with create(tmp_path / "run", TINY) as run:
        measure_start(TINY, net, 5, random_parts(), run)
    table = open_run(tmp_path / "run").table(member=5)
    logged = dict(zip(zip(table["site"], table["quantity"], strict=True), table["value"], strict=True))
    (z, deltas, gradients), alone, linears = by_hand(net, 5)
    letter = "z" if net.activation == "tanh" else "s"

    def same(site, quantity, expected):
        # float32 passes of three layers, logged in float32
        assert logged[site, quantity] == pytest.approx(expected.item(), rel=1e-5), (site, quantity)

    products = []
    for zs, ds, _ in alone:
        products.append(zs[0].square().mean() * ds[-1].square().mean())
    same(net.site, "single_product", torch.stack(products).mean())
    for layer in (1, 2, 3):
        same(f"{net.site}/{letter}{layer}", "output.rms", z[layer].square().mean().sqrt())
        same(f"{net.site}/s{layer}", "gradient.rms", deltas[layer - 1].square().mean().sqrt())
        same(f"{net.site}/s{layer}.weight", "parameter_gradient.rms", gradients[layer - 1].square().mean().sqrt())
        singles = torch.stack([grads[layer - 1].square().mean() for _, _, grads in alone])
        same(f"{net.site}/s{layer}.weight", "single_variance", singles.mean())
        if net.shape == "equal":
            slopes = 1 - z[layer][: TINY.singles] ** 2 if net.activation == "tanh" else torch.ones(1, TINY.width)
            jacobians = slopes[:, :, None].double() * linears[layer - 1].weight
            same(f"{net.site}/s{layer}", "singular_value", torch.linalg.svdvals(jacobians.detach()).mean())


def test_histograms_hold_every_value_where_it_is(tmp_path):
    net = Net("equal", "normalized", "tanh")
    with create(tmp_path / "run", TINY) as run:
        found = measure_start(TINY, net, TINY.seed, random_parts(), run)
    (z, deltas, gradients), _, _ = by_hand(net, TINY.seed)
    for what, values in (("activations", z[1:]), ("gradients", deltas), ("weight gradients", gradients)):
        edges, counts = found[f"{what}/edges"].numpy(), found[f"{what}/counts"].numpy()
        for layer in range(3):
            own = values[layer].detach().flatten().numpy()
            expected, _ = np.histogram(own, edges[layer] + np.array([-1e-6, *np.zeros(63), 1e-6]))
            # In float32 a value at a border may fall to the other side of it.
            assert np.abs(counts[layer] - expected).sum() <= 4
            assert counts[layer].sum() == own.size
    assert set(found) == {f"{what}/{part}" for what in SPREADS for part in ("edges", "counts")}


def test_only_the_net_that_is_shown_has_histograms(tmp_path):
    with create(tmp_path / "run", TINY) as run:
        others = [Net("equal", "normalized", "linear"), Net("growing", "standard", "tanh")]
        assert all(measure_start(TINY, net, TINY.seed, random_parts(), run) == {} for net in others)
        assert measure_start(TINY, Net("equal", "normalized", "tanh"), TINY.seed + 1, random_parts(), run) == {}


def test_a_square_linear_layer_has_the_mean_singular_value_of_theory(tmp_path):
    config = TINY.model_copy(update={"width": 200})
    with create(tmp_path / "run", config) as run:
        measure_start(config, Net("equal", "normalized", "linear"), 0, random_parts(), run)
    table = open_run(tmp_path / "run").table(site=["start/equal/normalized/linear/s2"], quantity="singular_value")
    # 0.849 sigma sqrt(n), up to terms of order 1/n
    assert abs(float(table["value"][0]) - 0.849) < 5 / 200
