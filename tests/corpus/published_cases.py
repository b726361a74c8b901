"""Published faults: rewritten in PyTorch from the descriptions in DeepLocalize's and DeepFD's benchmarks.

The benchmarks describe training scripts from Stack Overflow by layers, initial weights, loss, optimizer and data, and
name the fix. Data that was not published is replaced by data of the same shape and scale. `source` is the number of the
post (stackoverflow.com/q/<number>) and the published fix.

DeepLocalize: Wardat, Le & Rajan 2021, ICSE. DeepFD: Cao et al. 2022, ICSE.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.corpus.case import Batch, Case, Draw
from tests.corpus.data import Data, digits, mixed_units
from tests.corpus.evidence import all_of
from tests.corpus.loops import cross_entropy, mse
from tests.corpus.mlp_cases import GROWN, SHRUNK
from tests.corpus.nets import normal
from tests.corpus.optimizers import adam, other, sgd
from tests.corpus.proofs import (
    fault_costs,
    first_update,
    gradient_ratio,
    independent_of_input,
    inputs,
    share_of_values,
    steps_raise_the_loss,
    stuck,
)

EXPLODED = frozenset(("exploding_activation", "exploding_gradient"))


def dense(*layers: int | nn.Module, init: Callable[[nn.Module], None] | None = None) -> Callable[[Draw], nn.Module]:
    """Return a builder of a Keras-like model: sizes are Linear layers with Glorot's weights, modules are inserted."""

    def build(_draw: Draw) -> nn.Module:
        modules: list[nn.Module] = []
        size = layers[0]
        for layer in layers[1:]:
            if isinstance(layer, int):
                modules.append(nn.Linear(size, layer))
                nn.init.xavier_uniform_(modules[-1].weight)
                nn.init.zeros_(modules[-1].bias)
                size = layer
            else:
                modules.append(copy.deepcopy(layer))
        net = nn.Sequential(*modules)
        return net.apply(init) if init else net

    return build


def uniform(module: nn.Module) -> None:
    """Keras's init="uniform": weights in ±0.05."""
    if isinstance(module, nn.Linear):
        nn.init.uniform_(module.weight, -0.05, 0.05)


def points(make: Callable[[torch.Generator, int], Batch], steps: int = 60, batch: int = 64) -> Data:
    """Return batches from a function of a generator and a number of samples."""

    def data(draw: Draw) -> list[Batch]:
        g = draw.generator("points")
        return [make(g, batch) for _ in range(steps)]

    return data


def xor(g: torch.Generator, batch: int) -> Batch:
    x = torch.randint(2, (batch, 2), generator=g).float()
    return x, (x.sum(1, keepdim=True) == 1).float()


def codes(g: torch.Generator, batch: int) -> Batch:
    """Bits, and the bits of another number: a fixed permutation of the 256 codes."""
    x = torch.randint(256, (batch,), generator=g)
    y = torch.randperm(256, generator=torch.Generator().manual_seed(1))[x]
    bits = torch.arange(8)
    return (x[:, None] >> bits & 1).float(), (y[:, None] >> bits & 1).float()


def ones_or_zeros(g: torch.Generator, batch: int) -> Batch:
    y = torch.randint(2, (batch, 1), generator=g).float()
    return y.expand(-1, 128), y


def weighted_sum(scale: float) -> Callable[[torch.Generator, int], Batch]:
    """Three uniform inputs and their weighted sum."""

    def make(g: torch.Generator, batch: int) -> Batch:
        x = torch.rand(batch, 3, generator=g)
        return scale * x, scale * (x @ torch.tensor([[2.0], [1.0], [0.5]]))

    return make


def above_zero(g: torch.Generator, batch: int) -> Batch:
    x = torch.randn(batch, 1, generator=g)
    return x, (x > 0).float()


def five_features(g: torch.Generator, batch: int) -> Batch:
    x = torch.rand(batch, 5, generator=g)
    return x, (x[:, :1] > x[:, 1:2]).float()


def curve(scale: float = 1.0) -> Callable[[torch.Generator, int], Batch]:
    """y = 5 x² with noise for x in [0, 5]; divided by `scale`² and `scale`."""

    def make(g: torch.Generator, batch: int) -> Batch:
        x = 5 * torch.rand(batch, 1, generator=g)
        return x / scale, (5 * x**2 + torch.randn(batch, 1, generator=g) ** 3) / scale**2

    return make


def line(x_scale: float, y_scale: float) -> Callable[[torch.Generator, int], Batch]:
    """Points of a noisy line."""

    def make(g: torch.Generator, batch: int) -> Batch:
        x = torch.rand(batch, 1, generator=g)
        return x_scale * x, y_scale * (0.5 * x + 0.2 + 0.02 * torch.randn(batch, 1, generator=g))

    return make


