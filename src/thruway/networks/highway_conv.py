"""Convolutional highway networks of the papers, with the block as an argument.

CONV_BLOCKS lists the kinds of layer. To add one, write a function and an entry.
"""

import bisect
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from torch import nn

from thruway.errors import ConfigError, unknown_name
from thruway.networks.conv_net import ConvNet
from thruway.networks.highway_conv_layouts import LAYOUTS, Layout
from thruway.networks.images import materialize_
from thruway.nn import Dropout, HighwayConv2d
from thruway.nn.checks import check_bool, check_gate_bias, check_generator, check_size

__all__ = ["CONV_BLOCKS", "highway_conv", "plain_twin_width"]

Named = Iterator[tuple[str, nn.Module]]


def _plain(width: int, kernel: int, gate_bias: float) -> nn.Module:
    """y = relu(W * x + b)"""
    return _opening(width, width, kernel, kernel // 2)


def _highway(width: int, kernel: int, gate_bias: float) -> nn.Module:
    """y = relu(W * x + b)·T(x) + x·(1 - T(x))"""
    return HighwayConv2d(width, kernel, "relu", gate_bias)


CONV_BLOCKS: dict[str, Callable[[int, int, float], nn.Module]] = {
    "plain": _plain,
    "highway": _highway,
}


def highway_conv(
    layout: str = "cifar",
    inputs: int | None = None,
    classes: int = 10,
    *,
    width: int | None = None,
    size: int | None = None,
    block: str = "highway",
    gate_bias: float | None = None,
    dropout: bool = True,
    coins: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> ConvNet:
    """Build a published convolutional highway network, a plain network with the same layers, or a smaller version.

    layout="mnist" has 10 layers: a 5x5 convolution without padding, eight highway layers with poolings in between,
    and a linear layer on the remaining map. layout="cifar" has 19: three stages that each begin with a plain
    3x3 convolution followed by highway layers, a 1x1 convolution to 100 channels averaged over the map, and a
    linear layer. Both follow the authors' code layer by layer. Pooling rounds sizes up, as in their code.

    layout="cifar-11" (Highway A) and layout="cifar-32" (Highway C, with alternating 3x3 and 1x1 highway layers) are
    reconstructions: their depths and rounded parameter counts are published, their layers are not. The widths were
    chosen to match the counts, 235,224 for ~236K and 1,248,145 for ~1.25M. Head and dropout are those of "cifar", gate
    biases follow the papers' guideline for the depth. "cifar" is also used for Highway B: it has the published ~2.3M
    parameters, but its head is published for table 3 only.

    Weights start with He's variance, which the authors' code calls "xavier". Two details of that code are not
    followed: the first layer on CIFAR draws from N(0, 1), where a standard deviation of 0.05 was intended, and
    linear layers use a fixed standard deviation of 0.05 or 0.1.

    Args:
        layout: a key of LAYOUTS.
        inputs: number of channels of the images. If None, that of the layout, 1 or 3.
        classes: number of logits.
        width: channels of the first stage; the other stages are scaled in proportion and rounded, the 1x1 layer keeps
            100. If None, that of the layout, 16 or 32. `plain_twin_width` returns the width of a plain network with as
            many parameters.
        size: height and width of the images, at least 8, for layout "mnist", whose linear layer depends on them. If
            None, 28. The other layouts accept images of any size.
        block: a key of CONV_BLOCKS: "highway" or "plain". The first layer of a stage is plain in both.
        gate_bias: initial bias of the transform gates. If None, that of the layout. Highway only.
        dropout: If True, use the published dropout before each stage and before the linear layer.
        coins: generator of the dropout masks, see `nn.Dropout`. If None, PyTorch's global generator.
        generator: generator of all initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: if the layout or block is unknown, a size is below 1, the images are too small for the layout, the
            gate bias is not a number, or `dropout` is not True or False.
        ShapeError: if the network is called on anything but a batch of images with `inputs` channels (and of `size`)
            and the dtype of the weights.
    Source:
        Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), tables 1-3, and the authors'
        published Caffe configurations; weights after He et al. 2015 (Rectifiers), eq. 10.

    >>> net = highway_conv("mnist", size=8, width=4)
    >>> [name for name, _ in net.layers.named_children()][:6]
    ['dropout1', 'conv1', 'highway2', 'highway3', 'pool1', 'dropout2']
    >>> net.layers.highway2.gate_bias, net(torch.zeros(2, 1, 8, 8)).shape
    (-1.0, torch.Size([2, 10]))
    """
    plan = _layout(layout)
    plan = plan if width is None else plan.widened(check_size("width", width))
    if not isinstance(block, str) or block not in CONV_BLOCKS:
        raise ConfigError(unknown_name("block", block, CONV_BLOCKS))
    inputs = plan.inputs if inputs is None else check_size("inputs", inputs)
    classes = check_size("classes", classes)
    size = plan.size if size is None else check_size("size", size)
    bias = plan.gate_bias if gate_bias is None else check_gate_bias(gate_bias)
    check_bool("dropout", dropout, "The rates are fixed to the published ones.")
    drops = plan.dropout if dropout else (0.0,) * len(plan.dropout)
    check_generator("coins", coins)
    device = torch.get_default_device() if device is None else device
    with torch.device("meta"):
        layers = nn.Sequential(OrderedDict(_layers(plan, inputs, block, bias, drops, coins)))
        head = nn.Sequential(OrderedDict(_head(plan, size, classes, drops[-1], coins)))
        net = ConvNet(layers, head, inputs, size if plan.pointwise is None else None)
    return materialize_(net, device, dtype, generator)


def plain_twin_width(
    layout: str = "cifar",
    width: int | None = None,
    inputs: int | None = None,
    classes: int = 10,
    *,
    size: int | None = None,
) -> int:
    """Return the width of the plain network whose number of parameters is closest to that of the highway network.

    Plain layers have half the parameters, so the plain network is about 1.4 times as wide. Increasing the width by 1
    changes the count by a share of at most 2/width, so the two counts differ by at most 1/width. Report both counts
    with a comparison.

    Args:
        layout, inputs, classes, size: see `highway_conv`.
        width: width of the first stage of the highway network. If None, that of the layout.
    Returns:
        The `width` for highway_conv(..., block="plain").
    Raises:
        ConfigError: see `highway_conv`.
    Source:
        Ours; in analogy to the 71 and 50 units of Srivastava, Greff & Schmidhuber 2015 (Highway Networks), sec. 3.

    >>> plain_twin_width("mnist"), plain_twin_width("cifar")
    (22, 44)
    """

    def count(block: str, wide: int) -> int:
        net = highway_conv(layout, inputs, classes, width=wide, size=size, block=block, device="meta")
        return sum(parameter.numel() for parameter in net.parameters())

    width = _layout(layout).stages[0].width if width is None else check_size("width", width)
    wanted = count("highway", width)
    above = bisect.bisect_left(range(2 * width), wanted, lo=width, key=lambda wide: count("plain", wide))
    return min(range(max(width, above - 1), above + 1), key=lambda wide: abs(count("plain", wide) - wanted))


def _layout(name: str) -> Layout:
    if not isinstance(name, str) or name not in LAYOUTS:
        raise ConfigError(unknown_name("layout", name, LAYOUTS))
    return LAYOUTS[name]


def _layers(
    plan: Layout, inputs: int, block: str, gate_bias: float, drops: tuple[float, ...], coins: torch.Generator | None
) -> Named:
    number = 0
    for place, stage in enumerate(plan.stages, 1):
        if drops[place - 1]:
            yield f"dropout{place}", Dropout(drops[place - 1], coins)
        if stage.opening is not None:
            number += 1
            padding = stage.opening // 2 if plan.pads else 0
            yield f"conv{number}", _opening(inputs, stage.width, stage.opening, padding)
        for kernel in stage.kernels:
            number += 1
            yield f"{block}{number}", CONV_BLOCKS[block](stage.width, kernel, gate_bias)
        if stage.pool is not None:
            yield f"pool{place}", nn.MaxPool2d(*stage.pool, ceil_mode=True)
        inputs = stage.width


def _head(plan: Layout, size: int, classes: int, drop: float, coins: torch.Generator | None) -> Named:
    width = plan.stages[-1].width
    if plan.pointwise is None:
        features = width * plan.side(size) ** 2
    else:
        features = plan.pointwise
        yield "pointwise", _opening(width, features, 1, 0)
        yield "pool", nn.AdaptiveAvgPool2d(1)
    yield "flatten", nn.Flatten()
    if drop:
        yield f"dropout{len(plan.dropout)}", Dropout(drop, coins)
    yield "linear", nn.Linear(features, classes)


def _opening(inputs: int, outputs: int, kernel: int, padding: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.ReLU())
