import math

import pytest
import torch
from init_cases import FusedHighway, FusedStack, seeded
from torch import Tensor, nn
from torch.testing import assert_close

from thruway.errors import ConfigError, InitError
from thruway.init import initialize, lsuv_


def _batch(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=seeded(9)) + 1


def _deep() -> nn.Sequential:
    return nn.Sequential(*(part for _ in range(8) for part in (nn.Linear(20, 20), nn.SiLU()))).double()


def _variances(model: nn.Module, batch: Tensor, kinds: tuple[type[nn.Module], ...]) -> list[float]:
    """Output variances of the layers, measured by hooks."""
    seen: list[float] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, output: seen.append(output.var(correction=0).item()))
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    model(batch)
    for hook in hooks:
        hook.remove()
    return seen


def _as_published(model: nn.Module, batch: Tensor, tol: float) -> None:
    """Mishkin & Matas, algorithm 1: one layer at a time, the whole network forward each time."""
    initialize(model, "orthogonal", generator=seeded(), gain=1.0)
    for layer in [module for module in model.modules() if isinstance(module, nn.Linear)]:
        for _ in range(10):
            seen: list[float] = []
            with layer.register_forward_hook(lambda _m, _i, output: seen.append(output.var(correction=0).item())):  # noqa: B023
                model(batch)
            if abs(seen[0] - 1) <= tol:
                break
            with torch.no_grad():
                layer.weight /= math.sqrt(seen[0])


def test_every_layer_has_unit_output_variance() -> None:
    model, x = _deep(), _batch(100, 20)
    summary = lsuv_(model, x, generator=seeded(), tol=1e-6)
    assert _variances(model, x, (nn.Linear,)) == pytest.approx([1.0] * 8, abs=1e-6)
    scaled = [row for row in summary if row.done == "orthogonal, scaled"]
    assert [row.parameter for row in scaled] == [f"{2 * i}.weight" for i in range(8)]
    for row in scaled:
        assert model.get_parameter(row.parameter).square().mean().sqrt().item() == pytest.approx(row.std, rel=1e-12)
    # Without scaling the variances are far from 1.
    initialize(model, "orthogonal", generator=seeded(), gain=1.0)
    assert max(abs(variance - 1) for variance in _variances(model, x, (nn.Linear,))) > 0.5


def test_one_pass_equals_the_published_algorithm() -> None:
    fast, slow, x = _deep(), _deep(), _batch(50, 20)
    lsuv_(fast, x, generator=seeded(), tol=0.01)
    _as_published(slow, x, tol=0.01)
    for one, two in zip(fast.parameters(), slow.parameters(), strict=True):
        assert_close(one, two, rtol=1e-10, atol=0)


def _noisy_conv_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.ConvTranspose2d(6, 4, 2, groups=2),
        nn.Flatten(),
        nn.Linear(4 * 5 * 5, 3),
    ).double()


def _hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("is_training", [True, False])
def test_only_the_weights_change(is_training: bool) -> None:
    model = _noisy_conv_net().train(is_training)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    before = torch.get_rng_state()
    lsuv_(model, _batch(16, 3, 6, 6), generator=seeded(), tol=1e-3)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in model.named_buffers())
    assert all(module.training == is_training for module in model.modules())
    assert _hooks_of(model) == 0
    if not is_training:
        layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
        assert _variances(model, _batch(16, 3, 6, 6), layers) == pytest.approx([1.0] * 3, abs=1e-3)


