"""The fused stack compared with separate layers, plain operations, finite differences and closed forms."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, hessian, jacfwd, jacrev, jvp, vmap

from thruway.errors import ConfigError, ShapeError
from thruway.nn import HighwayConv2d, HighwayLinear, HighwayStack, RecurrentHighway
from thruway.nn.stack import layered_state_dict, stacked_state_dict
from thruway.nn.stack_autograd import highway_stack
from thruway.nn.stack_kernel import FUSED_ACTIVATIONS

FLOAT64 = {"dtype": torch.float64}
EXACT = {"rtol": 1e-12, "atol": 1e-13}  # float64: the same sums in another order
SINGLE = {"rtol": 2e-5, "atol": 1e-6}  # float32: ~10 layers of rounding at 6e-8


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stack_of(width=4, depth=5, activation="tanh", gate_bias=-1.0, **more):
    return HighwayStack(width, depth, activation, gate_bias, generator=generator(), **{**FLOAT64, **more})


def inputs(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=generator(seed))


def kernel_inputs(members=1, depth=4, width=3, batch=5):
    rng = generator(2)
    shapes = (members, width, batch), (members, depth, 2 * width, width), (members, depth, 2 * width)
    return tuple(torch.randn(shape, generator=rng, **FLOAT64).requires_grad_() for shape in shapes)


def reference(x, layers):
    """The papers' formula, one example, one unit and one layer at a time."""
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        for layer in layers:
            width = layer.width
            z = [layer.bias[k] + sum(layer.weight[k, j] * row[j] for j in range(width)) for k in range(2 * width)]
            h = [torch.tanh(value) for value in z[:width]]
            t = [1 / (1 + torch.exp(-value)) for value in z[width:]]
            row = torch.stack([h[k] * t[k] + row[k] * (1 - t[k]) for k in range(width)])
        rows.append(row)
    return torch.stack(rows).reshape(x.shape)


@pytest.mark.parametrize("recompute", [False, True])
def test_values_equal_the_papers_formula(recompute):
    stack, x = stack_of(3, 4, recompute=recompute), inputs(2, 3)
    torch.testing.assert_close(stack(x), reference(x, stack.to_layers()), **EXACT)


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh", "sigmoid", "elu", "gelu", "silu", "softsign", "selu"])
@pytest.mark.parametrize("recompute", [False, True])
def test_values_and_gradients_equal_the_layers(activation, recompute):
    stack, x = stack_of(activation=activation, recompute=recompute), inputs(6, 4).requires_grad_()
    layers, twin_x = stack.to_layers(), inputs(6, 4).requires_grad_()
    y, twin_y = stack(x), layers(twin_x)
    g = inputs(6, 4, seed=3)
    y.backward(g)
    twin_y.backward(g)
    torch.testing.assert_close(y, twin_y, **EXACT)
    torch.testing.assert_close(x.grad, twin_x.grad, **EXACT)
    torch.testing.assert_close(stack.weight.grad, torch.stack([layer.weight.grad for layer in layers]), **EXACT)
    torch.testing.assert_close(stack.bias.grad, torch.stack([layer.bias.grad for layer in layers]), **EXACT)


@pytest.mark.parametrize("activation", sorted(FUSED_ACTIVATIONS))
@pytest.mark.parametrize("segment", [None, 1, 3, 4, 9])  # 9: more than the number of layers
def test_gradcheck_and_gradgradcheck(activation, segment):
    tensors = kernel_inputs()
    assert torch.autograd.gradcheck(lambda *t: highway_stack(*t, activation, segment), tensors)
    assert torch.autograd.gradgradcheck(lambda *t: highway_stack(*t, activation, segment), tensors)


def test_gradcheck_with_members():
    tensors = kernel_inputs(members=3, depth=2)
    assert torch.autograd.gradcheck(lambda *t: highway_stack(*t, "tanh", None), tensors)


def test_recomputation_changes_no_bit():
    x = inputs(7, 4)
    kept, again = stack_of(depth=11, recompute=False), stack_of(depth=11, recompute=True)
    for stack in (kept, again):
        stack(x).square().sum().backward()
    assert torch.equal(kept.weight.grad, again.weight.grad)
    assert torch.equal(kept.bias.grad, again.bias.grad)


