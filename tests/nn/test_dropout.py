"""Dropout with a generator: its masks, their source, and cases in which nothing is drawn."""

import copy
import math

import pytest
import torch
from nn_cases import seeded
from torch import Tensor, nn
from torch.testing import assert_close

from thruway.errors import ConfigError
from thruway.nn import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_elements_are_dropped_with_their_probability_and_the_mean_is_preserved(p: float) -> None:
    n = 40_000
    y = Dropout(p, seeded())(torch.ones(n, dtype=torch.float64))
    dropped = (y == 0).double().mean().item()
    assert abs(dropped - p) < 5 * math.sqrt(p * (1 - p) / n)  # standard error of a share
    assert abs(y.mean().item() - 1.0) < 5 * math.sqrt(p / (1 - p) / n)  # variance of m / (1 - p) is p / (1 - p)


def test_neighbours_are_dropped_independently() -> None:
    n = 40_000
    kept = Dropout(0.5, seeded())(torch.ones(n, 2)) > 0
    both = kept.all(dim=1).double().mean().item()
    assert abs(both - 0.25) < 5 * math.sqrt(0.25 * 0.75 / n)


def test_kept_elements_are_scaled_and_dropped_ones_get_no_gradient() -> None:
    x = torch.randn(200, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    y = Dropout(0.2, seeded())(x)
    kept = y != 0
    assert 0 < kept.sum() < 200
    assert_close(y, torch.where(kept, x / 0.8, 0.0), rtol=1e-15, atol=0)  # one rounding
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert_close(gradient, kept.double() / 0.8, rtol=1e-15, atol=0)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_nothing_is_drawn_in_evaluation_or_for_p_of_0(p: float) -> None:
    coins, x = seeded(), torch.randn(50, generator=seeded(1))
    before = coins.get_state()
    layer = Dropout(p, coins)
    assert layer.train(p == 0.0)(x) is x
    assert torch.equal(coins.get_state(), before)
    Dropout(0.5, coins)(x)  # in training the generator does advance
    assert not torch.equal(coins.get_state(), before)


def test_the_generator_determines_the_mask_and_the_global_one_is_unchanged() -> None:
    def drawn(seed: int) -> Tensor:
        layer = Dropout(0.5, seeded(seed))
        return torch.stack([layer(torch.ones(30)) for _ in range(3)])

    outer = torch.get_rng_state()
    one, same, other = drawn(0), drawn(0), drawn(1)
    assert torch.equal(torch.get_rng_state(), outer)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def test_without_a_generator_it_equals_torchs_layer() -> None:
    x = torch.randn(100, generator=seeded())
    outputs = []
    for layer in (Dropout(0.3), nn.Dropout(0.3)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            outputs.append(layer(x))
    assert torch.equal(*outputs)
    assert (outputs[0] == 0).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_dtype_gets_the_same_mask(dtype: torch.dtype) -> None:
    y = Dropout(0.5, seeded())(torch.ones(100, dtype=dtype))
    assert y.dtype == dtype
    assert torch.equal(y.float(), Dropout(0.5, seeded())(torch.ones(100)))  # 2 is exact in all of them


def test_a_resumed_run_draws_the_same_masks() -> None:
    x, coins = torch.ones(20), seeded()
    layer = Dropout(0.5, coins)
    layer(x)
    stored, twin = coins.get_state(), copy.deepcopy(layer)
    gone_on = layer(x)
    resumed = seeded(9)
    resumed.set_state(stored)
    assert torch.equal(Dropout(0.5, resumed)(x), gone_on)
    assert torch.equal(twin(x), gone_on)


def test_under_vmap_members_get_different_masks_or_the_same() -> None:
    layer, x = Dropout(0.5, seeded()), torch.ones(4, 40)
    own = torch.vmap(layer, randomness="different")(x)
    shared = torch.vmap(layer, randomness="same")(x)
    assert len({tuple(row.tolist()) for row in own}) == 4
    assert len({tuple(row.tolist()) for row in shared}) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_gives_the_same_mask_on_the_gpu_and_a_gpu_generator_works() -> None:
    x = torch.ones(1000)
    assert torch.equal(Dropout(0.3, seeded())(x.cuda()).cpu(), Dropout(0.3, seeded())(x))
    there = Dropout(0.3, torch.Generator("cuda").manual_seed(0))(x.cuda())
    dropped = (there == 0).double().mean().item()
    assert abs(dropped - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 1000)


@pytest.mark.parametrize("p", [-0.1, 1.0, math.nan, True, "half"])
def test_an_invalid_probability_raises(p: object) -> None:
    with pytest.raises(ConfigError, match=f"p must be a probability of at least 0 and below 1, got {p!r}"):
        Dropout(p)
