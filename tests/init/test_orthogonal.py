import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from init_cases import seeded
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from thruway.errors import InitError
from thruway.init import SCHEMES, delta_orthogonal_, looks_linear_, orthogonal_


def _assert_semi_orthogonal(matrix: Tensor, scale: float = 1.0) -> None:
    short = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    # Householder QR is orthogonal to a small multiple of eps times the size.
    tolerance = 20 * torch.finfo(matrix.dtype).eps * max(matrix.shape) * scale**2
    assert_close(short, scale**2 * torch.eye(len(short), dtype=matrix.dtype), rtol=0, atol=tolerance)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    kernel=st.sampled_from([(), (3,), (2, 3)]),
    groups=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_every_group_is_orthogonal(
    rows: int, columns: int, kernel: tuple[int, ...], groups: int, dtype: torch.dtype, seed: int
) -> None:
    weight = orthogonal_(torch.empty(groups * rows, columns, *kernel, dtype=dtype), 1.5, seeded(seed), groups)
    for block in weight.chunk(groups):
        _assert_semi_orthogonal(block.flatten(1), 1.5)
    expected = SCHEMES["orthogonal"].std(weight, groups) * 1.5
    assert weight.square().mean().sqrt().item() == pytest.approx(expected, rel=1e-5)


def test_orthogonal_maps_are_uniform() -> None:
    """Without the sign rule the first column of Q would have entries of one sign on its diagonal."""
    generator = seeded()
    corner = torch.stack([orthogonal_(torch.empty(3, 3), generator=generator)[0, 0] for _ in range(400)])
    # Uniform on the sphere: mean 0, variance 1/3.
    assert abs(corner.mean().item()) < 5 * math.sqrt(1 / 3 / 400)


def test_orthogonal_layers_preserve_norms_at_any_depth() -> None:
    x = torch.randn(5, 16, dtype=torch.float64, generator=seeded(1))
    y, generator = x, seeded()
    for _ in range(200):
        y = y @ orthogonal_(torch.empty(16, 16, dtype=torch.float64), generator=generator).T
    assert_close(y.norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("outputs", "inputs"), [(6, 6), (9, 6)])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("kernel", [(3,), (3, 5), (2, 4), (1, 3, 3)])
def test_delta_orthogonal_convolution_is_an_isometry(
    kernel: tuple[int, ...], groups: int, outputs: int, inputs: int
) -> None:
    weight = torch.empty(outputs, inputs // groups, *kernel, dtype=torch.float64)
    delta_orthogonal_(weight, generator=seeded(), groups=groups)
    x = torch.randn(2, inputs, *(7,) * len(kernel), dtype=torch.float64, generator=seeded(1))
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(kernel)]
    if all(size % 2 for size in kernel):
        y = convolve(x, weight, padding=[size // 2 for size in kernel], groups=groups)
    else:
        # padding="same" puts the odd pixel at the end.
        pads = [side for size in reversed(kernel) for side in ((size - 1) // 2, size // 2)]
        y = convolve(F.pad(x, pads), weight, groups=groups)
    # Pixel by pixel: no position is mixed with another.
    assert_close(y.norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)
    expected = SCHEMES["delta_orthogonal"].std(weight, groups)
    assert weight.square().mean().sqrt().item() == pytest.approx(expected, rel=1e-12)


def test_delta_orthogonal_with_fewer_outputs_has_orthonormal_rows() -> None:
    weight = delta_orthogonal_(torch.empty(3, 6, 5, dtype=torch.float64), 2.0, seeded())
    _assert_semi_orthogonal(weight[:, :, 2], 2.0)
    assert not weight[:, :, [0, 1, 3, 4]].any()
    expected = 2 * SCHEMES["delta_orthogonal"].std(weight, 1)
    assert weight.square().mean().sqrt().item() == pytest.approx(expected, rel=1e-12)


def test_looks_linear_network_of_crelu_starts_linear_and_orthogonal() -> None:
    generator = seeded()
    first = orthogonal_(torch.empty(8, 8, dtype=torch.float64), generator=generator)
    deeper = [looks_linear_(torch.empty(8, 16, dtype=torch.float64), generator=generator) for _ in range(50)]
    for weight in deeper:
        assert torch.equal(weight[:, :8], -weight[:, 8:])

    def network(x: Tensor) -> Tensor:
        s = x @ first.T
        for weight in deeper:
            s = torch.cat([s.relu(), (-s).relu()], dim=1) @ weight.T
        return s

    x, y = torch.randn(2, 5, 8, dtype=torch.float64, generator=seeded(1))
    assert_close(network(2 * x - 3 * y), 2 * network(x) - 3 * network(y), rtol=0, atol=1e-12)
    assert_close(network(x).norm(dim=1), x.norm(dim=1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("writes", [False, True])
def test_looks_linear_forms_compute_v_times_s(reads: bool, writes: bool) -> None:
    weight = torch.empty(8, 8, dtype=torch.float64)
    looks_linear_(weight, 1.0, seeded(), reads_mirrored=reads, writes_mirrored=writes)
    s = torch.randn(4 if reads else 8, dtype=torch.float64, generator=seeded(1))
    out = weight @ (torch.cat([s, -s]).relu() if reads else s)
    if writes:
        assert torch.equal(out[:4], -out[4:])
    # V is orthogonal: square or wide rows keep or project the length; the square ones are exact.
    half = weight[: 4 if writes else 8, : 4 if reads else 8]
    _assert_semi_orthogonal(half)
    assert_close(out[: len(half)], half @ s, rtol=0, atol=1e-12)


def test_looks_linear_needs_pairs_of_units() -> None:
    with pytest.raises(InitError, match=r"even number of inputs, got 5.*widen"):
        looks_linear_(torch.empty(4, 5))
    with pytest.raises(InitError, match="even number of outputs, got 3"):
        looks_linear_(torch.empty(3, 4), writes_mirrored=True)
    with pytest.raises(InitError, match="groups=2"):
        looks_linear_(torch.empty(4, 4), groups=2)
