"""The effective rank of activations against Roy & Vetterli's definition and its laws."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from thruway.watching import watch
from thruway.watching.quantities.rows import Rows
from thruway.watching.quantities.units import RANK_LIMIT, effective_rank

# float64 squares lose singular values below 1e-8 of the largest: n of them add at most n·1e-8·log(1e8) to the entropy.
ROUNDING = RANK_LIMIT * 1e-8 * 18


def by_definition(matrix: np.ndarray) -> float:
    sigma = np.linalg.svd(matrix, compute_uv=False)
    share = sigma[sigma > 0] / sigma.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (1, 5), (5, 1), (256, 40)])
def test_it_is_the_definition(shape):
    block = torch.stack([random(*shape), random(*shape, seed=1).clamp_min(0), random(*shape).exp()])
    for found, matrix in zip(effective_rank(Rows(block)).tolist(), block.numpy(), strict=True):
        assert found == pytest.approx(by_definition(matrix), rel=ROUNDING)


@pytest.mark.parametrize("rank", [1, 2, 7, 16])
def test_equal_directions_count_as_one_each(rank):
    left, right = (torch.linalg.qr(random(40, 16, seed=seed)).Q[:, :rank] for seed in (2, 3))
    for scale in (1e-150, 1.0, 1e150):
        assert effective_rank(Rows((left @ right.T * scale)[None])).item() == pytest.approx(rank, rel=ROUNDING)
    single = (left @ right.T * 1e-37).float()
    # Single precision's own noise: 16 singular values of 2^-24.
    assert effective_rank(Rows(single[None])).item() == pytest.approx(rank, rel=16 * 2**-24 * 20)


def test_of_large_layers_evenly_taken_rows_and_columns_count():
    block = random(1, 1000, 300)
    inputs, units = np.arange(RANK_LIMIT) * 1000 // RANK_LIMIT, np.arange(RANK_LIMIT) * 300 // RANK_LIMIT
    taken = block[0].numpy()[inputs][:, units]
    assert effective_rank(Rows(block)).item() == pytest.approx(by_definition(taken), rel=ROUNDING)


def test_positions_of_an_image_are_inputs():
    images = random(3, 4, 5, 6)
    matrix = images.permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    for memory in (torch.contiguous_format, torch.channels_last):
        rows = Rows(images.to(memory_format=memory)[None], unit_dim=1)
        assert effective_rank(rows).item() == pytest.approx(by_definition(matrix), rel=ROUNDING)


def test_inputs_that_are_not_finite_are_left_out():
    matrix = random(20, 6)
    spoilt = matrix.clone()
    spoilt[3, 1], spoilt[7, 0], spoilt[7, 5] = math.nan, math.inf, -math.inf
    kept = np.delete(matrix.numpy(), [3, 7], axis=0)
    assert effective_rank(Rows(spoilt[None])).item() == pytest.approx(by_definition(kept), rel=ROUNDING)
    nothing = effective_rank(Rows(torch.stack([torch.zeros(4, 3), torch.full((4, 3), math.nan)])))
    assert nothing[0] == 0
    assert nothing[1].isnan()


def test_a_bottleneck_shows_in_a_trace():
    net = nn.Sequential(nn.Linear(20, 2, bias=False), nn.Linear(2, 20, bias=False), nn.Tanh())
    x = random(64, 20).float()
    with watch(net, quantities=["mean", "effective_rank"]) as trace:
        for _ in range(12):
            net(x)
    series = trace.series("effective_rank")
    measured = ~np.isnan(series.values[0])
    assert series.steps[measured].tolist() == [0, 10]
    # Two directions in exact arithmetic; 18 singular values of single precision's rounding more.
    assert series.values[1, 0] <= 2 + 18 * 2**-24 * 20
    assert series.values[2, 0] > series.values[1, 0]  # the activation bends the plane
