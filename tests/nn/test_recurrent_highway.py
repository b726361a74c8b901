"""The recurrent highway layer: compared with plain equations, and its general properties."""

import math
from collections.abc import Iterator

import pytest
import torch
from nn_cases import seeded
from recurrent_cases import EXACT, layer_of, sample
from torch import Tensor, nn
from torch.testing import assert_close

from thruway.errors import ConfigError, ShapeError
from thruway.init import initialize
from thruway.nn.recurrent import RecurrentHighway
from thruway.nn.recurrent_cell import DropoutMasks, RecurrentHighwayCell

# Activations with and without a hand-written backward pass.
ACTIVATIONS = {"tanh": math.tanh, "relu": lambda a: max(a, 0.0), "sin": math.sin}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with several, tensors this small take up to 100 times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plainly(
    cell: RecurrentHighwayCell, x: Tensor, state: Tensor, masks: DropoutMasks, activation: str
) -> list[list[float]]:
    """The states after each step of one sequence, unit by unit, from the paper's equations.

    s_l = h_l t_l + s_{l-1} c_l,    c_l = 1 - t_l for coupled gates
    """
    width, act = cell.width, ACTIVATIONS[activation]
    W, R, b = cell.input_weight.tolist(), cell.weight.tolist(), cell.bias.tolist()
    keep_x = [1.0] * cell.inputs if masks.input is None else masks.input.tolist()
    keep_s = [1.0] * width if masks.state is None else masks.state.tolist()
    s, outputs = state.tolist(), []
    for x_t in x.tolist():
        for step in range(cell.depth):
            maps = []
            for row in range(len(W)):
                z = b[step][row] + sum(r * k * u for r, k, u in zip(R[step][row], keep_s, s, strict=True))
                if step == 0:
                    z += sum(w * k * u for w, k, u in zip(W[row], keep_x, x_t, strict=True))
                maps.append(z)
            h = [act(z) for z in maps[:width]]
            t = [1 / (1 + math.exp(-z)) for z in maps[width : 2 * width]]
            c = [1 / (1 + math.exp(-z)) for z in maps[2 * width :]] or [1 - each for each in t]
            s = [h[i] * t[i] + s[i] * c[i] for i in range(width)]
        outputs.append(s)
    return outputs


# --- the equations


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("carry", ["coupled", "independent"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_layer_equals_the_papers_equations(depth: int, carry: str, activation: str, dropout: float) -> None:
    layer = layer_of(depth=depth, activation=activation, carry=carry, dropout=dropout, coins=seeded(5))
    x, state = sample(6, 2, 3), sample(2, 4, seed=3)
    masks = layer_of(depth=depth, dropout=dropout, coins=seeded(5)).cell.draw_masks(2)  # the same masks
    output, end = layer(x, state)
    for i in range(2):
        mine = DropoutMasks(*(None if mask is None else mask[i] for mask in masks))
        expected = torch.tensor(plainly(layer.cell, x[:, i], state[i], mine, activation), dtype=torch.float64)
        assert_close(output[:, i], expected, **EXACT)
        assert_close(end[i], expected[-1], **EXACT)


def test_one_micro_step_by_hand() -> None:
    """One unit, one input, round numbers: h = tanh(2·0.5 + 1·(-1) + 0) = 0, t = sigmoid(0) = 1/2, s = 0 + (-1)/2."""
    cell = RecurrentHighwayCell(1, 1, depth=1, gate_bias=0.0, dtype=torch.float64)
    cell.input_weight.data = torch.tensor([[2.0], [4.0]], dtype=torch.float64)
    cell.weight.data = torch.tensor([[[1.0], [2.0]]], dtype=torch.float64)
    state = cell(torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[-1.0]], dtype=torch.float64))
    assert state.item() == -0.5


def test_the_input_enters_the_first_micro_step_only() -> None:
    """With closed gates in the first micro-step, the input has no effect."""
    cell = layer_of(depth=3).cell
    width = cell.width
    cell.bias.data[0, width:] = -math.inf
    state = sample(2, 4, seed=3)
    assert torch.equal(cell(sample(2, 3), state), cell(sample(2, 3, seed=4), state))
    assert not torch.equal(cell(sample(2, 3), state), state)  # the later ones do transform the state


# --- general properties


@pytest.mark.parametrize("carry", ["coupled", "independent"])
@pytest.mark.parametrize("activation", ["tanh", "sin"])
def test_closed_gates_return_the_state(carry: str, activation: str) -> None:
    given = torch.sin if activation == "sin" else activation
    layer = RecurrentHighway(3, 4, 5, -math.inf, given, carry, generator=seeded()).double()
    state = sample(2, 4).requires_grad_()
    output, end = layer(sample(7, 2, 3), state)
    assert torch.equal(end, state)
    assert torch.equal(output, state.expand(7, 2, 4))
    cotangent = sample(2, 4, seed=9)
    assert torch.equal(torch.autograd.grad(end, state, cotangent)[0], cotangent)


