"""Highway layers compared with the papers' equations and with slow reference implementations."""

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_cases import CASES, HIGHWAYS, Case, named, run_with_hooks, seeded
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from thruway.activations import ACTIVATIONS
from thruway.errors import ConfigError, ShapeError
from thruway.nn import HighwayConv1d, HighwayConv2d, HighwayConv3d, HighwayLinear, Plain
from thruway.nn.gates import mix

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # float64, sums of fewer than 100 terms of size 1
TOL = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 0.1}  # a few dozen roundings each


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with several, tensors this small take up to 100 times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_a_closed_gate_gives_the_identity(case: Case) -> None:
    block, x = case.block(gate_bias=-math.inf), case.batch().requires_grad_()
    assert torch.equal(block(x), x)
    cotangent = case.batch(seed=7)
    (gradient,) = torch.autograd.grad(block(x), x, cotangent)
    assert torch.equal(gradient, cotangent)  # eq. 5: dy/dx = I


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_an_open_gate_gives_the_transform(case: Case) -> None:
    block, x = case.block(gate_bias=math.inf), case.batch().requires_grad_()
    seen = run_with_hooks(block, x)
    assert torch.equal(seen["y"], seen["h"])
    assert not torch.equal(seen["h"], x)
    cotangent = case.batch(seed=7)
    of_y, of_h = (torch.autograd.grad(seen[name], x, cotangent, retain_graph=True)[0] for name in "yh")
    assert_close(of_y, of_h, **EXACT)  # eq. 5: dy/dx = H'


@pytest.mark.parametrize("case", **named(HIGHWAYS))
def test_hooks_receive_h_and_t_of_the_pass(case: Case) -> None:
    x = case.batch()
    seen = run_with_hooks(case.block(), x)
    carry = seen.get("c", 1 - seen["t"])
    assert ("c" in seen) == ("independent" in case.name)
    assert_close(seen["y"], seen["h"] * seen["t"] + x * carry, **EXACT)  # eq. 2, 3


@pytest.mark.parametrize("carry", ["coupled", "independent"])
def test_the_jacobian_equals_the_closed_form(carry: str) -> None:
    layer = HighwayLinear(5, "tanh", -0.5, carry, dtype=torch.float64, generator=seeded())
    layer.bias.data.add_(0.3 * torch.randn(layer.bias.shape, dtype=torch.float64, generator=seeded(2)))
    x = torch.randn(5, dtype=torch.float64, generator=seeded(1))
    parts = {part.name: part for part in layer.init_parts()}
    W_H, W_T = parts["transform"].weight, parts["transform_gate"].weight
    seen = run_with_hooks(layer, x)
    h, t = seen["h"], seen["t"]
    H_slope = torch.diag(1 - h**2) @ W_H
    if carry == "coupled":
        expected = torch.diag(t) @ H_slope + torch.diag(1 - t) + torch.diag((h - x) * t * (1 - t)) @ W_T
    else:
        c, W_C = seen["c"], parts["carry_gate"].weight
        expected = torch.diag(t) @ H_slope + torch.diag(h * t * (1 - t)) @ W_T
        expected = expected + torch.diag(c) + torch.diag(x * c * (1 - c)) @ W_C
    assert_close(torch.func.jacrev(layer)(x), expected, **EXACT)


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 6),
    leading=st.lists(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from(sorted(TOL, key=str)),
    name=st.sampled_from(sorted(ACTIVATIONS)),
    carry=st.sampled_from(["coupled", "independent"]),
    seed=st.integers(0, 99),
)
def test_one_joint_gemm_equals_one_linear_per_map(
    width: int, leading: list[int], dtype: torch.dtype, name: str, carry: str, seed: int
) -> None:
    layer = HighwayLinear(width, name, -1.0, carry, dtype=dtype, generator=seeded(seed))
    x = torch.randn(*leading, width, generator=seeded(seed + 1)).to(dtype)
    y = layer(x)
    assert (y.dtype, y.shape) == (dtype, x.shape)
    maps = {}
    for part in layer.init_parts():
        linear = nn.Linear(width, width, dtype=torch.float64)
        linear.load_state_dict({"weight": part.weight.double(), "bias": part.bias.double()})
        maps[part.name] = linear
    wide = x.double()
    h, t = ACTIVATIONS[name].function(maps["transform"](wide)), maps["transform_gate"](wide).sigmoid()
    c = maps["carry_gate"](wide).sigmoid() if carry == "independent" else 1 - t
    assert_close(y.double(), h * t + wide * c, rtol=TOL[dtype], atol=TOL[dtype])


