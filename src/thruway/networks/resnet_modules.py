"""Residual modules of the published networks on images: two kinds of branch, two orders of layers, two shortcuts.

There are three tables: BRANCHES (convolutions), ORDERS (positions of norm and ReLU), and SHORTCUTS (for changes of
size). To add a kind, write a function and an entry.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from thruway.nn import Residual, Resize

__all__ = ["BRANCHES", "ORDERS", "SHORTCUTS", "Branch", "Convolution", "Design", "Order"]


@dataclass(frozen=True)
class Convolution:
    """A convolution of a branch, without bias and with same padding."""

    kernel: int
    outputs: int
    stride: int = 1

    def after(self, inputs: int) -> nn.Conv2d:
        """Build the layer for `inputs` channels."""
        return nn.Conv2d(inputs, self.outputs, self.kernel, self.stride, padding=self.kernel // 2, bias=False)


# --- convolutions


@dataclass(frozen=True)
class Branch:
    """Number of layers of a branch, ratio of its output channels to its width, and its convolutions."""

    layers: int
    expansion: int
    convolutions: Callable[[int, int], tuple[Convolution, ...]]  # (width, stride)


def _basic(width: int, stride: int) -> tuple[Convolution, ...]:
    return Convolution(3, width, stride), Convolution(3, width)


def _bottleneck(width: int, stride: int) -> tuple[Convolution, ...]:
    # The stride is in the middle layer, as in the most used implementations; in the paper's table it is in the first.
    return Convolution(1, width), Convolution(3, width, stride), Convolution(1, 4 * width)


BRANCHES: dict[str, Branch] = {
    "basic": Branch(2, 1, _basic),
    "bottleneck": Branch(3, 4, _bottleneck),
}


# --- positions of norm and rectifier


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def _pre_activation(inputs: int, convolutions: Iterable[Convolution]) -> nn.Sequential:
    """f = W·relu(BN(W'·relu(BN(x))))"""
    layers: list[nn.Module] = []
    for convolution in convolutions:
        layers += [*_norm_relu(inputs), convolution.after(inputs)]
        inputs = convolution.outputs
    return nn.Sequential(*layers)


def _post_activation(inputs: int, convolutions: Iterable[Convolution]) -> nn.Sequential:
    """f = BN(W·relu(BN(W'·x)))"""
    layers: list[nn.Module] = []
    for convolution in convolutions:
        layers += [convolution.after(inputs), *_norm_relu(convolution.outputs)]
        inputs = convolution.outputs
    return nn.Sequential(*layers[:-1])  # the last rectifier comes after the sum


def _bare_projection(projection: Convolution, inputs: int) -> nn.Module:
    return projection.after(inputs)


def _normed_projection(projection: Convolution, inputs: int) -> nn.Module:
    return nn.Sequential(projection.after(inputs), nn.BatchNorm2d(projection.outputs))


def _nothing(channels: int) -> list[nn.Module]:
    return []


@dataclass(frozen=True)
class Order:
    """All positions of norm and ReLU, from the stem to the head."""

    branch: Callable[[int, Iterable[Convolution]], nn.Sequential]
    after: str | None  # on the sum
    projection: Callable[[Convolution, int], nn.Module]
    stem_end: Callable[[int], list[nn.Module]]  # after the first convolution
    head_start: Callable[[int], list[nn.Module]]  # after the last module


ORDERS: dict[str, Order] = {
    "pre": Order(_pre_activation, None, _bare_projection, _nothing, _norm_relu),
    "post": Order(_post_activation, "relu", _normed_projection, _norm_relu, _nothing),
}


# --- shortcuts for changes of size


def _pad(order: Order, inputs: int, outputs: int, stride: int) -> nn.Module:
    return Resize(inputs, outputs, stride, dims=2)


def _project(order: Order, inputs: int, outputs: int, stride: int) -> nn.Module:
    return order.projection(Convolution(1, outputs, stride), inputs)


SHORTCUTS: dict[str, Callable[[Order, int, int, int], nn.Module]] = {
    "pad": _pad,  # option A
    "project": _project,  # option B
}


@dataclass(frozen=True)
class Design:
    """One entry of each table: the common settings of all modules of a network."""

    branch: Branch
    order: Order
    shortcut: Callable[[Order, int, int, int], nn.Module]

    def module(self, inputs: int, width: int, stride: int, drop: float, coins: torch.Generator | None) -> Residual:
        """Build a module for `inputs` channels; the shortcut is x itself, unless the size changes."""
        outputs = self.branch.expansion * width
        changes = inputs != outputs or stride != 1
        return Residual(
            self.order.branch(inputs, self.branch.convolutions(width, stride)),
            self.shortcut(self.order, inputs, outputs, stride) if changes else None,
            drop=drop,
            after=self.order.after,
            generator=coins,
        )
