"""Residual networks on images: published counts, a slow reference implementation, training on short paths."""

import copy
import math
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from thruway.errors import ConfigError, ShapeError
from thruway.networks import resnet
from thruway.networks.resnet_modules import BRANCHES, ORDERS, SHORTCUTS
from thruway.nn import RandomSubset, Residual, survival_probabilities

EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64; sums of up to 500 terms of size 1, a dozen layers deep
KINDS = [
    pytest.param(style, branch, order, shortcut, id=f"{style}-{branch}-{order}-{shortcut}")
    for style in ("cifar", "imagenet")
    for branch in BRANCHES
    for order in ORDERS
    for shortcut in SHORTCUTS
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with several, tensors this small take up to 100 times longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tiny(**change: object) -> nn.Module:
    settings = {"depth": (1, 2, 1), "widths": (2, 3, 5), "inputs": 2, "classes": 3, "dtype": torch.float64}
    return resnet(**(settings | {"generator": seeded()} | change))


def _images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(1))


def _count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


# --- comparison with the papers


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808), (200, 64_673_832)],
)
def test_imagenet_nets_have_the_published_number_of_parameters(depth: int, parameters: int) -> None:
    assert _count(resnet(depth, style="imagenet", device="meta")) == parameters


def _cifar_by_hand(n: int) -> int:
    """Parameter count of 6n + 2 layers, option A, post-activation, layer by layer."""
    convolutions = 3 * 16 * 9 + 2 * n * 16 * 16 * 9
    convolutions += 16 * 32 * 9 + (2 * n - 1) * 32 * 32 * 9
    convolutions += 32 * 64 * 9 + (2 * n - 1) * 64 * 64 * 9
    norms = 2 * (16 * (2 * n + 1) + 32 * 2 * n + 64 * 2 * n)  # one after each convolution
    return convolutions + norms + 64 * 10 + 10


@pytest.mark.parametrize(
    ("depth", "exact", "millions"),
    # He et al. 2015, table 6, prints the last column; its 110-layer row has one digit, 1.7.
    [(20, 269_722, 0.27), (32, 464_154, 0.46), (44, 658_586, 0.66), (56, 853_018, 0.85), (110, 1_727_962, 1.73)],
)
def test_cifar_nets_have_the_published_number_of_parameters(depth: int, exact: int, millions: float) -> None:
    net = resnet(depth, order="post", device="meta")
    assert _count(net) == exact == _cifar_by_hand((depth - 2) // 6)
    assert round(exact / 1e6, 2) == millions


@pytest.mark.parametrize("depth", [20, 110])
def test_pre_activation_moves_norms_and_adds_none(depth: int) -> None:
    pre, post = (resnet(depth, order=order, device="meta") for order in ORDERS)
    # The first norm of a stage has the channels of the previous stage, and the norm of the first layer is missing; the
    # differences of the stages and the norm of the head cancel.
    assert _count(pre) - _count(post) == 2 * ((16 - 32) + (32 - 64) + (64 - 16))


def test_resnet_110_has_54_two_layer_modules_of_which_two_change_sizes() -> None:
    net = resnet(110, device="meta")
    assert len(net.blocks) == 54
    assert all(sum(isinstance(m, nn.Conv2d) for m in block.branch.modules()) == 2 for block in net.blocks)
    changing = [i for i, block in enumerate(net.blocks) if not isinstance(block.shortcut, nn.Identity)]
    assert changing == [18, 36]


def _layers(net: nn.Module) -> int:
    """Number of convolutions and dense layers without projections."""
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear) and ".shortcut" not in name for name, module in net.named_modules()
    )