CONVOLUTIONS = {
    1: (HighwayConv1d, nn.Conv1d),
    2: (HighwayConv2d, nn.Conv2d),
    3: (HighwayConv3d, nn.Conv3d),
}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_joint_convolution_equals_one_per_map(data: st.DataObject) -> None:
    dims = data.draw(st.integers(1, 3))
    groups = data.draw(st.integers(1, 3))
    channels = groups * data.draw(st.integers(1, 2))
    kernel = tuple(data.draw(st.sampled_from([1, 3, 5])) for _ in range(dims))
    dilation = tuple(data.draw(st.integers(1, 2)) for _ in range(dims))
    mode = data.draw(st.sampled_from(["zeros", "replicate", "circular", "reflect"]))
    carry = data.draw(st.sampled_from(["coupled", "independent"]))
    size = tuple(data.draw(st.integers(5, 7)) for _ in range(dims))  # circular and reflect need more than the padding
    fused, single = CONVOLUTIONS[dims]
    layer = fused(
        channels,
        kernel,
        "tanh",
        -1.0,
        carry,
        dilation=dilation,
        groups=groups,
        padding_mode=mode,
        dtype=torch.float64,
        generator=seeded(),
    )
    layer.bias.data.add_(torch.randn(layer.bias.shape, dtype=torch.float64, generator=seeded(2)))
    x = torch.randn(2, channels, *size, dtype=torch.float64, generator=seeded(1))
    maps = {}
    for part in layer.init_parts():
        conv = single(
            channels, channels, kernel, padding="same", dilation=dilation, groups=groups, padding_mode=mode
        ).double()
        conv.load_state_dict({"weight": part.weight, "bias": part.bias})
        maps[part.name] = conv(x)
    t = maps["transform_gate"].sigmoid()
    c = maps["carry_gate"].sigmoid() if carry == "independent" else 1 - t
    assert_close(layer(x), maps["transform"].tanh() * t + x * c, rtol=1e-11, atol=1e-11)  # up to 125 · 6 terms


def test_a_stack_of_200_layers_propagates_the_gradient() -> None:
    layers = nn.Sequential(*(HighwayLinear(8, "tanh", -5.0, generator=seeded(i)) for i in range(200))).double()
    plain = nn.Sequential(*(Plain(8, 8, "sigmoid", generator=seeded(i)) for i in range(200))).double()
    x = torch.randn(4, 8, dtype=torch.float64, generator=seeded(1))
    norms = [
        torch.autograd.grad(net(leaf).sum(), leaf)[0].norm()
        for net in (layers, plain)
        for leaf in [x.clone().requires_grad_()]
    ]
    assert norms[0] > 0.1
    assert norms[1] < 1e-12