@settings(max_examples=40, deadline=None)
@given(
    lead=st.lists(st.integers(0, 3), max_size=3),
    width=st.integers(1, 6),
    depth=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    recompute=st.booleans(),
)
def test_any_shape_and_dtype_equals_the_layers(lead, width, depth, dtype, recompute):
    stack = stack_of(width, depth, recompute=recompute, dtype=dtype)
    x = inputs(*lead, width).to(dtype)
    # bfloat16 keeps 8 bits: each layer may round differently by 2**-8, and errors add up over the depth.
    tolerance = {torch.float64: EXACT, torch.float32: SINGLE, torch.bfloat16: {"rtol": 0.05, "atol": 0.05}}[dtype]
    y = stack(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, stack.to_layers()(x), **tolerance)


def test_bfloat16_gradients_agree_with_float64():
    exact, x = stack_of(depth=6), inputs(32, 4)
    coarse = copy.deepcopy(exact).bfloat16()
    exact(x).square().mean().backward()
    coarse(x.bfloat16()).square().mean().backward()
    error = (coarse.weight.grad.double() - exact.weight.grad).norm() / exact.weight.grad.norm()
    assert error < 0.05  # a few of bfloat16's 2**-8 = 0.004 per layer


@pytest.mark.parametrize("bad", [float("-inf")])
def test_closed_gates_carry_the_input_bit_for_bit(bad):
    stack, x = stack_of(gate_bias=bad), inputs(5, 4)
    assert torch.equal(stack(x), x)


def test_open_gates_give_the_plain_network():
    stack, x = stack_of(gate_bias=float("inf"), depth=3), inputs(5, 4)
    plain = x
    for layer in stack.to_layers():
        plain = torch.tanh(plain @ layer.weight[:4].T + layer.bias[:4])
    torch.testing.assert_close(stack(x), plain, **EXACT)


def test_jacobian_is_the_closed_form():
    """J = diag(T) H' + diag(1 - T) + diag((H - x) T (1 - T)) W_T, Training Very Deep Networks, eqs. 2-5."""
    stack, x = stack_of(depth=1), inputs(4)
    w_h, w_t = stack.weight[0, :4], stack.weight[0, 4:]
    b_h, b_t = stack.bias[0, :4], stack.bias[0, 4:]
    h, t = torch.tanh(w_h @ x + b_h), torch.sigmoid(w_t @ x + b_t)
    slope = torch.diag(1 - h**2) @ w_h
    closed = torch.diag(t) @ slope + torch.diag(1 - t) + torch.diag((h - x) * t * (1 - t)) @ w_t
    torch.testing.assert_close(jacrev(stack)(x), closed.detach(), **EXACT)


@pytest.mark.parametrize("transform", [jacrev, jacfwd, hessian])
def test_torch_func_transforms_equal_those_of_the_layers(transform):
    stack = stack_of(3, 2)
    layers, x = stack.to_layers(), inputs(2, 3)
    torch.testing.assert_close(transform(stack)(x), transform(layers)(x), **EXACT)


def test_jvp_and_vmap_and_their_nesting():
    stack, x, v = stack_of(3, 3), inputs(5, 2, 3), inputs(5, 2, 3, seed=4)
    layers = stack.to_layers()
    torch.testing.assert_close(jvp(stack, (x,), (v,))[1], jvp(layers, (x,), (v,))[1], **EXACT)
    torch.testing.assert_close(vmap(stack)(x), layers(x), **EXACT)
    torch.testing.assert_close(vmap(vmap(stack))(x), layers(x), **EXACT)
    torch.testing.assert_close(vmap(stack, in_dims=1, out_dims=1)(x), layers(x), **EXACT)


@pytest.mark.parametrize("recompute", [False, True])
def test_vmap_over_weights_equals_a_loop_over_stacks(recompute):
    stacks = [HighwayStack(3, 4, "tanh", recompute=recompute, generator=generator(k), **FLOAT64) for k in range(3)]
    params = {n: torch.stack([s.state_dict()[n] for s in stacks]).requires_grad_() for n in ("weight", "bias")}
    x = inputs(6, 3)
    y = vmap(lambda p: functional_call(stacks[0], p, (x,)))(params)
    y.square().sum().backward()
    for k, stack in enumerate(stacks):
        own = stack(x)
        own.square().sum().backward()
        torch.testing.assert_close(y[k], own, **EXACT)
        torch.testing.assert_close(params["weight"].grad[k], stack.weight.grad, **EXACT)
        torch.testing.assert_close(params["bias"].grad[k], stack.bias.grad, **EXACT)


def test_a_second_backward_over_a_retained_graph_equals_the_first():
    stack, x = stack_of(), inputs(6, 4)
    loss = stack(x).square().sum()
    first = torch.autograd.grad(loss, stack.weight, retain_graph=True)[0]
    second = torch.autograd.grad(loss, stack.weight)[0]
    assert torch.equal(first, second)


