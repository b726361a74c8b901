"""A lesion that starts from stored values gives the bits of a whole pass, and computes only what comes after it."""

import importlib.util
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from thruway.dissecting import DissectError, Error, Loss, dissect
from thruway.dissecting.lesions.passes import resume, store
from thruway.dissecting.lesions.plans import Facts, bytes_of, planned
from thruway.dissecting.lesions.sweeps import INTACT, Lesion, Sweep
from thruway.networks import resnet
from thruway.nn import Residual

WIDTH = 4

_spec = importlib.util.spec_from_file_location("branch_cases", Path(__file__).with_name("test_branches_found.py"))
branch_cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(branch_cases)  # every way of writing a branch, with its twins


@pytest.mark.parametrize("name", branch_cases.CASES)
def test_a_lesion_from_stored_values_is_the_model_without_the_branches(name):
    net, x = branch_cases.built(name)
    with torch.no_grad():
        tape, found = dissect(net, x).reading((x,), {})
        for size in (1, 2):
            for gone in itertools.combinations(range(len(found.branches)), size):
                plan = planned(Facts(tape), [(found.branches[index], None) for index in gone], {})
                assert plan.obstacle == ""
                output, stored = store(net, tape, plan.needed, (x,), {})
                branch_cases.assert_same_bits(output, net(x))
                for _ in range(2):  # the first did not spoil what the second reads
                    branch_cases.assert_same_bits(resume(net, plan, stored, (x,), {}), net(x, gone=set(gone)))


