"""Named random streams: independent of each other, and stable across versions."""

import itertools

import pytest
import torch

from thruway.seeding import derive, generator


@pytest.mark.parametrize(
    ("seed", "names", "value"),
    [(0, ("weights",), 2890959483233820835), (12, ("trial", 3, "lr"), 697537867671504841)],
)
def test_seeds_are_stable_across_versions(seed, names, value):
    """Published results are repeated from their seeds, so these values must never change."""
    assert derive(seed, *names) == value


def test_every_path_has_a_different_seed():
    parts = ["a", "b", "ab", "1", 1, "a\nb", "'a'", "'a'\n'b'", 0, "0", -1]
    paths = [path for length in range(3) for path in itertools.product(parts, repeat=length)]
    seeds = {derive(seed, *path) for path in paths for seed in (0, 1)}
    assert len(seeds) == 2 * len(paths)


def test_order_and_number_of_names_matter():
    assert derive(0, "a", "b") != derive(0, "b", "a")
    assert derive(0, "a") != derive(0, "a", "a")


def test_seeds_use_63_bits():
    seeds = [derive(0, number) for number in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Each bit is set in about half of them: 100 +- 5 standard errors of 7.07.
    for bit in range(63):
        assert abs(sum(seed >> bit & 1 for seed in seeds) - 100) <= 35


def test_each_call_returns_a_new_generator_with_the_derived_seed():
    first, again, other = generator(0, "weights"), generator(0, "weights"), generator(0, "data")
    assert first.initial_seed() == derive(0, "weights")
    draws = [torch.rand(8, generator=g) for g in (first, again, other)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(torch.rand(8, generator=first), draws[0])


def test_streams_are_not_correlated():
    a, b = (torch.randn(10_000, dtype=torch.float64, generator=generator(0, name)) for name in ("a", "b"))
    assert abs((a * b).mean().item()) < 5 / 100  # standard error of a mean of 10,000 products of variance 1


def test_the_global_generator_is_not_used():
    before = torch.get_rng_state()
    torch.rand(8, generator=generator(0, "weights"))
    assert torch.equal(torch.get_rng_state(), before)
