"""The gates of a trained highway net of 50 layers: mostly shut, each example opening its own few, early in the net.

Paper     Srivastava, Greff & Schmidhuber 2015: Highway Networks, fig. 2; Training Very Deep Networks, figs. 2 and 3
Protocol  a highway net of 50 layers, trained; of every layer and unit the bias of the transform gate, the mean of the
          gate over the training part, gate and output for one example, and for two classes the mean of the gate less
          that over all classes
Claims    biases fall below their start; gates are low in the mean and sparse for one example; a low bias makes a gate
          selective, not shut; outputs stay alike after the first 15 layers; there classes differ (gates_claims.py)
Measured  results/highway2015.gates-laptop
Cost      demo ten seconds on one core; laptop nine minutes, half a minute on nets of highway2015.lesion; paper a GPU
Differs   data and training at demo and laptop scale; activation, rate and gate bias as in highway2015.lesion, whose
          nets these are
"""

from typing import Literal

from pydantic import Field, model_validator

from thruway.experiments.highway2015 import lesion
from thruway.experiments.image_study import ImageStudy

__all__ = ["SCALES", "Config"]


class Config(ImageStudy):
    """Everything that decides the numbers of a run."""

    depth: int = Field(default=50, ge=10)
    """Hidden layers, the first of which is a plain one."""
    width: int = Field(default=50, ge=1)
    activation: Literal["relu", "tanh"] = "tanh"
    gate_bias: float = -2.0
    """Initial bias of the transform gates, before the sigmoid; as published -2 for MNIST and -4 for CIFAR-100."""
    looked_at: int | None = Field(default=None, ge=20)
    """Training examples over which means are taken, the first ones; unset: all."""
    example: int = Field(default=0, ge=0)
    """The training example whose gates and outputs are shown, counted from 0."""
    classes: tuple[int, int] = (0, 7)
    """The two classes whose gates are compared with those of all, by their numbers."""

    @model_validator(mode="after")
    def _has_two_classes(self) -> "Config":
        if self.classes[0] == self.classes[1] or min(self.classes) < 0:
            raise ValueError(f"classes are two different numbers from 0 on, got {self.classes}")
        return self


# The very nets of the lesion study, so that `--nets-of` its run folder takes them over.
SCALES: dict[str, Config] = {
    name: Config(**scale.model_dump(exclude={"lesioned_examples"})) for name, scale in lesion.SCALES.items()
}
