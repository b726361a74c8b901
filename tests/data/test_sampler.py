import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thruway.data import batches, permutation, steps_per_epoch
from thruway.errors import ConfigError


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 200), batch_size=st.integers(1, 50), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_an_epoch_shows_every_item_once(n, batch_size, seed, epoch):
    items = torch.cat(list(batches(n, batch_size, seed, epoch, drop_last=False)))
    assert items.sort().values.tolist() == list(range(n))
    assert torch.equal(items, permutation(seed, epoch, n))


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 100), batch_size=st.integers(1, 30), drop_last=st.booleans(), data=st.data())
def test_resuming_at_a_step_gives_the_rest_of_the_epoch(n, batch_size, drop_last, data):
    if drop_last and batch_size > n:
        return
    steps = steps_per_epoch(n, batch_size, drop_last)
    whole = list(batches(n, batch_size, 3, 5, drop_last=drop_last))
    start = data.draw(st.integers(0, steps))
    rest = list(batches(n, batch_size, 3, 5, start, drop_last=drop_last))
    assert len(whole) == steps
    assert [batch.tolist() for batch in rest] == [batch.tolist() for batch in whole[start:]]


def test_dropping_the_last_batch_drops_only_a_short_one():
    assert [len(batch) for batch in batches(10, 4, 0, 0)] == [4, 4]
    assert [len(batch) for batch in batches(8, 4, 0, 0)] == [4, 4]
    assert [len(batch) for batch in batches(8, 4, 0, 0, drop_last=False)] == [4, 4]


def test_orders_differ_between_epochs_and_seeds_and_repeat_for_the_same():
    orders = {(seed, epoch): tuple(permutation(seed, epoch, 50).tolist()) for seed in range(5) for epoch in range(5)}
    assert len(set(orders.values())) == 25  # there are 50! orders: a coincidence has a probability of 1e-62
    assert orders[2, 3] == tuple(permutation(2, 3, 50).tolist())


def test_positions_are_uniform():
    """Item 0 is at each of 5 positions equally often: chi-square with 4 degrees of freedom."""
    epochs = 2000
    at = torch.stack([permutation(0, epoch, 5) for epoch in range(epochs)]).eq(0).sum(0).double()
    chi_square = ((at - epochs / 5) ** 2 / (epochs / 5)).sum()
    assert chi_square < 4 + 5 * 8**0.5  # mean k = 4, variance 2k = 8, five deviations


def test_the_global_generator_is_not_used():
    state = torch.get_rng_state()
    first = permutation(0, 0, 20)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    try:
        assert torch.equal(permutation(0, 0, 20), first)
    finally:
        torch.set_rng_state(state)


def test_the_order_is_that_of_the_first_release():
    """Resumed runs depend on the order, so a change here or in torch.randperm must be announced."""
    assert permutation(0, 0, 10).tolist() == GOLDEN


GOLDEN = [8, 9, 5, 7, 0, 3, 1, 6, 4, 2]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((10, 0, 0, 0), "batch_size must be at least 1, got 0"),
        ((10, -1, 0, 0), "batch_size must be at least 1, got -1"),
        ((10, 11, 0, 0), "10 items do not fill one batch of 11. Use a batch_size of at most 10, or drop_last=False"),
        ((0, 1, 0, 0), "0 items do not fill one batch"),
        ((10, 2, 0, 0, 6), "start_step must be from 0 to 5, the number of batches, got 6"),
        ((10, 2, 0, 0, -1), "from 0 to 5, the number of batches, got -1"),
        ((10, 2, 0, -1), "epoch=-1"),
    ],
)
def test_an_invalid_value_is_refused_at_the_call(arguments, complaint):
    with pytest.raises(ConfigError, match=complaint):
        batches(*arguments)
