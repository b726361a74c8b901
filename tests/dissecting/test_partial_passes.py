"""Partial passes equal full passes bit for bit, and compute only what comes after the lesion."""

import importlib.util
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from thruway.dissecting import DissectError, Error, Loss, dissect
from thruway.dissecting.lesions.runner import INTACT, Lesion, LesionRunner
from thruway.dissecting.running.partial_pass import run_partial
from thruway.dissecting.running.partial_plan import TapeFacts, bytes_of, plan_partial
from thruway.dissecting.running.stored_pass import run_and_store
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
        tape, found = dissect(net, x).engine.traced((x,), {})
        for size in (1, 2):
            for gone in itertools.combinations(range(len(found.branches)), size):
                plan = plan_partial(TapeFacts(tape), [(found.branches[index], None) for index in gone], {})
                assert plan.obstacle == ""
                output, stored = run_and_store(net, tape, plan.needed, (x,), {})
                branch_cases.assert_same_bits(output, net(x))
                for _ in range(2):  # the first did not spoil what the second reads
                    branch_cases.assert_same_bits(run_partial(net, plan, stored, (x,), {}), net(x, gone=set(gone)))


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
    d.engine.traced((x,), {})
    ran = [block.branch.computed - start for block, start in zip(net, before, strict=True)]
    # Its form is met in eval mode and without gradients first: one pass to look; one to store; then the suffixes.
    assert ran == [2 + 0, 2 + 1, 2 + 2, 2 + 3]
    before = [block.branch.computed for block in net]
    d.delete_each(Error([(x, torch.zeros(3, dtype=torch.long))]), memory=0)
    ran = [block.branch.computed - start for block, start in zip(net, before, strict=True)]
    assert ran == [1 + 3] * 4  # the alarm works: intact, and whole without each of the other three


@pytest.mark.parametrize("order", ["pre", "post"])
def test_results_do_not_depend_on_what_is_stored(order):
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


class CarryGate(nn.Module):
    """y = C·x + (1 - C)·H"""

    def __init__(self):
        super().__init__()
        self.h, self.c = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        c = torch.sigmoid(self.c(x))
        return (1 - c) * torch.tanh(self.h(x)) + c * x


def test_a_custom_merge_gets_the_same_operands_from_stored_values():
    def half(at):
        return at.shortcut + 0.5 * at.gate * (at.branch - at.shortcut)

    net, x = nn.Sequential(nn.Linear(WIDTH, WIDTH), CarryGate(), CarryGate()).double(), torch.rand(3, WIDTH).double()
    d = dissect(net, x)
    with torch.no_grad():
        outputs = dict(LesionRunner(d.engine, [Lesion({index: half}) for index in range(2)]).outputs((x,), {}))
        z = net[1](net[0](x))
        share = 1 - torch.sigmoid(net[2].c(z))
        assert torch.equal(outputs[1], z + 0.5 * share * (torch.tanh(net[2].h(z)) - z))
        for index in range(2):
            assert torch.equal(outputs[index], d.merged({index: half})(x))


def test_no_more_is_stored_than_allowed(monkeypatch):
    net, x = counted(6), torch.rand(5, WIDTH, dtype=torch.float64)
    one = x.numel() * 8  # each lesion reads one stream
    kept = []

    def noted(model, tape, wanted, args, kwargs):
        output, stored = run_and_store(model, tape, wanted, args, kwargs)
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in stored.values()}
        kept.append((sum(storages.values()), bytes_of(TapeFacts(tape), wanted), len(stored)))
        return output, stored

    monkeypatch.setattr("thruway.dissecting.lesions.runner.run_and_store", noted)
    d = dissect(net, x)
    lesions = [Lesion({index: None}) for index in range(6)]
    results = {}
    for memory in (100 * one, 2 * one, 0):
        kept.clear()
        with torch.no_grad():
            results[memory] = dict(LesionRunner(d.engine, lesions, memory).outputs((x,), {}))
        assert all(real == planned_bytes <= memory for real, planned_bytes, _ in kept)
        # The first stream is the model's own input, which takes nothing.
        assert [count for *_, count in kept] == {100 * one: [5], 2 * one: [2, 2], 0: [0]}[memory]
    for found in results.values():
        assert all(torch.equal(found[index], results[100 * one][index]) for index in range(INTACT, 6))


class Grown(nn.Module):
    """One tensor that every block adds to: what it held in between is kept as a copy"""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, dtype=torch.float64) for _ in range(4))

    def forward(self, x):
        x = x * 1.0
        for layer in self.layers:
            x += torch.tanh(layer(x))
        return x


