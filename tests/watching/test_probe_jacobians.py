"""Jacobians of the probe during a training: against a dense decomposition, without an effect on the training."""

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.nn import HighwayStack
from thruway.watching import DEFAULT, QUANTITIES, Quantity, Trace, WatchWarning, layer_jacobians, watch
from thruway.watching.quantities.layer_jacobians import EXACT_UP_TO, EXAMPLES, probe_jacobians

EVERY_TIME = dataclasses.replace(QUANTITIES["jacobian"], stride=1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tanh_net(width: int, depth: int = 3) -> nn.Sequential:
    net = nn.Sequential(*(m for _ in range(depth) for m in (nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.3))))
    for number, parameter in enumerate(net.parameters()):
        parameter.data = random(*parameter.shape, seed=number) * 1.2 / math.sqrt(width)
    return net


def trained(
    net: nn.Module, x: Tensor, steps: int = 4, *, with_optimizer: bool = False, **options: Any
) -> tuple[Trace, list[dict[str, Tensor]]]:
    """The trace, and the weights as they were before every step."""
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    before = []
    with (
        torch.random.fork_rng(devices=[]),
        watch(net, optimizer=optimizer if with_optimizer else None, **options) as trace,
    ):
        torch.manual_seed(3)
        for _ in range(steps):
            before.append(copy.deepcopy(net.state_dict()))
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    return trace, before


def dense(layer: nn.Module, z: Tensor) -> NDArray[np.float64]:
    """The mean singular value at each example alone: the whole matrix, decomposed."""
    layer.eval()
    matrices = [torch.autograd.functional.jacobian(lambda one: layer(one[None])[0], example) for example in z]
    return np.array([np.linalg.svd(matrix.numpy(), compute_uv=False).mean() for matrix in matrices])


@pytest.mark.parametrize("with_optimizer", [False, True], ids=["by calls", "by optimizer"])
def test_every_layer_at_every_step_against_a_dense_decomposition(with_optimizer: bool) -> None:
    x = random(9, 6)
    trace, before = trained(
        tanh_net(6), x, with_optimizer=with_optimizer, quantities=["mean", EVERY_TIME], probe=x, every=2
    )
    assert trace.failure is None
    assert trace.probe is not None
    series = trace.probe.series("jacobian")
    assert series.names == ["1", "4", "7"]
    # With the optimizer, also how the training left the model.
    assert series.steps.tolist() == ([0, 2, 4] if with_optimizer else [0, 2])
    for column, step in enumerate((0, 2)):
        net, z = tanh_net(6).eval(), x[:EXAMPLES]
        net.load_state_dict(before[step])
        twins = layer_jacobians(net, z)
        for row, start in enumerate((0, 3, 6)):
            layer = net[start : start + 2]
            # float64 and two decompositions of matrices of order 1.
            assert series.values[row, column] == pytest.approx(dense(layer, z).mean(), rel=1e-12)
            assert series.values[row, column] == pytest.approx(twins[str(start + 1)].mean_singular_value, rel=1e-12)
            z = net[start : start + 3](z).detach()
    assert np.ptp(series.values, 1).min() > 1e-6  # training moved it


def test_large_layers_are_estimated_the_same_way_every_time() -> None:
    width = EXACT_UP_TO + 20
    net, x = tanh_net(width), random(5, width)
    found = probe_jacobians(net, x)
    exact = layer_jacobians(net, x[:EXAMPLES], exact_up_to=width)
    for name, value in found.items():
        # 8 directions, each off by the spread of singular values (half their mean) over √(width/2): five times that.
        assert value == pytest.approx(exact[name].mean_singular_value, rel=5 * 0.5 / math.sqrt(8 * width / 2))
        assert value != exact[name].mean_singular_value
    assert probe_jacobians(net, x) == found


