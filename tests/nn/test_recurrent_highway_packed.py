"""Recurrent highways on sequences of different lengths, with dropout, and their derivatives."""

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from nn_cases import seeded
from recurrent_cases import EXACT, layer_of, sample
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.testing import assert_close

from thruway.nn.recurrent import RecurrentHighway
from thruway.nn.stack_kernel import FUSED_ACTIVATIONS

LENGTHS = (2, 5, 1, 5)  # not in the order in which torch packs them


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with several, tensors this small take up to 100 times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sequences() -> list[Tensor]:
    return [sample(length, 3, seed=10 + i) for i, length in enumerate(LENGTHS)]


# --- lengths


@pytest.mark.parametrize("carry", ["coupled", "independent"])
def test_a_packed_batch_equals_single_sequences(carry: str) -> None:
    layer, state = layer_of(carry=carry), sample(4, 4, seed=3)
    packed, end = layer(pack_sequence(sequences(), enforce_sorted=False), state)
    padded, lengths = pad_packed_sequence(packed)
    assert lengths.tolist() == list(LENGTHS)
    for i, sequence in enumerate(sequences()):
        output, last = layer(sequence, state[i])
        assert_close(padded[: len(sequence), i], output, **EXACT)
        assert_close(end[i], last, **EXACT)


def test_sequences_packed_in_descending_length() -> None:
    layer, given = layer_of(), sorted(sequences(), key=len, reverse=True)
    packed = pack_sequence(given)
    assert packed.sorted_indices is None
    output, end = layer(packed)
    assert isinstance(output, PackedSequence)
    for i, sequence in enumerate(given):
        assert_close(end[i], layer(sequence)[1], **EXACT)


def test_packed_sequences_behave_as_in_torchs_gru() -> None:
    """The order of rows, the state and the lengths are as for torch's GRU."""
    packed = pack_sequence(sequences(), enforce_sorted=False)
    ours, state = layer_of()(packed)
    theirs, hidden = torch.nn.GRU(3, 4, dtype=torch.float64)(packed)
    for mine, their in ((ours[1:], theirs[1:]), ([state], [hidden[0]])):
        assert all(a.shape == b.shape for a, b in zip(mine, their, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True))


def test_gradients_of_a_packed_batch_equal_those_of_single_sequences() -> None:
    layer = layer_of()
    names = [name for name, _ in layer.named_parameters()]

    def gradients(outputs: list[Tensor]) -> tuple[Tensor, ...]:
        loss = sum((output**2).sum() for output in outputs)
        return torch.autograd.grad(loss, list(layer.parameters()))

    packed, end = layer(pack_sequence(sequences(), enforce_sorted=False))
    together = gradients([packed.data, 3 * end])
    alone = [tensor for sequence in sequences() for output, last in [layer(sequence)] for tensor in (output, 3 * last)]
    for name, a, b in zip(names, together, gradients(alone), strict=True):
        assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}", rtol=1e-11, atol=1e-11)  # sums of 100 terms


# --- dropout


def test_a_mask_is_kept_over_time_steps_and_micro_steps() -> None:
    """Dropped features and units are dropped at every step: the weights that read them get no gradient."""
    layer = layer_of(inputs=6, width=8, dropout=0.5, coins=seeded(7))
    masks = layer_of(inputs=6, width=8, dropout=0.5, coins=seeded(7)).cell.draw_masks(1)
    output, _ = layer(sample(9, 6), sample(8, seed=3))
    of_input, of_state = torch.autograd.grad((output**2).sum(), [layer.cell.input_weight, layer.cell.weight])
    for gradient, mask in ((of_input, masks.input), (of_state, masks.state)):
        assert 0 < mask.eq(0).sum() < mask.numel()
        reads = gradient.abs().amax(dim=tuple(range(gradient.ndim - 1)))
        assert torch.equal(reads.eq(0), mask[0].eq(0))


def test_masks_differ_between_sequences_and_preserve_the_mean() -> None:
    cell = RecurrentHighway(200, 300, 2, dropout=(0.25, 0.6), coins=seeded()).cell
    masks = cell.draw_masks(40)
    for mask, drop in ((masks.input, 0.25), (masks.state, 0.6)):
        assert mask.unique().tolist() == pytest.approx([0.0, 1 / (1 - drop)], rel=1e-6)  # float32
        # A mask's variance is p/(1 - p).
        assert abs(mask.mean().item() - 1) < 5 * (drop / (1 - drop) / mask.numel()) ** 0.5
        assert len(mask.unique(dim=0)) == 40


def test_dropout_is_unbiased_where_the_net_is_linear() -> None:
    """For one step of a linear network with a gate of 0.5 the mean over masks equals the network without dropout."""
    layer = RecurrentHighway(3, 4, 1, 0.0, "linear", dropout=0.4, generator=seeded(), coins=seeded(1)).double()
    layer.cell.input_weight.data[4:] = 0
    layer.cell.weight.data[:, 4:] = 0
    n = 20_000
    x, state = sample(1, 1, 3).expand(1, n, 3), sample(1, 4, seed=3).expand(n, 4)
    with torch.no_grad():
        dropped, whole = layer(x, state)[1], layer.eval()(x[:, :1], state[:1])[1]
    standard_error = dropped.std(dim=0) / n**0.5
    assert ((dropped.mean(dim=0) - whole[0]).abs() < 5 * standard_error).all()
    assert standard_error.min() > 0


def test_evaluation_drops_nothing_and_draws_nothing() -> None:
    coins = seeded(7)
    layer, bare, x = layer_of(dropout=0.5, coins=coins).eval(), layer_of(), sample(5, 2, 3)
    before = coins.get_state()
    assert torch.equal(layer(x)[0], bare(x)[0])
    assert torch.equal(layer.cell(x[0]), bare.cell(x[0]))
    assert torch.equal(coins.get_state(), before)


