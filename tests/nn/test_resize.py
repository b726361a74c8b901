"""Resizing shortcuts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_cases import seeded
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from thruway.errors import ConfigError, ShapeError
from thruway.nn import Residual, Resize


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_padding_and_sub_sampling_number_by_number(data: st.DataObject) -> None:
    inputs, outputs = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    dims = data.draw(st.integers(0, 3))
    stride = data.draw(st.integers(1, 3)) if dims else 1
    size = [data.draw(st.integers(1, 5)) for _ in range(dims)]
    x = torch.randn(2, inputs, *size, generator=seeded())
    y = Resize(inputs, outputs, stride, dims)(x)
    assert y.shape == (2, outputs, *(-(-points // stride) for points in size))
    for at in torch.cartesian_prod(*(torch.arange(length) for length in y.shape)).reshape(-1, y.ndim).tolist():
        sample, feature, *point = at
        source = feature * inputs // outputs if outputs < inputs else feature
        where = (sample, source, *(index * stride for index in point))
        assert y[tuple(at)] == (x[where] if source < inputs else 0)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_it_fits_a_strided_convolution_of_any_map_size(dims: int, stride: int, kernel: int) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](2, 3, kernel, stride, padding=kernel // 2)
    block = Residual(conv, Resize(2, 3, stride, dims))
    for points in (1, 4, 7):
        x = torch.randn(1, 2, *[points] * dims, generator=seeded())
        padded = F.pad(x[(..., *[slice(None, None, stride)] * dims)], [0, 0] * dims + [0, 1])
        assert torch.equal(block(x), padded + conv(x))  # Residual raises for different shapes


def test_same_size_is_the_identity_and_padding_has_no_parameters() -> None:
    x = torch.randn(2, 3, 4, generator=seeded())
    assert torch.equal(Resize(3, 3, dims=1)(x), x)
    assert list(Resize(3, 9, stride=2, dims=2).parameters()) == []


def test_the_projection_is_a_linear_map_or_a_1x1_convolution() -> None:
    vectors = Resize(3, 2, how="project", dtype=torch.float64, generator=seeded())
    x = torch.randn(5, 3, dtype=torch.float64, generator=seeded(1))
    W, b = vectors.projection.weight, vectors.projection.bias
    assert_close(vectors(x), x @ W.T + b)
    maps = Resize(3, 2, stride=2, dims=2, how="project", dtype=torch.float64, generator=seeded())
    x = torch.randn(5, 3, 4, 5, dtype=torch.float64, generator=seeded(1))
    kernel = maps.projection.weight[:, :, 0, 0]
    assert maps.projection.weight.shape == (2, 3, 1, 1)
    assert_close(maps(x), torch.einsum("oc,nchw->nohw", kernel, x[:, :, ::2, ::2]))


def test_projection_starts_with_glorots_bound_and_no_bias() -> None:
    projection = Resize(60, 90, how="project", generator=seeded()).projection
    bound = (6 / 150) ** 0.5
    # The largest of 5400 uniform draws is below 99.5 % of the bound with probability e^-27.
    assert 0.995 * bound < projection.weight.abs().max() <= bound
    assert not projection.bias.any()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Resize(0, 3), "inputs must be an integer of at least 1, got 0"),
        (lambda: Resize(3, -1), "outputs must be"),
        (lambda: Resize(3, 3, stride=0, dims=1), "stride must be"),
        (lambda: Resize(3, 3, stride=2), "stride=2 needs spatial dimensions.*dims=1, 2 or 3"),
        (lambda: Resize(3, 3, dims=4), "got 4"),
        (lambda: Resize(3, 3, dims=-1), "dims must be an integer of at least 0, got -1"),
        (lambda: Resize(3, 3, how="projct"), "did you mean 'project'"),
    ],
)
def test_invalid_arguments_raise_with_their_value(build: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build()


@pytest.mark.parametrize("how", ["pad", "project"])
def test_inputs_of_another_size_raise(how: str) -> None:
    with pytest.raises(ShapeError, match=r"\(\.\.\., 3, points, points\), got \(2, 4, 5, 5\)"):
        Resize(3, 4, dims=2, how=how)(torch.ones(2, 4, 5, 5))
    with pytest.raises(ShapeError, match=r"got \(3,\)"):
        Resize(3, 4, dims=2, how=how)(torch.ones(3))