def test_it_is_taken_at_its_stride_and_read_like_any_other(tmp_path: Path) -> None:
    x = random(5, 4)
    seldom = dataclasses.replace(EVERY_TIME, stride=3)
    trace, _ = trained(tanh_net(4), x, 7, quantities=[*DEFAULT, seldom], probe=x)
    for probe in (trace.probe, Trace.load(trace.save(tmp_path / "t.npz")).probe):
        assert probe is not None
        series = probe.series("jacobian")
        assert series.steps.tolist() == [0, 3, 6]
        table = probe.table()
        assert table["value"][table["quantity"] == "jacobian"].reshape(3, 3).T.tolist() == series.values.tolist()
        figure = probe.figure("jacobian")
        np.testing.assert_allclose(np.array(figure.data[0].z, dtype=float), series.values, rtol=1e-6)
        assert figure.layout.coloraxis.colorbar.title.text == "jacobian (mean singular value)"
        assert len(probe.series("mean").steps) == 7
    assert "jacobian" not in trace.quantities()
    with pytest.raises(ConfigError, match=r"'jacobian' is measured on the probe only. Read it from trace\.probe"):
        trace.figure("jacobian")


@pytest.mark.parametrize("with_optimizer", [False, True], ids=["by calls", "by optimizer"])
def test_training_comes_out_bit_for_bit(with_optimizer: bool) -> None:
    x, ends = random(9, 6), []
    for quantities in (["mean"], ["mean", EVERY_TIME]):
        net = tanh_net(6)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(8)
            trace, _ = trained(net, x, 5, with_optimizer=with_optimizer, quantities=quantities, probe=x)
            after = torch.rand(3)
        assert trace.failure is None
        gradients = [p.grad for p in net.parameters()]
        ends.append([*net.parameters(), *gradients, after, torch.from_numpy(trace.series("mean").values)])
        assert all(module.training for module in net.modules())
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_gradients_of_parameters_are_left_alone() -> None:
    net, x = tanh_net(4), random(5, 4)
    probe_jacobians(net, x)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not x.requires_grad
    assert not any(module._forward_hooks for module in net.modules())


def test_without_a_probe_it_is_refused_at_the_call() -> None:
    with pytest.raises(
        ConfigError, match=r"'jacobian' is measured on a fixed batch, but there is no probe\. Pass probe="
    ):
        watch(tanh_net(4), quantities=[*DEFAULT, "jacobian"])
    net, x = tanh_net(4), random(2, 4)
    with watch(net, quantities=["mean"], probe=x) as trace:
        net(x)
    assert trace.probe is not None
    for asked in (trace, trace.probe):
        with pytest.raises(ConfigError, match=r"Watch with probe=.*quantities=\[\*DEFAULT, 'jacobian'\]"):
            asked.series("jacobian")


def test_alone_it_is_something_seen() -> None:
    net, x = tanh_net(4), random(5, 4)
    with watch(net, quantities="jacobian", probe=x) as trace:
        net(x)
    assert trace.probe is not None
    assert trace.probe.series("jacobian").values.shape == (3, 1)


# --- models that are no chain of activation modules


