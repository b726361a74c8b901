"""The tape: recorded calls, shared memory, unneeded calls and FLOPs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from thruway.dissecting.tracing.functions import name_of
from thruway.dissecting.tracing.lineage import Cut, Lineage, unneeded
from thruway.dissecting.tracing.memory import overlap
from thruway.dissecting.tracing.recording import record


class Called(nn.Module):
    """Any function of one tensor as a model"""

    def __init__(self, function, width=4):
        super().__init__()
        self.function, self.f, self.g = function, nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return self.function(self, x)


def tape_of(function, *shape):
    return record(Called(function), (torch.rand(*(shape or (3, 4))),), {})


def test_metadata_queries_are_not_recorded():
    def asks(net, x):
        assert x.shape[0] == len(x) == x.size(0)
        assert x.is_contiguous()
        assert x.dtype.is_floating_point
        return net.f(x)

    assert [call.name for call in tape_of(asks).calls] == ["linear"]


def test_a_write_makes_a_new_value_of_all_that_share_the_memory():
    def writes(net, x):
        h = net.f(x)
        left, right, whole = h[:, :2], h[:, 2:], h.view(-1)
        left.add_(1)
        return right * 1, whole * 1, left * 1, h * 1

    tape = tape_of(writes)
    write = next(call for call in tape.calls if call.name == "add")
    readers = [call.reads[0].value in write.values for call in tape.calls if call.name == "mul"]
    assert readers == [False, True, True, True]  # the right half is not met


SLICES = st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(1, 3))


@given(SLICES, SLICES, SLICES, SLICES)
@settings(deadline=None, max_examples=60)
def test_overlap_is_that_of_the_numbers_held(rows_a, columns_a, rows_b, columns_b):
    base = torch.arange(36).view(6, 6)
    a, b = (base[slice(*rows), slice(*columns)] for rows, columns in ((rows_a, columns_a), (rows_b, columns_b)))
    assert overlap(a, b) == bool(np.intersect1d(a.numpy(), b.numpy()).size)


def test_calls_have_modules_and_shared_modules_a_frame_per_call():
    block = nn.Linear(4, 4)
    tape = record(nn.Sequential(block, nn.ReLU(), block), (torch.rand(1, 4),), {})
    assert [tape.frames[call.frame].path for call in tape.calls] == ["0", "1", "0"]
    assert tape.calls[0].frame != tape.calls[2].frame


def gates(net, x):
    h, t = torch.tanh(net.f(x)), torch.sigmoid(net.g(x))
    h.mul_(t)
    unused = x * 3  # noqa: F841
    for _ in range(2):
        x = x + net.f(h)
        h = F.dropout(torch.cat([x[:, :2], h[:, 2:]], 1), 0.1, False)
    return x, {"h": h}


def needed_slowly(tape, cuts):
    """Back from what leaves the model, through all that is read, over and over until nothing is added."""
    kept = {cut.join: {cut.keep} for cut in cuts}
    reads = {call.number: kept.get(call.number, {read.value for read in call.reads}) for call in tape.calls}
    counted = {v: sum(sum(read.value == v for read in call.reads) for call in tape.calls) for v in tape.uses}
    values = {v for v, uses in tape.uses.items() if uses > counted[v]}  # outputs, and what Python saw
    needed = set()
    while True:
        more = {call.number for call in tape.calls if call.is_passthrough or set(call.values) & values}
        if more <= needed:
            return needed
        needed |= more
        for number in more:
            values |= reads[number]


@pytest.mark.parametrize("join", [9, 13], ids=["first add", "second add"])
@pytest.mark.parametrize("operand", [0, 1])
def test_what_a_cut_makes_unneeded_is_what_a_search_from_the_outputs_does_not_reach(join, operand):
    tape = tape_of(gates)
    adds = [call for call in tape.calls if call.name == "add"]
    add = adds[join // 10]
    cut = [Cut(add.number, add.reads[operand].value)]
    calls = {call.number for call in tape.calls}
    dead_anyway = calls - needed_slowly(tape, [])
    assert dead_anyway == {call.number for call in tape.calls if call.name == "mul" and not call.writes}
    assert unneeded(tape, cut) == calls - needed_slowly(tape, cut) - dead_anyway
    assert unneeded(tape, []) == frozenset()


def test_dominators_are_what_every_way_goes_through():
    tape = tape_of(gates)
    lineage = Lineage(tape)
    parents = {v.number: v.parents for v in tape.values if v.origin == "data"}
    source = min(parents)
    for value in parents:
        ways = [w for w in _ways(parents, value) if w[-1] == source]
        through = set.intersection(*(set(way) for way in ways)) - {value}
        assert lineage.dominator[value] == max(through, default=-1)


def _ways(parents, value):
    if not parents[value]:
        return [[value]]
    return [[value, *way] for parent in parents[value] for way in _ways(parents, parent)]


def test_flops_are_those_of_the_textbook():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 25, 7))
    tape = record(net, (torch.rand(3, 2, 5, 5),), {})
    conv, _, linear = (call.flops for call in tape.calls)
    assert conv == 2 * 3 * 4 * 25 * 2 * 9
    assert linear == 2 * 3 * 100 * 7


def test_flops_are_those_of_torchs_own_counter():
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, groups=2),
        nn.ConvTranspose2d(8, 6, 3, groups=2, stride=2),
        nn.Flatten(2),
        nn.TransformerEncoderLayer(225, 5, 16, batch_first=True),
    )
    x = torch.rand(2, 4, 16, 16)
    with FlopCounterMode(display=False) as counter:
        net(x)
    assert sum(call.flops for call in record(net, (x,), {}).calls) == counter.get_total_flops()


def test_flops_of_attention_are_those_of_its_two_products():
    def attends(net, x):
        return F.scaled_dot_product_attention(x, x, x)

    tape = tape_of(attends, 2, 3, 5, 4)  # batch, heads, positions, width of a head
    assert tape.calls[0].flops == 2 * (2 * 2 * 3 * 5 * 5 * 4)


def test_names_are_the_same_for_all_ways_to_call():
    for functions, name in (
        ((torch.add, torch.Tensor.add_, torch.Tensor.__iadd__, torch.Tensor.__radd__), "add"),
        ((torch.Tensor.__getitem__,), "getitem"),
        ((torch.Tensor.__rsub__, torch.rsub), "rsub"),
        ((torch.relu, F.relu, torch.relu_, torch.Tensor.relu_), "relu"),
        ((torch.Tensor.T.__get__,), "T"),
    ):
        assert {name_of(function) for function in functions} == {name}
