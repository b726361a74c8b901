"""Ways to join the branch and the shortcut of a residual module, from He et al. 2016 and from Srivastava's 2025 reply.

Each is an entry of JOININGS. To add one, write a function and an entry. F is conv-BN-relu-conv-BN, x is the output of
the shortcut, and g = sigmoid(1x1 conv(x)).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from thruway.networks.gated_modules import Blend, Gate, GatedShortcut, Scaled
from thruway.networks.resnet_modules import BRANCHES, ORDERS, SHORTCUTS, Convolution
from thruway.nn import Dropout, Residual

__all__ = ["JOININGS", "Joining", "ModuleSpec"]

_ORDER = ORDERS["post"]


@dataclass(frozen=True)
class ModuleSpec:
    """Sizes and settings of one module, with builders for its parts."""

    inputs: int
    width: int
    stride: int
    resize: str  # a key of SHORTCUTS, for modules that change sizes
    gate_bias: float
    coins: torch.Generator | None

    def branch(self) -> nn.Sequential:
        """conv-BN-relu-conv-BN"""
        return _ORDER.branch(self.inputs, BRANCHES["basic"].convolutions(self.width, self.stride))

    def shortcut(self) -> nn.Module:
        """x itself, unless the size changes"""
        if self.inputs == self.width and self.stride == 1:
            return nn.Identity()
        return SHORTCUTS[self.resize](_ORDER, self.inputs, self.width, self.stride)

    def projection(self) -> nn.Module:
        """1x1 conv-BN, even if the size does not change"""
        return _ORDER.projection(Convolution(1, self.width, self.stride), self.inputs)

    def point_gate(self) -> Gate:
        """g = sigmoid(1x1 conv)"""
        return Gate(nn.Sequential(nn.Conv2d(self.inputs, self.width, 1, self.stride)), self.gate_bias)


def _identity(spec: ModuleSpec) -> nn.Module:
    """y = relu(F + x)"""
    return Residual(spec.branch(), spec.shortcut(), after="relu")


def _exclusive(spec: ModuleSpec) -> nn.Module:
    """y = relu(g·F + (1 - g)·x)"""
    return Blend(spec.branch(), spec.point_gate(), spec.shortcut(), after="relu")


def _shortcut(spec: ModuleSpec) -> nn.Module:
    """y = relu(F + (1 - g)·x)"""
    return Residual(spec.branch(), GatedShortcut(spec.shortcut(), spec.point_gate()), after="relu")


def _scaled(spec: ModuleSpec) -> nn.Module:
    """y = relu(0.5·F + 0.5·x)"""
    return Residual(spec.branch(), Scaled(spec.shortcut(), 0.5), scale=0.5, after="relu")


def _scaled_shortcut(spec: ModuleSpec) -> nn.Module:
    """y = relu(F + 0.5·x)"""
    return Residual(spec.branch(), Scaled(spec.shortcut(), 0.5), after="relu")


def _project(spec: ModuleSpec) -> nn.Module:
    """y = relu(F + BN(1x1 conv(x)))"""
    return Residual(spec.branch(), spec.projection(), after="relu")


def _dropout(spec: ModuleSpec) -> nn.Module:
    """y = relu(F + dropout(x))"""
    return Residual(spec.branch(), nn.Sequential(spec.shortcut(), Dropout(0.5, spec.coins)), after="relu")


def _highway(spec: ModuleSpec) -> nn.Module:
    """y = T·relu(F) + (1 - T)·x,  T = sigmoid(conv-BN-relu-conv-BN(x))"""
    transform = nn.Sequential(*spec.branch(), nn.ReLU())
    return Blend(transform, Gate(spec.branch(), spec.gate_bias), spec.shortcut())


@dataclass(frozen=True)
class Joining:
    """A function that builds modules, and the published widths and resizing of such a network."""

    module: Callable[[ModuleSpec], nn.Module]
    widths: tuple[int, ...] = (16, 32, 64)
    resize: str = "pad"


JOININGS: dict[str, Joining] = {
    "identity": Joining(_identity),
    "exclusive": Joining(_exclusive),
    "shortcut": Joining(_shortcut),
    "scaled": Joining(_scaled),
    "scaled-shortcut": Joining(_scaled_shortcut),
    "project": Joining(_project),
    "dropout": Joining(_dropout),
    "highway": Joining(_highway, widths=(14, 28, 56), resize="project"),
}
