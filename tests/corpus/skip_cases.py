"""Cases of highway and residual networks, faulty and healthy."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.corpus.case import Case, Draw
from tests.corpus.data import digits, rings
from tests.corpus.evidence import all_of
from tests.corpus.loops import cross_entropy, no_zero_grad, scheduled
from tests.corpus.mlp_cases import GROWN, SHRUNK
from tests.corpus.nets import ResidualBlock, he, highway
from tests.corpus.optimizers import adam, sgd
from tests.corpus.proofs import (
    accumulates,
    changes,
    fault_costs,
    first_update,
    gradient_ratio,
    learns,
    output_ratio,
    share_of_values,
    steps_raise_the_loss,
    stuck,
    unchanged,
)
from thruway.networks import mlp

LN3, LN10 = 1.0986, 2.3026


def gated(low: int, high: int, bias: float, act: str = "relu", **sizes_of) -> Callable[[Draw], nn.Module]:
    """Return a builder of highway networks as users write them."""
    return lambda d: highway(d.integer("depth", low, high), bias, d.integer("width", 28, 36), act=act, **sizes_of)


def stacked(low: int, high: int, bias: float, inputs: int = 2, classes: int = 3) -> Callable[[Draw], nn.Module]:
    """Return a builder of Thruway's fused highway stack."""
    return lambda d: mlp("highway", d.integer("depth", low, high), 32, inputs, classes, "tanh", bias, fused=True)


def layered(low: int, high: int, bias: float) -> Callable[[Draw], nn.Module]:
    """Return a builder of Thruway's highway layers."""
    return lambda d: mlp("highway", d.integer("depth", low, high), 32, 64, 10, "tanh", bias)


