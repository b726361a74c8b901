"""Residual networks with gated, scaled or projected shortcuts, from He et al. 2016 and Srivastava 2025."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from thruway.errors import ConfigError, unknown_name
from thruway.networks.gated_joinings import JOININGS, Joining, ModuleSpec
from thruway.networks.images import materialize_
from thruway.networks.resnet import ResNet
from thruway.networks.resnet_modules import ORDERS, SHORTCUTS
from thruway.networks.resnet_styles import STYLES, stages_of
from thruway.nn.checks import check_gate_bias, check_generator, check_size

__all__ = ["gated_resnet"]

_FIRST = 16  # channels of the first layer, also in the published highway network with stages of 14, 28 and 56


def gated_resnet(
    depth: int | Sequence[int] = 110,
    joining: str = "highway",
    gate_bias: float = -6.0,
    widths: Sequence[int] | None = None,
    inputs: int = 3,
    classes: int = 10,
    *,
    stem: int | None = None,
    resize: str | None = None,
    coins: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> ResNet:
    """A post-activation residual network of the CIFAR family, with a choice of how branch and shortcut are joined.

    joining="identity" equals `resnet(depth, order="post")` exactly. With F = BN(W·relu(BN(W'·x))) and g the
    sigmoid of a 1x1 convolution, the other joinings of He et al. 2016 and their test errors are

        exclusive         relu(g·F + (1 - g)·x)      failed for b = 0 ... -5;  8.70 % at -6,  9.81 % at -7
        shortcut          relu(F + (1 - g)·x)        12.86 % at b = 0,  6.91 % at -6
        scaled            relu(0.5·F + 0.5·x)        12.35 %
        scaled-shortcut   relu(F + 0.5·x)
        project           relu(F + BN(1x1 conv(x)))  12.22 %, in every module
        dropout           relu(F + dropout(x))       failed; half of x is dropped

    compared with 6.61 % for the identity (110 layers, CIFAR-10). joining="highway" is the block of the 2025 reply,
    T·relu(F) + (1 - T)·x with T = sigmoid(BN(W·relu(BN(W'·x)))) and no rectifier after the sum: an accuracy of 93.96 %
    in the author's single run, and 93.75 % for the identity. It has 14, 28 and 56 channels after a first layer of 16.

    If sizes change, x is the output of the shortcut, and gates have the stride of F: they blend the new maps with the
    resized input. He et al. do not state how their gates did this. With "project" every shortcut is a 1x1
    convolution with batch norm; they do not state whether theirs had batch norm.

    Args:
        depth: number of layers, 6n + 2, or the number of modules in each stage, such as (2, 2, 2). Layers of gates are
            not counted.
        joining: a key of JOININGS.
        gate_bias: b, initial bias of the last layer of each gate (a batch norm in "highway"). Only used with gated
            joinings.
        widths: numbers of channels of each stage. If None, the published 14, 28, 56 ("highway") or 16, 32, 64.
        inputs: number of channels of the images, 1 for greyscale.
        classes: number of logits.
        stem: number of channels of the first layer. If None, the published 16, or the first of `widths` if given.
        resize: shortcut where the size changes: "pad" (option A: every second pixel, zeros for new channels) or
            "project" (1x1 convolution with batch norm). If None, "project" for "highway", as published, else "pad".
        coins: generator for joining="dropout", see `nn.Dropout`. If None, PyTorch's global generator.
        generator: generator of all initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: if the depth is impossible, a name is unknown, a size is below 1, `widths` is not a list, or the
            gate bias is not a number.
        ShapeError: if the network is called on anything but a batch of images with `inputs` channels and the dtype of
            the weights.
    Source:
        He, Zhang, Ren & Sun 2016 (Identity Mappings), sec. 3 and table 1; Srivastava 2025, the published code of
        "Weighted Skip Connections are Not Harmful for Deep Nets"; weights after He et al. 2015 (Rectifiers), eq. 10.

    >>> net = gated_resnet(8, "exclusive", gate_bias=-3.0, widths=(2, 4, 8))
    >>> net.blocks[1].gate.layers[-1].bias, net(torch.zeros(2, 3, 8, 8)).shape
    (Parameter containing: tensor([-3., -3., -3., -3.], requires_grad=True), torch.Size([2, 10]))
    """
    if not isinstance(joining, str) or joining not in JOININGS:
        raise ConfigError(unknown_name("joining", joining, JOININGS))
    row = JOININGS[joining]
    resize = row.resize if resize is None else resize
    if not isinstance(resize, str) or resize not in SHORTCUTS:
        raise ConfigError(unknown_name("resize", resize, SHORTCUTS))
    if widths is not None and not isinstance(widths, Sequence):
        raise ConfigError(f"widths must be the channels of each stage, such as widths={row.widths}, got {widths!r}.")
    channels = row.widths if widths is None else tuple(check_size("a width", width) for width in widths)
    stages, _ = stages_of(STYLES["cifar"], depth, "basic", channels)
    first = _FIRST if widths is None else channels[0]
    first = first if stem is None else check_size("stem", stem)
    inputs, classes = check_size("inputs", inputs), check_size("classes", classes)
    gate_bias = check_gate_bias(gate_bias)
    check_generator("coins", coins)
    device = torch.get_default_device() if device is None else device
    with torch.device("meta"):
        begin = STYLES["cifar"].stem(inputs, first, ORDERS["post"])
        blocks = nn.Sequential(*_modules(row, first, channels, stages, resize, gate_bias, coins))
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes))
    return materialize_(ResNet(begin, blocks, head, inputs), device, dtype, generator)


def _modules(
    row: Joining,
    inputs: int,
    widths: Sequence[int],
    stages: Sequence[int],
    resize: str,
    gate_bias: float,
    coins: torch.Generator | None,
) -> Iterator[nn.Module]:
    for stage, (width, number) in enumerate(zip(widths, stages, strict=True)):
        for module in range(number):
            stride = 2 if stage > 0 and module == 0 else 1
            yield row.module(ModuleSpec(inputs, width, stride, resize, gate_bias, coins))
            inputs = width
