"""Cases of convolutional networks, faulty and healthy."""

from collections.abc import Callable

from torch import Tensor, nn

from tests.corpus.case import Batch, Case, Draw
from tests.corpus.data import Data, digits
from tests.corpus.evidence import all_of
from tests.corpus.loops import accumulated, cross_entropy, nll, no_zero_grad
from tests.corpus.mlp_cases import GROWN, SHRUNK
from tests.corpus.mlp_healthy import trained
from tests.corpus.nets import ConvNet, LeNet, he, normal, scaled
from tests.corpus.optimizers import adam, sgd
from tests.corpus.proofs import (
    accumulates,
    changes,
    dead,
    fault_costs,
    first_update,
    gradient_ratio,
    independent_of_input,
    inputs,
    learns,
    non_finite,
    output_ratio,
    probabilities_before_softmax,
    share_of_values,
    stuck,
    unchanged,
)

LN10 = 2.3026
IMAGES = digits(30, batch=64, images=True)


def conv(low: int, high: int, act: str = "relu", init=None, norm: bool = False) -> Callable[[Draw], nn.Module]:
    """Return a builder of convolutional networks whose depth and width depend on the seed."""

    def build(draw: Draw) -> nn.Module:
        net = ConvNet(draw.integer("depth", low, high), draw.integer("width", 8, 14), act, norm)
        return net.apply(init) if init else net

    return build


def low_bias(layer: int, value: float, share: float = 1.0) -> Callable[[Draw], nn.Module]:
    """Return a builder of networks in which a share of the channels of one layer have an extreme bias."""

    def build(draw: Draw) -> nn.Module:
        net = conv(4, 4, init=he())(draw)
        bias = net.features[2 * layer].bias.data
        bias[: round(share * len(bias))] = value
        return net

    return build


def last(module: Callable[[], nn.Module], low: int = 2, high: int = 3) -> Callable[[Draw], nn.Module]:
    """Return a builder of networks that end in a further module."""
    return lambda d: nn.Sequential(conv(low, high, init=he())(d), module())


def head_of_dead_relu(draw: Draw) -> nn.Module:
    """Logits through a ReLU, all negative because of the bias."""
    net = conv(2, 3, init=he())(draw)
    nn.init.constant_(net.fc.bias, -30.0)
    return nn.Sequential(net, nn.ReLU())


class Standardised(nn.Module):
    """Every image is divided by its own standard deviation: 0 / 0 for a blank one."""

    def __init__(self, draw: Draw):
        super().__init__()
        self.net = conv(2, 3, init=he())(draw)

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True))


def blank_at(step: int, data: Data) -> Data:
    """Put a blank image into one batch."""

    def made(draw: Draw) -> list[Batch]:
        batches = data(draw)
        x = batches[step][0].clone()
        x[5] = 0.0
        batches[step] = (x, batches[step][1])
        return batches

    return made


def frozen_features(draw: Draw) -> nn.Module:
    """Trained features, frozen on purpose, with a new head."""
    net = trained(conv(2, 2, init=he()), digits(40, batch=64, images=True), cross_entropy, 40, 0.005)(draw)
    net.features.requires_grad_(False)
    net.fc = nn.Linear(net.fc.in_features, 10)
    return net


