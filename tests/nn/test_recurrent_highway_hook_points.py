"""Hooks on `states` and `gradients` of a recurrent highway layer: their arguments, and no effect on results."""

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from nn_cases import seeded
from recurrent_cases import EXACT, layer_of, sample
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import vmap
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from thruway.nn.recurrent import RecurrentHighway
from thruway.nn.recurrent_cell import DropoutMasks, RecurrentHighwayCell
from thruway.nn.stack import LayerStates

LENGTHS = (2, 5, 1, 5)  # not in the order in which torch packs them
ACTS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu, "sin": torch.sin}
SUMS = {"rtol": 1e-11, "atol": 1e-11}  # float64, sums of 100 terms


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with several, tensors this small take up to 100 times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def packed(dtype: torch.dtype = torch.float64, features: int = 3) -> PackedSequence:
    given = [sample(length, features, seed=10 + i).to(dtype) for i, length in enumerate(LENGTHS)]
    return pack_sequence(given, enforce_sorted=False)


def one_by_one(
    cell: RecurrentHighwayCell, x: Tensor, state: Tensor, masks: DropoutMasks, sizes: Sequence[int], activation: str
) -> list[list[tuple[Tensor, ...]]]:
    """(s before, H, T, s after) of every micro-step (outer) and time step (inner), from the equations."""
    width, found, start = cell.width, [[] for _ in range(cell.depth)], 0
    for size in sizes:
        s, x_t = state[:size], x[start : start + size]
        start += size
        if masks.input is not None:
            x_t = x_t * masks.input[:size]
        for step in range(cell.depth):
            z = (s if masks.state is None else s * masks.state[:size]) @ cell.weight[step].mT + cell.bias[step]
            z = z + x_t @ cell.input_weight.mT if step == 0 else z
            h, t = ACTS[activation](z[:, :width]), torch.sigmoid(z[:, width : 2 * width])
            c = torch.sigmoid(z[:, 2 * width :]) if cell.carry == "independent" else 1 - t
            before, s = s, h * t + s * c
            s.retain_grad()
            found[step].append((before, h, t, s))
        state = s
    return found


