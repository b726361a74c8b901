"""A gated net of 110 layers, its gates nearly shut at first, is as good as the residual net of that depth.

Paper     R. Srivastava 2025, the repository highway-resnet-comparison: a reply to He, Zhang, Ren & Sun 2016 (Identity
          Mappings), sec. 3.1, where gated shortcuts lose to the identity
Protocol  ResNet-110 and Highway-110, trained alike, but that the residual net's first epoch has a tenth of the rate, as
          in the author's trainer: in the highway net every module has a branch H that ends in a rectifier, a gate T
          of two normalised convolutions whose last norm starts at -6, and y = T·H + (1 - T)·x
Claims    it trains, and is at least as good (reply_claims.py)
Measured  results/srivastava2025.reply-laptop
Cost      demo half a minute on one core; laptop 41 minutes; paper a GPU
Differs   data, size and updates at demo and laptop scale; three seeds, where the published numbers are of one; no
          mixed precision; the report lists all
"""

from typing import Any

from thruway.experiments.veit2016.protocol import ResNetStudy

__all__ = ["SCALES", "Config"]


class Config(ResNetStudy):
    """Everything that decides the numbers of a run; `widths` are those of the residual net."""

    gate_bias: float = -6.0
    """What the last norm of every gate adds at first, before the sigmoid."""

    @property
    def layers(self) -> int:
        """Of both nets; the layers of a gate lie beside, and do not count.

        >>> SCALES["paper"].layers
        110
        """
        return 2 * self.depth + 2

    @property
    def highway_widths(self) -> tuple[int, ...]:
        """Channels of the highway net in each stage: seven eighths.

        >>> SCALES["paper"].highway_widths
        (14, 28, 56)
        """
        return tuple(max(1, width * 7 // 8) for width in self.widths)


# The residual net has a warm-up of its own.
_RECIPE: dict[str, Any] = {"warmup": 0, "drops": (0.5, 0.75), "learning_rate": 0.1, "weight_decay": 1e-4}

SCALES: dict[str, Config] = {
    "demo": Config(**_RECIPE, epochs=20),
    "laptop": Config(
        **_RECIPE,
        scale="laptop",
        data="fashion-mnist",
        pool=2,
        examples=10_000,
        modules=18,
        epochs=10,
        batch=100,
        seeds=3,
    ),
    "paper": Config(
        **_RECIPE,
        scale="paper",
        data="cifar10",
        augment=True,
        fill="zeros",
        modules=18,
        widths=(16, 32, 64),
        epochs=200,
        batch=128,
        seeds=3,
        device="cuda",
    ),
}