def test_copies_are_counted_each_and_views_once():
    net, x = Grown().double(), torch.rand(5, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        tape, found = dissect(net, x).engine.traced((x,), {})
        facts = TapeFacts(tape)
        wanted = frozenset[int]().union(
            *(plan_partial(facts, [(branch, None)], {}).needed for branch in found.branches)
        )
        _, stored = run_and_store(net, tape, wanted, (x,), {})
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in stored.values()}
    assert len(storages) == len(stored) == 4
    assert bytes_of(facts, wanted) == sum(storages.values())
    stacked = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), Halves(), nn.Linear(WIDTH, WIDTH)).double()
    with torch.no_grad():
        tape, found = dissect(stacked, x).engine.traced((x,), {})
        facts, (whole,) = TapeFacts(tape), [call for call in tape.calls if call.name == "chunk"]
        _, stored = run_and_store(stacked, tape, whole.values, (x,), {})
    assert len(stored) == 2
    assert bytes_of(facts, whole.values) == next(iter(stored.values())).untyped_storage().nbytes()


class Halves(nn.Module):
    def forward(self, x):
        a, b = x.chunk(2, -1)
        return a + torch.tanh(b)


class Asking(nn.Module):
    """What happens behind a branch depends on the numbers it gave."""

    def __init__(self):
        super().__init__()
        self.one, self.two = Residual(nn.Linear(WIDTH, WIDTH)), Residual(nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        y = self.one(x)
        return self.two(y.relu() if (y - x).abs().sum() > 0 else y.tanh())


def test_calls_that_depend_on_a_branch_are_followed_or_refused():
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


def test_random_numbers_are_the_same_for_every_lesion():
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


class DrawingWithin(nn.Module):
    """Draws within a branch: without it, fewer numbers are drawn"""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = x + torch.tanh(self.one(x + torch.rand(x.shape)))
        return x + torch.tanh(self.two(x + torch.rand(x.shape)))


def test_lesions_that_draw_less_do_not_change_what_the_next_batch_draws():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x, y = DrawingWithin(), torch.rand(3, WIDTH), torch.tensor([0, 1, 2])
        d = dissect(net, x)
        start = torch.get_rng_state()
        intact = torch.cat([Loss([]).scores(net(x), y) for _ in range(3)])
        torch.set_rng_state(start)
        found = d.delete_each(Loss([(x, y)] * 3))
    assert torch.equal(found.intact_scores, intact)


class Turning(nn.Module):
    """Makes other calls on request, though its inputs are the same"""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (Residual(nn.Linear(WIDTH, WIDTH)) for _ in "abc")
        self.way = "as recorded"

    def forward(self, given):
        x = torch.tanh(self.one(given))
        if self.way == "ends":
            return given
        if self.way == "turns":
            x = torch.relu(given)
        return self.three(self.two(torch.sigmoid(x)))


@pytest.mark.parametrize(
    ("way", "message"),
    [("ends", "the pass ended after call 2, tanh in the model itself"), ("turns", "the pass called relu")],
)
def test_a_partial_pass_that_leaves_the_tape_raises(way, message):
    net, x = Turning(), torch.rand(3, WIDTH)
    with torch.no_grad():
        tape, found = dissect(net, x).engine.traced((x,), {})
        plan = plan_partial(TapeFacts(tape), [(found.branches[2], None)], {})
        _, stored = run_and_store(net, tape, plan.needed, (x,), {})
        assert torch.equal(run_partial(net, plan, stored, (x,), {}), net.two(net.one(x).tanh().sigmoid()))
        net.way = way
        with pytest.raises(DissectError, match=message):
            run_partial(net, plan, stored, (x,), {})


def state_of(net):
    return [t.clone() for t in (*net.parameters(), *net.buffers())]


def test_all_state_is_restored_when_the_metric_raises():
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


def test_a_function_gets_every_model_in_the_same_state():
    generator = torch.Generator().manual_seed(0)
    net = resnet((1, 1, 1), widths=(4, 4, 4), generator=generator)
    x = torch.randn(4, 3, 8, 8, generator=generator)
    found = []

    def careless(model):
        """Draws numbers, and leaves the model in another mode, with other statistics"""
        found.append(
            (torch.rand(1).item(), model.training, net.training, *(buffer.sum().item() for buffer in net.buffers()))
        )
        model.train()
        model(x)
        return float(len(found))

    dissect(net.eval(), x).delete_each(careless)
    assert len(found) == 4
    assert len(set(found)) == 1
    net.train()(x)
    assert found[0][3:] != tuple(buffer.sum().item() for buffer in net.buffers())  # what is summed does change


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
def test_passes_run_in_full_where_stored_values_cannot_be_used(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x, y = kind().double(), torch.randn(3, WIDTH, dtype=torch.float64), torch.tensor([0, 1, 2])
    d = dissect(net, x)
    with torch.no_grad():
        tape, found = d.engine.traced((x,), {})
        assert kind.obstacle in plan_partial(TapeFacts(tape), [(found.branches[0], None)], {}).obstacle
        assert torch.equal(d.delete_each(Loss([(x, y)])).scores[0], Loss([]).scores(net(x, {0}), y))
