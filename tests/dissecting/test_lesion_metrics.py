"""Metrics per example, coverage of the intervals, and Kendall's tau."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thruway.dissecting import Accuracy, Error, Loss, dissect, kendall_tau
from thruway.dissecting.lesions.bootstrap import interval_of_means
from thruway.dissecting.lesions.metrics import batches_of, checked_scores, logits_of
from thruway.errors import ConfigError, ShapeError
from thruway.nn import Residual

DOUBLE = torch.float64


# --- metrics


def right_by_hand(logits, target):
    """Share of right positions of each example, one by one; classes along the last dimension"""
    shares = []
    for rows, answers in zip(logits, target, strict=True):
        rows, answers = rows.reshape(-1, logits.shape[-1]), answers.reshape(-1)
        hits = [max(range(len(row)), key=row.__getitem__) == y for row, y in zip(rows.tolist(), answers, strict=True)]
        shares.append(sum(map(bool, hits)) / len(hits))
    return torch.tensor(shares, dtype=DOUBLE)


@pytest.mark.parametrize("positions", [(), (7,), (2, 3)], ids=str)
def test_accuracy_counts_right_answers(positions):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, *positions, 4, generator=generator)
    target = torch.randint(4, (9, *positions), generator=generator)
    expected = right_by_hand(logits, target)
    assert 0 < expected.mean() < 1
    # 1e-15: a share of at most seven positions, added up in another order
    for given in (logits, logits.movedim(-1, 1)):
        torch.testing.assert_close(Accuracy([]).scores(given, target), expected, rtol=0, atol=1e-15)
        torch.testing.assert_close(Error([]).scores(given, target), 1 - expected, rtol=0, atol=1e-15)


def test_loss_is_the_cross_entropy_of_each_example():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(5, 3, 4, generator=generator, dtype=DOUBLE), torch.tensor([[0, 1, 2, 0]] * 5)
    by_hand = [
        sum(-math.log(math.exp(x[y, t]) / sum(math.exp(z) for z in x[:, t])) for t, y in enumerate(ys)) / 4
        for x, ys in zip(logits, target.tolist(), strict=True)
    ]
    torch.testing.assert_close(Loss([]).scores(logits, target), torch.tensor(by_hand, dtype=DOUBLE))
    squares = Loss([], lambda output, y: (output["y"] - y) ** 2).scores({"y": torch.tensor([[1.0, 3.0]])}, 0.0)
    assert squares.tolist() == [5.0]


def test_logits_are_found_where_they_usually_are():
    logits = torch.eye(2)
    target = torch.tensor([0, 0])
    for output in (logits, {"logits": logits}, SimpleNamespace(logits=logits)):
        assert logits_of(output) is logits
        assert Accuracy([]).scores(output, target).tolist() == [1, 0]
    assert Accuracy([], logits=lambda output: output[1]).scores((None, logits), target).tolist() == [1, 0]
    with pytest.raises(ConfigError, match="returned tuple"):
        Accuracy([]).scores((logits,), target)


def test_metrics_say_what_does_not_fit():
    with pytest.raises(ConfigError, match='reduction="none"'):
        Loss([], F.cross_entropy).scores(torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match=r"\(2, 2\) and a target of shape \(3,\)"):
        Accuracy([]).scores(torch.eye(2), torch.tensor([0, 1, 0]))
    with pytest.raises(ShapeError, match="at least one"):
        checked_scores(Accuracy([]), torch.empty(0, 2), torch.empty(0, dtype=torch.long))
    with pytest.raises(ConfigError, match="batch 1 is a tuple of 3"):
        list(batches_of(Error([(1, 2), (1, 2, 3)])))


# --- intervals


def test_an_interval_covers_the_true_mean_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    trials, examples, level = 1000, 80, 0.9
    scores = torch.randn(trials, examples, generator=generator, dtype=DOUBLE) + 3.0
    low, high = interval_of_means(scores, level, 800, generator)
    covered = ((low < 3.0) & (high > 3.0)).double().mean().item()
    # Percentile ends of a Gaussian mean are short by about 1 - 1/(2n)·(...): under 1.5 % of coverage for 80; the
    # standard error of the share is 0.0095, but all trials share their draws: five of them, and the bias.
    assert level - 0.015 - 5 * 0.0095 < covered < level + 5 * 0.0095
    narrow_low, narrow_high = interval_of_means(scores, 0.3, 800, generator)
    assert ((narrow_low < 3.0) & (narrow_high > 3.0)).double().mean().item() < 0.4  # the level is what decides


def test_an_interval_is_that_of_the_slow_bootstrap():
    scores = torch.rand(3, 11, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    low, high = interval_of_means(scores, 0.8, 50, torch.Generator().manual_seed(5))
    drawn = torch.randint(11, (50, 11), generator=torch.Generator().manual_seed(5)).tolist()
    for row, a, b in zip(scores.tolist(), low, high, strict=True):
        means = torch.tensor([sum(row[i] for i in places) / 11 for places in drawn], dtype=DOUBLE)
        torch.testing.assert_close(a, means.quantile(0.1))
        torch.testing.assert_close(b, means.quantile(0.9))


def test_intervals_in_parts_are_intervals_at_once(monkeypatch):
    scores = torch.rand(2, 10, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    at_once = torch.stack(interval_of_means(scores))
    monkeypatch.setattr("thruway.dissecting.lesions.bootstrap._CHUNK", 35)  # three resamples at a time
    torch.testing.assert_close(torch.stack(interval_of_means(scores)), at_once, rtol=0, atol=1e-15)


def test_what_an_interval_cannot_say():
    assert all(end.isnan().all() for end in interval_of_means(torch.ones(2, 1)))
    for settings in ({"level": 1.0}, {"level": 0.0}, {"resamples": 0}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            interval_of_means(torch.ones(2, 3), **settings)
    with pytest.raises(ConfigError, match="needs examples"):
        interval_of_means(torch.ones(2, 0))


# --- Kendall's tau


def test_tau_counts_pairs():
    for n in (2, 3, 5):
        for order in itertools.permutations(range(n)):
            signs = [1 if order[i] < order[j] else -1 for i, j in itertools.combinations(range(n), 2)]
            assert kendall_tau(order) == pytest.approx(sum(signs) / len(signs), abs=1e-15)


@pytest.mark.slow
def test_tau_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    for n in (2, 3, 5):
        for order in itertools.permutations(range(n)):
            # 1e-12: scipy takes square roots on the way
            assert kendall_tau(order) == pytest.approx(stats.kendalltau(range(n), order).statistic, abs=1e-12)
    long = torch.randperm(54, generator=torch.Generator().manual_seed(0)).tolist()
    assert kendall_tau(long) == pytest.approx(stats.kendalltau(range(54), long).statistic, abs=1e-12)


def test_tau_is_that_of_orders_only():
    assert kendall_tau([]) == kendall_tau([0]) == 1.0
    with pytest.raises(ConfigError, match=r"each of the 2 numbers 0 \.\.\. 1 once"):
        kendall_tau([0, 2])


def test_a_loss_in_the_place_of_a_metric_is_refused():
    d = dissect(nn.Sequential(Residual(nn.Linear(2, 2))), torch.ones(1, 2))
    with pytest.raises(
        ConfigError, match=r"as its only argument, which cross_entropy does not accept.* Loss\(batches\)"
    ):
        d.delete_each(F.cross_entropy)


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        (3, None, "called with the model's output, which int does not accept"),
        (F.cross_entropy, None, "cross_entropy does not accept. .*or pass `targets`"),
        (lambda output: output.sum(), torch.ones(1), "or leave `targets` out"),
    ],
    ids=["number", "no targets", "targets"],
)
def test_a_loss_that_cannot_be_called_is_refused(loss, targets, message):
    d = dissect(nn.Sequential(Residual(nn.Linear(2, 2))), torch.ones(1, 2))
    with pytest.raises(ConfigError, match=message):
        d.path_gradients(loss, torch.ones(1, 2), targets)
