"""Convolutional highway networks: published counts, a slow reference implementation, gates, dropout, small images."""

import copy
import math
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from thruway.dissecting import dissect
from thruway.errors import ConfigError, ShapeError
from thruway.networks import CONV_BLOCKS, LAYOUTS, ConvNet, highway_conv, plain_twin_width
from thruway.nn import Dropout, HighwayConv2d

EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64; sums of up to 500 terms of size 1, thirty layers deep
KINDS = [pytest.param(layout, block, id=f"{layout}-{block}") for layout in LAYOUTS for block in CONV_BLOCKS]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tiny(layout: str = "cifar", **change: object) -> ConvNet:
    settings = {"width": 3, "inputs": 2, "classes": 3, "dtype": torch.float64, "generator": seeded(), "size": 9}
    return highway_conv(layout, **(settings | change))


def _images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(1))


def _count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _shaken(net: ConvNet) -> ConvNet:
    """Perturb biases: with initial values a missing or misplaced one would go unnoticed."""
    for name, parameter in net.named_parameters():
        if parameter.ndim == 1:
            noise = torch.rand(parameter.shape, dtype=parameter.dtype, generator=seeded(len(name)))
            parameter.data.add_(noise - 0.5)
    return net


# --- comparison with the papers


@pytest.mark.parametrize(
    ("layout", "width", "classes", "parameters"),
    [
        ("mnist", 16, 10, 38_986),
        ("mnist", 32, 10, 151_690),
        ("cifar", 32, 10, 2_256_838),
        ("cifar", 32, 100, 2_265_928),
    ],
)
def test_nets_of_the_published_code_have_its_number_of_parameters(
    layout: str, width: int, classes: int, parameters: int
) -> None:
    assert _count(highway_conv(layout, classes=classes, width=width, device="meta")) == parameters


def test_the_published_settings_are_the_defaults() -> None:
    assert _count(highway_conv("mnist", device="meta")) == 38_986
    assert _count(highway_conv(device="meta")) == 2_256_838


def _reconstructed(layout: str, third: int) -> int:
    """Parameter count of Highway A or C, layer by layer."""

    def conv(inputs: int, outputs: int, kernel: int = 3) -> int:
        return inputs * outputs * kernel**2 + outputs

    first, second, kernels = {"cifar-11": (16, 32, (3, 3)), "cifar-32": (32, 64, (1, 3, 1, 3, 1, 3, 1, 3, 1))}[layout]
    stages = ((3, first), (first, second), (second, third))
    total = sum(conv(*stage) + sum(2 * conv(stage[1], stage[1], kernel) for kernel in kernels) for stage in stages)
    return total + conv(third, 100, 1) + conv(100, 10, 1)


@pytest.mark.parametrize(
    ("layout", "third", "exact", "published"),
    # Training Very Deep Networks, table 2, prints ~236K and ~1.25M.
    [("cifar-11", 66, 235_224, 236_000), ("cifar-32", 95, 1_248_145, 1_250_000)],
)
def test_reconstructions_match_the_published_counts_as_nearly_as_possible(
    layout: str, third: int, exact: int, published: int
) -> None:
    assert LAYOUTS[layout].stages[-1].width == third
    assert _count(highway_conv(layout, device="meta")) == exact == _reconstructed(layout, third)
    others = [abs(_reconstructed(layout, width) - published) for width in (third - 1, third + 1)]
    assert abs(exact - published) < min(others)
    assert abs(exact / published - 1) < 0.004


@pytest.mark.parametrize(("layout", "block"), KINDS)
def test_depth_counts_layers_as_the_papers_do(layout: str, block: str) -> None:
    net = highway_conv(layout, block=block, device="meta")
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear | HighwayConv2d) for module in net.modules())
    assert layers == LAYOUTS[layout].depth == {"mnist": 10, "cifar": 19, "cifar-11": 11, "cifar-32": 32}[layout]


def test_layers_are_numbered_as_in_the_published_code() -> None:
    names = [name for name, _ in highway_conv(dropout=False, device="meta").layers.named_children()]
    plain, pools = {1, 6, 12}, {5: "pool1", 11: "pool2"}
    expected = []
    for number in range(1, 18):
        expected += [f"conv{number}" if number in plain else f"highway{number}"]
        expected += [pools[number]] if number in pools else []
    assert names == expected


def test_in_highway_c_large_and_small_kernels_alternate() -> None:
    net = highway_conv("cifar-32", device="meta")
    kernels = [m.kernel_size[0] for m in net.modules() if isinstance(m, nn.Conv2d)]
    kernels += [m.conv.kernel_size[0] for m in net.modules() if isinstance(m, HighwayConv2d)]
    assert kernels == [3, 3, 3, 1] + [1, 3, 1, 3, 1, 3, 1, 3, 1] * 3