def squares(scaled: bool) -> Callable[[torch.Generator, int], Batch]:
    """x² for integers up to 1,000, raw or standardised."""

    def make(g: torch.Generator, batch: int) -> Batch:
        x = 1000 * torch.rand(batch, 1, generator=g)
        y = x**2
        return ((x - 500) / 289, (y - 333e3) / 298e3) if scaled else (x, y)

    return make


def packets(scaled: bool) -> Callable[[torch.Generator, int], Batch]:
    """Eleven counters of network packets, from units to tens of thousands, and whether the traffic is an attack."""

    def make(g: torch.Generator, batch: int) -> Batch:
        z = torch.randn(batch, 11, generator=g)
        y = (z[:, :1] + z[:, 1:2] > 0).float()
        return (z if scaled else (z + 3).abs() * torch.logspace(0, 4.5, 11), y)

    return make


def table_bce(scaled: bool) -> Callable[[torch.Generator, int], Batch]:
    """Three sensors with values of hundreds, and a binary label."""

    def make(g: torch.Generator, batch: int) -> Batch:
        z = torch.randn(batch, 3, generator=g)
        y = (z[:, :1] > z[:, 1:2]).float()
        return (z if scaled else 500 + 150 * z, y)

    return make


def prices(scaled: bool) -> Callable[[torch.Generator, int], Batch]:
    """Sizes in square feet and prices in thousands."""

    def make(g: torch.Generator, batch: int) -> Batch:
        z = torch.randn(batch, 2, generator=g)
        y = z @ torch.tensor([[1.0], [0.3]]) + 0.1 * torch.randn(batch, 1, generator=g)
        return (z, y) if scaled else (2000 + 700 * z, 300 + 100 * y)

    return make


def keras_bce(model: nn.Module, batch: Batch) -> Tensor:
    """Binary cross-entropy as Keras computes it: probabilities are clipped to [1e-7, 1 - 1e-7]."""
    return F.binary_cross_entropy(model(batch[0]).clamp(1e-7, 1 - 1e-7), batch[1])


def keras_cce(model: nn.Module, batch: Batch) -> Tensor:
    """Categorical cross-entropy as Keras computes it: outputs are divided by their sum, then clipped."""
    p = model(batch[0])
    return F.nll_loss((p / p.sum(1, keepdim=True)).clamp(1e-7, 1 - 1e-7).log(), batch[1])


def mae(model: nn.Module, batch: Batch) -> Tensor:
    return F.l1_loss(model(batch[0]), batch[1])


SIG, TANH, RELU, SOFT = nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.Softmax(dim=1)
ONE_UNIT = ("double_softmax", "constant_output")
UNLEARNT = frozenset(("lr_too_low", "frozen_parameters", *SHRUNK))

