"""The reductions that quantities share, against NumPy in extended precision."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from thruway.watching.quantities.rows import Rows

EPS = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
SCALES = {
    torch.float32: [1e-38, 1e-30, 1e-15, 1.0, 1e15, 1e30, 1e37],
    torch.float64: [1e-300, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1e306],
}


class Block(NamedTuple):
    """(k, n) values, some of which may not be finite, and a threshold among them."""

    values: Tensor
    threshold: float


@st.composite
def blocks(draw: Any) -> Block:
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    k, n = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 17, 200, 3000]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale, offset = draw(st.sampled_from(SCALES[dtype])), draw(st.sampled_from([0.0, -0.5, 3.0, 100.0]))
    values = random.normal(size=(k, n))
    values[random.random((k, n)) < draw(st.sampled_from([0.0, 0.3]))] = -offset
    values = (values + offset) * scale / (1 + abs(offset))
    for bad in draw(st.lists(st.sampled_from([math.nan, math.inf, -math.inf]), max_size=4)):
        values[random.integers(k), random.integers(n)] = bad
    tensor = torch.from_numpy(values).to(dtype)
    finite = tensor[tensor.isfinite()]
    return Block(tensor, finite[len(finite) // 2].item() if len(finite) else 0.0)


def finite_rows(values: Tensor) -> list[NDArray[np.longdouble]]:
    return [row[np.isfinite(row)].astype(np.longdouble) for row in values.numpy()]


def check(got: Tensor, expected: list[Any], allowed: list[Any]) -> None:
    """Within the tolerance, plus half of the smallest subnormal number of the type per operation."""
    smallest = torch.finfo(got.dtype).smallest_normal * torch.finfo(got.dtype).eps
    for value, truth, bound in zip(got.tolist(), expected, allowed, strict=True):
        assert abs(value - truth) <= bound + 4 * smallest or (math.isnan(value) and math.isnan(truth))


def rounding(values: Tensor) -> float:
    """Relative error of a sum added up in pairs, of numbers each rounded a few times."""
    return (math.log2(values.shape[1]) + 6) * EPS[values.dtype]


@pytest.mark.parametrize("careful", [False, True])
@settings(max_examples=80, deadline=None)
@given(block=blocks())
def test_moments_are_those_of_the_finite_values(block, careful):
    rows, kept, unit = Rows(block.values, careful=careful), finite_rows(block.values), rounding(block.values)
    with np.errstate(invalid="ignore"):  # of no values
        sizes = [np.abs(row).sum() / len(row) if len(row) else math.nan for row in kept]
        means = [row.sum() / len(row) if len(row) else math.nan for row in kept]
    squares = [float(np.sqrt((row**2).mean())) if len(row) else math.nan for row in kept]
    stds = [
        float(np.sqrt(((row - mean) ** 2).mean())) if len(row) else math.nan
        for row, mean in zip(kept, means, strict=True)
    ]
    check(rows.mean, means, [size * unit for size in sizes])
    check(rows.root_mean_square, squares, [square * unit for square in squares])
    # A variance may lose a decimal digit to E[x^2] - mean^2 (10 + 1 times both errors), a std what its values' own
    # rounding amounts to.
    check(rows.std, stds, [11 * unit * std + unit * size for std, size in zip(stds, sizes, strict=True)])


@pytest.mark.parametrize("careful", [False, True])
@settings(max_examples=80, deadline=None)
@given(block=blocks())
def test_extremes_shares_and_counts_are_exact(block, careful):
    rows, kept = Rows(block.values, careful=careful), finite_rows(block.values)
    values, at = block.values.numpy(), block.threshold
    for row, finite in enumerate(kept):
        n = len(finite)
        assert rows.finite_count[row] == n
        assert rows.nan_count[row] == np.isnan(values[row]).sum()
        assert rows.inf_count[row] == np.isinf(values[row]).sum()
        assert np.array_equal(rows.ascending[row, :n].numpy(), np.sort(finite))
        if not n:
            measured = (rows.low, rows.high, rows.abs_max, rows.share_equal(0), rows.share_at_least(0))
            assert all(m[row].isnan() for m in measured)
            continue
        assert (rows.low[row], rows.high[row]) == (finite.min(), finite.max())
        assert rows.abs_max[row] == np.abs(finite).max()
        # Counts up to 2^24 are exact in float32; their ratio is rounded once.
        for share, met in (
            (rows.share_equal(0.0), finite == 0),
            (rows.share_equal(at), finite == at),
            (rows.share_at_most(at), finite <= at),
            (rows.share_at_least(at), finite >= at),
        ):
            assert share[row] == torch.tensor(met.sum(), dtype=share.dtype) / n


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e-30, 1e30, 1e-38])
def test_what_is_constant_has_no_spread(value, dtype, careful):
    rows = Rows(torch.full((2, 1000), value, dtype=dtype), careful=careful)
    assert rows.std.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("careful", [False, True])
def test_one_outlier_of_the_other_sign_does_not_overflow(careful):
    values = torch.full((1, 1000), 3e38)
    values[0, 7] = -3e38
    rows = Rows(values, careful=careful)
    exact = values.double()
    # 12 roundings of 2^-24 each at most.
    assert rows.std.item() == pytest.approx(exact.std(correction=0).item(), rel=1e-6)
    assert rows.mean.item() == pytest.approx(exact.mean().item(), rel=1e-6)


@pytest.mark.parametrize("careful", [False, True])
def test_one_wild_row_does_not_change_its_neighbours(careful):
    tame = torch.randn(1, 100, generator=torch.Generator().manual_seed(0))
    alone = Rows(tame, careful=careful)
    for wild in (math.nan, math.inf, 1e38, 1e-38):
        rows = Rows(torch.cat([tame, torch.full((1, 100), wild)]), careful=careful)
        for name in ("mean", "std", "root_mean_square", "abs_max"):
            # Another formula may round otherwise.
            assert getattr(rows, name)[0].item() == pytest.approx(getattr(alone, name)[0].item(), rel=1e-5, abs=1e-7)


class Layout(NamedTuple):
    """A block of shape (k, ...) in some memory order, and the dimension of the units in one tensor of it."""

    values: Tensor
    unit_dim: int
    inputs: tuple[int, ...]


def layouts() -> dict[str, Layout]:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(1))

    return {
        "rows": Layout(random(3, 5, 4), -1, (1,)),
        "transposed": Layout(random(3, 4, 5).mT, -1, (1,)),
        "strided": Layout(random(3, 10, 8)[:, ::2, 1::2], -1, (1,)),
        "expanded": Layout(random(3, 1, 4).expand(3, 5, 4), -1, (1,)),
        "reversed axes": Layout(random(6, 5, 4, 3).permute(3, 2, 1, 0), 1, (1, 3)),
        "images": Layout(random(3, 2, 4, 5, 6), 1, (1, 3, 4)),
        "channels last": Layout(random(2, 4, 5, 6).to(memory_format=torch.channels_last).unsqueeze(0), 1, (1, 3, 4)),
        "weights": Layout(random(3, 4, 7), 0, (2,)),
        "single numbers": Layout(random(3), -1, ()),
        "one number each": Layout(random(3, 1), -1, ()),
        "one input": Layout(random(3, 1, 4), -1, (1,)),
    }


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("name", layouts())
def test_the_order_in_memory_does_not_matter(name, careful):
    values, unit_dim, inputs = layouts()[name]
    rows = Rows(values, unit_dim=unit_dim, careful=careful)
    twin = values.double().numpy().reshape(len(values), -1)
    assert rows.inputs == inputs
    assert rows.count == twin.shape[1]
    # 24 bits, a few roundings, and one digit in the variance.
    np.testing.assert_allclose(rows.mean, twin.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows.std, twin.std(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rows.ascending.double(), np.sort(twin, 1))
    np.testing.assert_allclose(rows.share_at_least(0.0), (twin >= 0).mean(1), rtol=1e-6)


@pytest.mark.parametrize("careful", [False, True])
def test_working_memory_changes_nothing(careful):
    values = torch.randn(3, 40, generator=torch.Generator().manual_seed(2))
    values[1] *= 1e-30
    with_memory = Rows(values, careful=careful, scratch=torch.full((500,), math.nan))
    without = Rows(values, careful=careful)
    for name in ("mean", "std", "root_mean_square", "abs_max"):
        assert torch.equal(getattr(with_memory, name), getattr(without, name))
    for value in (0.0, 0.5):
        assert torch.equal(with_memory.share_at_most(value), without.share_at_most(value))
        assert torch.equal(with_memory.share_at_least(value), without.share_at_least(value))


def test_empty_tensors_have_no_numbers():
    rows = Rows(torch.empty(1, 0))
    assert rows.mean.isnan().all()
    assert rows.abs_max.isnan().all()
    assert rows.nan_count.tolist() == [0.0]


def test_the_old_name_of_all_finite_still_works():
    rows = Rows(torch.ones(1, 4))
    with pytest.warns(DeprecationWarning, match="use all_finite"):
        assert rows.is_plain == rows.all_finite
