"""Gated residual networks: published counts, a slow reference implementation, open and closed gates."""

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
from thruway.networks import JOININGS, ResNet, gated_resnet, resnet
from thruway.networks.gated_modules import Gate
from thruway.networks.resnet_modules import SHORTCUTS
from thruway.nn import Dropout

EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64; sums of up to 500 terms of size 1, a dozen layers deep
GATED = ("exclusive", "shortcut", "highway")
KINDS = [pytest.param(joining, resize, id=f"{joining}-{resize}") for joining in JOININGS for resize in SHORTCUTS]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tiny(joining: str, **change: object) -> ResNet:
    settings = {"depth": (1, 2, 1), "widths": (2, 3, 5), "inputs": 2, "classes": 3, "dtype": torch.float64}
    return gated_resnet(joining=joining, **(settings | {"gate_bias": -1.0, "generator": seeded()} | change))


def _images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(1))


def _count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _shaken(net: ResNet) -> ResNet:
    """Perturb norms and gates: with initial values a missing or misplaced one would go unnoticed."""
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            noise = torch.rand(tensor.shape, dtype=tensor.dtype, generator=seeded(len(name)))
            tensor.copy_(noise + (0.5 if name.endswith(("weight", "var")) else -0.5))
    return net


# --- comparison with the papers


def test_the_published_nets_have_their_number_of_parameters() -> None:
    # num_params in the metrics that the author of the reply published with his code; and ResNet-110, which he gives
    # as 1.73M.
    assert _count(gated_resnet(device="meta")) == 2_649_918
    assert _count(gated_resnet(joining="identity", device="meta")) == 1_727_962


def _gates_by_hand(n: int) -> int:
    """Number of parameters of one biased 1x1 gate per module, 3n modules."""
    widths = [(16, 16)] * n + [(16, 32)] + [(32, 32)] * (n - 1) + [(32, 64)] + [(64, 64)] * (n - 1)
    return sum(inputs * outputs + outputs for inputs, outputs in widths)


