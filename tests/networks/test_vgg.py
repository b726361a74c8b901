"""VGG: layers, counts, and a slow reference implementation."""

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
from thruway.networks import vgg

EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64; sums of up to 100 terms of size 1, five layers deep


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
    settings = {"inputs": 2, "classes": 3, "widths": ((4, 5), (6,)), "hidden": (7,), "dtype": torch.float64}
    return vgg(**(settings | {"generator": seeded()} | change))


def _images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(1))


def _count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("norm", [True, False])
def test_it_has_fifteen_layers(norm: bool) -> None:
    net = vgg(norm=norm, device="meta")
    kinds = [type(m) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert kinds == [nn.Conv2d] * 13 + [nn.Linear] * 2
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
    assert len(norms) == (14 if norm else 0)


def test_the_convolutions_match_vgg_16() -> None:
    # Simonyan & Zisserman 2014, net D: 138,357,544 parameters, the rest in the dense layers.
    dense = (7 * 7 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)
    plain = vgg(norm=False, device="meta")
    assert _count(plain.layers) == 138_357_544 - dense == 14_714_688
    assert _count(plain.head) == (512 * 512 + 512) + (512 * 10 + 10)
    # A norm has a scale and a shift instead of a bias.
    units = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 512
    assert _count(vgg(device="meta")) - _count(plain) == units


def test_layers_are_named_as_in_the_paper() -> None:
    names = [name for name, _ in vgg(device="meta").layers.named_children()]
    assert names[:6] == ["conv1_1", "conv1_2", "pool1", "conv2_1", "conv2_2", "pool2"]
    assert names[-4:] == ["conv5_1", "conv5_2", "conv5_3", "pool5"]


def _norm(x: Tensor, p: dict[str, Tensor], name: str, training: bool) -> Tensor:
    if f"{name}.running_mean" not in p:
        return x
    others = [axis for axis in range(x.ndim) if axis != 1]
    mean, var = p[f"{name}.running_mean"], p[f"{name}.running_var"]
    if training:
        mean, var = x.mean(others), x.var(others, correction=0)
    wide = (slice(None), *[None] * (x.ndim - 2))
    return (x - mean[wide]) / (var[wide] + 1e-5).sqrt() * p[f"{name}.weight"][wide] + p[f"{name}.bias"][wide]


def _conv(x: Tensor, w: Tensor) -> Tensor:
    """3x3, one kernel point at a time."""
    height, width = x.shape[-2:]
    x = F.pad(x, [1] * 4)
    return sum(
        torch.einsum("oc,bchw->bohw", w[:, :, i, j], x[..., i : i + height, j : j + width])
        for i in range(3)
        for j in range(3)
    )


def _pool(x: Tensor) -> Tensor:
    """Maximum over 2x2; for odd sizes the last row or column on its own."""
    x = F.pad(x, [0, x.shape[-1] % 2, 0, x.shape[-2] % 2], value=-math.inf)
    return x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))


def _twin(net: nn.Module, y: Tensor) -> Tensor:
    p = net.state_dict()
    for layer in ("conv1_1", "conv1_2", "pool1", "conv2_1", "pool2"):
        if layer.startswith("pool"):
            y = _pool(y)
            continue
        y = _conv(y, p[f"layers.{layer}.0.weight"])
        if f"layers.{layer}.0.bias" in p:
            y = y + p[f"layers.{layer}.0.bias"][:, None, None]
        y = _norm(y, p, f"layers.{layer}.1", net.training).relu()
    y = y.mean((2, 3)) @ p["head.2.0.weight"].T + p.get("head.2.0.bias", 0)
    y = _norm(y, p, "head.2.1", net.training).relu()
    return y @ p["head.3.weight"].T + p["head.3.bias"]


def _shaken(net: nn.Module) -> nn.Module:
    """Perturb norms and biases: with initial values a missing or misplaced one would go unnoticed."""
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            noise = torch.rand(tensor.shape, dtype=tensor.dtype, generator=seeded(len(name)))
            tensor.copy_(noise + (0.5 if name.endswith(("weight", "var")) else -0.5))
    return net


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("norm", [True, False], ids=["normed", "bare"])
def test_the_network_equals_its_formula(norm: bool, training: bool) -> None:
    net, x = _shaken(_tiny(norm=norm)).train(training), _images(5, 2, 7, 6)
    expected = _twin(copy.deepcopy(net), x)
    assert_close(net(x), expected, **EXACT)


@pytest.mark.parametrize("norm", [True, False])
def test_every_parameter_gets_a_gradient(norm: bool) -> None:
    net = _shaken(_tiny(norm=norm))
    (net(_images(6, 2, 9, 9)) * _images(6, 3)).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("size", [1, 8, 28, 32])
def test_poolings_round_up_and_the_rest_is_averaged(size: int) -> None:
    net = _tiny(widths=((2,),) * 5).eval()
    maps = net.layers(_images(2, 2, size, size))
    assert maps.shape[-2:] == (math.ceil(size / 32), math.ceil(size / 32))
    x = _images(2, 2, 70, 70)
    assert_close(net(x), net.head[2:](net.layers(x).mean((2, 3))), **EXACT)


def test_weights_start_with_he_and_depend_on_the_generator_only() -> None:
    outer = torch.get_rng_state()
    one, same, other = (_tiny(widths=((24, 32),), hidden=(40,), generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), outer)
    for (name, a), b, c in zip(one.named_parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        if a.ndim > 1:
            assert not torch.equal(a, c), name
            variance = 2 / a[0].numel()
            standard_error = variance * math.sqrt(2 / a.numel())  # of a Gaussian's sample variance
            assert abs(a.square().mean().item() - variance) < 5 * standard_error, name
        else:
            is_scale = name.endswith("weight")
            assert a.eq(1 if is_scale else 0).all(), name


@pytest.mark.parametrize("norm", [True, False])
def test_copies_and_state_dicts_are_complete(norm: bool) -> None:
    net, other, x = _shaken(_tiny(norm=norm)).eval(), _tiny(norm=norm, generator=seeded(5)).eval(), _images(2, 2, 8, 8)
    assert not torch.equal(net(x), other(x))
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(x), other(x))
    assert torch.equal(net(x), copy.deepcopy(net)(x))


def test_channels_last_gives_the_same() -> None:
    net, x = _shaken(_tiny()).eval(), _images(2, 2, 8, 8)
    expected = net(x)
    net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    assert net.layers(x).is_contiguous(memory_format=torch.channels_last)
    assert_close(net(x), expected, **EXACT)


def test_compile_sees_one_graph() -> None:
    net, x = _tiny().eval(), _images(2, 2, 8, 8)
    torch.compiler.reset()
    with warnings.catch_warnings():
        # Ignore the compiler's own warnings.
        warnings.simplefilter("ignore")
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        assert_close(compiled(x), net(x), **EXACT)
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": 0}, "inputs must be an integer of at least 1, got 0"),
        ({"classes": 0}, "classes must be"),
        ({"widths": ()}, r"widths=\(\) has a stage without a convolution"),
        ({"widths": ((4,), ())}, "stage without a convolution: pass at least one width"),
        ({"widths": ((4, 0),)}, "a width must be an integer of at least 1, got 0"),
        ({"hidden": (0,)}, "a hidden layer's units must be"),
    ],
)
def test_invalid_arguments_raise_with_their_value(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        vgg(**change)


@pytest.mark.parametrize("shape", [(2, 5, 5), (3, 1, 5, 5)])
def test_inputs_other_than_batches_of_images_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"VGG.*\(batch, 2, height, width\), got an input of shape .*inputs="):
        _tiny()(torch.zeros(shape))
