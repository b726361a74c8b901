import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from init_cases import seeded
from torch import Tensor, nn

from thruway.activations import ACTIVATIONS
from thruway.errors import ConfigError, InitError
from thruway.init import SCHEMES, fans, gain, he_normal_, lecun_normal_, scheme, standard_, zeros_

UNIFORM = ("standard", "glorot_uniform", "he_uniform", "lecun_uniform")
NORMAL = ("glorot_normal", "he_normal", "lecun_normal")

# The papers' formulas, written out independently.
VARIANCE = {
    "standard": lambda fan_in, fan_out: 1 / (3 * fan_in),
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "lecun_uniform": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
}
# (weight shape, groups, fan_in, fan_out), counted by hand.
SHAPES = {
    "dense": ((150, 80), 1, 80, 150),
    "conv1d": ((40, 30, 5), 1, 150, 200),
    "conv2d_grouped": ((32, 24, 3, 3), 4, 216, 72),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_fans_count_the_connections_of_one_group(shape: str) -> None:
    size, groups, fan_in, fan_out = SHAPES[shape]
    assert fans(torch.empty(size), groups) == (fan_in, fan_out)


@pytest.mark.parametrize("factor", [1.0, 2.5])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", UNIFORM + NORMAL)
def test_variance_matches_the_paper(name: str, shape: str, factor: float) -> None:
    size, groups, fan_in, fan_out = SHAPES[shape]
    weight = SCHEMES[name](torch.empty(size, dtype=torch.float64), factor, seeded(), groups)
    expected = factor**2 * VARIANCE[name](fan_in, fan_out)
    assert SCHEMES[name].std(weight, groups) * factor == pytest.approx(math.sqrt(expected), rel=1e-12)
    # Var(s^2) = sigma^4 (kurtosis - 1) / n: kurtosis 3 for the normal (chi-square), 9/5 for the uniform.
    spread = (2.0 if name in NORMAL else 0.8) / weight.numel()
    assert abs(weight.square().mean().item() - expected) < 5 * expected * math.sqrt(spread)
    assert abs(weight.mean().item()) < 5 * math.sqrt(expected / weight.numel())


@pytest.mark.parametrize("name", UNIFORM + NORMAL)
def test_the_distribution_matches_the_name(name: str) -> None:
    weight = SCHEMES[name](torch.empty(200, 100), generator=seeded())
    bound = math.sqrt(3) * SCHEMES[name].std(weight, 1)
    largest = weight.abs().max().item()
    if name in UNIFORM:
        # All 20,000 draws below 0.99 of the bound: chance 0.99^20000 < 1e-87. float32 rounds the bound itself.
        assert 0.99 * bound < largest <= bound * (1 + 1e-6)
    else:
        # P(|z| > sqrt(3)) = 0.083 for each of 20,000.
        assert largest > 1.5 * bound


def test_standard_is_glorots_eq_1_and_torchs_default() -> None:
    weight = standard_(torch.empty(300, 300, dtype=torch.float64), generator=seeded())
    assert abs(300 * weight.var().item() - 1 / 3) < 5 * (1 / 3) * math.sqrt(0.8 / 300**2)  # eq. 15
    default = nn.Linear(300, 300).weight
    assert default.abs().max().item() <= 1 / math.sqrt(300)
    assert abs(300 * default.var().item() - 1 / 3) < 5 * (1 / 3) * math.sqrt(0.8 / 300**2)


def test_mean_singular_value_of_a_square_layer() -> None:
    """8 / (3 pi) sigma sqrt(n): 0.849 normalised, 0.490 standard, the 0.8 and 0.5 of the paper's eq. 17 ff."""
    n = 400
    for name, expected in (("glorot_normal", 0.849), ("glorot_uniform", 0.849), ("standard", 0.490)):
        weight = SCHEMES[name](torch.empty(n, n, dtype=torch.float64), generator=seeded())
        # A mean of singular values moves by O(1/n), not O(1/sqrt(n)), since they repel; 0.0005 is the rounding above.
        assert abs(torch.linalg.svdvals(weight).mean().item() - expected) < 3 / n + 0.0005


def test_he_includes_the_gain_of_relu() -> None:
    """Depth 30 of ReLU keeps the mean square with He's weights and loses 2^-30 with LeCun's."""
    x = torch.randn(64, 256, dtype=torch.float64, generator=seeded(1))
    he, lecun = x, x
    generator = seeded(2)
    for _ in range(30):
        weight = he_normal_(torch.empty(256, 256, dtype=torch.float64), generator=generator)
        he, lecun = (he @ weight.T).relu(), (lecun @ weight.T / math.sqrt(2)).relu()
    # log of the mean square: variance about 5/n per layer (E relu^4 / (E relu^2)^2 = 6), so 30 layers give sd 0.77.
    assert abs(math.log(he.square().mean().item() / 0.5)) < 5 * math.sqrt(30 * 5 / 256)
    assert lecun.square().mean().item() == pytest.approx(he.square().mean().item() * 2.0**-30, rel=1e-9)
    assert gain("relu") == math.sqrt(2)


def test_gain_is_read_from_the_activation_table() -> None:
    assert {name: gain(name) for name in ACTIVATIONS} == {name: row.gain for name, row in ACTIVATIONS.items()}
    with pytest.raises(ConfigError, match="did you mean 'relu'"):
        gain("rleu")


shapes = st.lists(st.integers(1, 5), min_size=0, max_size=3).flatmap(
    lambda kernel: st.tuples(st.sampled_from([2, 4, 8]), st.sampled_from([2, 4, 6]), *map(st.just, kernel))
)


def _strided(weight: Tensor) -> Tensor:
    """The same shape as a view with gaps, inside a larger block."""
    block = torch.full((2 * weight.shape[0], *weight.shape[1:], 3), 7.0, dtype=weight.dtype)
    return block[1::2, ..., 1]


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(SCHEMES)),
    shape=shapes,
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**31),
)
def test_the_same_generator_gives_the_same_numbers_on_every_view(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, groups: int, seed: int
) -> None:
    groups = 1 if name == "looks_linear" else groups
    whole = torch.full(shape, torch.nan, dtype=dtype)
    assert SCHEMES[name](whole, 1.5, seeded(seed), groups) is whole
    view = _strided(whole)
    SCHEMES[name](view, 1.5, seeded(seed), groups)
    assert torch.equal(whole, view)
    assert whole.isfinite().all()
    outside = view._base
    assert outside is not None
    assert torch.equal(outside[::2], torch.full_like(outside[::2], 7.0))
    if name != "zeros" and whole.numel() > 8:
        assert not torch.equal(whole, SCHEMES[name](whole.clone(), 1.5, seeded(seed + 1), groups))


