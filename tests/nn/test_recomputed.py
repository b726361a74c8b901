"""Recomputation by torch.utils.checkpoint draws the same random numbers, or raises an error."""

import pytest
import torch
from nn_cases import seeded
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from thruway.errors import ConfigError
from thruway.nn import Dropout, RandomSubset, RecurrentHighway, RecurrentHighwayCell, Residual

EXACT = {"rtol": 1e-13, "atol": 1e-13}  # float64, sums of a few numbers of size 1


def gradients(layer: nn.Module, again: bool | None) -> tuple[Tensor, Tensor]:
    """Return (y, dL/dx) with a reentrant or non-reentrant checkpoint, or without one."""
    x = torch.randn(4, 2, 3, dtype=torch.float64, generator=seeded(3)).requires_grad_()
    y = layer(x) if again is None else checkpoint(layer, x, use_reentrant=again)
    y = y[0] if isinstance(y, tuple) else y
    y.square().sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


def recurrent(coins: torch.Generator | None) -> nn.Module:
    return RecurrentHighway(3, 4, 2, dropout=0.5, dtype=torch.float64, generator=seeded(), coins=coins)


def residual(coins: torch.Generator | None) -> Residual:
    return Residual(nn.Linear(3, 3).double(), drop=0.1, generator=coins)


def subset(coins: torch.Generator | None) -> nn.Module:
    return RandomSubset(*(Residual(nn.Linear(3, 3).double()) for _ in range(5)), use=2, generator=coins)


LAYERS = {"dropout": lambda coins: Dropout(0.5, coins), "recurrent": recurrent, "residual": residual, "subset": subset}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_recomputation_with_an_own_generator_raises(name: str, reentrant: bool) -> None:
    with pytest.raises(ConfigError, match=r"(?s)torch\.utils\.checkpoint.*out of the checkpoint, or build it without"):
        gradients(LAYERS[name](seeded(2)), reentrant)  # with seed 2 the branch is computed in the first pass


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_without_a_generator_recomputation_draws_the_same_numbers(name: str, reentrant: bool) -> None:
    found = []
    for again in (None, reentrant):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            found.append(gradients(LAYERS[name](None), again))
    for plain, twice in zip(*found, strict=True):
        assert_close(twice, plain, **EXACT)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_may_be_recomputed_with_an_own_generator(name: str, reentrant: bool) -> None:
    layer = LAYERS[name](seeded(1)).eval()
    assert_close(gradients(layer, reentrant), gradients(layer, None), **EXACT)


@pytest.mark.parametrize("reentrant", [True, False])
def test_masks_drawn_before_the_checkpoint_are_the_same_in_both_passes(reentrant: bool) -> None:
    cell = RecurrentHighwayCell(3, 4, 2, dropout=0.5, dtype=torch.float64, generator=seeded(), coins=seeded(1))
    masks = cell.draw_masks(2)

    class Step(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return cell(x[0], None, masks)

    assert_close(gradients(Step(), reentrant), gradients(Step(), None), **EXACT)