@pytest.mark.parametrize("depth", [8, 20])
def test_parameter_counts_of_the_joinings(depth: int) -> None:
    counts = {joining: _count(gated_resnet(depth, joining, device="meta")) for joining in JOININGS}
    plain, gates, modules = counts["identity"], _gates_by_hand((depth - 2) // 6), (depth - 2) // 6 * 3
    assert counts["scaled"] == counts["scaled-shortcut"] == counts["dropout"] == plain
    assert counts["exclusive"] == counts["shortcut"] == plain + gates
    # A projection has a norm instead of a bias: two numbers per channel instead of one.
    assert counts["project"] == plain + gates + (16 + 32 + 64) * modules // 3


@pytest.mark.parametrize(("joining", "resize"), KINDS)
def test_depth_counts_layers_without_projections(joining: str, resize: str) -> None:
    net = gated_resnet(20, joining, resize=resize, device="meta")
    aside = (".shortcut", ".gate")
    names = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sum(not any(part in name for part in aside) for name in names) == 20


def test_the_published_highway_net_begins_with_16_channels_and_projects_to_14() -> None:
    net = gated_resnet(device="meta")
    assert net.stem[0].out_channels == 16
    projecting = [i for i, block in enumerate(net.blocks) if not isinstance(block.shortcut, nn.Identity)]
    assert projecting == [0, 18, 36]
    assert [net.blocks[i].shortcut[0].weight.shape[:2] for i in projecting] == [(14, 16), (28, 14), (56, 28)]
    assert len(net.blocks) == 54
    assert gated_resnet(20, widths=(7, 14, 28), device="meta").stem[0].out_channels == 7
    assert gated_resnet(20, widths=(7, 14, 28), stem=9, device="meta").stem[0].out_channels == 9


@pytest.mark.parametrize("resize", SHORTCUTS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_identity_joining_equals_the_residual_net_bit_for_bit(resize: str, training: bool) -> None:
    settings = {"widths": (2, 3, 5), "inputs": 2, "classes": 3, "dtype": torch.float64}
    ours = gated_resnet(14, "identity", resize=resize, generator=seeded(), **settings).train(training)
    theirs = resnet(14, order="post", shortcut=resize, generator=seeded(), **settings).train(training)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert torch.equal(ours(_images(2, 2, 7, 6)), theirs(_images(2, 2, 7, 6)))


# --- comparison with a slow reference implementation


def _norm(x: Tensor, p: dict[str, Tensor], name: str, training: bool) -> Tensor:
    mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    wide = (slice(None), None, None)
    return (x - mean[wide]) / (var[wide] + 1e-5).sqrt() * p[f"{name}.weight"][wide] + p[f"{name}.bias"][wide]


def _two_layers(x: Tensor, p: dict[str, Tensor], name: str, stride: int, training: bool) -> Tensor:
    y = F.conv2d(x, p[f"{name}.0.weight"], stride=stride, padding=1)
    y = _norm(y, p, f"{name}.1", training).relu()
    return _norm(F.conv2d(y, p[f"{name}.3.weight"], padding=1), p, f"{name}.4", training)


def _shortcut(x: Tensor, p: dict[str, Tensor], name: str, like: Tensor, stride: int, training: bool) -> Tensor:
    if f"{name}.0.weight" in p:
        return _norm(F.conv2d(x, p[f"{name}.0.weight"], stride=stride), p, f"{name}.1", training)
    resized = torch.zeros_like(like)
    resized[:, : x.shape[1]] = x[..., ::stride, ::stride]
    return resized


def _sigmoid(z: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-z))


def _twin(net: ResNet, x: Tensor, joining: str) -> Tensor:
    """Reference implementation from the state dict, following the papers."""
    p, training = net.state_dict(), net.training
    y = _norm(F.conv2d(x, p["stem.0.weight"], padding=1), p, "stem.1", training).relu()
    where = {"shortcut": "shortcut.shortcut", "scaled": "shortcut.module", "scaled-shortcut": "shortcut.module"}
    where |= {"dropout": "shortcut.0"}
    for block in range(4):
        name, stride = f"blocks.{block}", 2 if block in (1, 3) else 1  # of (1, 2, 1) modules
        branch = "transform" if joining in ("exclusive", "highway") else "branch"
        f = _two_layers(y, p, f"{name}.{branch}", stride, training)
        s = _shortcut(y, p, f"{name}.{where.get(joining, 'shortcut')}", f, stride, training)
        if joining == "highway":
            t = _sigmoid(_two_layers(y, p, f"{name}.gate.layers", stride, training))
            y = f.relu() * t + s * (1 - t)
            continue
        gate = {"exclusive": "gate.layers.0", "shortcut": "shortcut.gate.layers.0"}.get(joining)
        if gate is not None:
            g = _sigmoid(F.conv2d(y, p[f"{name}.{gate}.weight"], p[f"{name}.{gate}.bias"], stride))
        if joining == "exclusive":
            y = g * f + (1 - g) * s
        elif joining == "shortcut":
            y = f + (1 - g) * s
        else:
            y = (0.5 if joining == "scaled" else 1) * f + (0.5 if "scaled" in joining else 1) * s
        y = y.relu()
    return y.mean((2, 3)) @ p["head.2.weight"].T + p["head.2.bias"]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("joining", "resize"), KINDS)
def test_the_network_equals_the_papers_formula(joining: str, resize: str, training: bool) -> None:
    net = _shaken(_tiny(joining, resize=resize)).train(training)
    for module in net.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    x = _images(3, 2, 7, 6)
    expected = _twin(copy.deepcopy(net), x, joining)
    assert_close(net(x), expected, **EXACT)


def test_every_joining_equals_its_formula() -> None:
    x = _images(2, 2, 5, 5)
    outputs = [_shaken(_tiny(joining)).train(joining == "dropout")(x) for joining in JOININGS]
    for i, one in enumerate(outputs):
        for other in outputs[i + 1 :]:
            assert not torch.allclose(one, other)


# --- gates


def _gate_biases(net: nn.Module) -> list[Tensor]:
    return [gate.layers[-1].bias for gate in net.modules() if isinstance(gate, Gate)]