def test_dropout_is_placed_as_published_and_does_not_change_names() -> None:
    for layout, drops in (("mnist", [0.2, 0.3, 0.4, 0.5]), ("cifar", [0.2] * 4)):
        net, without = (highway_conv(layout, dropout=dropout, device="meta") for dropout in (True, False))
        order = [module for module in net.modules() if not list(module.children())]
        places = [place for place, module in enumerate(order) if isinstance(module, Dropout)]
        assert [order[place].p for place in places] == drops
        assert places[0] == 0  # the images
        assert all(isinstance(order[place - 1], nn.MaxPool2d) for place in places[1:-1])
        assert isinstance(order[places[-1] + 1], nn.Linear)
        assert not any(isinstance(module, Dropout) for module in without.modules())
        assert list(net.state_dict()) == list(without.state_dict())


# --- comparison with a slow reference implementation


def _conv(x: Tensor, w: Tensor, b: Tensor, padding: int) -> Tensor:
    """Cross-correlation, one kernel point at a time."""
    k = w.shape[-1]
    x = F.pad(x, [padding] * 4)
    height, width = (size - k + 1 for size in x.shape[-2:])
    y = b[:, None, None].expand(len(x), len(w), height, width)
    for i in range(k):
        for j in range(k):
            y = y + torch.einsum("oc,bchw->bohw", w[:, :, i, j], x[..., i : i + height, j : j + width])
    return y


