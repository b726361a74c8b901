"""Table of the layers of the papers' convolutional highway networks. To add a network, add an entry."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from thruway.errors import ConfigError

__all__ = ["LAYOUTS", "Layout", "Stage"]


@dataclass(frozen=True)
class Stage:
    """Consecutive layers with the same width and spatial size."""

    width: int
    opening: int | None  # kernel of the plain layer that changes the width; None: no layer
    kernels: tuple[int, ...]  # kernels of the highway layers
    pool: tuple[int, int] | None  # (window, stride) of the max pooling after them


@dataclass(frozen=True)
class Layout:
    """Stages, head and published settings of a network."""

    stages: tuple[Stage, ...]
    dropout: tuple[float, ...]  # before each stage and before the linear layer
    gate_bias: float
    inputs: int
    size: int
    pads: bool = True  # True if the opening layers keep the spatial size
    pointwise: int | None = (
        100  # channels of the 1x1 layer averaged over the map; None: a linear layer on the flattened map
    )

    @property
    def depth(self) -> int:
        """Number of layers with weights, counted as in the papers."""
        convolutions = sum((stage.opening is not None) + len(stage.kernels) for stage in self.stages)
        return convolutions + (self.pointwise is not None) + 1

    def widened(self, width: int) -> "Layout":
        """Return this layout with `width` channels in the first stage and the others in proportion."""
        first = self.stages[0].width
        stages = (replace(stage, width=max(1, round(stage.width * width / first))) for stage in self.stages)
        return replace(self, stages=tuple(stages))

    def side(self, size: int) -> int:
        """Return the height and width of the last maps for images of `size`.

        Raises:
            ConfigError: if the images are too small.
        """
        *before, last = self._sides(size)
        if min(*before, last) < 1:
            least = next(side for side in range(size, self.size + 1) if min(self._sides(side)) >= 1)
            raise ConfigError(
                f"size={size} is too small for this layout, because its convolutions have no padding. Pass "
                f"images of at least {least}x{least}, or use a layout with padding."
            )
        return last

    def _sides(self, size: int) -> Iterator[int]:
        for stage in self.stages:
            if stage.opening is not None and not self.pads:
                size -= stage.opening - 1
            yield size
            if stage.pool is not None:
                window, stride = stage.pool
                size = math.ceil((size - window) / stride) + 1
            yield size


LAYOUTS: dict[str, Layout] = {
    # Table 1 of Training Very Deep Networks: 10 layers, 39K parameters; 151K at width 32.
    "mnist": Layout(
        (
            Stage(16, 5, (3,) * 2, pool=(3, 2)),
            Stage(16, None, (3,) * 3, pool=(3, 2)),
            Stage(16, None, (3,) * 3, pool=(2, 2)),
        ),
        dropout=(0.2, 0.3, 0.4, 0.5),
        gate_bias=-1.0,
        inputs=1,
        size=28,
        pads=False,
        pointwise=None,
    ),
    # The network of table 3 and of the published code: 19 layers, 2.3M.
    "cifar": Layout(
        (
            Stage(32, 3, (3,) * 4, pool=(2, 2)),
            Stage(80, 3, (3,) * 5, pool=(2, 2)),
            Stage(128, 3, (3,) * 5, pool=None),
        ),
        dropout=(0.2,) * 4,
        gate_bias=-2.0,
        inputs=3,
        size=32,
    ),
    # Table 2, Highway A: 11 layers, 236K. Reconstructed: Fitnet 1's first two widths, and a third to match the count.
    "cifar-11": Layout(
        (
            Stage(16, 3, (3,) * 2, pool=(2, 2)),
            Stage(32, 3, (3,) * 2, pool=(2, 2)),
            Stage(66, 3, (3,) * 2, pool=None),
        ),
        dropout=(0.2,) * 4,
        gate_bias=-1.0,
        inputs=3,
        size=32,
    ),
    # Table 2, Highway C: 32 layers, 1.25M. Reconstructed: widths that double, and a third to match the count.
    "cifar-32": Layout(
        (
            Stage(32, 3, (1, 3) * 4 + (1,), pool=(2, 2)),
            Stage(64, 3, (1, 3) * 4 + (1,), pool=(2, 2)),
            Stage(95, 3, (1, 3) * 4 + (1,), pool=None),
        ),
        dropout=(0.2,) * 4,
        gate_bias=-3.0,
        inputs=3,
        size=32,
    ),
}