class Counted(nn.Module):
    """A linear layer whose product is counted where it is really computed: a stand-in has strides of 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH, WIDTH, dtype=torch.float64))
        self.computed = 0

    def forward(self, x):
        y = torch.tanh(x @ self.weight)
        self.computed += set(y.stride()) != {0}
        return y


def counted(blocks):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*(Residual(Counted()) for _ in range(blocks)))


def test_neither_the_prefix_nor_the_branch_is_computed():
    net, x = counted(4), torch.rand(3, WIDTH, dtype=torch.float64)
    d = dissect(net, x)
    before = [block.branch.computed for block in net]
    d.delete_each(Error([(x, torch.zeros(3, dtype=torch.long))]))
    d.reading((x,), {})
    ran = [block.branch.computed - start for block, start in zip(net, before, strict=True)]
    # Its form is met in eval mode and without gradients first: one pass to look; one to store; then the suffixes.
    assert ran == [2 + 0, 2 + 1, 2 + 2, 2 + 3]
    before = [block.branch.computed for block in net]
    d.delete_each(Error([(x, torch.zeros(3, dtype=torch.long))]), memory=0)
    ran = [block.branch.computed - start for block, start in zip(net, before, strict=True)]
    assert ran == [1 + 3] * 4  # the alarm works: intact, and whole without each of the other three


@pytest.mark.parametrize("order", ["pre", "post"])
def test_numbers_do_not_depend_on_what_is_kept(order):
    generator = torch.Generator().manual_seed(0)
    net = resnet((2, 1, 1), widths=(4, 8, 8), order=order, generator=generator)
    batches = [(torch.randn(n, 3, 8, 8, generator=generator), torch.arange(n) % 10) for n in (4, 3)]
    d = dissect(net.eval(), batches[0][0])
    found = [d.delete_each(Loss(batches), memory=memory).scores for memory in (2**30, 20_000, 5_000, 0)]
    for scores in found[1:]:
        assert torch.equal(scores, found[0])
    for index in range(4):
        whole = torch.cat([Loss([]).scores(d.without(index)(x), y) for x, y in batches])
        assert torch.equal(found[0][index], whole)


def test_no_more_is_kept_than_allowed(monkeypatch):
    net, x = counted(6), torch.rand(5, WIDTH, dtype=torch.float64)
    one = x.numel() * 8  # each lesion reads one stream
    kept = []

    def noted(model, tape, wanted, args, kwargs):
        output, stored = store(model, tape, wanted, args, kwargs)
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in stored.values()}
        kept.append((sum(storages.values()), bytes_of(Facts(tape), wanted), len(stored)))
        return output, stored

    monkeypatch.setattr("thruway.dissecting.lesions.sweeps.store", noted)
    d = dissect(net, x)
    lesions = [Lesion({index: None}) for index in range(6)]
    results = {}
    for memory in (100 * one, 2 * one, 0):
        kept.clear()
        with torch.no_grad():
            results[memory] = dict(Sweep(d, lesions, memory).outputs((x,), {}))
        assert all(real == planned_bytes <= memory for real, planned_bytes, _ in kept)
        # The first stream is the model's own input, which takes nothing.
        assert [count for *_, count in kept] == {100 * one: [5], 2 * one: [2, 2], 0: [0]}[memory]
    for found in results.values():
        assert all(torch.equal(found[index], results[100 * one][index]) for index in range(INTACT, 6))


class Asking(nn.Module):
    """What happens behind a branch depends on the numbers it gave."""

    def __init__(self):
        super().__init__()
        self.one, self.two = Residual(nn.Linear(WIDTH, WIDTH)), Residual(nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        y = self.one(x)
        return self.two(y.relu() if (y - x).abs().sum() > 0 else y.tanh())


def test_where_the_model_goes_another_way_it_goes_there_or_says_so():
    net, x, y = Asking(), torch.rand(3, WIDTH), torch.zeros(3, dtype=torch.long)
    d = dissect(net, x)
    # Behind the last branch left out, the model's code is free to do what it does.
    assert torch.equal(d.delete_each(Loss([(x, y)])).scores[0], Loss([]).scores(net.two(x.tanh()), y))
    with pytest.raises(DissectError, match="tanh"):
        d.delete(2, 1, Loss([(x, y)]), torch.Generator())


class Drawing(nn.Module):
    """Adds noise, also in evaluation."""

    def __init__(self):
        super().__init__()
        self.one = Residual(nn.Linear(WIDTH, WIDTH))
        self.two = Residual(nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, 2 * WIDTH))

    def forward(self, x):
        return self.two(self.one(x) + torch.rand(x.shape))


def test_a_model_that_draws_draws_the_same_for_every_lesion():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x = Drawing(), torch.rand(3, WIDTH)
        with torch.no_grad():
            net.one.branch.weight.zero_()
            net.one.branch.bias.zero_()
        d = dissect(net, x)
        state = torch.get_rng_state()
        found = d.delete_each(Loss([(x, torch.tensor([0, 1, 2])), (x, torch.tensor([0, 1, 2]))]))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found.scores[0], found.intact_scores)  # a branch that adds nothing, under the same noise
    assert not torch.equal(found.intact_scores[:3], found.intact_scores[3:])  # other noise in the next batch


def state_of(net):
    return [t.clone() for t in (*net.parameters(), *net.buffers())]


def test_all_is_as_it_was_also_when_the_metric_fails():
    generator = torch.Generator().manual_seed(0)
    net = resnet((1, 1, 1), widths=(4, 4, 4), generator=generator).train()
    net.blocks[0].eval()
    x, y = torch.randn(4, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3])
    d = dissect(net, x)
    modes, before, rng = [module.training for module in net.modules()], state_of(net), torch.get_rng_state()

    def failing(output, target):
        if len(calls) == 2:
            raise ArithmeticError("on purpose")
        calls.append(torch.rand(1))
        assert not torch.is_grad_enabled()
        return nn.functional.cross_entropy(output, target, reduction="none")

    def failing_box(model):
        model.train()
        model(x)
        raise ArithmeticError("on purpose")

    calls = [0] * 10
    for evaluate in (Loss([(x, y)], failing), failing_box):
        calls.clear()
        with pytest.raises(ArithmeticError):
            d.delete_each(evaluate)
        assert [module.training for module in net.modules()] == modes
        assert all(torch.equal(a, b) for a, b in zip(before, state_of(net), strict=True))
        assert torch.equal(torch.get_rng_state(), rng)
        assert torch.is_grad_enabled()
        assert not any("forward" in vars(module) for module in net.modules())


def test_a_model_in_training_mode_is_evaluated_as_after_eval():
    generator = torch.Generator().manual_seed(0)
    net = resnet((1, 1, 1), widths=(4, 4, 4), generator=generator)
    x, y = torch.randn(4, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 3])
    found = [dissect(net.train(mode), x).delete_each(Loss([(x, y)])).scores for mode in (True, False)]
    assert torch.equal(*found)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def joined(self, x, gone):
        return x if 0 in gone else x + torch.tanh(self.b(x))


class WritesThroughView(Layers):
    obstacle = "share"

    def forward(self, x, gone=()):
        whole = self.a(x)
        part = whole[:, :2]
        x = self.joined(x, gone)
        part.copy_(x[:, :2])
        return self.c(whole) + x


class ReadsAnotherView(Layers):
    obstacle = "writes to a view of what is read later"

    def forward(self, x, gone=()):
        whole = self.a(x)
        part = whole[:, :2]
        part.relu_()
        return self.joined(x, gone) * whole


class GivesOutWhatWasWritten(Layers):
    obstacle = "leaves the model"

    def forward(self, x, gone=()):
        early = self.a(x)
        early.relu_()
        x = self.joined(x, gone)
        return {"logits": self.c(x), "early": early}


@pytest.mark.parametrize("kind", [WritesThroughView, ReadsAnotherView, GivesOutWhatWasWritten])
def test_where_stored_values_would_not_do_passes_are_whole(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x, y = kind().double(), torch.randn(3, WIDTH, dtype=torch.float64), torch.tensor([0, 1, 2])
    d = dissect(net, x)
    with torch.no_grad():
        tape, found = d.reading((x,), {})
        assert kind.obstacle in planned(Facts(tape), [(found.branches[0], None)], {}).obstacle
        assert torch.equal(d.delete_each(Loss([(x, y)])).scores[0], Loss([]).scores(net(x, {0}), y))
