"""FitNets: thin deep maxout networks, the baseline of the first highway networks on CIFAR."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from thruway.errors import ConfigError
from thruway.networks.conv_net import ConvNet
from thruway.networks.images import materialize_
from thruway.nn import Dropout, Maxout
from thruway.nn.checks import check_generator, check_probability, check_size

__all__ = ["FITNETS", "fitnet"]

# Units of each convolution, stage by stage; each stage ends with a pooling.
FITNETS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((16, 16, 16), (32, 32, 32), (48, 48, 64)),  # 11 layers, ~250K: "Fitnet A"
    4: ((32, 32, 32, 48, 48), (80,) * 6, (128,) * 6),  # 19 layers, ~2.5M: "Fitnet B"
}


def fitnet(
    number: int = 4,
    inputs: int = 3,
    classes: int = 10,
    *,
    widths: Sequence[Sequence[int]] | None = None,
    hidden: int = 500,
    pieces: int = 2,
    hidden_pieces: int = 2,
    dropout: float = 0.0,
    coins: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> ConvNet:
    """A FitNet: 3x3 maxout convolutions in three pooled stages, a dense maxout layer, and a linear one.

    It has no skip connections; the published networks were trained in two stages with hints from a wider teacher. Max
    pooling halves the size, rounding up; the last pooling layer pools the whole map (8x8 for 32x32 images, as
    published), so images may have any size.

    The layers of Fitnet 4 are those of its authors' configuration for CIFAR-10, with one exception: there the dense
    layer has five pieces, which gives 2,736,712 weights. Two pieces give 2,544,712, closer to the published ~2.5M. The
    layers of Fitnet 1 are from the paper's table, by way of other people's code; with two pieces throughout it has
    249,576 weights (published: ~250K), with five in the dense layer 345,576. The default is therefore two;
    `hidden_pieces=5` follows the configuration. As in the paper, these counts do not include biases.

    Unlike in the published networks, weights start with variance 1 / fan_in, which preserves the mean square with two
    pieces. The published weights are uniform within ±0.005, with a bound on the norm of every kernel, which is left to
    the training loop. The published networks have no dropout.

    Args:
        number: a key of FITNETS.
        inputs: number of channels of the images, 1 for greyscale.
        classes: number of logits.
        widths: numbers of units of each convolution, stage by stage. If None, those of FITNETS[number].
        hidden: number of units of the dense maxout layer.
        pieces: number of linear pieces of each convolutional unit, at least 2.
        hidden_pieces: number of linear pieces of each unit of the dense layer.
        dropout: dropout probability before each stage and before the linear layer.
        coins: generator of the dropout masks, see `nn.Dropout`. If None, PyTorch's global generator.
        generator: generator of all initial weights. If None, PyTorch's global generator.
    Raises:
        ConfigError: if `number` is unknown, a size is below 1, there are fewer than 2 pieces, a stage has no
            convolution, or `widths` is not a list of lists.
        ShapeError: if the network is called on anything but a batch of images with `inputs` channels and the dtype of
            the weights.
    Source:
        Romero, Ballas, Ebrahimi Kahou, Chassang, Gatta & Bengio 2015 (FitNets), sec. 3.1, and the authors' published
        configuration; counts as in Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), table 2.

    >>> net = fitnet(1, inputs=1, widths=[[4, 4], [6]], hidden=5)
    >>> [name for name, _ in net.layers.named_children()], net(torch.zeros(2, 1, 8, 8)).shape
    (['conv1', 'conv2', 'pool1', 'conv3', 'pool2'], torch.Size([2, 10]))
    """
    if isinstance(number, bool) or not isinstance(number, int) or number not in FITNETS:
        known = " or ".join(map(str, FITNETS))
        raise ConfigError(f"number must be {known}, got {number!r}. For other layers pass widths=.")
    given = FITNETS[number] if widths is None else widths
    if not isinstance(given, Sequence) or any(not isinstance(stage, Sequence) for stage in given):
        raise ConfigError(
            f"widths must be lists of units, one list per stage, got {widths!r}. For three stages of one convolution "
            "pass widths=[[16], [32], [64]]."
        )
    stages = [[check_size("a width", width) for width in stage] for stage in given]
    if not all(stages) or not stages:
        raise ConfigError(f"widths={widths!r} has a stage without a convolution: pass at least one width per stage.")
    inputs, classes = check_size("inputs", inputs), check_size("classes", classes)
    hidden, drop = check_size("hidden", hidden), check_probability("dropout", dropout)
    pieces = check_size("pieces", pieces, least=2)
    hidden_pieces = check_size("hidden_pieces", hidden_pieces, least=2)
    check_generator("coins", coins)
    device = torch.get_default_device() if device is None else device
    with torch.device("meta"):
        layers = nn.Sequential(OrderedDict(_layers(inputs, stages, pieces, drop, coins)))
        head: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        head["dense"] = nn.Sequential(nn.Linear(stages[-1][-1], hidden * hidden_pieces), Maxout(hidden_pieces))
        if drop:
            head[f"dropout{len(stages) + 1}"] = Dropout(drop, coins)
        head["linear"] = nn.Linear(hidden, classes)
        net = ConvNet(layers, nn.Sequential(head), inputs)
    # He's variance would double the mean square in each layer: a factor of 2^18 in Fitnet 4.
    return materialize_(net, device, dtype, generator, "lecun_normal")


def _layers(
    inputs: int, stages: list[list[int]], pieces: int, drop: float, coins: torch.Generator | None
) -> Iterator[tuple[str, nn.Module]]:
    number = 0
    for place, widths in enumerate(stages, 1):
        if drop:
            yield f"dropout{place}", Dropout(drop, coins)
        for width in widths:
            number += 1
            convolution = nn.Conv2d(inputs, width * pieces, 3, padding=1)
            yield f"conv{number}", nn.Sequential(convolution, Maxout(pieces, dims=2))
            inputs = width
        last = place == len(stages)
        yield f"pool{place}", nn.AdaptiveMaxPool2d(1) if last else nn.MaxPool2d(2, ceil_mode=True)