@pytest.mark.parametrize("carry", ["coupled", "independent"])
def test_the_layer_equals_the_cell_step_by_step(carry: str) -> None:
    layer = layer_of(carry=carry)
    x, state = sample(5, 2, 3), None
    output, end = layer(x)
    for x_t, y_t in zip(x, output, strict=True):
        state = layer.cell(x_t, state)
        assert_close(y_t, state, **EXACT)
    assert_close(end, state, **EXACT)


@pytest.mark.parametrize("cut", [0, 1, 4, 6])
def test_a_sequence_in_two_calls_equals_one_call(cut: int) -> None:
    layer, x = layer_of(), sample(6, 2, 3)
    output, end = layer(x)
    first, handed_on = layer(x[:cut])
    second, last = layer(x[cut:], handed_on)
    assert torch.equal(torch.cat([first, second]), output)
    assert torch.equal(last, end)


def test_batch_first_and_single_sequences_give_the_same_numbers() -> None:
    layer, turned = layer_of(), layer_of(batch_first=True)
    x, state = sample(5, 3, 3), sample(3, 4, seed=3)
    output, end = layer(x, state)
    output_turned, end_turned = turned(x.transpose(0, 1), state)
    assert torch.equal(output_turned, output.transpose(0, 1))
    assert torch.equal(end_turned, end)
    for i in range(3):
        for single in (layer, turned):  # a single sequence is (time, features) either way
            output_single, end_single = single(x[:, i], state[i])
            assert_close(output_single, output[:, i], **EXACT)
            assert_close(end_single, end[i], **EXACT)


def test_sequences_are_independent_and_causal() -> None:
    layer, x = layer_of(), sample(6, 3, 3)
    before, _ = layer(x)
    x[3:, 1] = 7.0
    after, _ = layer(x)
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    assert torch.equal(after[:3], before[:3])
    assert not torch.equal(after[3, 1], before[3, 1])


def test_an_empty_batch_gives_zero_gradients() -> None:
    layer = layer_of()
    output, end = layer(sample(5, 0, 3))
    assert (output.shape, end.shape) == ((5, 0, 4), (0, 4))
    for gradient in torch.autograd.grad(output.sum(), list(layer.parameters())):
        assert not gradient.any()


# --- hooks and initialisation


@pytest.mark.parametrize("carry", ["coupled", "independent"])
def test_hooks_receive_the_gates_of_every_micro_step(carry: str) -> None:
    layer, x = layer_of(carry=carry), sample(5, 2, 3)
    bare, _ = layer(x)
    seen: dict[str, list[Tensor]] = {}
    for name, module in layer.cell.named_modules():
        if name.startswith(("transform_gates.", "carry_gates.", "activation")):
            module.register_forward_hook(lambda _m, _i, out, name=name: seen.setdefault(name, []).append(out))
    output, _ = layer(x)
    assert_close(output, bare, **EXACT)
    assert {name: len(values) for name, values in seen.items() if name != "activation"} == {
        f"{kind}.{step}": 5
        for kind in ("transform_gates", "carry_gates")[: 1 + (carry == "independent")]
        for step in range(3)
    }
    state = torch.zeros(2, 4, dtype=torch.float64)
    for time in range(5):
        for step in range(3):
            t = seen[f"transform_gates.{step}"][time]
            c = seen[f"carry_gates.{step}"][time] if carry == "independent" else 1 - t
            state = seen["activation"][3 * time + step] * t + state * c
        assert_close(output[time], state, **EXACT)


def test_a_hook_can_replace_a_gate() -> None:
    layer, state = layer_of(), sample(2, 4)
    handles = [gate.register_forward_hook(lambda _m, _i, t: torch.zeros_like(t)) for gate in layer.cell.transform_gates]
    assert torch.equal(layer(sample(5, 2, 3), state)[1], state)
    for handle in handles:
        handle.remove()
    assert not torch.equal(layer(sample(5, 2, 3), state)[1], state)


@pytest.mark.parametrize("carry", ["coupled", "independent"])
def test_initialize_covers_every_map_and_keeps_the_gate_bias(carry: str) -> None:
    layer = RecurrentHighway(6, 50, 3, -3.0, carry=carry)
    for parameter in layer.parameters():
        parameter.data.fill_(torch.nan)
    assert initialize(layer, "glorot_uniform", generator=seeded()).skipped == ()
    parts = {part.name: part for part in layer.cell.init_parts()}
    assert len(parts) == (2 + (carry == "independent")) * 4
    for name, part in parts.items():
        expected = 2 / sum(part.weight.shape)  # Glorot & Bengio 2010, eq. 16, fans of one map
        # A uniform variable's sample variance has standard error σ² sqrt((9/5 - 1) / n).
        assert abs(part.weight.var().item() - expected) < 5 * expected * math.sqrt(0.8 / part.weight.numel())
        if not name.startswith("input"):
            start = {"transform": 0.0, "transform_gate": -3.0, "carry_gate": 3.0}[name.split(".")[1]]
            assert part.bias.eq(start).all()
    assert layer.cell.input_weight.shape[1] == 6


