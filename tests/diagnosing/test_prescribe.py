"""tw.prescribe: ranking, placebo, isolation, errors, and a deep network from end to end."""

import json
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thruway as tw
from thruway.diagnosing import CURES, RULES, Cure, Finding, Rule
from thruway.diagnosing.prescribing.intervals import paired_interval
from thruway.diagnosing.prescribing.ranking import best_of, gain_of, ranked
from thruway.diagnosing.prescribing.trial import Trial
from thruway.errors import ConfigError


def finding(rule: str, *cures: str) -> Finding:
    return Finding(rule, "for the test", since=(None, 0), cures=tuple(CURES[name] for name in cures))


def batches(count=4, size=32, scale=1.0):
    made = torch.Generator().manual_seed(3)
    x = torch.randn(count * size, 6, generator=made)
    y = (x[:, 0] * x[:, 1] > 0).long()
    return list(zip((scale * x).split(size), y.split(size), strict=True))


def mlp(depth=2, width=16, act=nn.ReLU) -> nn.Sequential:
    layers = [layer for _ in range(depth - 1) for layer in (nn.Linear(width, width), act())]
    return nn.Sequential(nn.Linear(6, width), act(), *layers, nn.Linear(width, 2))


def slow(seed: int):
    model = mlp()
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def prescribed(build, findings, **options):
    options = {"loss": F.cross_entropy, "steps": 60, "progress": False} | options
    return tw.prescribe(build, options.pop("batches", batches()), findings, **options)


# Ranking


def test_the_cure_that_helps_is_first_and_the_one_that_hurts_last():
    result = prescribed(slow, [finding("lr_too_low", "much_lower_lr", "raise_lr", "lower_lr")])
    assert [trial.cure.name for trial in result.ranking] == ["raise_lr", "lower_lr", "much_lower_lr"]
    assert result.best is result.ranking[0]
    gains = {trial.cure.name: trial.gain for trial in result.ranking}
    assert gains["raise_lr"] > 0.1 > 0 > gains["lower_lr"] > gains["much_lower_lr"]
    assert result.best.interval[0] > 0 > result.ranking[1].interval[1]


def test_gains_are_paired_by_seed_and_measured_on_fixed_batches():
    """Compute the gains of an arm from ordinary training of the same seeds."""
    result = prescribed(slow, [finding("lr_too_low", "raise_lr")], seeds=(4, 9), batches=batches(2), steps=20)

    def final(trial, seed):
        model, optimizer = slow(seed)
        with torch.no_grad():
            for parameter, values in zip(model.parameters(), initial[seed], strict=True):
                parameter.copy_(values)
        for group in optimizer.param_groups:
            group["lr"] *= 10.0 if trial == "raise_lr" else 1.0
        measured = []
        for step in range(21):
            if step in (0, 18, 19, 20):
                measured.append(np.mean([F.cross_entropy(model(x), y).item() for x, y in batches(2)]))
            x, y = batches(2)[step % 2]
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        return measured[0], np.mean(measured[1:])

    initial = {}

    def recording(seed):
        model, optimizer = slow(seed)
        initial.setdefault(seed, [p.detach().clone() for p in model.parameters()])
        return model, optimizer

    again = prescribed(recording, [finding("lr_too_low", "raise_lr")], seeds=(4, 9), batches=batches(2), steps=20)
    assert again.best.final == result.best.final  # seeded, whatever the global state
    for place, seed in enumerate((4, 9)):
        start, cured = final("raise_lr", seed)
        _, without = final("no change", seed)
        assert again.best.final[place] == pytest.approx(cured, rel=1e-4)
        assert again.best.gains[place] == pytest.approx((without - cured) / start, rel=1e-3)


def test_a_diverged_run_counts_as_one_that_gained_nothing():
    def wild(seed):
        model = mlp()
        return model, torch.optim.SGD(model.parameters(), lr=1e20)

    result = prescribed(wild, [finding("lr_too_high", "lower_lr", "much_lower_lr")])
    assert all(math.isnan(value) for trial in result.ranking for value in trial.final)
    assert [trial.gains for trial in result.ranking] == [(0.0, 0.0, 0.0)] * 2
    assert result.best is None
    assert "none helps: no gain is distinguishable from 0" in repr(result)
    assert "diverged" in repr(result)
    assert json.loads(result.to_json())["trials"][0]["final"] == [None] * 3


def trial(name, gains, cleared=None, arm="cure") -> Trial:
    return Trial(Cure(name, ""), arm, gains=gains, interval=paired_interval(gains), cleared=cleared)


def test_a_tie_goes_to_the_cure_that_clears_the_findings():
    tied = [trial("a", (0.5, 0.6, 0.7), False), trial("b", (0.5, 0.6, 0.6), True)]
    assert [t.cure.name for t in ranked(tied)] == ["b", "a"]
    clear = [trial("a", (0.5, 0.6, 0.7), False), trial("b", (0.1, 0.2, 0.2), True)]
    assert [t.cure.name for t in ranked(clear)] == ["a", "b"]


