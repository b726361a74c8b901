"""Dropout whose coins come from a generator, so that a resumed run draws what the interrupted one would have drawn."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thruway.nn.argument_checks import check_probability
from thruway.nn.torch_state import check_not_recomputing

__all__ = ["Dropout"]


class Dropout(nn.Dropout):
    """torch's dropout, with a generator of its own.

        y = x·m / (1 - p),     m = 1 with probability 1 - p, else 0, for each number by itself

    In evaluation, and with p = 0, y is x and no coin falls. Torch's own layer draws from the global generator and
    from nowhere else; this one is that layer where no generator is given.

    The coins fall where the generator lives, and travel to x from there. So one CPU generator gives the same coins on
    every device and for every dtype; with a generator on the GPU nothing travels, and nobody waits for one CPU core to
    draw. A generator is not part of the state dict: whoever resumes a run sets its state, or seeds it by epoch.

    `torch.vmap` wants randomness="same" or "different". `torch.compile` splits its graph where a generator is used.

    Args:
        p: probability of dropping a number, at least 0 and below 1.
        generator: where the coins come from; None uses torch's global one.
    Raises:
        ConfigError: if p is no such probability; when torch.utils.checkpoint computes a layer with a generator again,
            which would draw other coins than before.
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
        # In float32 whatever x is: half precision would round the probability, and other dtypes draw other coins.
        place = self.generator.device
        kept = torch.rand(x.shape, device=place, dtype=torch.float32, generator=self.generator) >= self.p
        return x * kept.to(x.device) / (1.0 - self.p)
