"""The fused convolutional highway layer: equal to the unfused one bit for bit, and not used where unsupported."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayConv3d

LAYERS = {1: HighwayConv1d, 2: HighwayConv2d, 3: HighwayConv3d}
FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


def layer_of(dims=2, activation="relu", dtype=torch.float32, **more):
    made = LAYERS[dims](4, 3, activation, gate_bias=-0.5, generator=torch.Generator().manual_seed(0), **more)
    return made.to(dtype)


def batch(dims=2, dtype=torch.float32, side=6):
    return torch.randn(5, 4, *[side] * dims, generator=torch.Generator().manual_seed(1)).to(dtype)


def unfused(layer):
    """A copy with a hook, which runs unfused."""
    twin = copy.deepcopy(layer)
    twin.transform_gate.register_forward_hook(lambda *_: None)
    return twin


def passed(layer, x, g=None):
    """(y, dL/dx, dL/dweight, dL/dbias)"""
    x = x.detach().requires_grad_()
    y = layer(x)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype) if g is None else g
    return (y, *torch.autograd.grad(y, [x, *layer.parameters()], g))


def is_joined(y):
    return type(y.grad_fn).__name__.startswith("_HighwayConv")


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_fused_layer_equals_the_unfused_one_bit_for_bit(activation, dims, dtype):
    layer, x = layer_of(dims, activation, dtype), batch(dims, dtype)
    joined, single = passed(layer, x), passed(unfused(layer), x)
    assert is_joined(joined[0])
    assert not is_joined(single[0])
    assert all(torch.equal(a, b) for a, b in zip(joined, single, strict=True))


@pytest.mark.parametrize("dims", FORMATS)
def test_channels_last_is_kept_and_gives_the_same_bits(dims):
    layer, x = layer_of(dims), batch(dims).contiguous(memory_format=FORMATS[dims])
    joined, single = passed(layer, x), passed(unfused(layer), x)
    assert is_joined(joined[0])
    assert joined[0].is_contiguous(memory_format=FORMATS[dims])
    assert all(torch.equal(a, b) for a, b in zip(joined, single, strict=True))


STRIDED = {
    "every second column": lambda x: x[..., ::2],
    "transposed": lambda x: x.transpose(2, 3),
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("case", STRIDED)
def test_strided_and_empty_inputs(case):
    layer, x = layer_of(), STRIDED[case](batch())
    joined, single = passed(layer, x), passed(unfused(layer), x)
    assert is_joined(joined[0])
    assert all(torch.equal(a, b) for a, b in zip(joined, single, strict=True))


def test_the_gradient_may_be_expanded_and_the_graph_kept():
    layer, x = layer_of(), batch().requires_grad_()
    y = layer(x)
    first = torch.autograd.grad(y.sum(), [x, *layer.parameters()], retain_graph=True)
    second = torch.autograd.grad(y.sum(), [x, *layer.parameters()])
    twin = unfused(layer)
    wanted = torch.autograd.grad(twin(x).sum(), [x, *twin.parameters()])
    for found in (first, second):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_second_derivatives(activation):
    layer, x = layer_of(2, activation, torch.float64), batch(2, torch.float64, side=3)[:2].requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_frozen_tensors_get_no_gradient(frozen):
    layer = layer_of()
    getattr(layer, frozen).requires_grad_(False)
    layer(batch()).sum().backward()
    assert getattr(layer, frozen).grad is None
    free = next(p for name, p in layer.named_parameters() if name != frozen)
    twin = unfused(layer)
    twin.zero_grad()
    twin(batch()).sum().backward()
    assert torch.equal(free.grad, next(p for name, p in twin.named_parameters() if name != frozen).grad)


class Recording(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.functions = [*getattr(self, "functions", []), function]
        return function(*args, **kwargs or {})


def test_a_function_mode_sees_the_gate_and_changes_no_bit():
    layer, x = layer_of(), batch()
    alone = layer(x)
    with Recording() as mode:
        recorded = layer(x)
    assert torch.sigmoid in mode.functions
    assert torch.equal(alone, recorded)


HEARD = {
    "gate": lambda layer: layer.transform_gate.register_forward_hook(lambda *_: None),
    "activation": lambda layer: layer.activation.register_forward_pre_hook(lambda *_: None),
    "gradient": lambda layer: layer.transform_gate.register_full_backward_hook(lambda *_: None),
    "everything": lambda layer: nn.modules.module.register_module_forward_hook(lambda *_: None),
}


@pytest.mark.parametrize("where", HEARD)
def test_hooks_are_called_until_they_are_removed(where):
    layer, x = layer_of(), batch().requires_grad_()
    handle = HEARD[where](layer)
    try:
        assert not is_joined(layer(x))
    finally:
        handle.remove()
    assert is_joined(layer(x))


OTHERWISE = {
    "independent carry": lambda: layer_of(carry="independent"),
    "groups": lambda: layer_of(groups=2),
    "reflected": lambda: layer_of(padding_mode="reflect"),
    "activation without a row": lambda: layer_of(activation=nn.LeakyReLU()),
    "slope does not follow from the value": lambda: layer_of(activation="gelu"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_other_layers_run_unfused(case):
    assert not is_joined(OTHERWISE[case]()(batch()))


def test_one_sample_runs_unfused_and_agrees():
    layer, x = layer_of(), batch()
    assert not is_joined(layer(x[0]))
    # A convolution of one image may add up in another order: float32, sums of 36 numbers around 1.
    torch.testing.assert_close(layer(x[0]), layer(x)[0], rtol=0, atol=2e-6)


def test_a_replaced_activation_is_used():
    layer, x = layer_of(activation="relu"), batch()
    twin = layer_of(activation="tanh")
    twin.load_state_dict(layer.state_dict())
    layer.activation = nn.Tanh()
    assert is_joined(layer(x))
    assert torch.equal(layer(x), twin(x))


def test_torch_func_transforms():
    layer, x = layer_of(dtype=torch.float64), batch(dtype=torch.float64)

    def loss(x):
        return layer(x).square().sum()

    wanted = torch.autograd.grad(loss(x.requires_grad_()), x)[0]
    # float64, other orders of summation
    torch.testing.assert_close(torch.func.grad(loss)(x.detach()), wanted, rtol=1e-12, atol=1e-12)
    each = torch.func.vmap(torch.func.grad(lambda one: loss(one[None])))(x.detach())
    torch.testing.assert_close(each, wanted, rtol=1e-12, atol=1e-12)
    tangent = torch.ones_like(x)
    tangent_out = torch.func.jvp(loss, (x.detach(),), (tangent,))[1]
    torch.testing.assert_close(tangent_out, (wanted * tangent).sum(), rtol=1e-12, atol=1e-12)


def test_forward_mode():
    layer, x = layer_of(dtype=torch.float64), batch(dtype=torch.float64)
    with forward_ad.dual_level():
        tangent_out = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    wanted = (layer(x + 1e-6) - layer(x - 1e-6)) / 2e-6
    torch.testing.assert_close(
        tangent_out, wanted, rtol=0, atol=1e-8
    )  # truncation error 1e-12, rounding error 1e-16 / 1e-6


def test_autocast_runs_unfused():
    layer, x = layer_of(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert not is_joined(y)
    assert y.dtype == torch.float32  # the carry path keeps its precision


def test_the_memory_of_the_pre_activations_is_reused():
    """The backward pass saves x, the parameters, and one tensor of H and T."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer_of()(batch().requires_grad_())
    channels = sorted(t.shape[1] if t.ndim == 4 else 0 for t in kept)
    assert channels == [0, 4, 4, 8]  # bias; x, weight; H over T