def test_a_cure_that_helps_for_sure_comes_before_a_larger_median_that_may_be_chance():
    chance, sure = trial("a", (0.1, 0.6, 0.9)), trial("b", (0.5, 0.5, 0.51))
    assert [t.cure.name for t in ranked([chance, sure])] == ["b", "a"]
    assert best_of(ranked([chance, sure]), None) is sure


def test_a_placebo_that_gains_as_much_leaves_no_best():
    best, placebo = trial("a", (0.3, 0.31, 0.32)), trial("p", (0.4, 0.4, 0.41), arm="placebo")
    assert best_of([best], placebo) is None
    assert best_of([best], None) is best
    cleared = trial("a", (0.3, 0.31, 0.32), True)
    assert best_of([cleared], placebo) is cleared
    assert best_of([trial("a", (-0.1, 0.3, 0.4))], None) is None


@pytest.mark.parametrize(("count", "quantile"), [(2, 6.314), (3, 2.920), (4, 2.353), (5, 2.132), (10, 1.833)])
def test_intervals_use_the_quantiles_of_t(count, quantile):
    values = [float(i % 2) for i in range(count)]
    low, high = paired_interval(values)
    assert (high - low) / 2 == pytest.approx(quantile * np.std(values, ddof=1) / math.sqrt(count), rel=1e-3)


def test_gains_are_bounded():
    assert gain_of(2.0, 1e9, 0.0) == 1.0
    assert gain_of(2.0, 0.0, math.inf) == -1.0
    assert gain_of(math.inf, 1.0, 2.0) == 0.0


# Arms


def test_the_placebo_is_of_another_family_and_not_suggested():
    result = prescribed(slow, [finding("lr_too_low", "raise_lr", "clip")], steps=4)
    assert result.placebo.cure.name == "reset_bias"
    assert result.placebo.arm == "placebo"
    assert result.no_change.gains == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("findings", [[], ()])
def test_nothing_is_built_for_a_healthy_diagnosis(findings):
    def build():
        raise AssertionError("build was called")

    result = prescribed(build, findings)
    assert result.healthy
    assert result.best is None
    assert result.ranking == ()
    assert "nothing to cure: there are no findings, so nothing was tried" in repr(result)


def test_without_zero_grad_the_unchanged_run_accumulates():
    """Compare the unchanged arm with a loop that forgets zero_grad, and the cured arm with one that does not."""
    made = {}

    def build(seed):
        model = mlp(act=nn.Tanh)
        made.setdefault(seed, [p.detach().clone() for p in model.parameters()])
        return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)

    result = prescribed(build, [finding("gradients_accumulate", "zero_grad")], steps=8)
    for trial, zeroes in ((result.no_change, False), (result.ranking[0], True)):
        model, optimizer = build(-1)
        model.load_state_dict(dict(zip(model.state_dict(), made[1], strict=True)))
        losses = []
        for step in range(8):
            x, y = batches()[step % 4]
            if zeroes:
                optimizer.zero_grad()
            losses.append(F.cross_entropy(model(x), y))
            losses[-1].backward()
            optimizer.step()
        assert trial.losses[1] == pytest.approx([value.item() for value in losses], rel=1e-4)


def test_an_optimizer_without_a_vectorised_update_is_trained_alone():
    def build():
        model = mlp()
        return model, torch.optim.Adagrad(model.parameters(), lr=0.001)

    result = prescribed(build, [finding("lr_too_low", "raise_lr")], steps=20)
    assert result.best.cure.name == "raise_lr"
    assert "Adagrad is not vectorised" in result.best.note
    assert "one after another: the update of Adagrad" in repr(result).replace("\n", " ")


def test_a_model_that_vmap_cannot_run_is_trained_alone():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            y = self.net(x)
            return y if y.sum().item() > -1e9 else -y  # a decision by value

    result = prescribed(lambda: Odd(), [finding("lr_too_low", "raise_lr")], steps=10)
    assert "could not be vectorised" in result.no_change.note


def test_cured_runs_are_diagnosed_again(monkeypatch):
    def high(reading):
        if reading.loss is not None and reading.loss[-1] > 0.5:
            yield Finding("high", "The loss is high.", since=(None, 0))

    monkeypatch.setitem(RULES, "high", Rule("high", high))

    def slower(seed):
        model = mlp()
        return model, torch.optim.Adam(model.parameters(), lr=1e-4)

    again = prescribed(
        slower, [Finding("high", "", since=(None, 0), cures=(CURES["lower_lr"], CURES["raise_lr"]))], steps=300
    )
    by_name = {trial.cure.name: trial for trial in again.ranking}
    assert by_name["lower_lr"].cleared is False
    assert "high" in [f.rule for f in by_name["lower_lr"].remaining]
    assert by_name["raise_lr"].cleared is True
    assert by_name["raise_lr"].final[0] < 0.5