@pytest.mark.parametrize("joining", JOININGS)
def test_gates_start_at_their_bias_norms_as_the_identity_and_weights_with_he(joining: str) -> None:
    net = gated_resnet((1, 1), joining, gate_bias=-4.5, widths=(24, 32), resize="project", generator=seeded())
    gates = _gate_biases(net)
    assert len(gates) == (2 if joining in GATED else 0)
    assert all(bias.eq(-4.5).all() for bias in gates)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            variance = 2 / module.weight[0].numel()
            standard_error = variance * math.sqrt(2 / module.weight.numel())  # of a Gaussian's sample variance
            assert abs(module.weight.square().mean().item() - variance) < 5 * standard_error
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.running_var.eq(1).all()
            assert module.bias.eq(0).all() or any(module.bias is bias for bias in gates)


def test_the_published_gate_bias_is_minus_six() -> None:
    biases = _gate_biases(gated_resnet(8, widths=(2, 2, 2), generator=seeded()))
    assert len(biases) == 3
    assert all(bias.eq(-6.0).all() for bias in biases)


@pytest.mark.parametrize("joining", ["exclusive", "highway"])
@pytest.mark.parametrize("resize", SHORTCUTS)
def test_closed_gates_leave_the_shortcuts(joining: str, resize: str) -> None:
    net = _tiny(joining, gate_bias=-math.inf, resize=resize).eval()
    x = _images(2, 2, 7, 6)
    y = net.stem(x)
    for block in net.blocks:
        y = block.shortcut(y) if joining == "highway" else block.shortcut(y).relu()
    assert torch.equal(net(x), net.head(y))


@pytest.mark.parametrize("joining", GATED)
def test_open_gates_give_the_plain_network(joining: str) -> None:
    net = _tiny(joining, gate_bias=math.inf).eval()
    x = _images(2, 2, 7, 6)
    y = net.stem(x)
    for block in net.blocks:
        y = (block.branch if joining == "shortcut" else block.transform)(y).relu()
    assert torch.equal(net(x), net.head(y))


def test_with_closed_gates_shortcut_gating_equals_the_residual_net() -> None:
    net, identity = _tiny("shortcut", gate_bias=-math.inf).eval(), _tiny("identity").eval()
    identity.load_state_dict({name: p for name, p in net.state_dict().items() if ".gate." not in name})
    assert torch.equal(net(_images(2, 2, 7, 6)), identity(_images(2, 2, 7, 6)))


def test_the_gate_of_the_reply_starts_near_its_bias_for_any_input() -> None:
    net, seen = gated_resnet(8, generator=seeded()), []
    for gate in net.modules():
        if isinstance(gate, Gate):
            gate.transform_gate.register_forward_hook(lambda _module, _inputs, t: seen.append(t.mean().item()))
    net(100 * torch.randn(4, 3, 8, 8, generator=seeded(1)))
    # Its norm gives pre-activations of mean -6 and variance 1; if Gaussian, the mean gate is about e^(-6 + 1/2).
    assert len(seen) == 3
    assert all(0.5 * math.exp(-6) < mean < 5 * math.exp(-6) for mean in seen)


@pytest.mark.parametrize("resize", SHORTCUTS)
@pytest.mark.parametrize("joining", ["exclusive", "highway"])
def test_a_dissection_finds_every_gated_module(joining: str, resize: str) -> None:
    found = dissect(_tiny(joining, resize=resize).eval(), _images(2, 2, 7, 6)).branches
    assert [branch.name for branch in found] == [f"blocks.{i}" for i in range(4)]
    assert {branch.kind for branch in found} == {"gated"}


# --- dropout on shortcuts


def test_half_of_the_shortcut_is_dropped_in_training() -> None:
    net = _tiny("dropout", coins=seeded())
    carried = net.blocks[0].shortcut(torch.ones(40, 2, 20, 20, dtype=torch.float64))
    assert sorted(set(carried.flatten().tolist())) == [0.0, 2.0]
    dropped = carried.eq(0).double().mean().item()
    assert abs(dropped - 0.5) < 5 * math.sqrt(0.25 / carried.numel())  # standard error of a share
    assert [module.p for module in net.modules() if isinstance(module, Dropout)] == [0.5] * 4