IN_PLACE = {
    "linear": (lambda activation: HighwayLinear(4, activation, generator=seeded()), (3, 4)),
    "conv": (lambda activation: HighwayConv2d(4, 3, activation, generator=seeded()), (2, 4, 3, 3)),
    "conv_depthwise": (lambda activation: HighwayConv1d(4, 3, activation, groups=4, generator=seeded()), (2, 4, 3)),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_activations_may_work_in_place(name: str) -> None:
    build, shape = IN_PLACE[name]
    x = torch.randn(shape, generator=seeded(1))
    gradients = []
    for activation in ("relu", nn.ReLU(inplace=True)):
        block = build(activation)
        (block(x) ** 2).sum().backward()
        gradients.append(block.weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("carry", ["coupled", "independent"])
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_maps_start_with_glorots_variance_for_their_own_fans(name: str, carry: str) -> None:
    width = 64
    layer = HighwayLinear(width, name, -2.0, carry, generator=seeded())
    conv = HighwayConv2d(32, 3, name, -2.0, carry, groups=4, generator=seeded())
    for part, fan in [*((p, width) for p in layer.init_parts()), *((p, 8 * 9) for p in conv.init_parts())]:
        gain = ACTIVATIONS[name].gain if part.name == "transform" else 1.0
        expected = gain**2 / fan  # 2 / (fan_in + fan_out), equal fans
        # A uniform variable's sample variance has standard error σ² sqrt((9/5 - 1) / n).
        assert abs(part.weight.var().item() - expected) < 5 * expected * math.sqrt(0.8 / part.weight.numel())
        start = {"transform": 0.0, "transform_gate": -2.0, "carry_gate": 2.0}[part.name]
        assert part.bias.eq(start).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_gives_the_same_weights_as_name_function_and_module(name: str) -> None:
    row = ACTIVATIONS[name]
    ways = [name, row.function, row.module()]
    ways += [getattr(place, name) for place in (torch, F) if hasattr(place, name)]
    first, *others = (HighwayLinear(4, way, generator=seeded()).weight for way in ways)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("activation", [torch.sin, nn.ELU(alpha=2.0), nn.GELU("tanh")])
def test_an_unnamed_activation_is_not_mistaken_for_a_named_one(activation: object) -> None:
    layer = HighwayLinear(4, activation, generator=seeded())
    assert layer.activation_name is None
    assert torch.equal(layer.weight, HighwayLinear(4, "linear", generator=seeded()).weight)  # gain 1


@pytest.mark.parametrize("case", **named(tuple(case for case in CASES if case.name.startswith(("linear", "conv")))))
def test_init_parts_are_views_that_cover_the_parameters_once(case: Case) -> None:
    block = case.block()
    for parameter in block.parameters():
        parameter.data.zero_()
    for part in block.init_parts():
        part.weight.add_(1.0)
        part.bias.add_(1.0)
    assert all(parameter.eq(1.0).all() for parameter in block.parameters())


def test_mix_is_exact_for_open_and_closed_gates() -> None:
    x, h = torch.randn(2, 1000, generator=seeded())
    assert torch.equal(mix(x, h, torch.zeros(1000)), x)
    assert torch.equal(mix(x, h, torch.ones(1000)), h)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: HighwayLinear(0), "width must be an integer of at least 1, got 0"),
        (lambda: HighwayLinear(2.5), "got 2.5"),
        (lambda: HighwayLinear(True), "got True"),
        (lambda: HighwayLinear(3, "rleu"), "did you mean 'relu'"),
        (lambda: HighwayLinear(3, carry="couple"), "did you mean 'coupled'"),
        (lambda: HighwayLinear(3, carry=[]), "unknown carry"),
        (lambda: HighwayLinear(3, gate_bias=math.nan), "gate_bias must be a number.*got nan"),
        (lambda: HighwayLinear(3, gate_bias=True), "got True"),
        (lambda: HighwayLinear(3, gate_bias="depth"), "gate_bias must be .*got 'depth'.*gate_bias_for_depth"),
        (lambda: HighwayConv1d(3, 3, gate_bias="depth"), "only HighwayStack and networks.mlp accept 'depth'"),
        (lambda: HighwayConv2d(3, 4), "kernel_size must be odd, got 4.*next odd size"),
        (lambda: HighwayConv2d(3, (3, 2)), r"must be odd, got \(3, 2\)"),
        (lambda: HighwayConv2d(3, (3, 3, 3)), "one number or 2"),
        (lambda: HighwayConv3d(3, 3, dilation=0), "dilation must be"),
        (lambda: HighwayConv1d(4, 3, groups=3), "channels=4 and groups=3"),
        (lambda: HighwayConv1d(4, 3, padding_mode="reflct"), "did you mean 'reflect'"),
    ],
)
def test_invalid_arguments_raise_with_their_value(build: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build()


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (HighwayLinear(3), (2, 4)),
        (HighwayLinear(3), ()),
        (HighwayConv1d(3, 1), (2, 4, 5)),
        (HighwayConv1d(3, 1), (2, 2, 3, 5)),
        (HighwayConv2d(3, 1), (3,)),
        (Plain(3), (3, 2)),
    ],
)
def test_inputs_of_another_size_raise(block: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=rf"{type(block).__name__} takes .*3.* got .*\({', '.join(map(str, shape))}"):
        block(torch.ones(shape))


def test_plain_is_an_affine_map_and_its_activation() -> None:
    layer = Plain(3, 5, F.silu, dtype=torch.float64, generator=seeded())
    layer.bias.data.normal_(generator=seeded(1))
    x = torch.randn(4, 3, dtype=torch.float64, generator=seeded(2))
    assert_close(layer(x), F.silu(x @ layer.weight.T + layer.bias), **EXACT)