# Isolation


def test_nothing_of_the_user_is_changed():
    def build():
        random.random()
        np.random.rand()
        return mlp()

    data = batches()
    kept = [(x.clone(), y.clone()) for x, y in data]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = prescribed(build, [finding("poor_init", "critical_init", "highway", "relu")], batches=data, steps=5)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()
    assert all(torch.equal(a, b) for old, new in zip(kept, data, strict=True) for a, b in zip(old, new, strict=True))
    torch.manual_seed(123)
    again = prescribed(build, [finding("poor_init", "critical_init", "highway", "relu")], batches=data, steps=5)
    assert [t.final for t in first.trials()] == [t.final for t in again.trials()]


def test_a_model_that_exists_already_is_refused_and_not_trained():
    model = mlp()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ConfigError, match="must return a new model in every call"):
        prescribed(lambda: model, [finding("lr_too_low", "raise_lr")])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"build": mlp()}, "build must be a function that returns a new model"),
        ({"build": lambda width, depth: mlp()}, "it has 2 arguments without a default: width, depth"),
        ({"build": lambda: "net"}, r"build must return a model, or \(model, optimizer\), got str"),
        ({"build": lambda: nn.ReLU()}, "has no parameters"),
        ({"findings": ["lr_too_low"]}, "findings must be a Diagnosis or a sequence of Findings"),
        ({"batches": torch.zeros(3, 2)}, "batches must be an iterable"),
        ({"batches": []}, "batches is empty"),
        ({"batches": [torch.zeros(3, 6)]}, r"batch 0 must be a pair \(inputs, targets\), got Tensor"),
        ({"batches": [(torch.zeros(3, 5), torch.zeros(3).long())]}, "does not run on the inputs of the first batch"),
        ({"loss": None}, "loss must be a function"),
        ({"loss": lambda out, y: out}, "must return a tensor with one element"),
        ({"seeds": 1}, "seeds must be a number of at least 2"),
        ({"seeds": (1, 1)}, "different integers"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
    ],
)
def test_bad_input_is_refused(changes, message):
    arguments = {"build": mlp, "findings": [finding("lr_too_low", "raise_lr")]} | changes
    with pytest.raises(ConfigError, match=message):
        prescribed(arguments.pop("build"), arguments.pop("findings"), **{"batches": batches(), **arguments})


def test_an_optimizer_that_has_been_used_is_refused():
    def build():
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.zeros(1, 6)).sum().backward()
        optimizer.step()
        return model, optimizer

    with pytest.raises(ConfigError, match="has already made steps"):
        prescribed(build, [finding("lr_too_low", "raise_lr")])


# The result


def test_the_result_has_code_diff_table_and_text():
    result = prescribed(mlp, [finding("poor_init", "skip", "critical_init", "unfreeze")], steps=10)
    by_name = {t.cure.name: t for t in result.ranking}
    assert "+  (2): Residual(" in by_name["skip"].diff
    assert "thruway.nn.Residual(" in by_name["skip"].code
    assert by_name["critical_init"].diff == ""
    assert 'initialize(model, "orthogonal", gain=1.414' in by_name["critical_init"].code
    assert not by_name["unfreeze"].applicable
    table = result.table()
    assert list(table["cure"]) == [t.cure.name for t in result.trials()]
    text = repr(result)
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines()[1:])) <= 110
    assert "<script" not in result._repr_html_()
    content = json.loads(result.to_json())
    assert len(content["trials"]) == 5
    assert len(content["trials"][0]["curves"][0]) == len(content["trials"][0]["points"])


def test_progress_is_shown_as_lines_and_can_be_switched_off(capsys):
    prescribed(mlp, [finding("lr_too_low", "raise_lr")], steps=10, progress=True)
    assert "100%  prescribe, 3 changes" in capsys.readouterr().err
    prescribed(mlp, [finding("lr_too_low", "raise_lr")], steps=10)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_thirty_layers_with_weights_of_deviation_1():
    def build(seed):
        model = mlp(29, 24, nn.Tanh)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        return model, torch.optim.Adam(model.parameters(), lr=0.002)

    made = torch.Generator().manual_seed(0)
    x = torch.randn(256, 6, generator=made)
    data = list(zip(x.split(32), (x[:, 0] > 0).long().split(32), strict=True))
    cures = ("lower_lr", "clip", "critical_init", "zero_grad")
    result = prescribed(build, [finding("exploding_gradient", *cures)], batches=data, steps=80)
    assert result.best.cure.name == "critical_init"
    assert result.best.gain > 0.5
    assert result.best.note == ""  # trained together
    assert [t.cure.name for t in result.ranking if not t.applicable] == ["zero_grad"]