CASES = [
    Case(
        "so_48385830",
        "mlp",
        dense(64, 30, SIG, 10, SOFT, init=normal(1.0)),
        digits(60),
        keras_cce,
        sgd(0.3),
        symptoms=("saturated", "poor_init"),
        sites=("1", "0", "0.weight"),
        source="48385830: activation, loss, learning rate; weights from N(0, 1)",
        also=frozenset(("lr_too_high", "exploding_activation", "exploding_gradient")),
        proof=share_of_values("1", lambda x: (x < 0.02) | (x > 0.98), above=0.5),
    ),
    Case(
        "so_39217567",
        "mlp",
        dense(8, 8, SIG, 8, SIG, 8, SIG, init=normal(0.05)),
        points(codes),
        mse,
        sgd(0.01),
        symptoms=("vanishing_gradient", "lr_too_low", "poor_init"),
        also=SHRUNK,
        onset=(0, 20),
        source="39217567: sigmoid to relu",
        proof=all_of(gradient_ratio(below=1e-2), stuck(0.05)),
    ),
    Case(
        "so_34311586",
        "mlp",
        dense(2, 2, SIG, 3, SIG, 1, SOFT, init=uniform),
        points(xor, 40),
        mse,
        sgd(0.001, 0.9, nesterov=True),
        symptoms=ONE_UNIT,
        also=UNLEARNT,
        sites=("5",),
        source="34311586: softmax over one unit; learning rate, initialization",
        proof=independent_of_input("5", below=1e-12),
    ),
    Case(
        "so_31880720",
        "mlp",
        dense(128, 50, RELU, nn.Dropout(0.2), 50, RELU, nn.Dropout(0.2), 1, SOFT),
        points(ones_or_zeros, 40),
        keras_bce,
        other("RMSprop", 0.001),
        symptoms=ONE_UNIT,
        also=UNLEARNT | {"dead_units"},
        sites=("7",),
        source="31880720: softmax over one unit to sigmoid",
        cure={"build": dense(128, 50, RELU, nn.Dropout(0.2), 50, RELU, nn.Dropout(0.2), 1, SIG)},
        proof=all_of(independent_of_input("7", below=1e-12), fault_costs()),
    ),
    Case(
        "so_33969059",
        "mlp",
        dense(3, 3, TANH, nn.Dropout(0.5), 2, TANH, nn.Dropout(0.5), 1, SOFT, init=uniform),
        points(weighted_sum(10000.0), 40),
        mse,
        sgd(0.1, 0.9, nesterov=True),
        symptoms=(*ONE_UNIT, "unscaled_input"),
        also=UNLEARNT | GROWN,
        sites=("7", "0", "1", "input*", ""),
        source="33969059: softmax over one unit to linear",
        proof=all_of(independent_of_input("7", below=1e-12), inputs(deviation_above=1e3)),
    ),
    Case(
        "so_45442843",
        "mlp",
        dense(1, 1, SIG, 1, SOFT),
        points(above_zero, 40),
        mae,
        other("RMSprop", 0.001),
        symptoms=ONE_UNIT,
        also=UNLEARNT,
        sites=("3",),
        source="45442843: softmax over one unit; loss, optimizer",
        proof=independent_of_input("3", below=1e-12),
    ),
    Case(
        "so_45337371",
        "mlp",
        dense(5, 60, RELU, 50, RELU, 1, SOFT),
        points(five_features, 50),
        keras_bce,
        adam(0.003),
        symptoms=ONE_UNIT,
        also=UNLEARNT,
        sites=("5",),
        source="45337371: softmax over one unit to sigmoid",
        cure={"build": dense(5, 60, RELU, 50, RELU, 1, SIG)},
        proof=all_of(independent_of_input("5", below=1e-12), fault_costs()),
    ),
    Case(
        "so_48251943",
        "mlp",
        dense(2, 4, RELU, 1, RELU),
        points(prices(False), 40),
        mse,
        sgd(0.01),
        symptoms=("unscaled_input", "dying_relu", "dead_units", "constant_output", "lr_too_high"),
        also=GROWN | SHRUNK | EXPLODED,
        onset=(0, 4),
        source="48251943: relu output of a regression",
        cure={"build": dense(2, 4, RELU, 1), "data": points(prices(True), 60), "optimizer": sgd(0.05)},
        proof=all_of(inputs(deviation_above=1e3), fault_costs()),
    ),
    Case(
        "so_44066044",
        "mlp",
        dense(11, 12, RELU, 12, RELU, 1, RELU, init=normal(0.05)),
        points(packets(False), 60, 32),
        keras_bce,
        adam(0.001),
        symptoms=("unscaled_input", "constant_output", "dying_relu", "dead_units"),
        also=GROWN | SHRUNK | EXPLODED,
        onset=(0, 60),
        source="44066044: missing scaling; relu output with binary cross-entropy",
        cure={
            "build": dense(11, 12, RELU, 12, RELU, 1, SIG),
            "data": points(packets(True), 60, 32),
            "optimizer": adam(0.01),
        },
        proof=all_of(inputs(deviation_above=1e3), fault_costs()),
    ),
    Case(
        "so_47724077",
        "mlp",
        dense(14, 21, RELU, 2),
        mixed_units(60, columns=14, largest=1e5),
        cross_entropy,
        adam(0.001),
        symptoms=("unscaled_input",),
        also=GROWN | SHRUNK | EXPLODED | {"poor_init"},
        source="47724077: missing scaling; optimizer, learning rate",
        cure={"data": mixed_units(60, columns=14, largest=1.0)},
        proof=all_of(inputs(deviation_above=1e3), fault_costs()),
    ),
    Case(
        "so_55328966",
        "mlp",
        dense(64, 64, 50, RELU, 10, SIG),
        digits(60, standard=False, scale=255.0),
        keras_cce,
        sgd(1e-4),
        symptoms=("unscaled_input", "saturated"),
        also=GROWN | SHRUNK | EXPLODED,
        sites=("4", "3", "0", "input*", ""),
        source="55328966: division by 255, softmax instead of sigmoid",
        proof=all_of(inputs(deviation_above=50), share_of_values("4", lambda x: (x < 0.02) | (x > 0.98), above=0.7)),
    ),
    Case(
        "so_52800582",
        "mlp",
        dense(1, 40, RELU, 20, RELU, 1),
        points(squares(False), 30),
        mse,
        sgd(0.001),
        symptoms=("unscaled_input", "lr_too_high", "diverging", "nan_or_inf"),
        also=GROWN | SHRUNK | EXPLODED,
        onset=(0, 4),
        source="52800582: missing scaling of inputs and targets",
        cure={"data": points(squares(True), 60), "optimizer": sgd(0.1)},
        proof=all_of(inputs(deviation_above=100), fault_costs()),
    ),
    Case(
        "so_48934338",
        "mlp",
        dense(1, 50, RELU, 30, RELU, 1),
        points(curve()),
        mse,
        sgd(0.1),
        symptoms=("lr_too_high", "diverging", "nan_or_inf"),
        also=GROWN | SHRUNK | EXPLODED | {"unscaled_input"},
        onset=(0, 4),
        source="48934338: learning rate 0.1 to 0.0001",
        cure={"optimizer": sgd(0.0005)},
        proof=all_of(steps_raise_the_loss(0.3, 3), first_update(above=1.0), fault_costs()),
    ),
    Case(
        "so_51181393",
        "mlp",
        dense(1, 1),
        points(line(1.0, 30.0)),
        mse,
        other("RMSprop", 0.001),
        symptoms=("lr_too_low",),
        onset=(0, 30),
        source="51181393: RMSprop's learning rate to 0.1",
        cure={"optimizer": other("RMSprop", 0.3)},
        proof=all_of(stuck(0.1), fault_costs()),
    ),
    Case(
        "so_37624102",
        "cnn",
        lambda d: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(72, 32),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(32, 10),
        ),
        digits(40, batch=64, images=True),
        cross_entropy,
        sgd(0.6, 0.9, nesterov=True),
        symptoms=("lr_too_high",),
        onset=(0, 8),
        also=GROWN | SHRUNK | EXPLODED,
        source="37624102: learning rate of SGD with momentum to a tenth (here 0.6, since images are small)",
        cure={"optimizer": sgd(0.06, 0.9, nesterov=True)},
        proof=all_of(stuck(0.1, chance=2.3026), first_update(above=0.05), fault_costs()),
    ),
    Case(
        "so_39525358",
        "mlp",
        dense(3, 12, RELU, 3, RELU, 1, SIG, init=uniform),
        points(table_bce(False), 60),
        keras_bce,
        adam(0.001),
        symptoms=("unscaled_input",),
        also=GROWN | SHRUNK | EXPLODED,
        source="39525358: missing scaling; activation, learning rate",
        cure={
            "data": points(table_bce(True), 60),
            "build": dense(3, 12, RELU, 3, RELU, 1, SIG),
            "optimizer": adam(0.02),
        },
        proof=all_of(inputs(deviation_above=100), fault_costs()),
    ),
    Case(
        "so_48221692",
        "mlp",
        dense(1, 5, SIG, 1, SIG),
        points(line(1.0, 50.0), 80),
        mse,
        sgd(0.01),
        symptoms=("saturated",),
        also=SHRUNK | {"unscaled_input"},
        sites=("3", "2"),
        onset=(1, 60),
        source="48221692: sigmoid output of a regression to linear",
        cure={"build": dense(1, 5, SIG, 1)},
        proof=all_of(share_of_values("3", lambda x: x > 0.95, above=0.95, step=70), fault_costs()),
    ),
    Case(
        "so_46642627",
        "mlp",
        dense(2, 16, RELU, 1),
        points(prices(False), 40),
        mse,
        sgd(0.01),
        symptoms=("unscaled_input", "lr_too_high", "diverging", "nan_or_inf"),
        also=GROWN | SHRUNK | EXPLODED,
        onset=(0, 4),
        source="46642627: missing scaling of inputs and targets",
        cure={"data": points(prices(True), 60), "optimizer": sgd(0.05)},
        proof=all_of(inputs(deviation_above=1e3), fault_costs()),
    ),
    Case(
        "facial_keypoints",
        "mlp",
        dense(64, 50, RELU, 30, RELU, 64),
        digits(60, targets="inputs"),
        mse,
        adam(0.3),
        symptoms=("lr_too_high",),
        onset=(0, 4),
        also=GROWN | SHRUNK | EXPLODED,
        source="DeepLocalize, FacialKeypointsDetection (GitHub): Adam with a learning rate of 0.1",
        cure={"optimizer": adam(0.003)},
        proof=all_of(steps_raise_the_loss(1.0, 1), first_update(above=0.3), fault_costs()),
    ),
]