@pytest.mark.parametrize("name", SCHEMES)
def test_views_of_parameters_are_written(name: str) -> None:
    parameter = nn.Parameter(torch.zeros(8, 4))
    pieces = parameter.chunk(2)  # autograd forbids in-place writes to these views
    SCHEMES[name](pieces[1], generator=seeded())
    expected = SCHEMES[name](torch.empty(4, 4), generator=seeded())
    assert torch.equal(parameter.data, torch.cat([torch.zeros(4, 4), expected]))
    assert parameter.grad_fn is None
    assert parameter.requires_grad


@pytest.mark.parametrize("name", SCHEMES)
def test_a_generator_leaves_the_global_one_unchanged(name: str) -> None:
    before = torch.get_rng_state()
    SCHEMES[name](torch.empty(4, 4), generator=seeded())
    assert torch.equal(before, torch.get_rng_state())
    SCHEMES[name](torch.empty(4, 4))
    assert torch.equal(before, torch.get_rng_state()) == (name == "zeros")
    torch.set_rng_state(before)


@pytest.mark.parametrize("name", SCHEMES)
def test_unsuitable_weights_raise(name: str) -> None:
    fill = SCHEMES[name]
    with pytest.raises(InitError, match=r"shape \(5,\).*constant"):
        fill(torch.empty(5))
    with pytest.raises(InitError, match=r"meta device.*to_empty"):
        fill(torch.empty(2, 2, device="meta"))
    with pytest.raises(InitError, match=r"lazy.*one batch"):
        fill(nn.LazyLinear(2).weight)
    with pytest.raises(InitError, match=r"torch\.int64"):
        fill(torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(InitError, match="groups=3 does not divide the 4 outputs"):
        fill(torch.zeros(4, 2), groups=3)
    with pytest.raises(InitError, match=r"gain must be .* got nan"):
        fill(torch.zeros(4, 2), gain=math.nan)
    with pytest.raises(InitError, match=r"gain must be .* got -1"):
        fill(torch.zeros(4, 2), gain=-1.0)


@pytest.mark.parametrize("name", SCHEMES)
def test_an_empty_weight_is_returned_unchanged(name: str) -> None:
    for shape in ((0, 4), (4, 0)):
        weight = torch.empty(shape)
        assert SCHEMES[name](weight, generator=seeded()) is weight


def test_zeros_and_zero_gain_give_zeros() -> None:
    assert not zeros_(torch.ones(3, 3)).any()
    assert not lecun_normal_(torch.ones(3, 3), gain=0.0, generator=seeded()).any()


def test_an_unknown_scheme_raises_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="unknown scheme 'he_norml'; did you mean 'he_normal'"):
        scheme("he_norml")
