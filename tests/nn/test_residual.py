"""Residual blocks, their scale and stochastic depth."""

import math

import pytest
import torch
from nn_cases import seeded
from torch import Tensor, nn
from torch.testing import assert_close

from thruway.errors import ConfigError, ShapeError
from thruway.nn import Learnt, Plain, Residual, Resize

EXACT = {"rtol": 1e-14, "atol": 1e-14}  # float64, a handful of roundings


class Counted(nn.Module):
    """f(x) = 3 x, counting its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return 3 * x


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(1))


def test_order_of_shortcut_scale_branch_and_after() -> None:
    block = Residual(nn.Tanh(), nn.Softsign(), scale=-0.7, after="sigmoid")
    x = _x(5)
    assert_close(block(x), torch.sigmoid(x / (1 + x.abs()) - 0.7 * torch.tanh(x)), **EXACT)


def test_post_activation_of_he_2015_and_pre_activation_of_he_2016() -> None:
    W1, W2 = (nn.Linear(4, 4, dtype=torch.float64) for _ in range(2))
    x = _x(3, 4)
    post = Residual(nn.Sequential(W1, nn.ReLU(), W2), after="relu")
    assert_close(post(x), torch.relu(x + W2(torch.relu(W1(x)))), **EXACT)
    pre = Residual(nn.Sequential(nn.ReLU(), W1, nn.ReLU(), W2))
    assert_close(pre(x), x + W2(torch.relu(W1(torch.relu(x)))), **EXACT)


def test_rezero_starts_as_its_shortcut_and_learns_its_scale_first() -> None:
    branch = Plain(4, 4, "tanh", dtype=torch.float64, generator=seeded())
    block, x = Residual(branch, scale=Learnt(0.0)), _x(3, 4)
    y = block(x)
    assert torch.equal(y, x)
    y.sum().backward()
    assert_close(block.scale.grad, branch(x).sum().detach().to(torch.float32))  # float32 defaults: 0-d parameter
    assert not branch.weight.grad.any()
    assert dict(block.named_parameters()).keys() == {"scale", "branch.weight", "branch.bias"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_learnt_scale_keeps_the_dtype(dtype: torch.dtype) -> None:
    block = Residual(nn.Identity(), scale=Learnt(0.5))
    y = block(torch.ones(2, dtype=dtype))
    assert y.dtype == dtype
    assert y.tolist() == [1.5, 1.5]


def test_a_dropped_branch_is_not_computed_for_the_whole_batch() -> None:
    branch = Counted()
    block = Residual(branch, drop=0.3, generator=seeded())
    x = _x(6, 2)
    kept = 0
    for call in range(400):
        y = block(x)
        is_kept = branch.calls > kept
        kept += is_kept
        assert branch.calls == kept, call
        assert torch.equal(y, x + 3 * x if is_kept else x)  # training: never scaled
    standard_error = math.sqrt(0.3 * 0.7 / 400)
    assert abs(kept / 400 - 0.7) < 5 * standard_error


def test_evaluation_equals_the_mean_over_the_draws() -> None:
    block = Residual(Counted(), scale=2.0, drop=0.25)
    x = _x(4)
    kept, left_out = x + 2.0 * 3 * x, x
    assert_close(block.eval()(x), 0.75 * kept + 0.25 * left_out, **EXACT)


def test_the_draw_depends_on_the_generator_only() -> None:
    def tosses(seed: int) -> list[bool]:
        block = Residual(Counted(), drop=0.5, generator=seeded(seed))
        return [bool(block(torch.ones(1)) > 1) for _ in range(50)]

    outer = torch.get_rng_state()
    assert tosses(0) == tosses(0) != tosses(1)
    assert torch.equal(torch.get_rng_state(), outer)


def test_nothing_is_drawn_if_nothing_can_be_dropped() -> None:
    for block in (Residual(Counted(), generator=seeded()), Residual(Counted(), drop=0.5, generator=seeded()).eval()):
        before = block.generator.get_state()
        block(torch.ones(1))
        assert torch.equal(block.generator.get_state(), before)


@pytest.mark.parametrize("training", [True, False])
def test_a_call_can_set_the_factor_of_the_branch(training: bool) -> None:
    block, x = Residual(Counted(), scale=2.0, drop=0.5, generator=seeded()).train(training), _x(4)
    before = block.generator.get_state()
    for share in (0, 0.0, 0.25, 1):
        calls = block.branch.calls
        assert_close(block(x, share=share), x + share * 2.0 * 3 * x, **EXACT)
        assert block.branch.calls == calls + (share != 0)
    assert torch.equal(block.bypass(x), x)
    assert torch.equal(block.generator.get_state(), before)  # no coin


def test_vmap_draws_once_for_all() -> None:
    block = Residual(Counted(), drop=0.5, generator=seeded())
    run = torch.vmap(block, randomness="same")
    outcomes = {tuple(run(torch.ones(3)).tolist()) for _ in range(20)}
    assert outcomes == {(1.0, 1.0, 1.0), (4.0, 4.0, 4.0)}


def test_different_shapes_raise_with_advice() -> None:
    block = Residual(nn.Linear(3, 1))  # would broadcast
    with pytest.raises(ShapeError, match=r"branch returned \(2, 1\), the shortcut \(2, 3\).*Resize"):
        block(torch.ones(2, 3))
    x = torch.ones(2, 3)
    assert Residual(nn.Linear(3, 1), Resize(3, 1))(x).shape == (2, 1)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Residual(nn.Identity(), drop=1.0), "drop must be a probability of at least 0 and below 1, got 1.0"),
        (lambda: Residual(nn.Identity(), drop=-0.1), "got -0.1"),
        (lambda: Residual(nn.Identity(), drop=math.nan), "got nan"),
        (lambda: Residual(nn.Identity(), drop="no"), "got 'no'"),
        (lambda: Residual(nn.Identity(), scale="learnt"), r"Learnt\(start\) to train it, got 'learnt'"),
        (lambda: Residual(nn.Identity(), scale=Learnt(math.inf)), "got inf"),
        (lambda: Residual(nn.Identity(), after="rleu"), "did you mean 'relu'"),
        (lambda: Residual(nn.Sequential(nn.ReLU(inplace=True))), "branch begins with ReLU.*inplace=False"),
    ],
)
def test_invalid_arguments_raise_with_their_value(build: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build()
