"""Faulty runs of plain fully connected networks."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.corpus.case import Batch, Case, Draw
from tests.corpus.data import Data, digits, mixed_units, regression
from tests.corpus.evidence import all_of
from tests.corpus.loops import cross_entropy, growing, jump, mse, no_zero_grad
from tests.corpus.nets import constant, he, mlp, normal, scaled
from tests.corpus.optimizers import adam, sgd
from tests.corpus.proofs import (
    accumulates,
    aligned,
    alive,
    changes,
    dead,
    fault_costs,
    first_update,
    gradient_ratio,
    identical_units,
    independent_of_input,
    inputs,
    non_finite,
    output_ratio,
    probabilities_before_softmax,
    rises,
    share_of_values,
    steps_raise_the_loss,
    stuck,
    unchanged,
)

# Effects of a signal that no longer depends on the input, or of a gradient that does not arrive.
SHRUNK = frozenset(("vanishing_gradient", "constant_output", "rank_collapse", "lr_too_low", "poor_init"))
# Effects of numbers that grow.
GROWN = frozenset(("lr_too_high", "diverging", "nan_or_inf", "dying_relu", "dead_units", "saturated"))


def deep(act: str, low: int, high: int, init=None, **options):
    """Return a builder of MLPs whose depth depends on the seed."""

    def build(draw: Draw) -> nn.Module:
        return mlp(draw.integer("depth", low, high), draw.integer("width", 40, 56), act=act, init=init, **options)

    return build


def bias_of(layer: int, value: float, act: str, *, share: float = 1.0, depth: int = 5, init=None):
    """Return a builder of MLPs in which a share of the units of one hidden layer have an extreme bias."""

    def build(draw: Draw) -> nn.Module:
        width = draw.integer("width", 40, 56)
        net = mlp(depth, width, act=act, init=init or (he() if act == "relu" else scaled(1.0)))
        with torch.no_grad():
            net[2 * layer].bias[: round(share * width)] = value
        return net

    return build


def large_layer(layer: int, factor: float, act: str):
    """Return a builder of MLPs in which the weights of one layer are too large."""

    def build(draw: Draw) -> nn.Module:
        net = mlp(5, draw.integer("width", 40, 56), act=act, init=scaled(1.0))
        net[2 * layer].weight.data.mul_(factor)
        return net

    return build


class Detached(nn.Module):
    """The first part's output is detached, as after a conversion with .data or .numpy()."""

    def __init__(self, width: int, detach: bool):
        super().__init__()
        self.encoder = mlp(2, width, classes=width, init=he())
        self.head = mlp(1, width, inputs=width, init=he())
        self.detach = detach

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.encoder(x))
        return self.head(h.detach() if self.detach else h)


def frozen_layer(layer: int):
    """Return a builder in which one layer does not require gradients."""

    def build(draw: Draw) -> nn.Module:
        net = mlp(4, draw.integer("width", 40, 56), init=he())
        net[2 * layer].requires_grad_(False)
        return net

    return build