def test_coins_determine_the_dropout_and_evaluation_equals_the_residual_net() -> None:
    def outputs(coins: int) -> list[Tensor]:
        net = _tiny("dropout", coins=seeded(coins))
        return [net(x) for _ in range(3)]

    x = _images(2, 2, 7, 6)
    outer = torch.get_rng_state()
    one, same, other = outputs(0), outputs(0), outputs(1)
    assert torch.equal(torch.get_rng_state(), outer)
    assert all(map(torch.equal, one, same))
    assert not any(map(torch.equal, one, other))
    assert torch.equal(_tiny("dropout").eval()(x), _tiny("identity").eval()(x))


# --- other properties


def test_weights_depend_on_the_generator_only() -> None:
    outer = torch.get_rng_state()
    one, same, other = (_tiny("highway", generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), outer)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim == 1 or not torch.equal(a, c)


@pytest.mark.parametrize(("joining", "resize"), KINDS)
def test_every_parameter_gets_a_gradient(joining: str, resize: str) -> None:
    net = _shaken(_tiny(joining, resize=resize, coins=seeded()))
    (net(_images(4, 2, 17, 17)) * _images(4, 3)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("joining", JOININGS)
def test_a_copy_continues_like_the_original(joining: str) -> None:
    net, x = _tiny(joining, coins=seeded()), _images(2, 2, 7, 6)
    twin = copy.deepcopy(net)
    for _ in range(3):
        assert torch.equal(twin(x), net(x))


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (28, 28)], ids=str)
@pytest.mark.parametrize("joining", JOININGS)
def test_images_of_any_size_are_accepted(joining: str, size: tuple[int, int]) -> None:
    assert _tiny(joining).eval()(_images(2, 2, *size)).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("joining", GATED)
def test_compile_sees_one_graph(joining: str) -> None:
    net, x = _tiny(joining).eval(), _images(2, 2, 7, 6)
    torch.compiler.reset()
    with warnings.catch_warnings():
        # Ignore the compiler's own warnings.
        warnings.simplefilter("ignore")
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        assert_close(compiled(x), net(x), **EXACT)
    torch.compiler.reset()


def test_a_gated_net_trains() -> None:
    # Which half of a 6x6 image is brighter; guessing costs ln 2 = 0.693. Seeds 0-2 gave at most 0.12.
    x = torch.randn(64, 1, 6, 6, generator=seeded(1))
    target = (x[..., :3].mean((1, 2, 3)) > x[..., 3:].mean((1, 2, 3))).long()
    for joining in GATED:
        net = gated_resnet(8, joining, -2.0, (4, 4, 4), 1, 2, generator=seeded())
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        losses = []
        for _ in range(60):
            optimiser.zero_grad()
            loss = F.cross_entropy(net(x), target)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert sum(losses[-10:]) / 10 < 0.35, joining


# --- errors


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"joining": "exclsive"}, "unknown joining 'exclsive'; did you mean 'exclusive'"),
        ({"joining": ["highway"]}, "unknown joining"),
        ({"resize": "padd"}, "unknown resize 'padd'; did you mean 'pad'"),
        ({"resize": ["pad"]}, "unknown resize"),
        ({"depth": 21}, r"depth must be 6n \+ 2.*got 21: the nearest are 20 and 26"),
        ({"depth": (2, 2)}, r"2 stages, of \(2, 2\) modules, and 3 widths, \(14, 28, 56\)"),
        ({"widths": 16}, r"channels of each stage, such as widths=\(14, 28, 56\), got 16"),
        ({"widths": (16, 0, 64)}, "a width must be an integer of at least 1, got 0"),
        ({"stem": 0}, "stem must be"),
        ({"inputs": 0}, "inputs must be"),
        ({"classes": 0}, "classes must be"),
        ({"gate_bias": math.nan}, "gate_bias must be a number.*got nan"),
        ({"gate_bias": "low", "joining": "identity"}, "gate_bias must be .*got 'low'"),
    ],
)
def test_invalid_arguments_raise_with_their_value(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        gated_resnet(**({"depth": 20, "device": "meta"} | change))


def test_inputs_other_than_batches_of_images_raise() -> None:
    with pytest.raises(ShapeError, match=r"\(batch, 2, height, width\), got an input of shape \(3, 1, 5, 5\)"):
        _tiny("highway")(torch.zeros(3, 1, 5, 5))
