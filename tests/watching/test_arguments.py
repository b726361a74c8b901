"""Invalid arguments of watch, several watches of one model, torch.func, and activations with other limits."""

import pytest
import torch
from torch import nn

import thruway as tw
from thruway.errors import ConfigError


def _net():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every must be an integer of at least 1"),
        ({"every": True}, "every must be an integer of at least 1"),
        ({"first_step": 1.5}, "first_step must be an integer of at least 0"),
        ({"first_step": "a"}, "first_step must be an integer of at least 0"),
        ({"memory": 0}, "memory must be an integer of at least 1"),
        ({"run": "runs/mine"}, "log_sites, got str"),
        ({"scaler": 3}, "GradScaler, got int"),
        ({"optimizer": []}, "got list"),
        ({"optimizer": torch.optim.SGD(_net().parameters(), 0.1)}, "updates no parameter of this Sequential"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(arguments, message):
    with pytest.raises(ConfigError, match=message):
        tw.watch(_net(), **arguments)


def test_what_takes_no_hooks_is_refused():
    with pytest.raises(ConfigError, match=r"takes a torch\.nn\.Module, got function"):
        tw.watch(lambda x: x)
    with pytest.raises(
        ConfigError, match=r"a ScriptModule takes no hooks, got .*Watch the model from which it was made"
    ):
        tw.watch(torch.jit.script(_net()))


def test_two_watches_of_one_model_record_the_same():
    model, x = _net(), torch.ones(5, 3)
    with tw.watch(model) as first, tw.watch(model) as second, tw.watch(model[0]) as part:
        for _ in range(3):
            model(x).square().mean().backward()
    assert (first.series("std", "gradient").values == second.series("std", "gradient").values).all()
    assert first.series("std", "gradient").values.shape == (3, 3)
    assert part.series("mean", "gradient").values[0].tolist() == first.series("mean", "gradient").values[0].tolist()


def test_what_torch_func_does_in_between_is_not_a_step():
    model, x = _net(), torch.ones(5, 3)
    parameters = dict(model.named_parameters())
    with tw.watch(model) as trace:
        for _ in range(3):
            torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(parameters)
            torch.func.vmap(model)(x)
            model(x).square().mean().backward()
    assert trace.failure is None
    assert trace.steps == [0, 1, 2]
    assert trace.series("std", "gradient").values.shape == (3, 3)


SPREAD = torch.linspace(-10, 10, 2001).reshape(3, -1)


@pytest.mark.parametrize(
    ("module", "low", "high"),
    [
        (nn.ReLU6(), 0.5, 0.2),
        (nn.Hardtanh(), 0.45, 0.45),
        (nn.ReLU(), 0.5, None),
        (nn.ELU(), (10 + torch.log(torch.tensor(0.05)).item()) / 20, None),
    ],
)
def test_saturation_is_at_the_activations_own_ends(module, low, high):
    model = nn.Sequential(module)
    with tw.watch(model) as trace:
        model(SPREAD.clone().requires_grad_()).sum().backward()
    # Of 2,001 evenly spread values, one more or less.
    assert trace.series("saturation_low").values.item() == pytest.approx(low, abs=1e-3)
    if high is None:
        assert "saturation_high" not in trace.quantities()
    else:
        assert trace.series("saturation_high").values.item() == pytest.approx(high, abs=1e-3)


@pytest.mark.parametrize("module", [nn.Hardtanh(-2, 2), nn.ELU(alpha=0.5)])
def test_ends_that_are_not_known_are_not_guessed(module):
    model = nn.Sequential(module)
    with tw.watch(model) as trace:
        model(SPREAD.clone().requires_grad_()).sum().backward()
    assert "saturation_low" not in trace.quantities()