def test_a_restored_generator_gives_the_same_pass() -> None:
    coins = seeded(7)
    layer, x = layer_of(dropout=0.5, coins=coins), sample(5, 2, 3)
    start, outer = coins.get_state(), torch.get_rng_state()
    first, second = layer(x)[0], layer(x)[0]
    assert not torch.equal(first, second)
    coins.set_state(start)
    assert torch.equal(layer(x)[0], first)
    assert torch.equal(torch.get_rng_state(), outer)


def test_packed_sequences_get_the_masks_of_their_index() -> None:
    """The i-th sequence has the i-th mask, whatever the lengths."""
    layer = layer_of(dropout=0.5, coins=seeded(7))
    _, end = layer(pack_sequence(sequences(), enforce_sorted=False))
    layer.cell.coins.manual_seed(7)
    padded = torch.nn.utils.rnn.pad_sequence(sequences())
    output, _ = layer(padded)
    assert_close(end, torch.stack([output[length - 1, i] for i, length in enumerate(LENGTHS)]), **EXACT)


# --- derivatives


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("activation", ["tanh", "sin"])
@pytest.mark.parametrize("carry", ["coupled", "independent"])
def test_first_and_second_derivatives_match_finite_differences(carry: str, activation: str, dropout: float) -> None:
    coins = seeded(7)
    layer = layer_of(2, 3, 2, activation, carry, dropout=dropout, coins=coins)
    names, start = [name for name, _ in layer.named_parameters()], coins.get_state()
    packed = pack_padded_sequence(sample(4, 3, 2), torch.tensor([2, 4, 1]), enforce_sorted=False)

    def run(data: Tensor, state: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        coins.set_state(start)  # the same masks each time
        given = dict(zip(names, parameters, strict=True))
        output, end = functional_call(layer, given, (PackedSequence(data, *packed[1:]), state))
        return output.data, end

    tensors = [packed.data, sample(3, 3, seed=3), *layer.parameters()]
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(run, leaves)
    # Along one random direction: a wrong formula fails in any direction.
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("activation", sorted(FUSED_ACTIVATIONS))
def test_the_hand_written_backward_pass_equals_autograd(activation: str, dropout: float) -> None:
    layer, hooked = (
        layer_of(width=5, depth=4, activation=activation, dropout=dropout, coins=seeded(7)) for _ in range(2)
    )
    hooked.cell.transform_gates[0].register_forward_hook(lambda *_: None)  # runs step by step with autograd
    x, state = sample(6, 3, 3), sample(3, 5, seed=3)
    both = []
    for each in (layer, hooked):
        leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, state)]
        output, end = each(*leaves)
        both.append(torch.autograd.grad((output**2).sum() + end.sum(), [*leaves, *each.parameters()]))
    for by_hand, by_autograd in zip(*both, strict=True):
        assert_close(by_hand, by_autograd, rtol=1e-11, atol=1e-11)  # sums of 100 terms


def test_gradients_add_up_over_passes_and_can_be_stepped() -> None:
    layer, x = layer_of(), sample(6, 2, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(x)[0].sum().backward()
    once = [parameter.grad.clone() for parameter in layer.parameters()]
    layer(x)[0].sum().backward()
    for parameter, gradient in zip(layer.parameters(), once, strict=True):
        assert_close(parameter.grad, 2 * gradient, **EXACT)
    before = layer(x)[0].sum()
    optimizer.step()
    optimizer.step()
    assert layer(x)[0].sum() < before


def test_vmap_and_forward_mode_work() -> None:
    layer, x = layer_of(), sample(5, 3, 3)
    output, _ = layer(x)
    assert_close(vmap(lambda each: layer(each)[0], in_dims=1, out_dims=1)(x), output, **EXACT)
    tangent = sample(5, 3, 3, seed=8)
    _, forward = torch.func.jvp(lambda x: layer(x)[0], (x,), (tangent,))
    cotangent = sample(5, 3, 4, seed=9)
    leaf = x.clone().requires_grad_()
    (backward,) = torch.autograd.grad(layer(leaf)[0], leaf, cotangent)
    assert_close((forward * cotangent).sum(), (tangent * backward).sum(), **EXACT)
    with forward_ad.dual_level():
        dual, _ = layer(forward_ad.make_dual(x, tangent))
        assert_close(forward_ad.unpack_dual(dual).tangent, forward, **EXACT)


def test_autocast_stays_near_float32_and_does_not_round_the_carried_state() -> None:
    layer, x = layer_of().float(), sample(5, 2, 3).float()
    shut = RecurrentHighway(3, 4, 2, gate_bias=-torch.inf)
    state = sample(2, 4).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = layer(x)
        carried = shut(x, state)[1]
    assert_close(output.float(), layer(x)[0], rtol=0.05, atol=0.05)  # 8 bits on each of fifteen micro-steps
    assert torch.equal(carried, state)


@pytest.mark.slow
def test_compile_gives_the_same() -> None:
    layer, x = layer_of(), sample(3, 2, 3)
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore the compiler's own warnings
        compiled = torch.compile(layer, backend="eager", fullgraph=True)
        assert_close(compiled(x)[0], layer(x)[0], **EXACT)


def test_copies_agree_and_are_independent() -> None:
    layer, x = layer_of(dropout=0.5, coins=seeded(7)), sample(5, 2, 3)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x)[0], layer(x)[0])  # each has its own generator in the same state
    for parameter in twin.parameters():
        parameter.data.add_(1.0)
    assert not torch.equal(twin.eval()(x)[0], layer.eval()(x)[0])