def test_autocast_agrees_with_the_layers_and_keeps_the_dtype_of_the_carry():
    stack, x = stack_of(dtype=torch.float32), inputs(6, 4, dtype=torch.float32)
    layers = stack.to_layers()
    with torch.autocast("cpu", torch.bfloat16):
        y, twin = stack(x), layers(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, twin, **SINGLE)
    assert not torch.equal(y, stack(x)), "autocast had no effect"


def test_states_contain_every_input_transform_and_gate():
    stack, x = stack_of(), inputs(2, 3, 4)
    states = stack.layer_states(x)
    y = x
    for k, layer in enumerate(stack.to_layers()):
        seen = {}
        handles = [
            layer.transform_gate.register_forward_hook(lambda _m, _i, out, seen=seen: seen.update(t=out)),
            layer.activation.register_forward_hook(lambda _m, _i, out, seen=seen: seen.update(h=out)),
        ]
        torch.testing.assert_close(states.x[k], y, **EXACT)
        y = layer(y)
        torch.testing.assert_close(states.t[k], seen["t"], **EXACT)
        torch.testing.assert_close(states.h[k], seen["h"], **EXACT)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("activation", ["tanh", "gelu"])  # the fused and the plain implementation
@pytest.mark.parametrize("recompute", [False, True])
def test_a_hook_on_the_states_changes_no_result(activation, recompute):
    x, runs = inputs(5, 4), []
    for hooked in (False, True):
        stack = stack_of(activation=activation, recompute=recompute)
        seen = []
        if hooked:
            stack.states.register_forward_hook(lambda _m, _i, states, seen=seen: seen.append(states))
        y = stack(x)
        y.sum().backward()
        assert len(seen) == hooked
        runs.append((y, stack.weight.grad))
    torch.testing.assert_close(runs[0], runs[1], **EXACT)


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_layer_states_calls_no_hooks(activation):
    stack, x, called = stack_of(activation=activation), inputs(5, 4), []
    stack.register_forward_hook(lambda *_: called.append("stack"))
    stack.states.register_forward_hook(lambda *_: called.append("states"))
    states = stack.layer_states(x)
    assert called == []
    torch.testing.assert_close(torch.lerp(states.x[-1], states.h[-1], states.t[-1]), stack(x), **EXACT)
    assert called == ["states", "stack"]


def test_an_empty_batch_has_an_empty_input_gradient():
    x = torch.empty(0, 4, **FLOAT64, requires_grad=True)
    stack_of(4, 3)(x).sum().backward()
    assert x.grad.shape == (0, 4)


def test_state_dicts_convert_both_ways():
    stack = stack_of()
    layers = nn.Sequential(*(HighwayLinear(4, "tanh", generator=generator(9), **FLOAT64) for _ in range(5)))
    layers.load_state_dict(layered_state_dict(stack.state_dict()))
    x = inputs(3, 4)
    torch.testing.assert_close(layers(x), stack(x), **EXACT)
    back = stacked_state_dict(layers.state_dict())
    assert all(torch.equal(back[name], value) for name, value in stack.state_dict().items())
    assert torch.equal(HighwayStack.from_layers(layers)(x), stack(x))


def test_conversion_does_not_advance_the_global_generator():
    stack = stack_of()
    before = torch.get_rng_state()
    HighwayStack.from_layers(stack.to_layers())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_gives_the_same_weights_as_for_separate_layers():
    rng = generator(5)
    layers = nn.Sequential(*(HighwayLinear(4, "relu", -2.0, generator=rng) for _ in range(3)))
    stack = HighwayStack(4, 3, "relu", -2.0, generator=generator(5))
    assert torch.equal(stack.weight, torch.stack([layer.weight for layer in layers]))
    assert torch.equal(stack.bias, torch.stack([layer.bias for layer in layers]))


def test_init_parts_list_each_map_of_each_layer_once():
    stack = stack_of(3, 2)
    parts = list(stack.init_parts())
    assert [part.name for part in parts] == ["0.transform", "0.transform_gate", "1.transform", "1.transform_gate"]
    for part in parts:
        part.weight.add_(1)
    assert torch.equal(stack.weight, stack_of(3, 2).weight + 1)


def test_copies_and_pickles():
    stack, x = stack_of(), inputs(3, 4)
    assert torch.equal(copy.deepcopy(stack)(x), stack(x))
    assert torch.equal(pickle.loads(pickle.dumps(stack))(x), stack(x))


