"""Healthy runs of plain fully connected networks that a naive rule accuses."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.corpus.case import Batch, Case, Draw
from tests.corpus.data import Data, digits, imbalanced, regression, rings, same_batch
from tests.corpus.evidence import all_of
from tests.corpus.loops import accumulated, clipped, cross_entropy, mse, nll, scheduled
from tests.corpus.measuring import rms
from tests.corpus.mlp_cases import deep
from tests.corpus.nets import he, mlp, scaled
from tests.corpus.optimizers import adam, other, sgd
from tests.corpus.proofs import (
    alive,
    changes,
    fresh_gradients,
    gradient_ratio,
    learns,
    reaches_floor,
    share_of_values,
    sizes,
    unchanged,
)


def sparse_units(draw: Draw) -> nn.Module:
    """A wide hidden layer whose negative biases let every unit be active for few inputs."""
    net = mlp(2, draw.integer("width", 90, 120), init=he())
    nn.init.constant_(net[0].bias, -1.2)
    return net


def trained(build, data: Data, loss, steps: int, lr: float):
    """Return a builder of networks that have been trained before the run begins."""

    def made(draw: Draw) -> nn.Module:
        net = build(draw)
        optimizer = torch.optim.Adam(net.parameters(), lr)
        for batch in data(draw)[:steps]:
            optimizer.zero_grad()
            loss(net, batch).backward()
            optimizer.step()
        return net

    return made


def frozen_backbone(draw: Draw) -> nn.Module:
    """A backbone that was trained before, frozen on purpose, with a new head."""
    net = trained(deep("relu", 4, 4, he()), digits(60), cross_entropy, 60, 0.003)(draw)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    net[8] = nn.Linear(net[8].in_features, 10)
    return net


class LogSoftmaxNet(nn.Module):
    """A model that returns log-probabilities; cross-entropy takes their log-softmax again, which changes nothing."""

    def __init__(self, width: int):
        super().__init__()
        self.body = mlp(3, width, init=he())

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.body(x), dim=1)


def ramp(share: float):
    """Return a schedule that warms up linearly from exactly 0."""
    return scheduled(lambda done: min(1.0, done / share))


def small_loss(model: nn.Module, batch: Batch) -> Tensor:
    """A loss in small units: its gradients are about 1e-9, which Adam does not notice."""
    return 1e-6 * F.mse_loss(model(batch[0]), batch[1])


def summed_loss(model: nn.Module, batch: Batch) -> Tensor:
    """A sum over the batch: gradients are 128 times as large as those of a mean, and the rate is chosen for it."""
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")


def sharp_loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.1)


RELU4 = deep("relu", 4, 4, he())
OVERFIT = same_batch(digits(100, batch=64))

CASES = [
    Case(
        "mlp_relu",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        sgd(0.05),
        tempting="half of all values are zero",
        proof=all_of(share_of_values("3", lambda x: x == 0, above=0.4), alive("[1357]", most=0.15), learns(0.5)),
    ),
    Case(
        "mlp_relu_he_depth_24",
        "mlp",
        deep("relu", 22, 26, he()),
        digits(60),
        cross_entropy,
        sgd(0.01, 0.9),
        tempting="the gradient varies over depth, and inputs become similar",
        proof=all_of(gradient_ratio(above=0.02, below=50), learns(0.1)),
    ),
    Case(
        "mlp_tanh_edge_of_chaos",
        "mlp",
        deep("tanh", 24, 30, scaled(1.05)),
        digits(60),
        cross_entropy,
        sgd(0.02, 0.9),
        tempting="gradients vary by a factor over 30 layers",
        proof=all_of(gradient_ratio(above=0.01, below=100), learns(0.15)),
    ),
    Case(
        "mlp_relu_default_init",
        "mlp",
        deep("relu", 3, 4),
        digits(60),
        cross_entropy,
        adam(0.003),
        tempting="the signal shrinks by PyTorch's default initial weights",
        proof=all_of(gradient_ratio(below=0.5), learns(0.6)),
    ),
    Case(
        "mlp_sigmoid_two_layers",
        "mlp",
        deep("sigmoid", 2, 2),
        digits(60),
        cross_entropy,
        adam(0.01),
        tempting="the first layer has a tenth of the gradient",
        proof=all_of(gradient_ratio(below=0.3), learns(0.6)),
    ),
    Case(
        "mlp_warm_up_from_zero",
        "mlp",
        RELU4,
        digits(60),
        cross_entropy,
        sgd(0.1),
        loop=ramp(0.3),
        tempting="the first update is exactly zero",
        proof=learns(0.5),
    ),
    Case(
        "mlp_warm_up_adam",
        "mlp",
        deep("gelu", 4, 5),
        digits(60),
        cross_entropy,
        adam(0.004),
        loop=ramp(0.2),
        tempting="no update at step 0, large ones later",
        proof=learns(0.5),
    ),
    Case(
        "mlp_schedule_ends_at_zero",
        "mlp",
        RELU4,
        digits(60),
        cross_entropy,
        sgd(0.1),
        loop=scheduled(lambda done: 0.5 * (1 + math.cos(math.pi * min(1.0, done * 60 / 59)))),
        tempting="the last updates are zero",
        proof=learns(0.5),
    ),
    Case(
        "mlp_step_schedule",
        "mlp",
        deep("tanh", 3, 4, scaled(1.0)),
        digits(60),
        cross_entropy,
        sgd(0.2),
        loop=scheduled(lambda done: 0.1 ** int(3 * done)),
        tempting="updates shrink a hundredfold",
        proof=learns(0.5),
    ),
    Case(
        "mlp_frozen_backbone",
        "mlp",
        frozen_backbone,
        digits(),
        cross_entropy,
        sgd(0.1, trainable=True),
        tempting="most parameters never change",
        proof=all_of(unchanged("[0-6].*"), changes("8.*"), learns(0.4)),
    ),
    Case(
        "mlp_fine_tuning_at_a_low_rate",
        "mlp",
        trained(RELU4, digits(80), cross_entropy, 80, 0.003),
        digits(),
        cross_entropy,
        adam(3e-5),
        tempting="updates of 1e-5, loss flat and low",
        proof=reaches_floor(0.35),
    ),
    Case(
        "mlp_converged",
        "mlp",
        trained(RELU4, OVERFIT, cross_entropy, 100, 0.01),
        OVERFIT,
        cross_entropy,
        sgd(0.05),
        tempting="the loss does not change, and gradients are 1e-3",
        proof=reaches_floor(0.02),
    ),
    Case(
        "mlp_converges_in_the_run",
        "mlp",
        deep("relu", 2, 3, he()),
        OVERFIT,
        cross_entropy,
        adam(0.01),
        tempting="gradients vanish at the end",
        proof=all_of(reaches_floor(0.02), learns(0.9)),
    ),
    Case(
        "mlp_noise_floor",
        "mlp",
        lambda d: mlp(2, d.integer("width", 40, 56), 8, 1, act="tanh"),
        regression(100),
        mse,
        adam(0.02),
        tempting="a plateau after learning",
        proof=learns(0.5),
    ),
    Case(
        "mlp_small_batches",
        "mlp",
        RELU4,
        digits(100, batch=4),
        cross_entropy,
        sgd(0.03),
        tempting="the loss jumps from step to step, and units are zero for a whole batch",
        proof=learns(0.2),
    ),
    Case(
        "mlp_one_batch_again_and_again",
        "mlp",
        deep("relu", 3, 4, he()),
        same_batch(digits(60, batch=8)),
        cross_entropy,
        sgd(0.05),
        tempting="units are zero for all eight samples",
        proof=learns(0.5),
    ),
    Case(
        "mlp_confident_binary_classifier",
        "mlp",
        lambda d: mlp(3, d.integer("width", 40, 56), classes=1, init=he(), last=[nn.Sigmoid()]),
        digits(100, targets="odd"),
        lambda model, batch: F.binary_cross_entropy(model(batch[0]), batch[1]),
        adam(0.01),
        tempting="the output sigmoid saturates",
        proof=all_of(share_of_values("7", lambda x: (x < 0.05) | (x > 0.95), above=0.7, step=99), learns(0.7)),
    ),
    Case(
        "mlp_clipping",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        sgd(0.3),
        loop=clipped(0.5),
        tempting="gradient norms are exactly the limit",
        proof=learns(0.4),
    ),
    Case(
        "mlp_batch_norm_large_rate",
        "mlp",
        deep("relu", 4, 5, norm=True),
        digits(),
        cross_entropy,
        sgd(1.0),
        tempting="a learning rate of 1; norm cancels the bias",
        proof=learns(0.5),
    ),
    Case(
        "mlp_dropout",
        "mlp",
        deep("relu", 3, 3, he(), dropout=0.5),
        digits(80),
        cross_entropy,
        sgd(0.1),
        tempting="three quarters of the values are zero",
        proof=all_of(share_of_values("2", lambda x: x == 0, above=0.6), learns(0.4)),
    ),
    Case(
        "mlp_inputs_in_0_1",
        "mlp",
        RELU4,
        digits(60, standard=False),
        cross_entropy,
        sgd(0.1, 0.9),
        tempting="inputs are positive and not centred, biases start at 0",
        proof=learns(0.5),
    ),
    Case(
        "mlp_loss_rises_at_first",
        "mlp",
        trained(deep("relu", 3, 3, he()), digits(80), cross_entropy, 15, 0.003),
        digits(80),
        cross_entropy,
        adam(0.025),
        tempting="the loss rises for a few steps after a restart at a higher rate",
        proof=all_of(sizes("the highest loss", lambda r: max(r.losses[1:12]) / r.losses[0], above=1.0), learns(0.5)),
    ),
    Case(
        "mlp_accumulation_done_right",
        "mlp",
        RELU4,
        digits(),
        cross_entropy,
        sgd(0.1),
        loop=accumulated(4),
        tempting="backward is called four times before zero_grad",
        proof=learns(0.5),
    ),
    Case(
        "mlp_log_softmax_twice",
        "mlp",
        lambda d: LogSoftmaxNet(d.integer("width", 40, 56)),
        digits(),
        cross_entropy,
        sgd(0.1),
        tempting="log-softmax before cross-entropy, which is the identity",
        proof=all_of(learns(0.5), fresh_gradients("body.6")),
    ),
    Case(
        "mlp_nll_of_log_softmax",
        "mlp",
        lambda d: LogSoftmaxNet(d.integer("width", 40, 56)),
        digits(),
        nll,
        adam(0.003),
        tempting="the model ends in log-softmax",
        proof=learns(0.5),
    ),
    Case(
        "mlp_sparse_units",
        "mlp",
        sparse_units,
        digits(60),
        cross_entropy,
        adam(0.003),
        tempting="three quarters of the values are zero",
        proof=all_of(share_of_values("1", lambda x: x == 0, above=0.7), alive("1", most=0.15), learns(0.5)),
    ),
    Case(
        "mlp_gradients_of_1e-9",
        "mlp",
        lambda d: mlp(3, d.integer("width", 40, 56), 8, 1, act="tanh"),
        regression(80),
        small_loss,
        adam(0.01, eps=1e-16),
        tempting="mean |gradient| below 1e-7",
        proof=all_of(sizes("the gradient", lambda r: rms(r.gradients[0]["0"]), below=1e-7), learns(0.4)),
    ),
    Case(
        "mlp_summed_loss",
        "mlp",
        RELU4,
        digits(),
        summed_loss,
        sgd(0.05 / 128),
        tempting="gradient norms of hundreds",
        proof=all_of(
            sizes("the gradient", lambda r: r.weight_gradients[0]["8.weight"].norm().item(), above=50), learns(0.5)
        ),
    ),
    Case(
        "mlp_rare_class",
        "mlp",
        deep("relu", 3, 3, he()),
        imbalanced(80),
        cross_entropy,
        adam(0.003),
        tempting="the loss is small and nearly flat, the outputs nearly constant",
        proof=learns(0.3),
    ),
    Case(
        "mlp_label_smoothing",
        "mlp",
        RELU4,
        digits(80),
        sharp_loss,
        adam(0.005),
        tempting="the loss stays above 0.5",
        proof=learns(0.4),
    ),
    Case(
        "mlp_rings_plateau_first",
        "mlp",
        lambda d: mlp(3, d.integer("width", 40, 56), 2, 3, act="tanh"),
        rings(100),
        cross_entropy,
        sgd(0.1, 0.9),
        tempting="the loss is flat before it falls",
        proof=learns(0.4),
    ),
    Case(
        "mlp_rmsprop",
        "mlp",
        deep("relu", 3, 4, he()),
        digits(80),
        cross_entropy,
        other("RMSprop", 0.001),
        tempting="the first updates are larger than later ones",
        proof=learns(0.5),
    ),
    Case(
        "mlp_weight_decay",
        "mlp",
        deep("relu", 3, 4, he()),
        digits(80),
        cross_entropy,
        other("AdamW", 0.003, weight_decay=0.1),
        tempting="weights shrink",
        proof=learns(0.5),
    ),
    Case(
        "mlp_linear_model",
        "mlp",
        lambda d: mlp(0, classes=10),
        digits(60),
        cross_entropy,
        sgd(0.05),
        tempting="one layer, no activation",
        proof=learns(0.5),
    ),
]
