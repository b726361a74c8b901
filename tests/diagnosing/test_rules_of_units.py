"""Saturated, dead and equal units, gates, and lost inputs: each rule on a sick run and on the nearest harmless one."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.diagnosing.drawn_traces import made_trace
from tests.diagnosing.nets import batch, found, he, mlp, roots, scaled, train
from thruway.nn import HighwayStack
from thruway.watching.sites import Site


def biased(net: nn.Sequential, layer: int, bias: float) -> nn.Sequential:
    nn.init.constant_(net[layer].bias, bias)
    return net


@pytest.mark.parametrize("watch", [{}, {"every": 10}, {"optimizer": None}], ids=["default", "every 10", "no optimizer"])
@pytest.mark.parametrize("steps", [1, 12])
def test_a_dead_layer_is_named_with_its_bias(steps: int, watch: dict) -> None:
    finding = found(train(biased(mlp(5, nn.ReLU, he), 4, -30.0), steps=steps, **watch))["dead_units"]
    assert finding.sites[0] == "4"
    assert finding.since == (None, 0)
    assert ("because of the bias" in finding.cause) == ("optimizer" not in watch)


def test_half_of_the_zeros_of_a_relu_are_no_dead_units() -> None:
    assert not found(train(mlp(5, nn.ReLU, he)))


def test_a_small_batch_shows_no_dead_units() -> None:
    x, y = batch()
    trace = train(mlp(5, nn.ReLU, he), data=(x[:4], y[:4]), lr=1e-4)
    assert not {"dead_units", "dying_relu"} & set(found(trace))


def test_units_that_die_in_training_have_the_step() -> None:
    net = mlp(3, nn.ReLU, he)
    x, y = batch()
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    import thruway as tw

    with tw.watch(net, optimizer=optimizer) as trace:
        for step in range(40):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            if step == 14:
                nn.init.constant_(net[2].bias, -40.0)
    finding = found(trace)["dying_relu"]
    assert finding.sites[0] == "2"
    assert finding.since == (14, 15)


@pytest.mark.parametrize(("first", "last", "is_dying"), [(0.58, 0.52, False), (0.1, 0.6, True)])
def test_a_share_of_dead_units_that_falls_is_no_dying(first: float, last: float, *, is_dying: bool) -> None:
    """The inputs become less alike in training, so theory expects fewer dead units than at the start."""
    steps = np.arange(0, 200, 10)
    sites = [Site("fc", "output", "Linear", shape=(100, 64)), Site("relu", "output", "relu", "relu", shape=(100, 64))]
    learnt = steps > 50
    rows = {
        "mean": np.where(learnt, 0.1, 0.2),
        "std": np.ones(len(steps)),
        "zeros": np.where(learnt, (1 + last) / 2, (1 + first) / 2),
        "dead_units": np.where(learnt, last, first),
        "input_correlation": np.where(learnt, 0.2, 0.9),
    }
    numbers = {("output", name): np.array([row, row]) for name, row in rows.items()}
    findings = found(made_trace(numbers, {"output": sites}, steps.tolist()))
    assert ("dying_relu" in findings) == is_dying
    assert not is_dying or findings["dying_relu"].since == (50, 60)


@pytest.mark.parametrize(("bias", "end"), [(8.0, "high"), (-8.0, "low")])
def test_saturation_has_its_end(bias: float, end: str) -> None:
    finding = found(train(biased(mlp(3, nn.Tanh, scaled(1.0)), 2, bias)))["saturated"]
    assert (finding.sites, finding.end) == (("2",), end)


def test_a_saturated_output_unit_is_harmless() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(mlp(2, nn.Tanh, scaled(1.0)), nn.Sigmoid())
    nn.init.constant_(net[0][-1].bias, 9.0)
    assert "saturated" not in found(train(net))


def test_equal_weights() -> None:
    assert roots(train(mlp(3, nn.Tanh, lambda w: nn.init.constant_(w, 0.05)))) == ["symmetric_init"]
    zero = found(train(mlp(3, nn.ReLU, nn.init.zeros_)))["symmetric_init"]
    assert "are zero" in zero.cause


def test_a_head_that_starts_at_zero_is_harmless() -> None:
    net = mlp(3, nn.ReLU, he)
    nn.init.zeros_(net[-1].weight)
    assert "symmetric_init" not in found(train(net))


def stack(depth: int, bias: float) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), HighwayStack(16, depth, gate_bias=bias), nn.Linear(16, 4))


@pytest.mark.parametrize(
    ("depth", "bias", "rule"),
    [(20, -15.0, "gates_shut"), (30, 3.0, "gate_bias_not_negative"), (30, 0.0, "gate_bias_not_negative")],
)
def test_gates_that_start_wrong(depth: int, bias: float, rule: str) -> None:
    trace = train(stack(depth, bias))
    assert roots(trace)[0] == rule
    assert ("gates_open" in found(trace)) == (bias > 0)


@pytest.mark.parametrize(("depth", "bias"), [(20, -3.0), (5, 0.0), (100, -10.0), (10, -1.0)])
def test_gates_that_carry_are_harmless(depth: int, bias: float) -> None:
    assert not {name for name in found(train(stack(depth, bias))) if name.startswith("gate")}


def test_a_signal_that_no_longer_depends_on_the_input() -> None:
    net = mlp(24, nn.Tanh, scaled(0.9))
    for module in net:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.bias, 0, 1.2)
    findings = found(train(net))
    if "input_correlation" in train(mlp(1, nn.Tanh), steps=1).quantities():
        assert "rank_collapse" in findings
    assert "vanishing_gradient" in findings