def test_the_weights_depend_on_the_generator_only() -> None:
    outer = torch.get_rng_state()
    one, same, other = (RecurrentHighway(3, 4, 2, generator=seeded(seed)).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), outer)
    for name in one:
        assert torch.equal(one[name], same[name])
        assert name.endswith("bias") or not torch.equal(one[name], other[name])


# --- errors


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: RecurrentHighway(0, 4, 2), "inputs must be an integer of at least 1, got 0"),
        (lambda: RecurrentHighway(3, 2.5, 2), "width must be .* got 2.5"),
        (lambda: RecurrentHighwayCell(3, 4, 0), "depth must be .* got 0"),
        (
            lambda: RecurrentHighwayCell(3, 4, 2, gate_bias="depth"),
            "gate_bias must be .* got 'depth'",
        ),
        (lambda: RecurrentHighwayCell(3, 4, 2, activation="tahn"), "did you mean 'tanh'"),
        (lambda: RecurrentHighwayCell(3, 4, 2, carry="couple"), "did you mean 'coupled'"),
        (lambda: RecurrentHighwayCell(3, 4, 2, dropout=1.0), "dropout must be a probability .* got 1.0"),
        (lambda: RecurrentHighwayCell(3, 4, 2, dropout=(0.1, 0.2, 0.3)), r"or two.*got \(0.1, 0.2, 0.3\)"),
        (lambda: RecurrentHighwayCell(3, 4, 2, dropout=0.5)(torch.ones(2, 3)), r"masks = cell.draw_masks\(batch\)"),
    ],
    ids=["inputs", "width", "depth", "gate bias", "activation", "carry", "dropout", "three dropouts", "no masks"],
)
def test_invalid_arguments_raise_with_their_value(build: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda layer: layer(torch.ones(5, 2, 4)), r"\(time, batch, 3\).*got \(5, 2, 4\)"),
        (lambda layer: layer(torch.ones(3)), r"got \(3,\).*layer.cell\(x, state\)"),
        (lambda layer: layer(torch.ones(5, 2, 3), torch.ones(1, 2, 4)), r"\(2, 4\) .* got \(1, 2, 4\)"),
        (lambda layer: layer(torch.ones(5, 3), torch.ones(1, 4)), r"\(4,\) .* got \(1, 4\)"),
        (lambda layer: layer(torch.ones(5, 2, 3), torch.ones(2, 4).double()), "got .* of torch.float64"),
        (lambda layer: layer.cell(torch.ones(5, 2, 3)), r"one time step.*got \(5, 2, 3\).*RecurrentHighway"),
        (lambda layer: layer(nn.utils.rnn.pack_sequence([torch.ones(2, 5)])), r"3 features, got \(5,\)"),
    ],
    ids=["features", "one step", "gru state", "single state", "state type", "cell on sequence", "packed features"],
)
def test_inconsistent_tensors_raise(call: object, says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        call(RecurrentHighway(3, 4, 2))


def test_the_state_does_not_share_memory_with_the_output() -> None:
    layer = layer_of()
    for x, begin in ((sample(6, 2, 3), None), (sample(6, 3), None), (sample(0, 2, 3), sample(2, 4))):
        with torch.no_grad():
            output, end = layer(x, begin)
        kept = [each.clone() for each in (output, end) if each.numel()]
        end += 1.0
        others = [output] if begin is None else [begin]
        assert_close(others, kept[:1] if begin is None else [sample(2, 4)], rtol=0, atol=0)


def test_global_module_hooks_receive_every_gate() -> None:
    layer, x, called = layer_of(depth=3), sample(6, 2, 3), []
    expected = layer(x)[0]
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: called.append(type(module).__name__))
    try:
        output = layer(x)[0]
    finally:
        handle.remove()
    assert called.count("TransformGate") == 3 * 6
    assert_close(output, expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_an_input_of_another_dtype_raises(dtype: torch.dtype) -> None:
    layer, x = layer_of(), sample(6, 2, 3).to(dtype)
    said = rf"torch\.float64 parameters, got a {dtype} input\. Convert one of them, for example with x\.to"
    with pytest.raises(ShapeError, match=said):
        layer(x)
    with pytest.raises(ShapeError, match=said):
        layer.cell(x[0])


@pytest.mark.parametrize("rows", [1, 3])  # one mask for two sequences would be broadcast silently
def test_masks_for_another_batch_size_raise(rows: int) -> None:
    cell = layer_of(dropout=0.5, coins=seeded()).cell
    masks = cell.draw_masks(rows)
    for which in ("input", "state"):
        only = DropoutMasks(**{which: getattr(masks, which)})
        with pytest.raises(ShapeError, match=rf"mask of the {which} must be \(2, .*got \({rows}, .*draw_masks\(2\)"):
            cell(sample(2, 3), None, only)