@pytest.mark.parametrize(
    ("depth", "settings"),
    [(depth, {"order": order}) for depth in (8, 20, 32, 44, 56, 110) for order in ORDERS]
    + [(164, {"branch": "bottleneck"}), (11, {"branch": "bottleneck", "shortcut": "project"})]
    + [(depth, {"style": "imagenet"}) for depth in (18, 34, 50, 101, 152, 200)],
)
def test_depth_counts_layers_as_the_papers_do(depth: int, settings: dict[str, str]) -> None:
    assert _layers(resnet(depth, device="meta", **settings)) == depth


# --- comparison with a slow reference implementation


def _norm(x: Tensor, p: dict[str, Tensor], name: str, training: bool) -> Tensor:
    mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    wide = (slice(None), None, None)
    return (x - mean[wide]) / (var[wide] + 1e-5).sqrt() * p[f"{name}.weight"][wide] + p[f"{name}.bias"][wide]


def _conv(x: Tensor, w: Tensor, stride: int) -> Tensor:
    """Cross-correlation, one kernel point at a time."""
    k = w.shape[-1]
    x = F.pad(x, [k // 2] * 4)
    height, width = ((size - k) // stride + 1 for size in x.shape[-2:])
    y = x.new_zeros(len(x), len(w), height, width)
    for i in range(k):
        for j in range(k):
            seen = x[..., i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
            y = y + torch.einsum("oc,bchw->bohw", w[:, :, i, j], seen)
    return y


def _twin(net: nn.Module, x: Tensor, branch: str, order: str, style: str) -> Tensor:
    """Reference implementation from the state dict, following the papers; stages are derived from the widths."""
    p, training = net.state_dict(), net.training
    pre = order == "pre"
    y = _conv(x, p["stem.0.weight"], 2 if style == "imagenet" else 1)
    if not pre:
        y = _norm(y, p, "stem.1", training).relu()
    if style == "imagenet":
        windows = F.pad(y, [1] * 4, value=-math.inf).unfold(2, 3, 2).unfold(3, 3, 2)
        y = windows.amax((-1, -2))
    strides = {"basic": (0, 1), "bottleneck": (0, 1, 2)}[branch]
    striding = {"basic": 0, "bottleneck": 1}[branch]
    stage_starts = (1, 3)  # of (1, 2, 1) modules
    for block in range(4):
        name, stride = f"blocks.{block}", 2 if block in stage_starts else 1
        f = y
        for layer in strides:
            step = stride if layer == striding else 1
            if pre:
                f = _norm(f, p, f"{name}.branch.{3 * layer}", training).relu()
                f = _conv(f, p[f"{name}.branch.{3 * layer + 2}.weight"], step)
            else:
                f = _conv(f, p[f"{name}.branch.{3 * layer}.weight"], step)
                f = _norm(f, p, f"{name}.branch.{3 * layer + 1}", training)
                f = f.relu() if layer != strides[-1] else f
        short = y
        if f"{name}.shortcut.weight" in p:
            short = _conv(y, p[f"{name}.shortcut.weight"], stride)
        elif f"{name}.shortcut.0.weight" in p:
            short = _norm(_conv(y, p[f"{name}.shortcut.0.weight"], stride), p, f"{name}.shortcut.1", training)
        elif short.shape != f.shape:
            short = torch.zeros_like(f)
            short[:, : y.shape[1]] = y[..., ::stride, ::stride]
        y = short + f if pre else (short + f).relu()
    if pre:
        y = _norm(y, p, "head.0", training).relu()
    last = max(int(key.split(".")[1]) for key in p if key.startswith("head."))
    return y.mean((2, 3)) @ p[f"head.{last}.weight"].T + p[f"head.{last}.bias"]


def _shaken(net: nn.Module) -> nn.Module:
    """Perturb norms: as the identity a missing or misplaced one would go unnoticed."""
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            noise = torch.rand(tensor.shape, dtype=tensor.dtype, generator=seeded(len(name)))
            tensor.copy_(noise + (0.5 if name.endswith(("weight", "var")) else -0.5))
    return net


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("style", "branch", "order", "shortcut"), KINDS)
def test_the_network_equals_the_papers_formula(
    style: str, branch: str, order: str, shortcut: str, training: bool
) -> None:
    net = _shaken(_tiny(style=style, branch=branch, order=order, shortcut=shortcut)).train(training)
    x = _images(3, 2, 13, 10) if style == "imagenet" else _images(3, 2, 7, 6)
    expected = _twin(copy.deepcopy(net), x, branch, order, style)
    assert_close(net(x), expected, **EXACT)


def test_shortcut_options_differ_as_documented() -> None:
    x = _images(2, 2, 5, 5)
    outputs = [_shaken(_tiny(order=order, shortcut=shortcut)).eval()(x) for order in ORDERS for shortcut in SHORTCUTS]
    for i, one in enumerate(outputs):
        for other in outputs[i + 1 :]:
            assert not torch.allclose(one, other)


# --- weights


@pytest.mark.parametrize("order", ORDERS)
def test_weights_start_with_he_and_norms_as_the_identity(order: str) -> None:
    net = resnet((1, 1), order=order, widths=(24, 32), shortcut="project", generator=seeded())
    seen = 0
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            variance = 2 / fan_in
            standard_error = variance * math.sqrt(2 / module.weight.numel())  # of a Gaussian's sample variance
            assert abs(module.weight.square().mean().item() - variance) < 5 * standard_error
            seen += 1
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
            assert module.running_mean.eq(0).all()
            assert module.running_var.eq(1).all()
            assert module.num_batches_tracked.item() == 0
    assert seen == 6


def test_weights_depend_on_the_generator_only() -> None:
    outer = torch.get_rng_state()
    one, same, other = (_tiny(generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), outer)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim == 1 or not torch.equal(a, c)


def test_without_a_generator_weights_follow_the_global_seed() -> None:
    def built(seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _tiny(generator=None).stem[0].weight

    assert torch.equal(built(0), built(0))
    assert not torch.equal(built(0), built(1))


@pytest.mark.parametrize(("style", "branch", "order", "shortcut"), KINDS)
def test_every_parameter_gets_a_gradient(style: str, branch: str, order: str, shortcut: str) -> None:
    net = _shaken(_tiny(style=style, branch=branch, order=order, shortcut=shortcut))
    (net(_images(4, 2, 33, 33)) * _images(4, 3)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


# --- training on short paths


def test_a_pre_activation_stage_without_its_branches_is_the_identity() -> None:
    net = _shaken(_tiny(depth=(4,), widths=(2,)))
    x = _images(2, 2, 5, 5)
    assert not torch.allclose(net.blocks(x), x)
    y = x
    for block in net.blocks:
        y = block(y, share=0)
    assert torch.equal(y, x)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_without_branches_only_the_shortcuts_remain(shortcut: str) -> None:
    net = _shaken(_tiny(subset=0, shortcut=shortcut))
    x = _images(2, 2, 7, 6)
    expected = net.blocks[3].shortcut(net.blocks[1].shortcut(x))
    for mode in (True, False):
        assert torch.equal(net.train(mode).blocks(x), expected)


def test_survival_gives_every_module_the_linear_rule() -> None:
    net = resnet(110, survival=0.5, widths=(1, 1, 1), device="meta")
    assert [1 - block.drop for block in net.blocks] == pytest.approx(survival_probabilities(54))
    assert net.blocks[53].drop == 0.5
    assert [block.drop for block in resnet(20, device="meta").blocks] == [0.0] * 9


def test_coins_determine_the_branches_and_not_the_weights() -> None:
    def outputs(coins: int) -> list[Tensor]:
        net = _tiny(depth=(6,), widths=(2,), survival=0.2, coins=seeded(coins))
        return [net(x) for _ in range(6)]

    x = _images(2, 2, 4, 4)
    outer = torch.get_rng_state()
    one, same, other = outputs(0), outputs(0), outputs(1)
    assert torch.equal(torch.get_rng_state(), outer)
    assert all(map(torch.equal, one, same))
    assert not all(map(torch.equal, one, other))


def test_evaluation_multiplies_each_branch_by_its_survival_probability() -> None:
    net = _shaken(_tiny(survival=0.4)).eval()
    x = _images(2, 2, 7, 6)
    y = net.stem(x)
    for block, p in zip(net.blocks, survival_probabilities(4, 0.4), strict=True):
        y = block.shortcut(y) + p * block.branch(y)
    assert_close(net.blocks(net.stem(x)), y, **EXACT)


def test_every_batch_uses_exactly_23_of_54_modules_as_published() -> None:
    net = resnet(110, inputs=1, widths=(1, 1, 1), subset=23, coins=seeded(), generator=seeded())
    computed: list[int] = []
    for i, block in enumerate(net.blocks):
        block.branch.register_forward_hook(lambda *_, i=i: computed.append(i))
    draws = []
    for _ in range(4):
        computed.clear()
        net(torch.ones(2, 1, 4, 4))
        assert computed == sorted(set(computed))
        assert len(computed) == 23
        draws.append(tuple(computed))
    assert len(set(draws)) == 4
    computed.clear()
    net.eval()(torch.ones(2, 1, 4, 4))
    assert computed == list(range(54))


@pytest.mark.parametrize("rescale", [True, False])
def test_evaluation_after_training_on_subsets_rescales_as_chosen(rescale: bool) -> None:
    net = _shaken(_tiny(subset=1, rescale=rescale)).eval()
    x = _images(2, 2, 7, 6)
    y = net.stem(x)
    for block in net.blocks:
        y = block.shortcut(y) + (1 / 4 if rescale else 1.0) * block.branch(y)
    assert_close(net.blocks(net.stem(x)), y, **EXACT)


def test_weights_trained_on_subsets_fit_the_full_net() -> None:
    subset, full = _shaken(_tiny(subset=2, rescale=False)), _tiny(generator=seeded(5))
    assert isinstance(subset.blocks, RandomSubset)
    assert all(isinstance(block, Residual) for block in subset.blocks)
    full.load_state_dict(subset.state_dict())
    x = _images(2, 2, 7, 6)
    assert torch.equal(full.eval()(x), subset.eval()(x))


# --- other properties


@pytest.mark.parametrize("change", [{}, {"survival": 0.5, "coins": seeded()}, {"subset": 2, "coins": seeded()}])
def test_a_copy_continues_like_the_original(change: dict[str, object]) -> None:
    net, x = _tiny(**change), _images(2, 2, 7, 6)
    twin = copy.deepcopy(net)
    for _ in range(3):
        assert torch.equal(twin(x), net(x))
    assert all(torch.equal(a, b) for a, b in zip(twin.state_dict().values(), net.state_dict().values(), strict=True))
    twin.stem[0].weight.data.zero_()
    assert net.stem[0].weight.any()


@pytest.mark.parametrize(("style", "branch", "order", "shortcut"), KINDS)
def test_channels_last_gives_the_same(style: str, branch: str, order: str, shortcut: str) -> None:
    net = _shaken(_tiny(style=style, branch=branch, order=order, shortcut=shortcut))
    x = _images(2, 2, 17, 16)
    expected = copy.deepcopy(net)(x)
    net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    assert net.blocks(net.stem(x)).is_contiguous(memory_format=torch.channels_last)
    assert_close(net(x), expected, **EXACT)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (8, 8), (28, 28), (32, 32)])
def test_images_of_any_size_are_accepted_and_stages_halve_them(size: tuple[int, int]) -> None:
    net = _tiny().eval()
    x = _images(2, 2, *size)
    maps = net.blocks(net.stem(x))
    assert maps.shape == (2, 5, math.ceil(math.ceil(size[0] / 2) / 2), math.ceil(math.ceil(size[1] / 2) / 2))
    assert net(x).isfinite().all()


@pytest.mark.parametrize("order", ORDERS)
def test_compile_sees_one_graph(order: str) -> None:
    net, x = _tiny(order=order, shortcut="project", survival=0.5).eval(), _images(2, 2, 7, 6)
    torch.compiler.reset()
    with warnings.catch_warnings():
        # Ignore the compiler's own warnings.
        warnings.simplefilter("ignore")
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        assert_close(compiled(x), net(x), **EXACT)
    torch.compiler.reset()


def test_a_twenty_layer_net_trains_and_so_does_one_on_short_paths() -> None:
    # Which half of a 6x6 image is brighter; guessing costs ln 2 = 0.693. Seeds 0-2 gave at most 0.001, with coins 0.06
    # and on subsets 0.21.
    x = torch.randn(64, 1, 6, 6, generator=seeded(1))
    target = (x[..., :3].mean((1, 2, 3)) > x[..., 3:].mean((1, 2, 3))).long()
    for change in ({"order": "pre"}, {"order": "post"}, {"survival": 0.5}, {"subset": 5}):
        net = resnet(20, 1, 2, widths=(4, 4, 4), coins=seeded(), generator=seeded(), **change)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        losses = []
        for _ in range(60):
            optimiser.zero_grad()
            loss = F.cross_entropy(net(x), target)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert sum(losses[-10:]) / 10 < 0.35, change


# --- errors


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"depth": 21}, r"depth must be 6n \+ 2.*got 21: the nearest are 20 and 26.*depth=\(1, 1, 1\)"),
        ({"depth": 2}, r"depth must be 6n \+ 2.*got 2: the nearest are 8 and 14"),
        (
            {"depth": 26, "branch": "bottleneck"},
            r"depth must be 9n \+ 2.*bottleneck.*got 26: the nearest are 20 and 29",
        ),
        ({"depth": 20.0}, "depth must be an integer of at least 1, got 20.0"),
        ({"depth": "110"}, "got '110'"),
        ({"depth": (2, 2)}, r"2 stages, of \(2, 2\) modules, and 3 widths, \(16, 32, 64\)"),
        ({"depth": (), "widths": ()}, "at least one"),
        ({"depth": (2, 0, 2)}, "number of modules in a stage must be an integer of at least 1, got 0"),
        ({"style": "imagenet", "depth": 51}, "no ImageNet network of depth=51.*18, 34, 50, 101, 152, 200"),
        ({"style": "imagenet", "depth": 50, "branch": "basic"}, r"50-layer.*bottleneck.*'basic'.*\(3, 4, 6, 3\)"),
        ({"style": "cfar"}, "unknown style 'cfar'; did you mean 'cifar'"),
        ({"order": "preact"}, "unknown order 'preact'; did you mean 'pre'"),
        ({"branch": "neck"}, "unknown branch 'neck'"),
        ({"shortcut": ["pad"]}, "unknown shortcut"),
        ({"widths": (16, 0, 64)}, "a width must be an integer of at least 1, got 0"),
        ({"inputs": 0}, "inputs must be"),
        ({"classes": 0}, "classes must be"),
        ({"survival": 0.0}, "survival probability of the last block must be above 0"),
        ({"subset": 10}, "use must be 0 to 9, the number of blocks, got 10"),
        ({"subset": 4, "survival": 0.5}, "pass survival or subset, not both.*survival=0.5 and subset=4"),
    ],
)
def test_invalid_arguments_raise_with_their_value(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resnet(**({"depth": 20, "device": "meta"} | change))


@pytest.mark.parametrize("shape", [(2, 5, 5), (3, 1, 5, 5), (3, 2), ()])
def test_inputs_other_than_batches_of_images_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(batch, 2, height, width\), got an input of shape .*unsqueeze\(0\)"):
        _tiny()(torch.zeros(shape))