CASES = [
    # --- faulty
    Case(
        "cnn_deep_sigmoid",
        "cnn",
        conv(7, 10, "sigmoid"),
        IMAGES,
        cross_entropy,
        sgd(0.1, 0.9),
        symptoms=("vanishing_gradient",),
        also=SHRUNK | {"saturated"},
        cure={"build": conv(7, 10, init=he()), "optimizer": adam(0.003)},
        proof=all_of(gradient_ratio(below=1e-3), stuck(), fault_costs()),
    ),
    Case(
        "cnn_std_0.005",
        "cnn",
        conv(5, 7, init=normal(0.005)),
        IMAGES,
        cross_entropy,
        sgd(0.05, 0.9),
        symptoms=("poor_init", "vanishing_gradient"),
        also=SHRUNK,
        cure={"build": conv(5, 7, init=he()), "optimizer": adam(0.003)},
        proof=all_of(output_ratio(below=1e-5), stuck(), fault_costs()),
    ),
    Case(
        "cnn_std_1",
        "cnn",
        conv(4, 6, init=normal(1.0)),
        IMAGES,
        cross_entropy,
        sgd(0.01, 0.9),
        symptoms=("exploding_activation", "exploding_gradient", "poor_init"),
        also=GROWN,
        cure={"build": conv(4, 6, init=he()), "optimizer": adam(0.003)},
        proof=all_of(output_ratio(above=300.0), fault_costs(0.03)),
    ),
    Case(
        "cnn_tanh_large_weights",
        "cnn",
        conv(3, 4, "tanh", init=scaled(12.0)),
        IMAGES,
        cross_entropy,
        sgd(0.01),
        symptoms=("saturated", "poor_init", "exploding_gradient"),
        also=GROWN | {"exploding_activation"},
        cure={"build": conv(3, 4, "tanh", init=scaled(1.0)), "optimizer": sgd(0.1)},
        proof=all_of(share_of_values("features.[13]", lambda x: x.abs() > 0.97, above=0.6), fault_costs()),
    ),
    Case(
        "cnn_dead_layer",
        "cnn",
        low_bias(1, -30.0),
        IMAGES,
        cross_entropy,
        sgd(0.05),
        symptoms=("dead_units", "dying_relu"),
        also=SHRUNK,
        sites=("features.2*", "features.3*"),
        cure={"build": low_bias(1, 0.0)},
        proof=all_of(dead("features.3", share=1.0), stuck(), fault_costs()),
    ),
    Case(
        "cnn_most_channels_dead",
        "cnn",
        low_bias(2, -30.0, 0.7),
        IMAGES,
        cross_entropy,
        sgd(0.02),
        symptoms=("dead_units", "dying_relu"),
        sites=("features.4*", "features.5*"),
        proof=dead("features.5", share=0.6, most=0.8),
    ),
    Case(
        "cnn_features_forgotten",
        "cnn",
        conv(3, 4, init=he()),
        IMAGES,
        cross_entropy,
        sgd(0.05, part=lambda m: m.fc),
        symptoms=("frozen_parameters",),
        sites=("features*",),
        proof=all_of(unchanged("features.*"), changes("fc.*")),
    ),
    Case(
        "cnn_too_fast",
        "cnn",
        conv(3, 4, init=he()),
        IMAGES,
        cross_entropy,
        sgd(3.0),
        symptoms=("lr_too_high",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        onset=(0, 3),
        cure={"optimizer": sgd(0.03)},
        proof=all_of(stuck(chance=LN10), first_update(above=0.5), fault_costs(0.05)),
    ),
    Case(
        "cnn_adam_too_slow",
        "cnn",
        conv(3, 4, init=he()),
        IMAGES,
        cross_entropy,
        adam(1e-7),
        symptoms=("lr_too_low",),
        onset=(0, 20),
        cure={"optimizer": adam(2e-3)},
        proof=all_of(stuck(0.12), fault_costs()),
    ),
    Case(
        "cnn_softmax_before_cross_entropy",
        "cnn",
        last(lambda: nn.Softmax(dim=1)),
        IMAGES,
        cross_entropy,
        sgd(0.05),
        symptoms=("double_softmax",),
        also=frozenset(("lr_too_low",)),
        cure={"build": last(nn.Identity)},
        proof=all_of(probabilities_before_softmax(10), fault_costs()),
    ),
    Case(
        "cnn_no_zero_grad",
        "cnn",
        conv(3, 4, init=he()),
        IMAGES,
        cross_entropy,
        adam(0.002),
        loop=no_zero_grad,
        symptoms=("gradients_accumulate",),
        also=GROWN,
        onset=(1, 1),
        proof=accumulates("fc"),
    ),
    Case(
        "cnn_bytes",
        "cnn",
        conv(2, 3, init=he()),
        digits(30, batch=64, images=True, standard=False, scale=255.0),
        cross_entropy,
        sgd(0.02),
        symptoms=("unscaled_input",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        cure={"data": digits(30, batch=64, images=True)},
        proof=all_of(inputs(deviation_above=50), fault_costs()),
    ),
    Case(
        "cnn_blank_image",
        "cnn",
        Standardised,
        blank_at(13, IMAGES),
        cross_entropy,
        sgd(0.05),
        symptoms=("nan_or_inf",),
        also=GROWN,
        onset=(13, 13),
        proof=non_finite(13),
    ),
    Case(
        "cnn_negative_logits_through_relu",
        "cnn",
        head_of_dead_relu,
        IMAGES,
        cross_entropy,
        sgd(0.05),
        symptoms=("constant_output", "dead_units", "dying_relu"),
        also=SHRUNK,
        sites=("1", "0.fc*"),
        cure={"build": last(nn.Identity)},
        proof=all_of(independent_of_input("1", below=1e-12, step=5), stuck(), fault_costs()),
    ),
    Case(
        "cnn_one_frozen_convolution",
        "cnn",
        lambda d: (n := conv(4, 4, init=he())(d), n.features[4].requires_grad_(False))[0],
        IMAGES,
        cross_entropy,
        sgd(0.05),
        symptoms=("frozen_parameters",),
        sites=("features.4*",),
        proof=all_of(unchanged("features.4.*"), changes("features.2.*", "features.6.*")),
    ),
    # --- healthy
    Case(
        "cnn_lenet",
        "cnn",
        lambda d: LeNet(d.integer("width", 6, 10)),
        digits(60, batch=64, images=True),
        nll,
        adam(0.005),
        tempting="functional ReLUs, dropout, pooling, log-softmax",
        proof=learns(0.5),
    ),
    Case(
        "cnn_batch_norm_large_rate",
        "cnn",
        conv(3, 4, norm=True),
        IMAGES,
        cross_entropy,
        sgd(0.5, 0.9),
        tempting="large updates, which norm makes harmless",
        proof=learns(0.5),
    ),
    Case(
        "cnn_batch_norm_depth_10",
        "cnn",
        conv(9, 11, norm=True),
        digits(30, batch=32, images=True),
        cross_entropy,
        sgd(0.05, 0.9),
        tempting="gradients grow towards the input, as batch norm makes them",
        proof=learns(0.4),
    ),
    Case(
        "cnn_frozen_features",
        "cnn",
        frozen_features,
        IMAGES,
        cross_entropy,
        adam(0.01, trainable=True),
        tempting="convolutions never change",
        proof=all_of(unchanged("features.*"), changes("fc.*"), learns(0.4)),
    ),
    Case(
        "cnn_border_pixels_always_0",
        "cnn",
        conv(2, 3, init=he()),
        digits(40, batch=64, images=True, standard=False),
        cross_entropy,
        sgd(0.1, 0.9),
        tempting="some inputs are 0 in every image",
        proof=learns(0.3),
    ),
    Case(
        "cnn_small_batches",
        "cnn",
        conv(2, 3, init=he()),
        digits(80, batch=8, images=True),
        cross_entropy,
        adam(0.004),
        tempting="the loss jumps, and channels are zero for a batch",
        proof=learns(0.2),
    ),
    Case(
        "cnn_accumulation_done_right",
        "cnn",
        conv(3, 3, init=he()),
        IMAGES,
        cross_entropy,
        sgd(0.05),
        loop=accumulated(4),
        tempting="four backward passes per step",
        proof=learns(0.3),
    ),
]
