"""Dropout with its own random generator, so that a resumed run draws the same masks as an uninterrupted one."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.nn.checks import check_not_recomputing, check_probability

__all__ = ["Dropout"]


class Dropout(nn.Dropout):
    """torch.nn.Dropout with its own, optional random generator.

        y = x·m / (1 - p),     m = 1 with probability 1 - p, else 0, independently for each element

    In evaluation mode, and with p = 0, y is x and nothing is drawn. torch.nn.Dropout can draw from the global
    generator only; without a generator this layer behaves the same.

    The mask is drawn on the generator's device and then moved to x. A CPU generator therefore gives the same mask on
    every device and for every dtype. A generator on the GPU avoids the copy and the synchronization. The generator is
    not part of the state dict: to resume a run, restore its state or seed it by epoch.

    `torch.vmap` needs randomness="same" or "different". `torch.compile` breaks its graph where a generator is used.

    Args:
        p: probability of zeroing an element, at least 0 and below 1.
        generator: generator of the masks. If None, PyTorch's global generator.
    Raises:
        ConfigError: if p is out of range; if torch.utils.checkpoint recomputes a layer with a generator, which would
            draw a different mask than before.
    Source:
        Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014, sec. 4, scaled in training instead of after it.

    >>> layer = Dropout(0.5, torch.Generator().manual_seed(0))
    >>> sorted(set(layer(torch.ones(100)).tolist())), layer.eval()(torch.ones(2))
    ([0.0, 2.0], tensor([1., 1.]))
    """

    def __init__(self, p: float = 0.5, generator: torch.Generator | None = None) -> None:
        super().__init__(check_probability("p", p))
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if self.generator is None:
            return F.dropout(x, self.p)
        check_not_recomputing("Dropout", "generator")
        # In float32 for every x: half precision would round the probability, and other dtypes draw other numbers.
        place = self.generator.device
        kept = torch.rand(x.shape, device=place, dtype=torch.float32, generator=self.generator) >= self.p
        return x * kept.to(x.device) / (1.0 - self.p)
