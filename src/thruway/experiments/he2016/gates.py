"""Is it their bias that makes gated shortcuts fail in a deep residual net?

Paper     He, Zhang, Ren & Sun 2016 (Identity Mappings), sec. 3.1, table 1; R. Srivastava 2025, the repository
          highway-resnet-comparison, in reply
Protocol  one residual net, its sum replaced: gated both ways or only on the shortcut, by a 1x1 convolution whose bias
          starts at 0 or below; halved; a 1x1 convolution or dropout as shortcut; and the reply's gate, of two
          normalised convolutions, with the reply's bias and with 0
Claims    the table's: which fail, which are worse, by how much at least (gates_claims.py); and the reply's two: its
          gate fails with a bias of 0, and is as good as the identity with -6
Measured  results/he2016.gates-laptop
Cost      demo a minute on one core; laptop 48 minutes; paper a GPU
Differs   data, size and updates at demo and laptop scale, 56 layers instead of 110; that the reply's gate fails from 0
          is our reading of what it says about the bias; the report lists all
"""

from typing import Any, Literal

from pydantic import model_validator

from thruway.experiments.veit2016.protocol import ResNetStudy

__all__ = ["SCALES", "Config", "Other", "gated"]

Other = Literal["scaled", "project", "dropout"]


def gated(joining: str, gate_bias: float) -> str:
    """The name of a gated net of this study.

    >>> gated("exclusive", -6.0), gated("highway", 0.0)
    ('exclusive-6', 'highway0')
    """
    # -0.0 is the same bias
    return f"{joining}{gate_bias + 0.0:g}"


class Config(ResNetStudy):
    """Everything that decides the numbers of a run. The net with identity shortcuts is always trained."""

    exclusive: tuple[float, ...] = (0.0, -6.0)
    """Gate biases of the nets with g·F + (1 - g)·x, one net each."""
    shortcut: tuple[float, ...] = (0.0, -6.0)
    """Gate biases of the nets with F + (1 - g)·x, one net each."""
    highway: tuple[float, ...] = (0.0, -6.0)
    """Gate biases of the nets with the reply's gate, one net each."""
    others: tuple[Other, ...] = ("scaled", "project", "dropout")
    """The nets without a gate: halved sums, 1x1 convolutions as shortcuts, dropout on the shortcuts."""

    @model_validator(mode="after")
    def _are_different_nets(self) -> "Config":
        for field in ("exclusive", "shortcut", "highway", "others"):
            chosen = getattr(self, field)
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"{field} names each net once, got {chosen}")
        return self

    @property
    def layers(self) -> int:
        """Of every net; the layers of a gate lie beside, and do not count.

        >>> SCALES["laptop"].layers, SCALES["paper"].layers
        (56, 110)
        """
        return 2 * self.depth + 2


_RECIPE: dict[str, Any] = {"warmup": 1, "drops": (0.5, 0.75), "learning_rate": 0.1, "weight_decay": 1e-4}

SCALES: dict[str, Config] = {
    "demo": Config(**_RECIPE, epochs=6),
    "laptop": Config(
        **_RECIPE,
        scale="laptop",
        data="fashion-mnist",
        pool=2,
        examples=6000,
        modules=9,
        exclusive=(0.0, -3.0, -6.0),
        epochs=6,
        batch=32,
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
        exclusive=(0.0, -3.0, -5.0, -6.0, -7.0),
        epochs=164,
        batch=128,
        seeds=5,
        device="cuda",
    ),
}