def _pool(x: Tensor, window: int, stride: int) -> Tensor:
    """Caffe's pooling: enough windows to cover every point, the last ones truncated at the edge."""
    rows = [
        [
            x[..., i * stride : i * stride + window, j * stride : j * stride + window].amax((2, 3))
            for j in range(math.ceil((x.shape[3] - window) / stride) + 1)
        ]
        for i in range(math.ceil((x.shape[2] - window) / stride) + 1)
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _twin(net: ConvNet, x: Tensor, layout: str, block: str) -> Tensor:
    """Reference implementation from the state dict, following the papers and the published configurations."""
    p = net.state_dict()
    pools = {"mnist": {3: (3, 2), 6: (3, 2), 9: (2, 2)}, "cifar": {5: (2, 2), 11: (2, 2)}}
    pools |= {"cifar-11": {3: (2, 2), 6: (2, 2)}, "cifar-32": {10: (2, 2), 20: (2, 2)}}
    last = {"mnist": 9, "cifar": 17, "cifar-11": 9, "cifar-32": 30}[layout]
    for number in range(1, last + 1):
        if f"layers.highway{number}.weight" in p:
            w, b = p[f"layers.highway{number}.weight"], p[f"layers.highway{number}.bias"]
            half, padding = len(w) // 2, w.shape[-1] // 2
            h = _conv(x, w[:half], b[:half], padding).relu()
            t = 1 / (1 + torch.exp(-_conv(x, w[half:], b[half:], padding)))
            x = h * t + x * (1 - t)
        else:
            name = f"layers.conv{number}" if f"layers.conv{number}.0.weight" in p else f"layers.plain{number}"
            w = p[f"{name}.0.weight"]
            padding = 0 if (layout, number) == ("mnist", 1) else w.shape[-1] // 2
            x = _conv(x, w, p[f"{name}.0.bias"], padding).relu()
        if number in pools[layout]:
            x = _pool(x, *pools[layout][number])
    if layout != "mnist":
        x = _conv(x, p["head.pointwise.0.weight"], p["head.pointwise.0.bias"], 0).relu().mean((2, 3))
    return x.flatten(1) @ p["head.linear.weight"].T + p["head.linear.bias"]


@pytest.mark.parametrize(("layout", "block"), KINDS)
def test_the_network_equals_the_papers_formula(layout: str, block: str) -> None:
    net = _shaken(_tiny(layout, block=block, size=11)).eval()
    x = _images(2, 2, 11, 11)
    assert_close(net(x), _twin(net, x, layout, block), **EXACT)


def test_on_mnist_the_map_shrinks_as_in_the_published_code() -> None:
    net = highway_conv("mnist", width=2, generator=seeded())
    sides, x = [], torch.zeros(1, 1, 28, 28)
    for name, layer in net.layers.named_children():
        x = layer(x)
        sides += [x.shape[-1]] if name.startswith(("conv", "pool")) else []
    assert sides == [24, 12, 6, 3]


# --- weights


def _variance_is(weight: Tensor, variance: float) -> bool:
    standard_error = variance * math.sqrt(2 / weight.numel())  # of a Gaussian's sample variance
    return abs(weight.square().mean().item() - variance) < 5 * standard_error


@pytest.mark.parametrize(("layout", "block"), KINDS)
def test_weights_start_with_he_and_gates_at_their_bias(layout: str, block: str) -> None:
    net = highway_conv(layout, block=block, width=24, size=10, generator=seeded())
    bias = {"mnist": -1.0, "cifar": -2.0, "cifar-11": -1.0, "cifar-32": -3.0}[layout]
    for module in net.modules():
        if isinstance(module, HighwayConv2d):
            h, t = module.weight.chunk(2)
            assert _variance_is(h, 2 / h[0].numel())
            assert _variance_is(t, 2 / t[0].numel())
            assert module.bias.chunk(2)[0].eq(0).all()
            assert module.bias.chunk(2)[1].eq(bias).all()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            assert _variance_is(module.weight, 2 / module.weight[0].numel())
            assert module.bias.eq(0).all()


def test_the_gate_bias_applies_to_every_gate() -> None:
    net = _tiny(gate_bias=-5.5)
    gates = [m.bias.chunk(2)[1] for m in net.modules() if isinstance(m, HighwayConv2d)]
    assert len(gates) == 14
    assert all(bias.eq(-5.5).all() for bias in gates)


def test_weights_depend_on_the_generator_only() -> None:
    outer = torch.get_rng_state()
    one, same, other = (_tiny(generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), outer)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim == 1 or not torch.equal(a, c)


@pytest.mark.parametrize(("layout", "block"), KINDS)
def test_every_parameter_gets_a_gradient(layout: str, block: str) -> None:
    net = _shaken(_tiny(layout, block=block, dropout=False, size=12))
    (net(_images(8, 2, 12, 12)) * _images(8, 3)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


# --- gates


def test_with_closed_gates_only_the_plain_layers_are_left() -> None:
    net = _shaken(_tiny(gate_bias=-math.inf)).eval()
    x = _images(2, 2, 9, 9)
    y = x
    for name, layer in net.layers.named_children():
        y = y if name.startswith("highway") else layer(y)
    assert torch.equal(net(x), net.head(y))


def test_with_open_gates_it_equals_the_plain_net() -> None:
    net, plain = _shaken(_tiny(gate_bias=math.inf)).eval(), _tiny(block="plain").eval()
    state = {}
    for name, tensor in net.state_dict().items():
        transform = name.replace("highway", "plain").replace("weight", "0.weight").replace("bias", "0.bias")
        state[transform if "highway" in name else name] = tensor.chunk(2)[0] if "highway" in name else tensor
    plain.load_state_dict(state)
    x = _images(2, 2, 9, 9)
    assert_close(net(x), plain(x), **EXACT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dissection_finds_every_highway_layer(layout: str) -> None:
    net = _tiny(layout).eval()
    found = dissect(net, _images(2, 2, 9, 9)).branches
    layers = [f"layers.{name}" for name, _ in net.layers.named_children() if name.startswith("highway")]
    assert [branch.name for branch in found] == layers
    assert {branch.kind for branch in found} == {"gated"}


# --- the plain network of equal parameters


@pytest.mark.parametrize(
    ("layout", "width", "size"),
    [("mnist", None, None), ("mnist", 1, 8), ("mnist", 5, 8), ("cifar", None, None), ("cifar-11", 8, None)],
)
def test_the_plain_twin_is_the_nearest_of_all_widths(layout: str, width: int | None, size: int | None) -> None:
    wanted = _count(highway_conv(layout, width=width, size=size, device="meta"))
    first = LAYOUTS[layout].stages[0].width if width is None else width
    counts = {
        wide: _count(highway_conv(layout, width=wide, size=size, block="plain", device="meta"))
        for wide in range(1, 2 * first + 1)
    }
    twin = plain_twin_width(layout, width, size=size)
    assert abs(counts[twin] - wanted) == min(abs(count - wanted) for count in counts.values())


def test_the_published_nets_have_plain_twins_within_four_percent() -> None:
    for layout in LAYOUTS:
        twin = _count(highway_conv(layout, width=plain_twin_width(layout), block="plain", device="meta"))
        assert abs(twin / _count(highway_conv(layout, device="meta")) - 1) < 0.04, layout


# --- dropout


def test_coins_determine_the_dropout_in_training_only() -> None:
    def outputs(coins: int) -> list[Tensor]:
        net = _tiny(coins=seeded(coins))
        return [net(x) for _ in range(3)]

    x = _images(2, 2, 9, 9)
    outer = torch.get_rng_state()
    one, same, other = outputs(0), outputs(0), outputs(1)
    assert torch.equal(torch.get_rng_state(), outer)
    assert all(map(torch.equal, one, same))
    assert not any(map(torch.equal, one, other))
    assert torch.equal(_tiny(coins=seeded()).eval()(x), _tiny(dropout=False)(x))


def test_a_copy_continues_like_the_original() -> None:
    net, x = _tiny(coins=seeded()), _images(2, 2, 9, 9)
    twin = copy.deepcopy(net)
    for _ in range(3):
        assert torch.equal(twin(x), net(x))
    twin.layers.conv1[0].weight.data.zero_()
    assert net.layers.conv1[0].weight.any()


# --- sizes


def test_width_scales_all_stages_and_keeps_the_head() -> None:
    widths = [[stage.width for stage in LAYOUTS["cifar"].widened(width).stages] for width in (1, 16, 32, 64)]
    assert widths == [[1, 2, 4], [16, 40, 64], [32, 80, 128], [64, 160, 256]]
    assert highway_conv(width=8, device="meta").head.pointwise[0].weight.shape == (100, 32, 1, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [8, 9, 28, 33])
def test_images_of_8x8_and_larger_are_accepted(layout: str, size: int) -> None:
    net = _tiny(layout, size=size).eval()
    assert net(_images(2, 2, size, size)).isfinite().all()
    assert net(_images(0, 2, size, size)).shape == (0, 3)


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (32, 17)])
def test_networks_with_average_pooling_take_images_of_any_size(shape: tuple[int, int]) -> None:
    net = _tiny().eval()
    assert_close(net(_images(2, 2, *shape)), _twin(net, _images(2, 2, *shape), "cifar", "highway"), **EXACT)


def test_channels_last_gives_the_same() -> None:
    net, x = _shaken(_tiny()).eval(), _images(2, 2, 9, 9)
    expected = net(x)
    net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    assert_close(net(x), expected, **EXACT)


# --- other properties


@pytest.mark.slow
def test_compile_sees_one_graph() -> None:
    net, x = _tiny(coins=seeded()).eval(), _images(2, 2, 9, 9)
    torch.compiler.reset()
    with warnings.catch_warnings():
        # Ignore the compiler's own warnings.
        warnings.simplefilter("ignore")
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        assert_close(compiled(x), net(x), **EXACT)
    torch.compiler.reset()


def test_a_ten_layer_net_trains() -> None:
    # Which half of an 8x8 image is brighter; guessing costs ln 2 = 0.693. Seeds 0-2 gave at most 0.001.
    x = torch.randn(64, 1, 8, 8, generator=seeded(1))
    target = (x[..., :4].mean((1, 2, 3)) > x[..., 4:].mean((1, 2, 3))).long()
    net = highway_conv("mnist", classes=2, width=8, size=8, dropout=False, generator=seeded())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.cross_entropy(net(x), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.35


# --- errors


@pytest.mark.parametrize(
    ("layout", "change", "says"),
    [
        ("cfar", {}, "unknown layout 'cfar'; did you mean 'cifar'"),
        (["cifar"], {}, "unknown layout"),
        ("cifar", {"block": "residual"}, "unknown block 'residual'.*Known: highway, plain"),
        ("cifar", {"width": 0}, "width must be an integer of at least 1, got 0"),
        ("cifar", {"inputs": 0}, "inputs must be"),
        ("cifar", {"classes": 0}, "classes must be"),
        ("mnist", {"size": 0}, "size must be"),
        ("mnist", {"size": 7}, "size=7 is too small.*at least 8x8"),
        ("mnist", {"size": 1}, "at least 8x8"),
        ("cifar", {"gate_bias": math.nan}, "gate_bias must be a number.*got nan"),
        ("cifar", {"gate_bias": "depth"}, "gate_bias must be .*got 'depth'"),
    ],
)
def test_invalid_arguments_raise_with_their_value(layout: object, change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        highway_conv(layout, **change, device="meta")


@pytest.mark.parametrize("shape", [(2, 9, 9), (3, 1, 9, 9), (3, 2), ()], ids=str)
def test_inputs_other_than_batches_of_images_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(batch, 2, height, width\), got an input of shape .*unsqueeze\(0\)"):
        _tiny()(torch.zeros(shape))


def test_images_of_another_size_raise_if_the_head_depends_on_it() -> None:
    with pytest.raises(ShapeError, match=r"built for images of 9x9, got an input of shape \(3, 2, 9, 8\).*size="):
        _tiny("mnist")(_images(3, 2, 9, 8))
