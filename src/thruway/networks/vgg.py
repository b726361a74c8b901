"""VGG: a plain convolutional network without skip connections, the baseline of residual networks."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from thruway.errors import ConfigError
from thruway.networks.images import check_images, materialize_
from thruway.nn.checks import check_size

__all__ = ["VGG", "vgg"]

# The thirteen convolutions of VGG-16 ("D").
_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """A sequence of convolutions and pooling layers, followed by dense layers: logits = head(layers(x)).

    A layer consists of a convolution, a norm (if any), and a ReLU. A lesion of the layer removes all three.

    Args:
        layers: module from images to feature maps, with layers named conv1_1, conv1_2, pool1, conv2_1, ...
        head: module from feature maps to (batch, classes), without a softmax, which the loss applies.
        inputs: channels of the images.
    Raises:
        ShapeError: when called on an input that is not a batch of images with `inputs` channels and the weights' dtype.

    >>> net = VGG(nn.Sequential(), nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), inputs=1)
    >>> net(torch.zeros(5, 1, 4, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, layers: nn.Module, head: nn.Module, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.layers = layers
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, self.inputs)
        logits: Tensor = self.head(self.layers(x))
        return logits


def vgg(
    inputs: int = 3,
    classes: int = 10,
    norm: bool = True,
    widths: Sequence[Sequence[int]] = _WIDTHS,
    hidden: Sequence[int] = (512,),
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> VGG:
    """Build a VGG network for small images: 3x3 convolutions with ReLU, pooling after each stage, then dense layers.

    By default it has 15 layers: the thirteen convolutions of VGG-16, one dense layer of 512 units and the classifier.
    Veit et al. 2016 give the number of layers of their baseline, but do not list them; this is the common network of
    that depth for CIFAR-10. It is also unknown whether theirs had batch norm, which changes the effect of a lesion, so
    compare both. There is no dropout.

    Pooling halves the size, rounding up, and the last map is averaged to one pixel (for 32x32 images it has only one),
    so images may have any size.

    Args:
        inputs: number of channels of the images, 1 for greyscale.
        classes: number of logits.
        norm: If True, add batch norm to every layer except the classifier; these layers then have no bias.
        widths: numbers of channels of each convolution, stage by stage.
        hidden: numbers of units of the dense layers before the classifier.
        generator: generator of all initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: if a size is below 1, or a stage has no convolution.
        ShapeError: when called on an input that is not a batch of images with `inputs` channels and the weights' dtype.
    Source:
        Simonyan & Zisserman 2014, table 1 (D); Veit, Wilber & Belongie 2016, sec. 4.1 (15 layers);
        weights after He et al. 2015 (Rectifiers), eq. 10.

    >>> net = vgg(inputs=1, widths=[[4], [8, 8]], hidden=[])
    >>> [name for name, _ in net.layers.named_children()], net(torch.zeros(2, 1, 8, 8)).shape
    (['conv1_1', 'pool1', 'conv2_1', 'conv2_2', 'pool2'], torch.Size([2, 10]))
    """
    inputs, classes = check_size("inputs", inputs), check_size("classes", classes)
    stages = [[check_size("a width", width) for width in stage] for stage in widths]
    if not all(stages) or not stages:
        raise ConfigError(f"widths={widths!r} has a stage without a convolution: pass at least one width per stage.")
    dense = [check_size("a hidden layer's units", units) for units in hidden]
    device = torch.get_default_device() if device is None else device
    with torch.device("meta"):
        layers = _convolutions(inputs, stages, norm)
        head = _classifier([stages[-1][-1], *dense], classes, norm)
    return materialize_(VGG(layers, head, inputs), device, dtype, generator)


def _convolutions(inputs: int, stages: list[list[int]], norm: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, widths in enumerate(stages, 1):
        for place, width in enumerate(widths, 1):
            convolution = nn.Conv2d(inputs, width, 3, padding=1, bias=not norm)
            norms = [nn.BatchNorm2d(width)] if norm else []
            layers[f"conv{stage}_{place}"] = nn.Sequential(convolution, *norms, nn.ReLU())
            inputs = width
        layers[f"pool{stage}"] = nn.MaxPool2d(2, ceil_mode=True)
    return nn.Sequential(layers)


def _classifier(widths: list[int], classes: int, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    for before, units in itertools.pairwise(widths):
        norms = [nn.BatchNorm1d(units)] if norm else []
        layers.append(nn.Sequential(nn.Linear(before, units, bias=not norm), *norms, nn.ReLU()))
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