def of_a_copy(draw: Draw, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of a copy, as when the model is wrapped or reloaded after the optimizer was made."""
    return torch.optim.SGD(copy.deepcopy(model).parameters(), draw.near("lr", 0.1))


class Sparse(nn.Module):
    """A hidden layer whose activity can be penalised."""

    def __init__(self, width: int):
        super().__init__()
        self.hidden, self.act, self.head = nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.act(self.hidden(x))
        return self.head(h), h


def sparse_loss(weight: float):
    """Return cross-entropy plus a penalty of the mean activity."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        logits, h = model(batch[0])
        return F.cross_entropy(logits, batch[1]) + weight * h.mean()

    return loss


def nan_at(step: int, data: Data) -> Data:
    """Put a missing value into one batch."""

    def made(draw: Draw) -> list[Batch]:
        batches = data(draw)
        x = batches[step][0].clone()
        x[3, 5] = torch.nan
        batches[step] = (x, batches[step][1])
        return batches

    return made


def log_of_probability(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy with a log of the softmax: log(0) as soon as a probability underflows."""
    return -torch.log(torch.softmax(model(batch[0]), 1)).gather(1, batch[1][:, None]).mean()


def root_of_error(model: nn.Module, batch: Batch) -> Tensor:
    """Mean distance: the slope of the root is infinite where a prediction is exact."""
    return ((model(batch[0]) - batch[1]) ** 2).sqrt().mean()


def zero_targets_at(step: int, data: Data) -> Data:
    def made(draw: Draw) -> list[Batch]:
        batches = data(draw)
        x, y = batches[step]
        batches[step] = (torch.zeros_like(x), torch.zeros_like(y))
        return batches

    return made


LN10 = 2.3026
RELU4 = deep("relu", 4, 4, he())
HE_DEEP = {"build": deep("relu", 14, 20, he()), "optimizer": sgd(0.01, 0.9)}

CASES = [
    # --- gradients and signals over depth
    Case(
        "mlp_deep_sigmoid",
        "mlp",
        deep("sigmoid", 14, 20),
        digits(),
        cross_entropy,
        sgd(0.1),
        symptoms=("vanishing_gradient",),
        also=SHRUNK,
        cure=HE_DEEP,
        proof=all_of(gradient_ratio(below=1e-6), stuck(), fault_costs()),
    ),
    Case(
        "mlp_deep_sigmoid_adam",
        "mlp",
        deep("sigmoid", 10, 13),
        digits(),
        cross_entropy,
        adam(0.001),
        symptoms=("vanishing_gradient",),
        also=SHRUNK,
        cure={"build": deep("relu", 10, 13, he())},
        proof=all_of(gradient_ratio(below=1e-4), stuck(), fault_costs()),
    ),
    Case(
        "mlp_deep_relu_default_init",
        "mlp",
        deep("relu", 20, 26),
        digits(),
        cross_entropy,
        sgd(0.01, 0.9),
        symptoms=("vanishing_gradient", "poor_init"),
        also=SHRUNK | {"dead_units"},
        cure=HE_DEEP,
        proof=all_of(gradient_ratio(below=1e-5), stuck(), fault_costs()),
    ),
    Case(
        "mlp_deep_tanh_small_weights",
        "mlp",
        deep("tanh", 20, 28, scaled(0.5)),
        digits(),
        cross_entropy,
        sgd(0.05),
        symptoms=("poor_init", "vanishing_gradient"),
        also=SHRUNK,
        cure={"build": deep("tanh", 20, 28, scaled(1.05))},
        proof=all_of(gradient_ratio(below=1e-3), output_ratio(below=1e-3), stuck(), fault_costs()),
    ),
    Case(
        "mlp_relu_std_0.01",
        "mlp",
        deep("relu", 8, 12, normal(0.01)),
        digits(),
        cross_entropy,
        sgd(0.1),
        symptoms=("poor_init", "vanishing_gradient"),
        also=SHRUNK,
        cure={"build": deep("relu", 8, 12, he())},
        proof=all_of(output_ratio(below=1e-5), stuck(), fault_costs()),
    ),
    Case(
        "mlp_deep_tanh_std_1",
        "mlp",
        deep("tanh", 20, 28, normal(1.0)),
        digits(),
        cross_entropy,
        sgd(0.01, 0.9),
        symptoms=("exploding_gradient", "poor_init", "saturated"),
        also=GROWN | {"exploding_activation"},
        cure={"build": deep("tanh", 20, 28, scaled(1.05))},
        proof=all_of(
            gradient_ratio(above=10.0, sites="[2-9]*"),
            share_of_values("1", lambda x: x.abs() > 0.97, above=0.5),
            stuck(chance=LN10),
            fault_costs(),
        ),
    ),
    Case(
        "mlp_deep_relu_double_weights",
        "mlp",
        deep("relu", 12, 16, he(2.0)),
        digits(),
        cross_entropy,
        sgd(0.01, 0.9),
        symptoms=("exploding_activation", "exploding_gradient", "poor_init"),
        also=GROWN,
        cure={"build": deep("relu", 12, 16, he())},
        proof=all_of(output_ratio(above=1e3), gradient_ratio(above=1e3), fault_costs()),
    ),
    Case(
        "mlp_deep_linear_large_weights",
        "mlp",
        deep("linear", 14, 20, scaled(1.8)),
        digits(),
        cross_entropy,
        sgd(0.01),
        symptoms=("exploding_gradient", "exploding_activation", "poor_init"),
        also=GROWN,
        cure={"build": deep("linear", 14, 20, scaled(1.0))},
        proof=all_of(gradient_ratio(above=1e3), fault_costs()),
    ),
    Case(
        "mlp_relu_std_1",
        "mlp",
        deep("relu", 4, 6, normal(1.0)),
        digits(),
        cross_entropy,
        sgd(0.05),
        symptoms=("poor_init", "exploding_activation", "exploding_gradient"),
        also=GROWN,
        cure={"build": deep("relu", 4, 6, he())},
        proof=all_of(output_ratio(above=100.0), fault_costs()),
    ),
    Case(
        "mlp_tanh_ordered_phase",
        "mlp",
        deep("tanh", 24, 32, scaled(0.9, bias_std=1.2)),
        digits(),
        cross_entropy,
        sgd(0.05),
        symptoms=("rank_collapse", "vanishing_gradient", "poor_init"),
        also=SHRUNK,
        cure={"build": deep("tanh", 24, 32, scaled(1.05))},
        proof=all_of(aligned("4?", above=0.999), independent_of_input("4?"), stuck(chance=LN10), fault_costs()),
    ),
    Case(
        "mlp_relu_positive_weights",
        "mlp",
        deep("relu", 8, 11, lambda m: isinstance(m, nn.Linear) and m.weight.data.abs_().mul_(0.35)),
        digits(standard=False),
        cross_entropy,
        sgd(0.02, 0.9),
        symptoms=("rank_collapse", "poor_init", "exploding_activation"),
        also=SHRUNK | GROWN,
        cure={"build": deep("relu", 8, 11, he()), "optimizer": adam(0.003)},
        proof=all_of(aligned("1[3-5]", above=0.999), stuck(0.15), fault_costs()),
    ),
    # --- saturation and dead units
    Case(
        "mlp_sigmoid_low_end",
        "mlp",
        bias_of(2, -12.0, "sigmoid"),
        digits(),
        cross_entropy,
        sgd(0.2),
        symptoms=("saturated",),
        also=SHRUNK,
        sites=("4", "5"),
        cure={"build": bias_of(2, 0.0, "tanh"), "optimizer": sgd(0.2)},
        proof=all_of(share_of_values("5", lambda x: x < 0.01, above=0.95), stuck(chance=LN10), fault_costs()),
    ),
    Case(
        "mlp_sigmoid_high_end",
        "mlp",
        bias_of(2, 12.0, "sigmoid"),
        digits(),
        cross_entropy,
        sgd(0.2),
        symptoms=("saturated",),
        also=SHRUNK,
        sites=("4", "5"),
        cure={"build": bias_of(2, 0.0, "tanh"), "optimizer": sgd(0.2)},
        proof=all_of(share_of_values("5", lambda x: x > 0.99, above=0.95), stuck(chance=LN10), fault_costs()),
    ),
    Case(
        "mlp_tanh_one_large_layer",
        "mlp",
        large_layer(2, 40.0, "tanh"),
        digits(),
        cross_entropy,
        sgd(0.02),
        symptoms=("saturated", "poor_init"),
        also=frozenset(("exploding_gradient", "exploding_activation")),
        sites=("4", "5", "4.weight"),
        cure={"build": large_layer(2, 1.0, "tanh"), "optimizer": sgd(0.1)},
        proof=all_of(share_of_values("5", lambda x: x.abs() > 0.97, above=0.8), fault_costs()),
    ),
    Case(
        "mlp_dead_layer",
        "mlp",
        bias_of(2, -60.0, "relu"),
        digits(),
        cross_entropy,
        sgd(0.05),
        symptoms=("dead_units", "dying_relu"),
        also=SHRUNK,
        sites=("4", "5"),
        cure={"build": bias_of(2, 0.0, "relu")},
        proof=all_of(dead("5", share=1.0), stuck(), fault_costs()),
    ),
    Case(
        "mlp_most_units_dead",
        "mlp",
        bias_of(1, -40.0, "relu", share=0.7),
        digits(),
        cross_entropy,
        sgd(0.05),
        symptoms=("dead_units", "dying_relu"),
        sites=("2", "3"),
        proof=all_of(dead("3", share=0.65, most=0.85), dead("1", share=0.0, most=0.1)),
    ),
    Case(
        "mlp_units_die_at_a_jump_of_the_rate",
        "mlp",
        lambda d: mlp(3, d.integer("width", 40, 56), init=he()),
        digits(48),
        cross_entropy,
        sgd(0.05),
        loop=jump(20, 1000.0),
        symptoms=("dying_relu", "dead_units", "lr_too_high"),
        also=GROWN | SHRUNK,
        onset=(20, 22),
        cure={"loop": jump(20, 1.0)},
        proof=all_of(
            alive("1", most=0.2, steps=slice(0, 20)), dead("1", share=0.5, steps=slice(22, None)), fault_costs()
        ),
    ),
    Case(
        "mlp_units_die_of_a_sparsity_penalty",
        "mlp",
        lambda d: Sparse(d.integer("width", 40, 56)),
        digits(60),
        sparse_loss(4.0),
        adam(0.02),
        symptoms=("dying_relu", "dead_units"),
        also=SHRUNK,
        sites=("act", "hidden*"),
        onset=(1, 12),
        cure={"loss": sparse_loss(0.0)},
        proof=all_of(
            alive("act", most=0.1),
            dead("act", share=0.1, steps=slice(1, None)),
            dead("act", share=0.7, steps=slice(12, None)),
            fault_costs(),
        ),
    ),
    # --- symmetry
    Case(
        "mlp_all_zero",
        "mlp",
        deep("relu", 3, 5, constant(0.0)),
        digits(),
        cross_entropy,
        sgd(0.1),
        symptoms=("symmetric_init", "poor_init", "constant_output"),
        also=SHRUNK | {"dead_units"},
        cure={"build": deep("relu", 3, 5, he())},
        proof=all_of(
            identical_units("0.weight"), independent_of_input("*[02468]", below=1e-12), stuck(), fault_costs()
        ),
    ),
    Case(
        "mlp_constant_weights",
        "mlp",
        deep("tanh", 2, 4, constant(0.05)),
        digits(),
        cross_entropy,
        adam(0.01),
        symptoms=("symmetric_init",),
        also=SHRUNK | {"saturated"},
        sites=("?", "?.weight", "??"),
        cure={"build": deep("tanh", 2, 4, scaled(1.0))},
        proof=all_of(identical_units("[02].weight"), fault_costs()),
    ),
    # --- parameters that do not train
    Case(
        "mlp_layers_forgotten",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        sgd(0.1, part=lambda m: m[4:]),
        symptoms=("frozen_parameters",),
        sites=("0", "2", "0.*", "2.*"),
        proof=all_of(unchanged("0.*", "2.*"), changes("4.*", "6.*", "8.*")),
    ),
    Case(
        "mlp_head_forgotten",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        adam(0.002, part=lambda m: m[:8]),
        symptoms=("frozen_parameters",),
        sites=("8", "8.*"),
        proof=all_of(unchanged("8.*"), changes("0.*", "6.*")),
    ),
    Case(
        "mlp_middle_layer_frozen",
        "mlp",
        frozen_layer(2),
        digits(),
        cross_entropy,
        sgd(0.1),
        symptoms=("frozen_parameters",),
        sites=("4", "4.*"),
        proof=all_of(unchanged("4.*"), changes("0.*", "6.*")),
    ),
    Case(
        "mlp_detached_encoder",
        "mlp",
        lambda d: Detached(d.integer("width", 40, 56), True),
        digits(),
        cross_entropy,
        sgd(0.1),
        symptoms=("frozen_parameters",),
        sites=("encoder*",),
        proof=all_of(unchanged("encoder.*"), changes("head.*")),
    ),
    Case(
        "mlp_optimizer_of_a_copy",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        of_a_copy,
        symptoms=("frozen_parameters",),
        also=frozenset(("lr_too_low", "gradients_accumulate")),
        cure={"optimizer": sgd(0.1)},
        proof=all_of(unchanged("*"), stuck(), fault_costs()),
    ),
    # --- learning rate
    Case(
        "mlp_sgd_100_times_too_fast",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        sgd(5.0),
        symptoms=("lr_too_high",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        onset=(0, 2),
        cure={"optimizer": sgd(0.05)},
        proof=all_of(steps_raise_the_loss(0.5, 4), first_update(above=0.5), fault_costs(least=0.4)),
    ),
    Case(
        "mlp_adam_100_times_too_fast",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        adam(0.3),
        symptoms=("lr_too_high",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        onset=(0, 2),
        cure={"optimizer": adam(0.003)},
        proof=all_of(steps_raise_the_loss(1.0, 1), first_update(above=0.5), fault_costs(least=0.3)),
    ),
    Case(
        "mlp_regression_too_fast",
        "mlp",
        lambda d: mlp(3, d.integer("width", 40, 56), 8, 1, act="tanh"),
        regression(),
        mse,
        sgd(3.0),
        symptoms=("lr_too_high", "diverging"),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        onset=(0, 3),
        cure={"optimizer": sgd(0.1)},
        proof=all_of(steps_raise_the_loss(0.3, 8), first_update(above=0.3), fault_costs()),
    ),
    Case(
        "mlp_sgd_too_slow",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        sgd(1e-5),
        symptoms=("lr_too_low",),
        onset=(0, 20),
        cure={"optimizer": sgd(0.05)},
        proof=all_of(stuck(0.12), fault_costs(least=0.4)),
    ),
    Case(
        "mlp_adam_too_slow",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        adam(1e-7),
        symptoms=("lr_too_low",),
        onset=(0, 20),
        cure={"optimizer": adam(1e-3)},
        proof=all_of(stuck(0.12), fault_costs(least=0.3)),
    ),
    # --- the loop and the loss
    Case(
        "mlp_no_zero_grad",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        sgd(0.05),
        loop=no_zero_grad,
        symptoms=("gradients_accumulate",),
        also=GROWN | {"exploding_gradient", "exploding_activation"},
        onset=(1, 1),
        proof=accumulates("8"),
    ),
    Case(
        "mlp_no_zero_grad_adam",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        adam(0.002),
        loop=no_zero_grad,
        symptoms=("gradients_accumulate",),
        also=GROWN,
        onset=(1, 1),
        proof=accumulates("8"),
    ),
    Case(
        "mlp_softmax_before_cross_entropy",
        "mlp",
        deep("relu", 3, 5, he(), last=[nn.Softmax(dim=1)]),
        digits(),
        cross_entropy,
        sgd(0.05),
        symptoms=("double_softmax",),
        also=frozenset(("lr_too_low",)),
        cure={"build": deep("relu", 3, 5, he())},
        proof=all_of(probabilities_before_softmax(10), fault_costs()),
    ),
    Case(
        "mlp_output_normalised_to_a_constant",
        "mlp",
        lambda d: mlp(3, d.integer("width", 40, 56), 8, 1, last=[nn.LayerNorm(1)]),
        regression(),
        mse,
        sgd(0.05),
        symptoms=("constant_output",),
        also=SHRUNK | {"frozen_parameters"},
        sites=("7", "6"),
        cure={"build": lambda d: mlp(3, d.integer("width", 40, 56), 8, 1, act="tanh"), "optimizer": sgd(0.2)},
        proof=all_of(independent_of_input("7", below=1e-12, step=1), stuck(0.3), fault_costs()),
    ),
    Case(
        "mlp_bytes_as_inputs",
        "mlp",
        deep("relu", 3, 4, he()),
        digits(standard=False, scale=255.0),
        cross_entropy,
        sgd(0.05),
        symptoms=("unscaled_input",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        cure={"data": digits()},
        proof=all_of(inputs(deviation_above=50), fault_costs()),
    ),
    Case(
        "mlp_columns_in_different_units",
        "mlp",
        lambda d: mlp(2, d.integer("width", 24, 40), 8, 2),
        mixed_units(),
        cross_entropy,
        adam(0.01),
        symptoms=("unscaled_input",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient", "poor_init"},
        cure={"data": mixed_units(largest=1.0)},
        proof=all_of(inputs(deviation_above=1e3), fault_costs()),
    ),
    # --- numbers
    Case(
        "mlp_missing_value_in_a_batch",
        "mlp",
        RELU4,
        nan_at(11, digits()),
        cross_entropy,
        sgd(0.05),
        symptoms=("nan_or_inf",),
        also=frozenset(("diverging",)),
        onset=(11, 11),
        sites=("0", "input*", ""),
        proof=non_finite(11, sites="0"),
    ),
    Case(
        "mlp_log_of_zero",
        "mlp",
        deep("relu", 3, 3, he(3.0)),
        digits(scale=3.0),
        log_of_probability,
        sgd(1e-5),
        symptoms=("nan_or_inf",),
        also=GROWN | {"exploding_activation", "exploding_gradient", "poor_init"},
        proof=non_finite(0),
    ),
    Case(
        "mlp_root_of_zero",
        "mlp",
        lambda d: mlp(
            2, d.integer("width", 24, 40), 8, 1, init=lambda m: isinstance(m, nn.Linear) and nn.init.zeros_(m.bias)
        ),
        zero_targets_at(0, regression()),
        root_of_error,
        sgd(0.01),
        symptoms=("nan_or_inf",),
        also=GROWN,
        proof=non_finite(0),
    ),
    # --- divergence
    Case(
        "mlp_gradient_ascent",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        sgd(0.01, maximize=True),
        symptoms=("diverging",),
        also=GROWN | {"exploding_activation", "exploding_gradient"},
        onset=(0, 12),
        cure={"optimizer": sgd(0.01)},
        proof=all_of(rises(3.0), fault_costs()),
    ),
    Case(
        "mlp_rate_that_grows",
        "mlp",
        deep("tanh", 3, 4),
        digits(60),
        cross_entropy,
        sgd(0.02),
        loop=growing(1.2),
        symptoms=("diverging", "lr_too_high"),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        onset=(20, 45),
        cure={"loop": growing(1.0), "optimizer": sgd(0.2)},
        proof=all_of(stuck(0.3), fault_costs()),
    ),
    Case(
        "mlp_momentum_above_1",
        "mlp",
        deep("tanh", 3, 4),
        digits(60),
        cross_entropy,
        sgd(0.02, 1.2),
        symptoms=("diverging", "lr_too_high"),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        onset=(0, 40),
        cure={"optimizer": sgd(0.02, 0.9)},
        proof=all_of(stuck(0.0), fault_costs()),
    ),
]