class Attention(nn.Module):
    """Layers side by side, one that returns a tuple, one whose output has no row per example."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.query, self.key, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.lstm, self.pool = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)
        self.rows = nn.Linear(3, 2)

    def forward(self, tokens: Tensor, scale: float = 1.0) -> Tensor:
        x = self.embed(tokens)
        x = self.out(self.query(x) * self.key(x) * scale)
        y = self.pool(self.lstm(x)[0])
        return self.rows(y.mean(0)).mean(0).expand(len(tokens), 2)


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict"])
def test_layers_without_a_jacobian_are_left_out(form: str) -> None:
    tokens = torch.arange(8).reshape(4, 2)
    inputs = {"tensor": tokens, "tuple": (tokens, 3.0), "dict": {"tokens": tokens, "scale": 3.0}}[form]
    net = Attention().double()
    with watch(net, quantities=["mean", EVERY_TIME], probe=inputs) as trace:
        net(tokens).sum().backward()
    assert trace.failure is None
    assert trace.probe is not None
    # Not the embedding (of tokens), not key (beside query, not behind it), not the LSTM (a tuple), nor rows (no batch).
    series = trace.probe.series("jacobian")
    assert series.names == ["query", "out", "pool"]
    with torch.no_grad():
        x = net.embed(tokens)
        behind = net.out.weight * net.query(x)[:, :, None] * (1.0 if form == "tensor" else 3.0)  # by way of key
    # Both positions of every example, each through a matrix of its own.
    for row, matrices in ((0, net.query.weight.detach()), (1, behind)):
        expected = np.linalg.svd(matrices.numpy(), compute_uv=False).mean()
        assert series.values[row, 0] == pytest.approx(expected, rel=1e-12)


def test_a_stack_counts_as_one_layer() -> None:
    stack = HighwayStack(5, 3, generator=torch.Generator().manual_seed(0)).double()
    net, x = nn.Sequential(nn.Linear(5, 5).double(), stack), random(4, 5)
    found = probe_jacobians(net, x)
    assert list(found) == ["0", "1"]
    assert found["1"] == pytest.approx(dense(copy.deepcopy(stack), net[0](x).detach()).mean(), rel=1e-10)
    assert list(layer_jacobians(net, x)) == ["0", "1"]


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum() * torch.ones(3, dtype=x.dtype)


def test_a_model_without_a_jacobian_has_an_error_with_advice() -> None:
    net = nn.Sequential(Branches())
    with (
        pytest.warns(WatchWarning, match=r"no layer of Sequential has a Jacobian.*Omit 'jacobian' from quantities"),
        watch(net, quantities=["mean", EVERY_TIME], probe=random(2, 3)),
    ):
        net(random(2, 3).requires_grad_())


class Once(torch.autograd.Function):
    """A function whose author gave it no second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(x)


def test_a_layer_without_second_derivatives_is_exact_or_an_error() -> None:
    assert probe_jacobians(nn.Sequential(Doubling()), random(3, 5)) == {"0": 2.0}
    wide = nn.Sequential(Doubling())
    with pytest.raises(ConfigError, match=r"Jacobian at layer '0' cannot be computed.*Beyond 128 outputs.*of_model="):
        probe_jacobians(wide, random(3, EXACT_UP_TO + 1))


@pytest.mark.parametrize("width", [5, EXACT_UP_TO + 1])
def test_weights_that_are_no_numbers_do_not_end_the_watching(width: int) -> None:
    net, x = tanh_net(width), random(3, width)
    with torch.no_grad():
        net[3].weight[0, 0] = math.nan
    with watch(net, quantities=["mean", EVERY_TIME], probe=x) as trace:
        net(x).sum().backward()
    assert trace.failure is None
    assert trace.probe is not None
    values = trace.probe.series("jacobian").values[:, 0]
    assert np.isnan(values).tolist() == [False, True, True]


def test_a_quantity_of_the_model_may_be_ones_own() -> None:
    def of_blocks(model: nn.Module, inputs: Any) -> dict[str, float]:
        found = layer_jacobians(model, inputs[:2], ["2", "8"])
        return {name: each.mean_singular_value for name, each in found.items()} | {"spread": 3.0}

    own = Quantity("blocks", "", of_model=of_blocks)
    net, x = tanh_net(4), random(5, 4)
    with watch(net, quantities=["mean", own], probe=x) as trace:
        net(x).sum().backward()
    assert trace.probe is not None
    series = trace.probe.series("blocks")
    assert dict(zip(series.names, series.values[:, 0], strict=True)) == pytest.approx(of_blocks(net, x), rel=1e-12)
    with pytest.raises(ConfigError, match=r"the quantity 'idle' has no function that measures it. Pass measure="):
        Quantity("idle", "")