def branch(width: int, *, norm: bool = False, init: Callable[[nn.Module], None] | None = None) -> nn.Sequential:
    first: list[nn.Module] = [nn.LayerNorm(width)] if norm else []
    net = nn.Sequential(*first, nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
    return net.apply(init) if init else net


class ResNet(nn.Module):
    """A stem, residual blocks, and a head after an optional norm."""

    def __init__(self, depth: int, width: int, block: Callable[[int, int], nn.Module], norm: bool = False):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.ModuleList([block(width, layer) for layer in range(depth)])
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def residual(low: int, high: int, block: Callable[[int, int], nn.Module], norm: bool = False):
    """Return a builder of residual networks."""
    return lambda d: ResNet(d.integer("depth", low, high), d.integer("width", 28, 40), block, norm)


def unnormalised(gain: float, scale: float = 1.0):
    return lambda width, _: ResidualBlock(branch(width, init=he(gain)), scale)


def zeroed(width: int, _: int) -> nn.Module:
    """A branch whose last layer is zero at first (fixup, zero-gamma)."""
    block = ResidualBlock(branch(width, init=he()))
    nn.init.zeros_(block.branch[-1].weight)
    return block


class Scaled(nn.Module):
    """x + scale·branch(x), with a learnt scale: one number (ReZero) or one per unit (LayerScale)."""

    def __init__(self, width: int, start: Tensor, norm: bool):
        super().__init__()
        self.branch = branch(width, norm=norm)
        self.scale = nn.Parameter(start)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.branch(x)


class StochasticDepth(nn.Module):
    """A residual block whose branch is skipped for one pass in three."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = branch(width, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.rand(()) < 0.33:
            return x
        return x + self.branch(x)


class Detached(nn.Module):
    """A block that adds its branch without gradients."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = branch(width, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.branch(x)
        return x + y


def without_gradient(bad: int):
    return lambda width, layer: Detached(width) if layer == bad else ResidualBlock(branch(width, norm=True))


def aligned_branches(width: int, _: int) -> nn.Module:
    """A pre-norm branch with a bias: all branches add a common direction, so that the trunk grows like the depth."""
    block = ResidualBlock(branch(width, norm=True, init=he()))
    nn.init.constant_(block.branch[-1].bias, 0.5)
    return block


PRENORM = residual(10, 14, lambda width, _: ResidualBlock(branch(width, norm=True)), norm=True)
GATES = {"sites": ("[1-9]*",)}
STACK = {"sites": ("blocks*",)}

CASES = [
    # --- highway, faulty
    Case(
        "highway_gates_shut",
        "highway",
        gated(6, 10, -14.0, inputs=2, classes=3),
        rings(60),
        cross_entropy,
        adam(0.003),
        symptoms=("gates_shut",),
        also=SHRUNK,
        **GATES,
        cure={"build": gated(6, 10, -1.0, inputs=2, classes=3)},
        proof=all_of(
            share_of_values("*.gate", lambda z: z.sigmoid() < 1e-3, above=0.99, step=30),
            stuck(chance=LN3),
            fault_costs(),
        ),
    ),
    Case(
        "highway_gates_shut_tanh_sgd",
        "highway",
        gated(4, 8, -11.0, "tanh", inputs=2, classes=3),
        rings(80),
        cross_entropy,
        sgd(0.1, 0.9),
        symptoms=("gates_shut",),
        also=SHRUNK,
        **GATES,
        cure={"build": gated(4, 8, -1.0, "tanh", inputs=2, classes=3)},
        proof=all_of(
            share_of_values("*.gate", lambda z: z.sigmoid() < 1e-2, above=0.99, step=40),
            stuck(chance=LN3),
            fault_costs(),
        ),
    ),
    Case(
        "highway_gates_open_depth_24",
        "highway",
        gated(22, 28, 7.0),
        digits(40, batch=64),
        cross_entropy,
        sgd(0.05, 0.9),
        symptoms=("gates_open", "gate_bias_not_negative"),
        also=SHRUNK,
        **GATES,
        cure={"build": gated(22, 28, -4.0)},
        proof=all_of(
            share_of_values("*.gate", lambda z: z.sigmoid() > 0.99, above=0.9),
            gradient_ratio(below=1e-4),
            stuck(),
            fault_costs(),
        ),
    ),
    Case(
        "highway_gates_open_tanh",
        "highway",
        gated(18, 24, 6.0, "tanh"),
        digits(40, batch=64),
        cross_entropy,
        adam(0.003),
        symptoms=("gates_open", "gate_bias_not_negative"),
        also=SHRUNK,
        **GATES,
        cure={"build": gated(18, 24, -2.0, "tanh")},
        proof=all_of(
            share_of_values("*.gate", lambda z: z.sigmoid() > 0.95, above=0.9),
            gradient_ratio(below=1e-2),
            fault_costs(),
        ),
    ),
    Case(
        "highway_gate_bias_0_depth_40",
        "highway",
        gated(38, 46, 0.0),
        digits(40, batch=64),
        cross_entropy,
        sgd(0.05, 0.9),
        symptoms=("gate_bias_not_negative",),
        also=SHRUNK,
        **GATES,
        cure={"build": gated(38, 46, -4.0)},
        proof=all_of(gradient_ratio(below=1e-3), stuck(), fault_costs()),
    ),
    Case(
        "highway_gate_bias_1_tanh",
        "highway",
        gated(28, 34, 1.0, "tanh"),
        digits(40, batch=64),
        cross_entropy,
        sgd(0.05, 0.9),
        symptoms=("gate_bias_not_negative", "gates_open"),
        also=SHRUNK,
        **GATES,
        cure={"build": gated(28, 34, -3.0, "tanh")},
        proof=all_of(gradient_ratio(below=1e-3), stuck(), fault_costs()),
    ),
    Case(
        "highway_layers_bias_0_depth_50",
        "highway",
        layered(46, 54, 0.5),
        digits(40, batch=64),
        cross_entropy,
        sgd(0.05, 0.9),
        symptoms=("gate_bias_not_negative",),
        also=SHRUNK,
        **STACK,
        cure={"build": layered(46, 54, -4.0)},
        proof=all_of(gradient_ratio(below=0.1), fault_costs()),
    ),
    Case(
        "highway_too_fast",
        "highway",
        gated(8, 12, -2.0),
        digits(),
        cross_entropy,
        sgd(20.0),
        symptoms=("lr_too_high",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient", "gates_shut", "gates_open"},
        onset=(0, 3),
        cure={"optimizer": sgd(0.2)},
        proof=all_of(first_update(above=0.5), steps_raise_the_loss(0.5, 4), fault_costs()),
    ),
    # --- highway, healthy
    Case(
        "highway_carries_at_depth_50",
        "highway",
        gated(46, 54, -3.0),
        digits(40, batch=64),
        cross_entropy,
        adam(0.005),
        tempting="gates are below 0.1 everywhere",
        proof=all_of(share_of_values("*.gate", lambda z: z.sigmoid() < 0.12, above=0.9), learns(0.4)),
    ),
    Case(
        "highway_ten_layers",
        "highway",
        gated(9, 11, -1.0),
        digits(),
        cross_entropy,
        adam(0.005),
        tempting="gates are a quarter open",
        proof=learns(0.4),
    ),
    Case(
        "highway_stack_depth_30",
        "highway",
        stacked(28, 32, -3.0, 64, 10),
        digits(),
        cross_entropy,
        sgd(0.1, 0.9),
        tempting="the branch adds a twentieth",
        proof=learns(0.4),
    ),
    Case(
        "highway_rings",
        "highway",
        gated(8, 10, -2.0, "tanh", inputs=2, classes=3),
        rings(80),
        cross_entropy,
        adam(0.01),
        tempting="the loss is flat before the gates open",
        proof=learns(0.3),
    ),
    # --- residual, faulty
    Case(
        "residual_sums_grow",
        "residual",
        residual(24, 32, unnormalised(1.4)),
        digits(),
        cross_entropy,
        sgd(0.01),
        symptoms=("exploding_activation", "exploding_gradient", "poor_init"),
        also=GROWN,
        cure={"build": residual(24, 32, unnormalised(1.0, 0.18))},
        proof=all_of(output_ratio(above=1e3, sites="blocks.*"), gradient_ratio(above=1e3), fault_costs()),
    ),
    Case(
        "residual_branches_times_3",
        "residual",
        residual(12, 18, unnormalised(1.0, 3.0)),
        digits(),
        cross_entropy,
        sgd(0.01),
        symptoms=("exploding_activation", "exploding_gradient", "poor_init"),
        also=GROWN,
        cure={"build": residual(12, 18, unnormalised(1.0, 0.25))},
        proof=all_of(output_ratio(above=1e4, sites="blocks.*"), fault_costs()),
    ),
    Case(
        "residual_branch_without_gradient",
        "residual",
        residual(6, 8, without_gradient(3), norm=True),
        digits(),
        cross_entropy,
        sgd(0.1),
        symptoms=("frozen_parameters",),
        sites=("blocks.3*",),
        proof=all_of(unchanged("blocks.3.*"), changes("blocks.2.*")),
    ),
    Case(
        "residual_blocks_forgotten",
        "residual",
        PRENORM,
        digits(),
        cross_entropy,
        sgd(0.1, part=lambda m: nn.ModuleList([m.stem, m.head])),
        symptoms=("frozen_parameters",),
        sites=("blocks*", "norm*"),
        proof=all_of(unchanged("blocks.*"), changes("stem.*", "head.*")),
    ),
    Case(
        "residual_too_fast",
        "residual",
        PRENORM,
        digits(),
        cross_entropy,
        adam(0.5),
        symptoms=("lr_too_high",),
        also=GROWN | SHRUNK | {"exploding_activation", "exploding_gradient"},
        onset=(0, 2),
        cure={"optimizer": adam(0.003)},
        proof=all_of(first_update(above=0.5), steps_raise_the_loss(1.0, 1), fault_costs()),
    ),
    Case(
        "residual_too_slow",
        "residual",
        PRENORM,
        digits(),
        cross_entropy,
        sgd(1e-5),
        symptoms=("lr_too_low",),
        onset=(0, 20),
        cure={"optimizer": sgd(0.1)},
        proof=all_of(stuck(0.12), fault_costs()),
    ),
    Case(
        "residual_no_zero_grad",
        "residual",
        PRENORM,
        digits(),
        cross_entropy,
        sgd(0.02),
        loop=no_zero_grad,
        symptoms=("gradients_accumulate",),
        also=GROWN,
        onset=(1, 1),
        proof=accumulates("head"),
    ),
    # --- residual, healthy
    Case(
        "residual_zero_branches",
        "residual",
        residual(12, 18, zeroed),
        digits(),
        cross_entropy,
        adam(0.002),
        tempting="branches return exactly 0, and their first layers have no gradient",
        proof=all_of(share_of_values("blocks.*.branch", lambda x: x == 0, above=0.99), learns(0.4)),
    ),
    Case(
        "residual_rezero",
        "residual",
        residual(16, 24, lambda w, _: Scaled(w, torch.zeros(()), False)),
        digits(),
        cross_entropy,
        adam(0.003),
        tempting="branches have no gradient at step 0",
        proof=learns(0.4),
    ),
    Case(
        "residual_layer_scale",
        "residual",
        residual(8, 12, lambda w, _: Scaled(w, torch.full((w,), 1e-4), True), norm=True),
        digits(),
        cross_entropy,
        adam(0.003),
        tempting="branches add 1e-4, with gradients of 1e-6",
        proof=learns(0.4),
    ),
    Case(
        "residual_prenorm_trunk_grows",
        "residual",
        residual(24, 32, aligned_branches, norm=True),
        digits(),
        cross_entropy,
        sgd(0.05),
        tempting="the trunk grows over depth",
        proof=all_of(output_ratio(above=2.0, below=100.0, sites="blocks.?"), learns(0.3)),
    ),
    Case(
        "residual_prenorm",
        "residual",
        PRENORM,
        digits(),
        cross_entropy,
        sgd(0.1),
        tempting="the sum grows like a square root",
        proof=learns(0.4),
    ),
    Case(
        "residual_stochastic_depth",
        "residual",
        residual(8, 10, lambda w, _: StochasticDepth(w), norm=True),
        digits(60),
        cross_entropy,
        adam(0.003),
        tempting="branches have no gradient in a third of the steps",
        proof=learns(0.4),
    ),
    Case(
        "residual_clipped_warm_up",
        "residual",
        PRENORM,
        digits(60),
        cross_entropy,
        sgd(0.5, 0.9),
        loop=scheduled(lambda done: min(1.0, 4 * done) * (1 - done)),
        tempting="a rate of 0 at both ends",
        proof=learns(0.4),
    ),
]
