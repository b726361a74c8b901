"""A highway net of 1,000 layers trains as it stands; a plain net of that depth does not start.

Paper     Srivastava, Greff & Schmidhuber 2015: Highway Networks, sec. 3 (900 layers, CIFAR-100, 80 epochs); Training
          Very Deep Networks, sec. 2.2 (SGD did not stall in pilots beyond 1,000 layers)
Protocol  a highway net of 1,000 layers, and plain ones of the same depth and layers of as many parameters, trained by
          SGD with momentum; training loss against epoch. The papers show no curve
Claims    the highway net learns, without setbacks; the plain ones do not (very_deep_claims.py)
Measured  results/highway2015.very_deep-laptop
Cost      demo 40 seconds on one busy core; laptop 28 minutes on a busy one (26 of training); paper a GPU
Differs   data, width and recipe, which the papers do not print for this net; its gate bias of -7 is from pilots;
          plain nets beside, which the papers have only up to 100 layers
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from thruway.experiments.image_study import ImageStudy

__all__ = ["SCALES", "Config"]


class Config(ImageStudy):
    """Everything that decides the numbers of a run."""

    depth: int = Field(default=1000, ge=10)
    """Hidden layers, the first of which is a plain one in every net."""
    width: int = Field(default=50, ge=1)
    """Units per highway layer; the plain nets are as wide as gives the same number of parameters (71 for 50)."""
    activation: Literal["relu", "tanh"] = "relu"
    gate_bias: float = -7.0
    """Initial bias of the transform gates, before the sigmoid: at -7 each starts open by a thousandth, so that 1,000
    layers together change about as much as one."""
    plain_activations: tuple[Literal["relu", "tanh"], ...] = ("relu",)
    """A plain net for each."""
    plain_rates: tuple[float, ...] = (0.1,)
    """Learning rates at which each plain net is tried; the best counts."""

    @model_validator(mode="after")
    def _gives_plain_nets_a_rate(self) -> "Config":
        if not all(rate > 0 for rate in self.plain_rates):
            raise ValueError(f"plain_rates are learning rates above 0, got {self.plain_rates}")
        for name in ("plain_activations", "plain_rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} names each once, got {getattr(self, name)}")
        return self


# As in the pilots: one rate after the first epoch, no decay.
_RECIPE: dict[str, Any] = {"weight_decay": 0.0, "drops": ()}

SCALES: dict[str, Config] = {
    "demo": Config(**_RECIPE, epochs=8, batch=100),
    "laptop": Config(
        **_RECIPE,
        scale="laptop",
        data="fashion-mnist",
        examples=4000,
        test_examples=2000,
        epochs=8,
        batch=100,
        seeds=3,
        plain_activations=("relu", "tanh"),
        plain_rates=(0.1, 0.01),
    ),
    "paper": Config(
        **_RECIPE,
        scale="paper",
        data="cifar100",
        depth=900,
        epochs=80,
        batch=100,
        seeds=3,
        plain_activations=("relu", "tanh"),
        plain_rates=(0.1, 0.01, 0.001),
        device="cuda",
    ),
}
