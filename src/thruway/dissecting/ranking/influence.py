"""Measures of the change that a branch makes to the stream, which rank the layers of a trained model without a loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thruway.errors import ConfigError

__all__ = ["MEASURES", "Measure", "Per", "as_vectors", "stream_change"]

Per = Literal["auto", "token", "example"]


@dataclass(frozen=True)
class StreamChange:
    """The change of each vector of the stream by a branch, from x to y, in float64.

    Attributes:
        chord: |u - v|, where u and v are the unit vectors of x and y.
        sum: |u + v|.
        before: |x|.
        step: |y - x|.
    """

    chord: Tensor
    sum: Tensor
    before: Tensor
    step: Tensor


@dataclass(frozen=True)
class Measure:
    """A measure that ranks branches: a number per vector of the stream, averaged over all vectors.

    Attributes:
        name: name of the ranking.
        compute: function that returns one number per vector.
        source: publication of the measure.
    """

    name: str
    compute: Callable[[StreamChange], Tensor]
    source: str


def block_influence(at: StreamChange) -> Tensor:
    """1 - cos(x, y), from 0 (same direction) to 2 (opposite)."""
    # |u - v|² = 2 - 2·cos. Computing 1 - cos directly loses small angles to rounding.
    return at.chord.square() / 2


def angular_distance(at: StreamChange) -> Tensor:
    """arccos(cos(x, y)) / π, from 0 to 1."""
    # arccos is inaccurate near 1, where all branches of a deep network lie.
    return 2 * torch.atan2(at.chord, at.sum) / torch.pi


MEASURES: tuple[Measure, ...] = (
    Measure("influence", block_influence, "Block Influence, Men et al. 2024 (ShortGPT)"),
    Measure("angle", angular_distance, "angular distance, Gromov et al. 2024"),
    Measure("ratio", lambda at: at.step / at.before, "|f| / |x|, Jastrzębski et al. 2018"),
    Measure("norm", lambda at: at.step, "|f|, as in pruning by magnitude"),
)


def stream_change(x: Tensor, y: Tensor, per: Per = "auto") -> StreamChange:
    """Compare the stream before and after a join, vector by vector. A vector of length 0 gives NaN.

    Args:
        x, y: the stream without and with the branch, of one shape, with the batch first.
        per: "token", "example" or "auto"; see `as_vectors`.
    """
    x, y = as_vectors(x, per), as_vectors(y, per)
    before, after = x.norm(dim=1), y.norm(dim=1)
    u, v = x / before[:, None], y / after[:, None]
    return StreamChange((u - v).norm(dim=1), (u + v).norm(dim=1), before, (y - x).norm(dim=1))


def as_vectors(stream: Tensor, per: Per = "auto") -> Tensor:
    """Reshape the stream to (vectors, features), in float64.

    Args:
        stream: (batch, ...).
        per: "token" takes the last dimension as features, a vector per token or position. "example" takes all
            dimensions but the first, a vector per example. "auto" is "token" for (batch, tokens, features) and
            "example" for everything else, since a shape does not tell whether channels are first or last.

    >>> as_vectors(torch.ones(2, 5, 3)).shape, as_vectors(torch.ones(2, 3, 4, 4)).shape
    (torch.Size([10, 3]), torch.Size([2, 48]))
    """
    if per not in ("auto", "token", "example"):
        raise ConfigError(f"per is 'token', 'example' or 'auto', got {per!r}.")
    wide = stream.detach().to(torch.float32 if stream.device.type == "mps" else torch.float64)
    if wide.ndim < 2:
        return wide.reshape(1, -1)
    is_token = per == "token" or (per == "auto" and wide.ndim == 3)
    return wide.flatten(0, -2) if is_token else wide.flatten(1)
