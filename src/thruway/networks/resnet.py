"""Residual networks on images: the CIFAR and the ImageNet families, with pre- or post-activation."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError, unknown_name
from thruway.networks.images import check_images, materialize_
from thruway.networks.resnet_modules import BRANCHES, ORDERS, SHORTCUTS, Design
from thruway.networks.resnet_styles import STYLES, stages_of
from thruway.nn import RandomSubset, Residual, survival_probabilities
from thruway.nn.checks import check_generator, check_size

__all__ = ["ResNet", "resnet"]


class ResNet(nn.Module):
    """A first layer, a sequence of residual modules, and a classifier: logits = head(blocks(stem(x))).

    `blocks` contains the modules of all stages, numbered from 0: the indices of a lesion study. The first module of a
    stage changes the size, in its shortcut and in its branch.

    Args:
        stem: module from (batch, inputs, height, width) to feature maps.
        blocks: module from feature maps to feature maps.
        head: module from feature maps to (batch, classes), without a softmax, which the loss applies.
        inputs: channels of the images.
    Raises:
        ShapeError: when called on an input that is not a batch of images with `inputs` channels and the weights' dtype.

    >>> net = ResNet(nn.Conv2d(1, 2, 3), nn.Sequential(), nn.Sequential(nn.Flatten(), nn.Linear(8, 3)), inputs=1)
    >>> net(torch.zeros(5, 1, 4, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, stem: nn.Module, blocks: nn.Module, head: nn.Module, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.stem = stem
        self.blocks = blocks
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.inputs)
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


def resnet(
    depth: int | Sequence[int] = 110,
    inputs: int = 3,
    classes: int | None = None,
    style: str = "cifar",
    *,
    widths: Sequence[int] | None = None,
    branch: str | None = None,
    order: str | None = None,
    shortcut: str | None = None,
    survival: float = 1.0,
    subset: int | None = None,
    rescale: bool = True,
    coins: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> ResNet:
    """Build a published residual network, or a smaller one of the same kind.

    `depth` counts layers as the papers do: the convolutions of the branches, the first layer and the classifier, not
    projections. style="cifar" takes depths of 6n + 2 (20, 32, 44, 56, 110: 54 modules of two layers),
    style="imagenet" 18, 34, 50, 101, 152 or 200. Images may have any size; each stage except the first halves it,
    rounding up.

    order="pre" has f = W·relu(BN(W'·relu(BN(x)))) in every module and no activation after the sum: without its
    branches, a stage after its first module is the identity. The published pre-activation code differs in two places:
    in the first module of a stage the shortcut reads relu(BN(x)) instead of x, and ImageNet's stem has the norm and
    rectifier of the first module before its pooling. The parameter counts are equal.
    order="post" has f = BN(W·relu(BN(W'·x))) and a rectifier after the sum.

    There are two ways to train on short paths, which cannot be combined: `survival` is stochastic depth, an
    independent draw for each module and batch; `subset` is a fixed number of modules per batch, see `RandomSubset`.

    Args:
        depth: number of layers, or number of modules in each stage, such as (2, 2, 2).
        inputs: number of channels of the images, 1 for greyscale.
        classes: number of logits. If None, 10 (cifar) or 1000 (imagenet).
        style: a key of STYLES; it sets the stem and the defaults of the next four arguments.
        widths: numbers of channels of each stage, before the expansion of bottlenecks by 4. If None, 16, 32, 64 (cifar)
            or 64, 128, 256, 512 (imagenet).
        branch: "basic" (two 3x3 layers) or "bottleneck" (1x1, 3x3, 1x1: depths of 9n + 2 in style "cifar"). If None, as
            published for this depth.
        order: "pre" or "post". If None, "pre" (cifar) or "post" (imagenet).
        shortcut: shortcut where the size changes: "pad" (option A: every second pixel, zeros for new channels) or
            "project" (option B: 1x1 convolution, with batch norm in order "post"). If None, "pad" (cifar) or "project"
            (imagenet).
        survival: p_L, the survival probability of the branch of the last module, 0.5 in the paper. Earlier modules
            follow the linear rule, see `survival_probabilities`. With 1, there is no stochastic depth.
        subset: k, number of branches per training batch. If None, all branches are used. In the paper: 23 of 54.
        rescale: If True, multiply each branch by k/n in evaluation. Only used with `subset`.
        coins: CPU generator for `survival` and `subset`. If None, PyTorch's global generator.
        generator: generator of all initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: if the depth is impossible, a name is unknown, a size is below 1, `survival` or `subset` is out of
            range, or both are given.
        ShapeError: when called on an input that is not a batch of images with `inputs` channels and the weights' dtype.
    Source:
        He, Zhang, Ren & Sun 2015 (Deep Residual Learning), secs. 3.3 and 4.2, table 1; the same 2016 (Identity
        Mappings), fig. 4e; Veit, Wilber & Belongie 2016, sec. 3; weights after He et al. 2015 (Rectifiers), eq. 10;
        Huang et al. 2016 (stochastic depth).

    >>> net = resnet(20, inputs=1, order="post")
    >>> len(net.blocks), sum(p.numel() for p in net.parameters()), net(torch.zeros(2, 1, 8, 8)).shape
    (9, 269434, torch.Size([2, 10]))
    """
    family = STYLES[_known("style", style, STYLES)]
    order = _known("order", family.order if order is None else order, ORDERS)
    shortcut = _known("shortcut", family.shortcut if shortcut is None else shortcut, SHORTCUTS)
    branch = branch if branch is None else _known("branch", branch, BRANCHES)
    widths = family.widths if widths is None else tuple(check_size("a width", width) for width in widths)
    stages, branch = stages_of(family, depth, branch, widths)
    inputs = check_size("inputs", inputs)
    classes = check_size("classes", family.classes if classes is None else classes)
    if subset is not None and survival != 1.0:
        raise ConfigError(
            f"pass survival or subset, not both: each chooses the branches of a batch. Got survival={survival} and "
            f"subset={subset}."
        )
    design = Design(BRANCHES[branch], ORDERS[order], SHORTCUTS[shortcut])
    check_generator("coins", coins)
    device = torch.get_default_device() if device is None else device
    with torch.device("meta"):
        stem = family.stem(inputs, widths[0], design.order)
        modules = list(_modules(design, widths, stages, survival, coins))
        if subset is None:
            blocks: nn.Module = nn.Sequential(*modules)
        else:
            blocks = RandomSubset(*modules, use=subset, rescale=rescale, generator=coins)
        channels = design.branch.expansion * widths[-1]
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        head = nn.Sequential(*design.order.head_start(channels), *pool, nn.Linear(channels, classes))
    return materialize_(ResNet(stem, blocks, head, inputs), device, dtype, generator)


def _modules(
    design: Design, widths: Sequence[int], stages: Sequence[int], survival: float, coins: torch.Generator | None
) -> Iterator[Residual]:
    kept = iter(survival_probabilities(sum(stages), survival))
    inputs = widths[0]
    for stage, (width, number) in enumerate(zip(widths, stages, strict=True)):
        for place in range(number):
            stride = 2 if stage > 0 and place == 0 else 1
            yield design.module(inputs, width, stride, 1.0 - next(kept), coins)
            inputs = design.branch.expansion * width


def _known(kind: str, name: object, table: Mapping[str, object]) -> str:
    if not isinstance(name, str) or name not in table:
        raise ConfigError(unknown_name(kind, name, table))
    return name