def test_all_groups_of_a_transposed_convolution_are_scaled_equally() -> None:
    layer = nn.ConvTranspose1d(6, 4, 3, groups=2).double()
    lsuv_(layer, _batch(20, 6, 9), generator=seeded(), tol=1e-6)
    first, second = (block.norm().item() for block in layer.weight.chunk(2))
    # Both groups start orthogonal with the same shape, and so with the same norm.
    assert first == pytest.approx(second, rel=1e-12)


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["raises", "constant"])
def test_an_error_leaves_the_model_unchanged(how: str) -> None:
    model = _noisy_conv_net()
    x = _batch(16, 3, 6, 6)
    if how == "raises":
        model.append(Fails())
    else:
        model[3] = nn.Dropout(1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((KeyboardInterrupt, InitError)) as caught:
        lsuv_(model, x, generator=seeded())
    if how == "constant":
        assert "layer '4' (ConvTranspose2d) returns a constant" in str(caught.value)
        assert "dead units" in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert _hooks_of(model) == 0


def test_non_finite_outputs_raise() -> None:
    x = _batch(4, 20)
    x[0, 0] = math.inf
    with pytest.raises(InitError, match=r"layer '0' \(Linear\).*NaN or infinity.*variance nan"):
        lsuv_(_deep(), x, generator=seeded())


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU(inplace=True)], ids=["tanh", "in-place relu"])
def test_the_transform_of_a_highway_layer_is_scaled_and_its_gate_is_not(activation: nn.Module) -> None:
    layer = FusedHighway(12, activation=activation).double()
    x = _batch(80, 12)
    summary = lsuv_(layer, x, generator=seeded(), tol=1e-6)
    transform, gate = layer.weight.detach().chunk(2)
    assert (x @ transform.T).var(correction=0).item() == pytest.approx(1.0, abs=1e-6)
    assert_close(gate @ gate.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=1e-12)
    assert layer.bias.tolist() == [0.0] * 12 + [-2.0] * 12
    assert {row.part: row.done for row in summary if row.parameter == "weight"} == {
        "transform": "orthogonal, scaled",
        "transform_gate": "orthogonal",
    }
    assert not summary.skipped
    assert _hooks_of(layer) == 0


class Branching(nn.Module):
    """A layer that runs twice, one that never runs, and maps whose pre-activations no module returns."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never = nn.Linear(6, 6), nn.Linear(6, 6)
        self.rnn, self.stack = nn.GRU(6, 6), FusedStack(6, 2)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        return self.rnn(self.twice(10 * self.twice(scale * x).tanh()))[0]


def test_unscaled_layers_are_listed_in_the_summary() -> None:
    model, x = Branching().double(), _batch(30, 6)
    summary = lsuv_(model, {"x": x, "scale": 2.0}, generator=seeded(), tol=1e-6)
    assert model.twice(2 * x).var(correction=0).item() == pytest.approx(1.0, abs=1e-6)
    reasons = {row.parameter: row.note for row in summary.skipped}
    assert reasons["never.weight"] == "not scaled: did not run on this batch"
    assert reasons["rnn.weight_hh_l0"] == "not scaled: no module returns its pre-activation"
    assert "stack.weight" in reasons
    assert "twice.weight" not in reasons


def test_the_batch_may_be_a_tuple_of_arguments() -> None:
    layer = nn.Bilinear(5, 4, 3).double()
    x, y = _batch(60, 5), _batch(60, 4)
    lsuv_(layer, (x, y), generator=seeded(), tol=1e-6)
    assert layer(x, y).var(correction=0).item() == pytest.approx(1.0, abs=1e-6)


class Noisy(nn.Linear):
    """A layer whose output variance depends on more than its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 5 * torch.arange(self.out_features).to(x)


def test_a_layer_that_cannot_reach_unit_variance_is_reported() -> None:
    summary = lsuv_(nn.Sequential(Noisy(4, 4)).double(), _batch(20, 4), generator=seeded(), max_iterations=3)
    (row,) = summary.skipped
    assert row.parameter == "0.weight"
    assert "in 3: variance" in row.note
    assert "still outside tol" in row.note


def test_unsuitable_arguments_raise() -> None:
    with pytest.raises(ConfigError, match="tol=0"):
        lsuv_(_deep(), _batch(4, 20), tol=0)
    with pytest.raises(ConfigError, match="max_iterations=0"):
        lsuv_(_deep(), _batch(4, 20), max_iterations=0)
    with pytest.raises(InitError, match="no layer could be scaled"):
        lsuv_(nn.Sequential(nn.LayerNorm(20)).double(), _batch(4, 20))