def joined(found: list[list[tuple[Tensor, ...]]], which: int, read: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([torch.cat([read(step[which]) for step in steps]) for steps in found])


def record_hook_points(layer: RecurrentHighway) -> tuple[list[LayerStates], list[Tensor]]:
    """Register hooks and return the lists of their arguments."""
    states: list[LayerStates] = []
    gradients: list[Tensor] = []
    layer.states.register_forward_hook(lambda _m, _i, out: states.append(out))
    layer.gradients.register_forward_hook(lambda _m, _i, out: gradients.append(out))
    return states, gradients


# --- arguments of the hooks


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("carry", ["coupled", "independent"])
@pytest.mark.parametrize("activation", ACTS)
@pytest.mark.parametrize("depth", [1, 3])
def test_hook_points_report_every_micro_step(depth: int, activation: str, carry: str, dropout: float) -> None:
    layer = layer_of(depth=depth, activation=activation, carry=carry, dropout=dropout, coins=seeded(5))
    states, gradients = record_hook_points(layer)
    begin, given = sample(4, 4, seed=3), packed()
    output, end = layer(given, begin)
    cotangents = torch.randn_like(output.data, generator=seeded(6)), sample(4, 4, seed=7)
    torch.autograd.backward([output.data, end], cotangents)

    layer.cell.coins.manual_seed(5)
    masks = DropoutMasks(*(None if m is None else m[given.sorted_indices] for m in layer.cell.draw_masks(4)))
    sizes = given.batch_sizes.tolist()
    found = one_by_one(layer.cell, given.data, begin[given.sorted_indices], masks, sizes, activation)
    assert len(states) == 1
    for values, which in zip(states[0], range(3), strict=True):
        assert_close(values, joined(found, which, Tensor.detach), **EXACT)
    after = joined(found, 3, lambda s: s)
    lengths = torch.tensor(LENGTHS)[given.sorted_indices]
    starts = torch.tensor([0, *sizes]).cumsum(0)
    last = after[-1][starts[lengths - 1] + torch.arange(4)][given.unsorted_indices]
    torch.autograd.backward([after[-1], last], cotangents)
    by_hand = carry == "coupled" and activation != "sin"
    assert len(gradients) == by_hand
    if by_hand:
        assert_close(gradients[0], joined(found, 3, lambda s: s.grad), **SUMS)


def test_rows_of_sequences_of_one_length_are_time_times_batch() -> None:
    layer = layer_of(batch_first=True)
    states, gradients = record_hook_points(layer)
    x = sample(2, 6, 3)
    output, _ = layer(x)
    output.sum().backward()
    (recorded,) = states
    assert all(values.shape == (3, 12, 4) and not values.requires_grad for values in (*recorded, gradients[0]))
    assert torch.equal(recorded.x[0].view(6, 2, 4)[1:], output.detach().transpose(0, 1)[:-1])
    y = torch.lerp(recorded.x[-1], recorded.h[-1], recorded.t[-1])
    assert torch.equal(y.view(6, 2, 4), output.detach().transpose(0, 1))
    single = layer(x[0])[0]
    assert_close(states[1].x[0][1:], single.detach()[:-1], **EXACT)


def test_states_share_memory_with_the_backward_pass() -> None:
    """Writing into them raises an error instead of giving wrong gradients."""
    for kind in LayerStates._fields:
        layer = layer_of()
        layer.states.register_forward_hook(lambda _m, _i, states, kind=kind: getattr(states, kind).zero_())
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            layer(sample(5, 2, 3))[0].sum().backward()


def test_gradients_can_be_hooked_alone_and_need_the_kernel() -> None:
    layer, recorded = layer_of(), []
    layer.gradients.register_forward_hook(lambda _m, _i, out: recorded.append(out))
    x = sample(5, 2, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
    assert recorded == []
    torch.autograd.grad(layer(x)[0].square().sum(), x)
    assert [out.shape for out in recorded] == [(3, 10, 4)]
    assert gradient.requires_grad


def test_sequences_without_time_steps_and_empty_batches() -> None:
    layer = layer_of()
    states, _ = record_hook_points(layer)
    layer(sample(0, 2, 3))
    assert states == []
    layer(sample(5, 0, 3))
    assert all(values.shape == (3, 0, 4) for values in states[0])


# --- no effect on results


WAYS = {
    "by hand": {},
    "with dropout": {"dropout": 0.3},
    "independent": {"carry": "independent"},
    "another function": {"activation": "sin"},
}


def run(way: str, hook: str | None, *, is_packed: bool) -> list[Tensor]:
    """Outputs and all gradients of a pass in float32, large enough for sums to round."""
    layer = layer_of(8, 20, 4, coins=seeded(5), **WAYS[way]).float()
    if hook == "hook points":
        record_hook_points(layer)
    elif hook == "gate":
        layer.cell.transform_gates[0].register_forward_hook(lambda *_: None)
    rows = packed(torch.float32, 8) if is_packed else sample(9, 5, 8).float()
    leaf = (rows.data if is_packed else rows).clone().requires_grad_()
    begin = sample(4 if is_packed else 5, 20, seed=3).float().requires_grad_()
    output, end = layer(PackedSequence(leaf, *rows[1:]) if is_packed else leaf, begin)
    output = output.data if is_packed else output
    (output.square().sum() + end.sum()).backward()
    return [output, end, leaf.grad, begin.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_hooks_on_the_hook_points_change_no_bit(way: str, is_packed: bool) -> None:
    bare, hooked = (run(way, hook, is_packed=is_packed) for hook in (None, "hook points"))
    assert all(map(torch.equal, bare, hooked))


def test_a_hook_in_the_cell_changes_bits() -> None:
    """The check of equal bits can fail: the same sums in another order are rounded differently."""
    bare, hooked = (run("by hand", hook, is_packed=False) for hook in (None, "gate"))
    assert not all(map(torch.equal, bare, hooked))


def test_a_hook_in_the_cell_is_called_besides_the_hook_points() -> None:
    layer, x, gates = layer_of(), sample(5, 2, 3), []
    expected = layer(x)[0]
    states, gradients = record_hook_points(layer)
    layer.cell.transform_gates[1].register_forward_hook(lambda _m, _i, t: gates.append(t.detach()))
    output = layer(x)[0]
    output.sum().backward()
    assert torch.equal(torch.cat(gates), states[0].t[1])
    assert gradients == []
    assert_close(output, expected, **EXACT)


def test_function_modes_see_operations_only_if_the_cell_has_hooks() -> None:
    """So nothing is reported twice, and hooks inside the cell still work."""

    class Recording(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    layer, counts = layer_of(), []
    record_hook_points(layer)
    for is_inside in (False, True):
        names: list[str] = []
        if is_inside:
            layer.cell.transform_gates[0].register_forward_hook(lambda *_: None)
        with Recording():
            layer(sample(5, 2, 3))
        counts.append([names.count(name) for name in ("linear", "lerp", "detach")])
    assert counts == [[0, 0, 0], [1 + 3 * 5, 3 * 5, 0]]


def test_all_implementations_report_the_same_states() -> None:
    layer, x, tangent = layer_of(), sample(5, 3, 3), sample(5, 3, 3, seed=8)
    _, plain = torch.func.jvp(lambda x: layer(x)[0], (x,), (tangent,))
    expected = layer(x)[0]
    states, _ = record_hook_points(layer)
    layer(x)
    assert_close(vmap(lambda each: layer(each)[0], in_dims=1, out_dims=1)(x), expected, **EXACT)
    with forward_ad.dual_level():
        dual, _ = layer(forward_ad.make_dual(x, tangent))
        assert_close(forward_ad.unpack_dual(dual).tangent, plain, **EXACT)
        assert all(forward_ad.unpack_dual(values).tangent is None for values in states[-1])
    with torch.no_grad():
        layer(x)
    for later in states[2:]:
        assert_close(later, states[0], **EXACT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer.float()(x.float())
    for values, exact in zip(states[-1], states[0], strict=True):
        assert_close(values.double(), exact, rtol=0.05, atol=0.05)  # 8 bits on each of fifteen micro-steps


@pytest.mark.slow
def test_compile_calls_the_hook() -> None:
    layer, x = layer_of(), sample(3, 2, 3)
    states, _ = record_hook_points(layer)
    expected = layer(x)[0]
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore the compiler's own warnings
        assert_close(torch.compile(layer, backend="eager", fullgraph=True)(x)[0], expected, **EXACT)
    assert_close(states[1], states[0], **EXACT)


# --- hook points are not parameters


def test_hook_points_have_no_parameters_and_are_copied() -> None:
    layer, x = layer_of(), sample(5, 2, 3)
    assert list(layer.state_dict()) == ["cell.input_weight", "cell.weight", "cell.bias"]
    states, _ = record_hook_points(layer)
    layer(x)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x)[0], layer(x)[0])
    assert len(states) == 3  # the copy has the hook, too
    bare = layer_of()
    again = pickle.loads(pickle.dumps(bare))
    assert torch.equal(again(x)[0], bare(x)[0])