def test_depth_sets_the_gate_bias_of_the_papers():
    for depth, bias in ((10, -1.0), (20, -2.0), (30, -3.0)):
        stack = HighwayStack(2, depth, gate_bias="depth", generator=generator())
        assert torch.equal(stack.bias[:, 2:], torch.full((depth, 2), bias))
        assert stack.bias[:, :2].abs().max() == 0


def test_no_states_are_kept_without_gradients():
    """Without a graph the states of all layers are never held at once."""
    stack, x = stack_of(depth=400, recompute=False), inputs(64, 4)
    on_cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.no_grad(), torch.profiler.profile(activities=on_cpu, profile_memory=True) as profile:
        stack(x)
    one_layer = 3 * x.numel() * x.element_size()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 100 * one_layer  # 400 if all were kept, about 2 sqrt(400) = 40 with segments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width must be an integer of at least 1, got 0"),
        ({"depth": 0}, "depth must be an integer of at least 1, got 0"),
        ({"activation": "rleu"}, "did you mean 'relu'"),
        ({"activation": torch.tanh}, "takes the name of an activation"),
        ({"gate_bias": "deep"}, "gate_bias must be a number or 'depth', got 'deep'"),
        ({"recompute": "often"}, "recompute must be True, False or 'auto', got 'often'"),
    ],
)
def test_invalid_arguments_raise_with_the_value_and_the_allowed_ones(arguments, message):
    with pytest.raises(ConfigError) as error:
        HighwayStack(**{"width": 2, "depth": 2, **arguments})
    assert message in str(error.value)


def test_invalid_inputs_raise_with_advice():
    stack = stack_of()
    with pytest.raises(ShapeError, match=r"takes inputs of shape \(\.\.\., 4\), got \(2, 3\)"):
        stack(inputs(2, 3))
    with pytest.raises(ShapeError, match=r"torch\.float64 parameters, got a torch\.float32 input"):
        stack(inputs(2, 4).float())
    with pytest.raises(ShapeError, match=r"takes inputs of shape \(\.\.\., 4\), got \(2, 3\)"):
        stack.layer_states(inputs(2, 3))
    with pytest.raises(ConfigError, match="layer 1 has width 3"):
        HighwayStack.from_layers(nn.Sequential(HighwayLinear(2), HighwayLinear(3)))
    with pytest.raises(ConfigError, match="coupled HighwayLinear"):
        HighwayStack.from_layers(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ShapeError, match=r"expected the keys 0\.weight"):
        stacked_state_dict({"1.weight": torch.zeros(4, 2)})


def quietly(call):
    """Ignore the own warnings of compilers and tracers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def test_aot_autograd_compiles_one_graph():
    stack, x = stack_of(), inputs(6, 4)
    torch.compiler.reset()
    compiled = torch.compile(stack, backend="aot_eager", fullgraph=True)
    quietly(lambda: compiled(x).square().sum().backward())
    ours, stack.weight.grad = stack.weight.grad, None
    stack(x).square().sum().backward()
    torch.testing.assert_close(ours, stack.weight.grad, **EXACT)
    with torch.no_grad():
        torch.testing.assert_close(quietly(lambda: compiled(x)), stack(x), **EXACT)
    torch.compiler.reset()


def test_export_with_any_batch():
    stack = stack_of()
    exported = quietly(
        lambda: torch.export.export(stack, (inputs(3, 4),), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    )
    torch.testing.assert_close(exported.module()(inputs(7, 4)), stack(inputs(7, 4)), **EXACT)


TRACED = {
    "stack": lambda: (stack_of(), inputs(3, 4)),
    "convolution": lambda: (HighwayConv2d(2, 3, **FLOAT64), inputs(2, 2, 4, 4)),
    "recurrent": lambda: (RecurrentHighway(4, 5, 2, **FLOAT64), inputs(3, 2, 4)),
}


@pytest.mark.parametrize("name", TRACED)
def test_a_trace_can_be_saved_and_read(name):
    layer, x = TRACED[name]()
    file = io.BytesIO()
    quietly(lambda: torch.jit.save(torch.jit.trace(layer, (x,)), file))
    file.seek(0)
    ours, wanted = quietly(lambda: torch.jit.load(file))(x), layer(x)
    torch.testing.assert_close(ours, wanted, **EXACT)


@pytest.mark.gpu
@pytest.mark.parametrize("recompute", [False, True])
def test_cuda_equals_cpu(recompute):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    stack, x = stack_of(recompute=recompute), inputs(6, 4)
    twin = copy.deepcopy(stack).cuda()
    stack(x).square().sum().backward()
    twin(x.cuda()).square().sum().backward()
    torch.testing.assert_close(twin.weight.grad.cpu(), stack.weight.grad, **EXACT)
